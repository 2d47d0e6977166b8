"""What a splitting is made of: parts in the right place, and what is refused."""

import math
import re
import warnings

import pytest
import torch
from splitting_cases import (
    DIFFERENCE,
    FIT,
    GAME,
    NEAR,
    NONNEGATIVE,
    ROWS,
    SIGNAL,
    SIZE,
    SPARSE,
    START,
    L,
    close,
    normal,
    solves_total_variation,
)

from fixpoint import Anderson, ForwardStep, TheoremWarning, as_operator, solve, synthetic
from fixpoint.proximal import L1, Huber, Quadratic, SeparableSum, SquaredL2, Zero
from fixpoint.splittings import (
    ADMM,
    PDHG,
    CondatVu,
    Consensus,
    DavisYin,
    DouglasRachford,
    ForwardBackward,
    ForwardBackwardForward,
    Gradient,
    Matrix,
    PeacemanRachford,
    ProximalPoint,
    Scaling,
    as_linear,
)
from fixpoint.testing import check_operator


def test_an_operator_with_a_known_resolvent_is_a_backward_part():
    matrix = synthetic.rotation(1.2, size=SIZE).matrix + torch.eye(SIZE).double()
    A = synthetic.Affine(matrix, SIGNAL, cocoercivity=0.1, strong_monotonicity=1.0)
    T = DouglasRachford(A, NONNEGATIVE, 0.5)
    assert T.rate is None
    assert DouglasRachford(A, Huber(), 0.5).rate < 1
    check_operator(T, START, examples=12)
    run = solve(T, START, ForwardStep(step_size=1.0), rtol=1e-11)
    x = T.solution(run.z)
    slope = A(x)
    close(slope[x > 1e-5], torch.zeros_like(slope[x > 1e-5]))
    assert (slope > -1e-6).all()
    # And so is whatever has a resolvent: the same by hand.
    close(ProximalPoint(A, 0.5)(START), START - A.resolvent(0.5)(START))


# Refusals


def unknown(z):
    return z


UNKNOWN = as_operator(unknown)


REFUSALS = {
    "proximal point": (lambda: ProximalPoint(SPARSE, 0.0), "0 < step < inf, got step = 0"),
    "gradient": (
        lambda: Gradient(SquaredL2(4.0), 0.5),
        "the gradient method needs 0 < step < 2 beta = 0.5, got step = 0.5",
    ),
    "gradient, unknown": (lambda: Gradient(UNKNOWN, 0.5), "state cocoercivity"),
    "gradient, not smooth": (lambda: Gradient(SPARSE, 0.5), "L1 has none"),
    "forward-backward": (
        lambda: ForwardBackward(SquaredL2(4.0), SPARSE, 0.6),
        "forward-backward needs 0 < step < 2 beta = 0.5, got step = 0.6",
    ),
    "forward-backward, stated": (
        lambda: ForwardBackward(UNKNOWN, SPARSE, 2.0, cocoercivity_of_h=1.0),
        "0 < step < 2 beta = 2, got step = 2",
    ),
    "Tseng": (
        lambda: ForwardBackwardForward(GAME, SPARSE, 5.0),
        "forward-backward-forward needs 0 < step < 1/L = 0",
    ),
    "Tseng, unknown": (lambda: ForwardBackwardForward(UNKNOWN, SPARSE, 1.0), "state lipschitz"),
    "Peaceman-Rachford": (lambda: PeacemanRachford(SPARSE, FIT, -1.0), "got step = -1"),
    "Douglas-Rachford": (lambda: DouglasRachford(SPARSE, FIT, math.inf), "got step = inf"),
    "Davis-Yin": (
        lambda: DavisYin(SPARSE, Zero(), SquaredL2(4.0), 0.5),
        "Davis-Yin needs 0 < step < 2 beta = 0.5, got step = 0.5",
    ),
    "PDHG": (
        lambda: PDHG(NEAR, SPARSE, Scaling((SIZE,), 2.0), 0.5, 0.7),
        "primal_step * dual_step * ||K||^2 < 4/3, got 0.5 * 0.7 * 2^2 = 1.4",
    ),
    "Condat-Vu": (
        lambda: CondatVu(NEAR, Zero(), SPARSE, Scaling((SIZE,)), 1.0, 0.5),
        "1/primal_step - dual_step * ||K||^2 > L/2 (>= 0 for L = 0), got 1/1 - 0.5 * 1^2 = 0.5 "
        "and L/2 = 0.5",
    ),
    "ADMM": (lambda: ADMM(NEAR, SPARSE, 0.0), "ADMM needs 0 < step < inf, got step = 0"),
    "ADMM, not unique": (
        lambda: ADMM(Quadratic(torch.zeros(SIZE, SIZE).double()), SPARSE, 1.0, DIFFERENCE),
        "P + r K'K positive definite",
    ),
    "consensus": (lambda: Consensus((NEAR, SPARSE), 0.0), "Consensus needs 0 < step < inf"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_step_outside_its_condition_is_refused_with_the_inequality(name):
    build, words = REFUSALS[name]
    with pytest.raises(ValueError, match=re.escape(words)):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: ProximalPoint(torch.relu, 1.0),
        lambda: ForwardBackward(torch.relu, SPARSE, 1.0),
        lambda: ADMM(SPARSE, SPARSE, 1.0, DIFFERENCE),
        lambda: Consensus([NEAR], 1.0),
    ],
)
def test_what_is_no_part_is_a_type_error(build):
    with pytest.raises(TypeError):
        build()


def negative():
    return synthetic.Affine(-0.5 * torch.eye(SIZE, dtype=torch.float64))


MORE_REFUSALS = {
    "gradient, keyword": (lambda: Gradient(UNKNOWN, 0.5), ValueError, "state cocoercivity_of_h="),
    "Tseng, keyword": (
        lambda: ForwardBackwardForward(UNKNOWN, SPARSE, 0.5),
        ValueError,
        "state lipschitz_of_h=",
    ),
    "no gradient, whatever is stated": (
        lambda: ForwardBackward(SPARSE, FIT, 0.5, cocoercivity_of_h=1.0),
        ValueError,
        "takes the gradient of h, but L1 has none",
    ),
    "Tseng, no gradient": (
        lambda: ForwardBackwardForward(SPARSE, FIT, 0.5, lipschitz_of_h=1.0),
        ValueError,
        "but L1 has none",
    ),
    "Tseng, negative": (
        lambda: ForwardBackwardForward(GAME, Zero(), 0.5, lipschitz_of_h=-5.0),
        ValueError,
        "need 0 <= lipschitz_of_h < inf, got -5.0",
    ),
    "not monotone, by its matrix": (
        lambda: ProximalPoint(negative(), 1.0),
        ValueError,
        "g must be monotone",
    ),
    "not monotone, by its constants": (
        lambda: ProximalPoint(-as_operator(unknown, strong_monotonicity=1.0, lipschitz=2.0), 0.1),
        ValueError,
        "g must be monotone",
    ),
    "forward part, not monotone": (
        lambda: ForwardBackwardForward(negative(), Zero(), 0.5, lipschitz_of_h=0.5),
        ValueError,
        "h must be monotone",
    ),
    "ADMM, order": (
        lambda: ADMM(FIT, SPARSE, DIFFERENCE, 1.0),
        TypeError,
        "ADMM(f, g, step, linear) needs a number as step, got a Difference1D",
    ),
    "ADMM, number for K": (
        lambda: ADMM(FIT, SPARSE, 1.0, 1.0),
        TypeError,
        "ADMM(f, g, step, linear) needs a Linear as linear, got a float",
    ),
    "PDHG, matrix for K": (
        lambda: PDHG(FIT, SPARSE, torch.eye(SIZE), 0.5, 0.5),
        TypeError,
        "PDHG needs a Linear as linear, got a Tensor",
    ),
    "PDHG, order": (
        lambda: PDHG(FIT, SPARSE, DIFFERENCE, SPARSE, 0.5),
        TypeError,
        "PDHG needs a number as primal_step, got a L1",
    ),
    "forward-backward, order": (
        lambda: ForwardBackward(FIT, 0.1, SPARSE),
        TypeError,
        "forward-backward needs a number as step, got a L1",
    ),
    "tuples": (
        lambda: ProximalPoint(SeparableSum((SPARSE, FIT)), 1.0),
        TypeError,
        "g is a SeparableSum, whose points are tuples",
    ),
    "tuples, forward": (
        lambda: Gradient(SeparableSum((FIT, FIT)), 0.1),
        TypeError,
        "h is a SeparableSum, whose points are tuples",
    ),
}


@pytest.mark.parametrize("name", MORE_REFUSALS)
def test_a_part_in_the_wrong_place_is_refused_with_what_is_wrong(name):
    build, error, words = MORE_REFUSALS[name]
    with pytest.raises(error, match=re.escape(words)):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda A: ProximalPoint(A, 1.0),
        lambda A: ForwardBackward(NEAR, A, 0.5),
        lambda A: ForwardBackwardForward(GAME, A, 0.1),
        lambda A: DouglasRachford(A, FIT, 1.0),
        lambda A: PeacemanRachford(FIT, A, 1.0),
        lambda A: DavisYin(A, FIT, NEAR, 0.5),
        lambda A: ADMM(A, SPARSE, 1.0),
        lambda A: ADMM(A, SPARSE, 1.0, Scaling((SIZE,), 2.0)),
        lambda A: Consensus((A, FIT), 1.0),
        lambda A: PDHG(A, SPARSE, DIFFERENCE, 0.4, 0.5),
        lambda A: CondatVu(NEAR, FIT, A, Scaling((SIZE,)), 0.4, 0.5),
    ],
)
def test_nothing_is_stated_for_an_operator_that_need_not_be_monotone(build):
    names = ("averagedness", "cocoercivity", "lipschitz", "strong_monotonicity")
    names += ("metric_averagedness", "star_cocoercivity", "rate")
    eye = torch.eye(SIZE, dtype=torch.float64)
    T = build(synthetic.Affine(eye))
    assert {name: getattr(T, name) for name in names} == dict.fromkeys(names)
    known = build(synthetic.Affine(eye, strong_monotonicity=1.0, lipschitz=1.0))
    assert known.star_cocoercivity is not None
    z = known.pack(START[:, :SIZE]) if hasattr(known, "pack") else START
    close(T(z), known(z))


def test_the_constants_of_an_operator_imply_its_cocoercivity():
    strong = as_operator(unknown, strong_monotonicity=1.0, lipschitz=2.0)  # 1/4-cocoercive
    T = ForwardBackward(strong, Zero(), 0.4)
    assert T.averagedness == pytest.approx(1 / (2 - 0.4 * 4 / 2))
    averaged = as_operator(unknown, averagedness=0.5)  # 1-cocoercive, 1-Lipschitz
    assert Gradient(averaged, 1.0).averagedness == 0.5
    assert ForwardBackwardForward(averaged, Zero(), 0.5).star_cocoercivity == 1 / 1.25
    firm = synthetic.Affine(torch.eye(SIZE).double(), strong_monotonicity=1.0, lipschitz=1.0)
    assert ProximalPoint(firm, 1.0).averagedness == 0.25  # of A that is 1-cocoercive


def test_forward_step_reads_the_star_cocoercivity():
    T = ForwardBackwardForward(GAME, Zero(), 0.9 / GAME.lipschitz)
    assert T.cocoercivity is None
    pdhg = PDHG(NEAR, L1(0.7), DIFFERENCE, 0.5, 0.5)
    for operator, start in ((T, SIGNAL), (pdhg, pdhg.pack(SIGNAL))):
        long = ForwardStep(step_size=2 * operator.star_cocoercivity)
        with pytest.warns(TheoremWarning, match="step_size < 2 beta"):
            solve(operator, start, long, max_iterations=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error", TheoremWarning)
            short = ForwardStep(step_size=1.9 * operator.star_cocoercivity)
            solve(operator, start, short, max_iterations=1)


def test_every_splitting_calls_its_parts_by_their_role():
    assert Gradient(h=FIT, step=0.1 / L).rate is not None
    forward_backward = ForwardBackward(h=FIT, g=SPARSE, step=1 / L)
    assert forward_backward.h is FIT
    steps = {"primal_step": 0.4, "dual_step": 0.5}
    pdhg = PDHG(f=NEAR, g=L1(0.7), linear=DIFFERENCE, **steps)
    three = CondatVu(h=Zero(), f=NEAR, g=L1(0.7), linear=DIFFERENCE, **steps)
    admm = ADMM(f=NEAR, g=L1(0.7), linear=DIFFERENCE, step=1.0)
    for T, start in ((pdhg, pdhg.pack(SIGNAL)), (three, three.pack(SIGNAL)), (admm, START)):
        z = start[:, : SIZE - 1] if T is admm else start
        run = solve(T, z, Anderson(memory=10, shrink=1.0), rtol=1e-9, max_iterations=5000)
        solves_total_variation(T.solution(run.z))


def test_admm_takes_a_map_that_is_zero():
    T = ADMM(NEAR, SPARSE, 1.0, Matrix(torch.zeros(2, SIZE).double()))
    run = solve(T, torch.zeros(ROWS, 2).double(), ForwardStep(step_size=1.0), rtol=1e-10)
    close(T.solution(run.z), SIGNAL)


def test_callables_of_single_precision_make_a_linear_map():
    matrix = normal(3, 5, seed=30).float()
    forward, adjoint = (lambda x: x @ matrix.T), (lambda y: y @ matrix)
    with pytest.raises(TypeError, match="state dtype="):
        as_linear(forward, adjoint, (5,))
    K = as_linear(forward, adjoint, (5,), dtype=torch.float32)
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert norm <= K.norm <= 1.1 * norm
    assert torch.equal(K.dense(), matrix.double())
    with pytest.raises(ValueError, match="differ by"):
        as_linear(forward, lambda y: 1.01 * y @ matrix, (5,), dtype=torch.float32)


def test_a_stated_constant_is_taken():
    T = Gradient(UNKNOWN, 0.5, cocoercivity_of_h=1.0)
    assert T.averagedness == 0.25
    assert ForwardBackwardForward(UNKNOWN, Zero(), 0.5, lipschitz_of_h=1.0).rate is None


def test_a_relaxation_beyond_the_averagedness_is_warned_of():
    with pytest.warns(TheoremWarning, match="step_size < 2 beta"):
        ForwardStep(step_size=1.0).init(PeacemanRachford(SPARSE, Zero(), 1.0), START)


def test_a_state_of_another_shape_is_refused():
    pdhg = PDHG(NEAR, L1(0.7), DIFFERENCE, 0.5, 0.5)
    with pytest.raises(ValueError, match="x must be"):
        pdhg.pack(START[:, :3])
    with pytest.raises(ValueError, match="x and y packed"):
        pdhg(START)
    with pytest.raises(ValueError, match="a copy for every function"):
        Consensus((NEAR, NONNEGATIVE), 1.0)(START)
