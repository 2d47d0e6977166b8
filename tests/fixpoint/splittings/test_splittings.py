"""Every splitting of one table meets the same claims."""

import dataclasses
import importlib
import itertools
import math
import re
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fixpoint import (
    Anderson,
    ForwardStep,
    Halpern,
    InertialKM,
    Operator,
    TheoremWarning,
    as_operator,
    solve,
    splittings,
    synthetic,
)
from fixpoint.proximal import (
    L1,
    L2,
    AffineSet,
    Box,
    GroupL1,
    HalfSpace,
    Huber,
    Quadratic,
    RowParameter,
    SeparableSum,
    Simplex,
    SquaredL2,
    TotalVariation1D,
    TotalVariation2D,
    Zero,
)
from fixpoint.splittings import (
    ADMM,
    PDHG,
    CondatVu,
    Consensus,
    DavisYin,
    Difference1D,
    DouglasRachford,
    ForwardBackward,
    ForwardBackwardForward,
    Gradient,
    Gradient2D,
    Matrix,
    PeacemanRachford,
    PrimalDual,
    ProximalPoint,
    Scaling,
    Splitting,
    as_linear,
    norm_bound,
)
from fixpoint.testing import check_operator

ROWS, SIZE = 3, 8


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# Problems with a known answer: what is needed, and a check of a solution.

TALL = normal(12, SIZE, seed=1)
TRUTH = torch.tensor([2.0, -1, 3, 0, 0, 0, 0, 0], dtype=torch.float64)
TARGET = TALL @ TRUTH + 0.5 * normal(ROWS, 12, seed=2)
FIT = Quadratic(TALL.T @ TALL, RowParameter(-TARGET @ TALL))  # 1/2 ||A z - b||^2
L, MU = FIT.smoothness, FIT.strong_convexity
SPARSE = L1(2.0)
NONNEGATIVE = Box(0.0, math.inf)
SIGNAL = normal(ROWS, SIZE, seed=3).cumsum(1)
NEAR = SquaredL2(1.0, RowParameter(SIGNAL))
DIFFERENCE = Difference1D((SIZE,))


def close(x, expected):
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


def solves_least_squares(x):
    close(x, torch.linalg.solve(TALL.T @ TALL, (TARGET @ TALL).T).T)


def solves_lasso(x):
    slope = (TARGET - x @ TALL.T) @ TALL
    near = x.abs() < 1e-5
    assert near.any()
    assert not near.all()
    assert (slope.abs() <= 2 + 1e-5).all()
    torch.testing.assert_close(slope[~near], 2 * x[~near].sign(), rtol=0, atol=1e-5)


def solves_box_quadratic(lower, upper):
    def check(x):
        slope = (x @ TALL.T - TARGET) @ TALL
        low, high = x < lower + 1e-6, x > upper - 1e-6
        assert low.any() or high.any()
        close(x, x.clamp(lower, upper))
        assert (slope[low] >= -1e-5).all()
        assert (slope[high] <= 1e-5).all()
        assert (slope[~low & ~high].abs() < 1e-5).all()

    return check


def solves_projection_onto_the_simplex(x):
    close(x, Simplex().prox(SIGNAL, 1.0))


def solves_total_variation(x):
    close(x, TotalVariation1D(0.7).prox(SIGNAL, 1.0))


def solves_mean(x):
    close(x, (SIGNAL + TARGET[:, :SIZE] - 2) / 3)


SUM_IS_ONE = AffineSet(torch.ones(1, SIZE, dtype=torch.float64), torch.ones(1).double())
ORIGIN = torch.zeros(ROWS, SIZE, dtype=torch.float64)
SADDLE = normal(4, 4, seed=5) + 3 * torch.eye(4).double()
START = normal(ROWS, SIZE, seed=20)
SKEW = torch.cat(
    (
        torch.cat((torch.zeros(4, 4).double(), SADDLE), 1),
        torch.cat((-SADDLE.T, torch.zeros(4, 4).double()), 1),
    )
)
GAME = synthetic.Affine(  # monotone, not cocoercive: a bilinear saddle point
    SKEW, SIGNAL, lipschitz=float(torch.linalg.matrix_norm(SKEW, 2)), strong_monotonicity=0.0
)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    operator: Splitting
    solves: Callable[[Tensor], None]
    relaxation: float = 1.0

    @property
    def start(self):
        T = self.operator
        if isinstance(T, PrimalDual | Consensus):
            return T.pack(ORIGIN)
        if isinstance(T, ADMM) and T.linear is not None:
            return torch.zeros(ROWS, *T.linear.outputs, dtype=torch.float64)
        return ORIGIN


CASES = [
    Case("proximal point", ProximalPoint(FIT, 0.5), solves_least_squares),
    Case("gradient", Gradient(FIT, 1 / L), solves_least_squares),
    Case("forward-backward", ForwardBackward(FIT, SPARSE, 1.5 / L), solves_lasso),
    Case(
        "forward-backward, box",
        ForwardBackward(FIT, Box(-0.5, 1.5), 1 / L),
        solves_box_quadratic(-0.5, 1.5),
    ),
    Case("Tseng, lasso", ForwardBackwardForward(FIT, SPARSE, 0.9 / L), solves_lasso),
    Case(
        "Tseng, saddle",
        ForwardBackwardForward(GAME, Zero(), 0.7 / GAME.lipschitz),
        lambda x: close(x, SIGNAL),
    ),
    Case(
        "Peaceman-Rachford, linear rate",
        PeacemanRachford(SPARSE, FIT, 1 / math.sqrt(L * MU)),
        solves_lasso,
    ),
    Case(
        "Peaceman-Rachford, relaxed",
        PeacemanRachford(SUM_IS_ONE, NONNEGATIVE.plus_squared(1.0, RowParameter(SIGNAL)), 0.5),
        solves_projection_onto_the_simplex,
        relaxation=0.8,
    ),
    Case("Douglas-Rachford", DouglasRachford(SPARSE, FIT, 1 / math.sqrt(L * MU)), solves_lasso),
    Case(
        "Douglas-Rachford, sets",
        DouglasRachford(SUM_IS_ONE, NONNEGATIVE.plus_squared(1.0, RowParameter(SIGNAL)), 1.0),
        solves_projection_onto_the_simplex,
    ),
    Case(
        "Davis-Yin",
        DavisYin(SUM_IS_ONE, NONNEGATIVE, NEAR, 1.0),
        solves_projection_onto_the_simplex,
    ),
    Case("PDHG", PDHG(NEAR, L1(0.7), DIFFERENCE, 0.5, 0.5), solves_total_variation),
    Case(
        "Condat-Vu",
        CondatVu(NEAR, Zero(), L1(0.7), DIFFERENCE, 0.5, 0.3),
        solves_total_variation,
    ),
    Case(
        "Condat-Vu, three functions",
        CondatVu(NEAR, NONNEGATIVE, Box(1.0, 1.0), Matrix(torch.ones(1, SIZE).double()), 0.5, 0.15),
        solves_projection_onto_the_simplex,
    ),
    Case("ADMM", ADMM(NEAR, L1(0.7), 2.0, DIFFERENCE), solves_total_variation),
    Case("ADMM, lasso", ADMM(FIT, SPARSE, math.sqrt(L * MU)), solves_lasso),
    Case(
        "Consensus",
        Consensus((NEAR, NONNEGATIVE, SUM_IS_ONE), 1.0),
        solves_projection_onto_the_simplex,
    ),
    Case(
        "Consensus, mean",
        Consensus(
            (NEAR, SquaredL2(1.0, RowParameter(TARGET[:, :SIZE])), SquaredL2(1.0, -2.0)), 0.3
        ),
        solves_mean,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def anderson(case):
    # In the Euclidean norm of a primal-dual state a step that is not too long may raise residuals.
    shrink = 1.0 if isinstance(case.operator, PrimalDual) else 0.5
    return Anderson(mixing=case.relaxation, shrink=shrink)


# Known answers


@every_case
def test_a_splitting_finds_the_known_answer_with_every_iterator(case):
    T, c = case.operator, case.operator.star_cocoercivity
    assert case.relaxation < 2 * c
    for iterator in (
        ForwardStep(step_size=case.relaxation),
        InertialKM(inertia=0.2, relaxation=0.7, cocoercivity=c),
        Halpern(cocoercivity=c),
        anderson(case),
    ):
        solution = solve(T, case.start, iterator, rtol=1e-9, atol=1e-9, max_iterations=20_000)
        assert solution.success, (iterator, str(solution))
        case.solves(T.solution(solution.z))


@every_case
def test_the_solution_is_measured_on_the_way(case):
    residual, measured = case.operator.evaluate(case.start + 0.3)
    assert torch.equal(residual, case.operator(case.start + 0.3))
    assert torch.equal(measured["solution"], case.operator.solution(case.start + 0.3))
    torch.testing.assert_close(
        case.start + 0.3 - residual, case.operator.fixed_point_map(case.start + 0.3)
    )


def test_anderson_needs_fewer_evaluations_than_the_plain_iteration():
    fewer = set()
    for case in CASES:
        runs = [
            solve(case.operator, case.start, iterator, rtol=1e-8, max_iterations=20_000)
            for iterator in (ForwardStep(step_size=case.relaxation), anderson(case))
        ]
        assert all(run.success for run in runs)
        plain, accelerated = (run.evaluations for run in runs)
        assert (accelerated <= 1.1 * plain).all(), (case.name, plain, accelerated)
        if (accelerated < plain).all():
            fewer.add(type(case.operator))
    assert len(fewer) >= 10


# Constants


@every_case
def test_declared_constants_hold_and_rows_are_independent(case):
    check_operator(case.operator, case.start + 0.3, examples=12)


@pytest.mark.parametrize(
    "case", [case for case in CASES if isinstance(case.operator, PrimalDual)], ids=lambda c: c.name
)
def test_primal_dual_constants_are_euclidean_after_the_change_of_variables(case):
    form = case.operator.euclidean()
    assert form.averagedness == case.operator.metric_averagedness
    assert case.operator.averagedness is None
    assert case.operator.cocoercivity is None
    z = normal(*case.start.shape, seed=9)
    torch.testing.assert_close(form.state(form.variables(z)), z)
    squared = form.variables(z).square().sum(1)
    torch.testing.assert_close(case.operator.squared_norm(z), squared)
    check_operator(form, form.variables(case.start + 0.3), examples=12)


def matrix_of(operator, shape):
    """T as a matrix, of an affine T on rows of this shape; `select` is not needed for one row."""
    size = math.prod(shape)
    zero = operator(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    rows = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return torch.stack([operator(row[None]).flatten() - zero for row in rows], 1)


def spectral(matrix):
    return float(torch.linalg.matrix_norm(matrix, 2))


def quadratic(seed, size, low, high):
    """A quadratic whose least and largest curvatures are low and high."""
    orthogonal, _ = torch.linalg.qr(normal(size, size, seed=seed))
    values = torch.linspace(low, high, size, dtype=torch.float64)
    matrix = (orthogonal * values) @ orthogonal.T
    return Quadratic((matrix + matrix.T) / 2, normal(size, seed=seed + 1))


def assert_constants_hold(operator, shape):
    T = matrix_of(operator, shape)
    identity = torch.eye(len(T), dtype=torch.float64)
    symmetric = (T + T.T) / 2
    rate = getattr(operator, "rate", None)
    if operator.cocoercivity is not None:
        margin = torch.linalg.eigvalsh(symmetric - operator.cocoercivity * T.T @ T)[0]
        assert margin > -1e-9 * max(1, operator.cocoercivity)
        assert operator.cocoercivity == pytest.approx(1 / (2 * operator.averagedness))
    if operator.strong_monotonicity is not None:
        assert torch.linalg.eigvalsh(symmetric)[0] > operator.strong_monotonicity - 1e-9
    if operator.lipschitz is not None:
        assert spectral(T) < operator.lipschitz + 1e-9
    if rate is not None and not isinstance(operator, PrimalDual):
        assert spectral(identity - T) < rate + 1e-9


POSITIVE = st.floats(0.05, 3)


@given(
    seed=st.integers(0, 1000),
    curvatures=st.tuples(*[st.floats(0, 2)] * 6),
    step=POSITIVE,
    fraction=st.floats(0.05, 0.99),
)
@settings(max_examples=30, deadline=None)
def test_the_constants_of_quadratics_are_never_violated(seed, curvatures, step, fraction):
    # Of affine operators the constants are eigenvalues: this checks all pairs at once.
    pairs = [sorted(curvatures[2 * i : 2 * i + 2]) for i in range(3)]
    f, g, h = (quadratic(seed + 10 * i, 4, low, high + 0.01) for i, (low, high) in enumerate(pairs))
    short = fraction / h.smoothness
    K = Matrix(normal(3, 4, seed=seed + 50))
    onto = quadratic(seed + 60, 3, *pairs[0])
    for operator in (
        ProximalPoint(g, step),
        Gradient(h, 2 * short),
        ForwardBackward(h, g, 2 * short),
        ForwardBackwardForward(h, g, short),
        PeacemanRachford(f, g, step),
        DouglasRachford(f, g, step),
        DavisYin(f, g, h, 2 * short),
        DavisYin(f, Zero(), h, 2 * short),
        DavisYin(Zero(), g, h, 2 * short),
        DavisYin(f, g, Zero(), step),
    ):
        assert_constants_hold(operator, (4,))
    assert_constants_hold(ADMM(quadratic(seed, 4, 0.1, 2.0), onto, step, K), (3,))
    assert_constants_hold(Consensus((f, g, h), step), (3, 4))
    sigma = fraction / (step * K.norm**2)
    pdhg = PDHG(g, onto, K, step, sigma)
    tau = 1 / (h.smoothness / 2 / fraction + step * K.norm**2)
    for primal_dual in (pdhg, CondatVu(h, g, onto, K, tau, step)):
        assert_constants_hold(primal_dual, (7,))
        form = primal_dual.euclidean()
        assert_constants_hold(form, (7,))
        if primal_dual.rate is not None:
            contraction = torch.eye(7).double() - matrix_of(form, (7,))
            assert spectral(contraction) < primal_dual.rate + 1e-9


@given(seed=st.integers(0, 1000), fraction=st.floats(0.05, 0.99), mu=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_an_operator_that_is_no_gradient_has_the_constants_of_an_operator(seed, fraction, mu):
    # mu I + a rotation: cocoercive, strongly monotone, skew part and all.
    matrix = mu * torch.eye(4).double() + synthetic.rotation(1.0, size=4).matrix
    strong = mu + math.cos(1.0)
    beta = strong / spectral(matrix) ** 2
    B = synthetic.Affine(matrix, cocoercivity=beta, lipschitz=1 / beta, strong_monotonicity=strong)
    A = Skewed(normal(4, 4, seed=seed))
    for operator in (
        Gradient(B, fraction * 2 * beta),
        ForwardBackward(B, A, fraction * 2 * beta),
        ForwardBackwardForward(B, A, fraction * beta),
        DouglasRachford(A, A, fraction),
        DavisYin(A, quadratic(seed, 4, 0.1, 1.0), B, fraction * 2 * beta),
    ):
        assert_constants_hold(operator, (4,))


class Skewed:
    """z -> M M' z + (M - M') z, with its resolvent and what it knows of itself."""

    def __init__(self, matrix):
        self.matrix = matrix @ matrix.T + matrix - matrix.T
        self.strong_monotonicity = max(0.0, float(torch.linalg.eigvalsh(matrix @ matrix.T)[0]))

    def resolvent(self, step):
        inverse = torch.linalg.inv(torch.eye(len(self.matrix)).double() + step * self.matrix)
        return lambda z: z @ inverse.T


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


# Sharp constants: for each a problem where the declared one is attained.

ANGLES = torch.linspace(0, math.pi, 721, dtype=torch.float64).tolist()


def line(angle):
    """A unit vector, and the projection onto what is orthogonal to it."""
    n = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return n, AffineSet(n[None], torch.zeros(1).double())


def largest_rate(operators):
    found = [
        (spectral(torch.eye(2).double() - matrix_of(each, (2,))), each.rate) for each in operators
    ]
    return max(norm for norm, _ in found), found[0][1]


def least_cocoercivity(operator):
    T = matrix_of(operator, (2,))
    symmetric = (T + T.T) / 2
    values, vectors = torch.linalg.eigh(T.T @ T)
    if values[0] < 1e-9:
        return math.inf
    half = vectors / values.sqrt()
    return float(torch.linalg.eigvalsh(half.T @ symmetric @ half)[0])


def test_the_averagedness_of_forward_backward_is_sharp():
    n = torch.tensor([1.0, 0.0], dtype=torch.float64)
    f = Quadratic(n[:, None] * n)
    for step in (0.5, 1.0, 1.8):
        operators = [ForwardBackward(f, line(angle)[1], step) for angle in ANGLES]
        found = min(map(least_cocoercivity, operators))
        assert found == pytest.approx(operators[0].cocoercivity, rel=1e-3)


def test_the_rate_of_forward_backward_is_sharp():
    T = ForwardBackward(SquaredL2(0.3), SquaredL2(0.5), 1.0)
    assert spectral(torch.eye(2).double() - matrix_of(T, (2,))) == pytest.approx(T.rate)


def test_the_rate_of_douglas_rachford_with_one_function_strongly_convex_and_smooth_is_sharp():
    f = Quadratic(torch.diag(torch.tensor([0.5, 4.0]).double()))
    for step, other in ((0.3, Zero()), (2.0, Box(0.0, 0.0))):
        T = DouglasRachford(f, other, step)
        assert spectral(torch.eye(2).double() - matrix_of(T, (2,))) == pytest.approx(T.rate)


@pytest.mark.parametrize(("strong", "smooth"), [(0.2, 0.5), (1.0, 4.0), (4.0, 0.2), (1.0, 1.0)])
def test_the_rate_of_douglas_rachford_with_one_strongly_convex_and_one_smooth_is_sharp(
    strong, smooth
):
    # One pair for each of the four cases of the rate.
    n = torch.tensor([1.0, 0.0], dtype=torch.float64)
    f = Quadratic(2 * smooth * n[:, None] * n)
    operators = [
        DouglasRachford(f, line(angle)[1].plus_squared(2 * strong), 0.5) for angle in ANGLES
    ]
    found, declared = largest_rate(operators)
    assert found == pytest.approx(declared, rel=1e-3)
    assert DouglasRachford(operators[0].g, f, 0.5).rate == declared


def test_the_star_cocoercivity_of_horward_backward_forward_is_sharp():
    turn = as_operator(synthetic.quarter_turn, lipschitz=1.0)
    T = ForwardBackwardForward(turn, Zero(), 0.6)
    z = normal(5, 2)
    value = T(z)
    ratio = (value * z).sum(1) / value.square().sum(1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, T.star_cocoercivity))


@given(seed=st.integers(0, 10_000), fraction=st.floats(0.1, 0.99))
@settings(max_examples=30, deadline=None)
def test_forward_backward_forward_is_star_cocoercive_and_converges_at_its_rate(seed, fraction):
    zero = normal(ROWS, SIZE, seed=seed)
    matrix = SKEW + 0.2 * torch.eye(SIZE).double()
    B = synthetic.Affine(matrix, zero, lipschitz=spectral(matrix), strong_monotonicity=0.2)
    # A z* contains 0 and B z* is 0: zero is the answer, with the box active elsewhere.
    A = Box(RowParameter(zero - 0.1), RowParameter(zero + 0.1))
    T = ForwardBackwardForward(B, A, fraction / B.lipschitz)
    z = zero + normal(ROWS, SIZE, seed=seed + 1)
    value = T(z)
    inner = (value * (z - zero)).sum(1)
    assert (inner >= T.star_cocoercivity * value.square().sum(1) - 1e-12).all()
    assert ((z - value - zero).norm(dim=1) <= T.rate * (z - zero).norm(dim=1) + 1e-12).all()


# Equivalent forms, iterate by iterate


def iterates(operator, z, relaxation=1.0, steps=25):
    iterator = ForwardStep(step_size=relaxation)
    state = iterator.init(operator, z)
    for _ in range(steps):
        yield state.z
        state = iterator.step(operator, state)


def agree(first, second):
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) > 10
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


relaxations = pytest.mark.parametrize("relaxation", [0.6, 1.0, 1.4])


@relaxations
def test_forward_backward_without_g_is_the_gradient_method(relaxation):
    backward = ForwardBackward(FIT, Zero(), 0.5 / L)
    agree(
        iterates(backward, START, relaxation), iterates(Gradient(FIT, 0.5 / L), START, relaxation)
    )


@relaxations
def test_davis_yin_without_h_is_douglas_rachford(relaxation):
    dy, dr = DavisYin(SPARSE, FIT, Zero(), 0.1), DouglasRachford(SPARSE, FIT, 0.1)
    assert (dy.averagedness, dy.rate) == (dr.averagedness, dr.rate)
    agree(iterates(dy, START, relaxation), iterates(dr, START, relaxation))


@relaxations
def test_davis_yin_without_g_is_forward_backward(relaxation):
    dy, fb = DavisYin(SPARSE, Zero(), FIT, 0.5 / L), ForwardBackward(FIT, SPARSE, 0.5 / L)
    assert (dy.averagedness, dy.rate) == (fb.averagedness, fb.rate)
    agree(iterates(dy, START, relaxation), iterates(fb, START, relaxation))


def test_davis_yin_without_f_is_the_other_order_of_forward_backward():
    # Its x^k = prox_g z^k are the iterates of forward-backward.
    dy, fb = DavisYin(Zero(), SPARSE, FIT, 0.5 / L), ForwardBackward(FIT, SPARSE, 0.5 / L)
    shadow = [dy.solution(z) for z in iterates(dy, START)]
    agree(shadow, iterates(fb, shadow[0]))


def test_douglas_rachford_is_half_of_peaceman_rachford():
    dr, pr = DouglasRachford(SPARSE, FIT, 0.1), PeacemanRachford(SPARSE, FIT, 0.1)
    agree(iterates(dr, START), iterates(pr, START, 0.5))


def test_forward_backward_forward_of_a_constant_is_the_proximal_point_method():
    constant = as_operator(lambda z: torch.ones_like(z), lipschitz=0.0)
    shifted = ProximalPoint(FIT.plus_linear(1.0), 0.1)
    agree(iterates(ForwardBackwardForward(constant, FIT, 0.1), START), iterates(shifted, START))


class DualOfFit:
    """prox of f*(-K' .) for f(x) = 1/2 ||x - c||^2: a projection-like formula of its own."""

    def __init__(self, linear, center):
        self.matrix, self.center = linear.dense(), center

    def prox(self, y, step):
        # f*(-K'y) = ||K'y||^2/2 - <K c, y>
        identity = torch.eye(len(self.matrix), dtype=y.dtype)
        target = y + step * self.center @ self.matrix.T
        return torch.linalg.solve(identity + step * self.matrix @ self.matrix.T, target.T).T


@relaxations
def test_admm_is_douglas_rachford_on_the_dual(relaxation):
    r = 2.0
    admm = ADMM(NEAR, L1(0.7), r, DIFFERENCE)
    dual = DouglasRachford(DualOfFit(DIFFERENCE, SIGNAL), L1(0.7).conjugate, r)
    v = normal(ROWS, SIZE - 1, seed=21)
    agree((r * each for each in iterates(admm, v, relaxation)), iterates(dual, r * v, relaxation))
    torch.testing.assert_close(admm.dual(v), dual.solution(r * v))


def test_admm_without_k_is_douglas_rachford_on_the_dual_by_conjugates():
    class Mirrored:  # f*(-y)
        def prox(self, y, step):
            return -FIT.conjugate.prox(-y, step)

    r = 3.0
    admm, dual = ADMM(FIT, SPARSE, r), DouglasRachford(Mirrored(), SPARSE.conjugate, r)
    agree((r * each for each in iterates(admm, START)), iterates(dual, r * START))


def test_admm_is_the_recursion_of_its_paper():
    r, v = 2.0, normal(ROWS, SIZE - 1, seed=22)
    w = L1(0.7).prox(v, 1 / r)
    u = v - w
    K = DIFFERENCE.dense()
    system = torch.eye(SIZE).double() + r * K.T @ K
    states = []
    for _ in range(25):
        states.append(w + u)
        x = torch.linalg.solve(system, (SIGNAL + r * (w - u) @ K).T).T
        w = L1(0.7).prox(x @ K.T + u, 1 / r)
        u = u + x @ K.T - w
    agree(states, iterates(ADMM(NEAR, L1(0.7), r, DIFFERENCE), states[0]))


def test_admm_takes_the_argmin_from_its_user():
    K = DIFFERENCE.dense()
    system = torch.eye(SIZE).double() + 2 * K.T @ K

    def minimize(t, r):
        return torch.linalg.solve(system, (SIGNAL + r * t @ K).T).T

    given_, own = (ADMM(NEAR, L1(0.7), 2.0, DIFFERENCE, minimize=each) for each in (minimize, None))
    v = normal(ROWS, SIZE - 1, seed=23)
    agree(iterates(given_, v), iterates(own, v))
    scaled, plain = ADMM(NEAR, SPARSE, 2.0, Scaling((SIZE,))), ADMM(NEAR, SPARSE, 2.0)
    agree(iterates(scaled, START), iterates(plain, START))


@relaxations
def test_pdhg_with_the_identity_and_step_product_1_is_douglas_rachford(relaxation):
    s = 0.3
    pdhg = PDHG(FIT, SPARSE, Scaling((SIZE,)), s, 1 / s)
    dual = normal(ROWS, SIZE, seed=24)
    unpacked = (pdhg.unpack(z) for z in iterates(pdhg, pdhg.pack(START, dual), relaxation))
    dr = DouglasRachford(SPARSE, FIT, s)
    agree((x - s * y for x, y in unpacked), iterates(dr, START - s * dual, relaxation))
    with pytest.raises(ValueError, match=r"tau sigma \|\|K\|\|\^2 < 1"):
        pdhg.euclidean()


@relaxations
def test_condat_vu_without_h_is_pdhg(relaxation):
    pdhg = PDHG(NEAR, L1(0.7), DIFFERENCE, 0.4, 0.5)
    cv = CondatVu(Zero(), NEAR, L1(0.7), DIFFERENCE, 0.4, 0.5)
    assert (cv.metric_averagedness, cv.rate) == (pdhg.metric_averagedness, pdhg.rate)
    z = pdhg.pack(START, normal(ROWS, SIZE - 1, seed=25))
    agree(iterates(cv, z, relaxation), iterates(pdhg, z, relaxation))


def test_pdhg_is_the_recursion_of_its_paper():
    tau, sigma, K = 0.4, 0.5, DIFFERENCE.dense()
    T = PDHG(NEAR, L1(0.7), DIFFERENCE, tau, sigma)
    x, y = START, normal(ROWS, SIZE - 1, seed=26)
    states, z = [], T.pack(x, y)
    for _ in range(25):
        states.append(torch.cat((x, y), 1))
        then = (x - tau * y @ K + tau * SIGNAL) / (1 + tau)
        y = (y + sigma * (2 * then - x) @ K.T).clamp(-0.7, 0.7)
        x = then
    agree(states, (torch.cat(T.unpack(each), 1) for each in iterates(T, z)))


def test_a_duck_typed_f_is_conjugated_by_moreau():
    class Soft:
        def prox(self, z, step):
            return z.sign() * (z.abs() - 0.7 * step).clamp(min=0)

    own, duck = (PDHG(NEAR, f, DIFFERENCE, 0.4, 0.5) for f in (L1(0.7), Soft()))
    agree(iterates(own, own.pack(START)), iterates(duck, own.pack(START)))


def test_consensus_is_douglas_rachford_on_the_product_space():
    functions = (NEAR, NONNEGATIVE, SUM_IS_ONE)

    class Product:
        def prox(self, z, step):
            return torch.stack([f.prox(z[:, i], step) for i, f in enumerate(functions)], 1)

    class Diagonal:
        def prox(self, z, step):
            return z.mean(1, keepdim=True).expand_as(z)

    z = normal(ROWS, 3, SIZE, seed=27)
    dr = DouglasRachford(Diagonal(), Product(), 0.4)
    agree(iterates(Consensus(functions, 0.4), z), iterates(dr, z))


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


# Linear maps

LINEAR = {
    "matrix": Matrix(normal(3, 5, seed=30)),
    "matrices per row": Matrix(RowParameter(normal(ROWS, 4, 3, seed=31))),
    "scaling": Scaling((2, 3), -2.0),
    "differences": Difference1D((2, 5)),
    "gradient": Gradient2D((2, 4, 3)),
    "gradient of one row": Gradient2D((1, 6)),
    "functions": as_linear(
        lambda x, a: a * x.flip(1), lambda y, a: (a * y).flip(1), (4,), normal(ROWS, 4, seed=32)
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_map_has_its_adjoint_and_its_norm(name):
    K = LINEAR[name]
    x, y = normal(ROWS, *K.inputs, seed=33), normal(ROWS, *K.outputs, seed=34)
    assert K(x).shape == y.shape
    torch.testing.assert_close((K(x) * y).flatten(1).sum(1), (x * K.adjoint(y)).flatten(1).sum(1))
    rows = torch.tensor([2, 0])
    assert torch.equal(K.select(rows)(x[rows]), K(x)[rows])
    if "per row" in name or name == "functions":
        with pytest.raises(ValueError, match="of its own"):
            K.dense()
        return
    singular = torch.linalg.svdvals(K.dense())
    assert K.norm == pytest.approx(float(singular[0]))
    if K.least:
        assert K.least == pytest.approx(float(singular[-1]))


def test_the_bound_by_power_iteration_is_a_bound_and_close():
    for seed, (m, n) in enumerate(itertools.product((1, 20), (1, 50))):
        K = Matrix(normal(m, n, seed=seed))
        found = as_linear(K, K.adjoint, (n,)).norm
        assert K.norm <= found <= 1.1 * K.norm
    assert norm_bound(Scaling((3,), 7.0), normal(1, 3)) == pytest.approx(7, rel=0.08)


def test_a_wrong_adjoint_is_refused():
    with pytest.raises(ValueError, match="differ by"):
        as_linear(lambda x: x.cumsum(1), lambda y: y.cumsum(1), (4,))
    with pytest.raises(ValueError, match="adjoint returned"):
        as_linear(lambda x: x.diff(dim=1), lambda y: y, (4,))


def test_the_gradient_gives_the_total_variation():
    x = normal(ROWS, 2, 5, 4, seed=35)
    K = Gradient2D((2, 5, 4))
    for isotropic, norm in ((True, GroupL1("channels", 0.3)), (False, L1(0.3))):
        torch.testing.assert_close(norm(K(x)), TotalVariation2D(0.3, isotropic=isotropic)(x))


def test_pdhg_denoises_a_picture_as_the_certified_prox_does():
    picture = normal(1, 6, 5, seed=36)
    K = Gradient2D((6, 5))
    step = 0.99 / K.norm
    T = PDHG(SquaredL2(1.0, RowParameter(picture)), GroupL1("channels", 0.4), K, step, step)
    run = solve(T, T.pack(torch.zeros_like(picture)), Anderson(memory=10, shrink=1.0), rtol=1e-9)
    assert run.success
    u, bound = TotalVariation2D(0.4, iterations=2000).certified_prox(picture, 1.0)
    assert float((T.solution(run.z) - u).norm()) <= float(bound) + 1e-7


# Devices and precision


@every_case
def test_an_evaluation_reads_nothing_back_to_the_host(case):
    z = torch.empty(case.start.shape, dtype=torch.float64, device="meta")
    assert case.operator(z).shape == z.shape


@every_case
def test_single_precision_stays_single_and_agrees(case):
    z = normal(*case.start.shape, seed=40)
    value = case.operator(z.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), case.operator(z), rtol=1e-4, atol=1e-4)


def test_a_splitting_is_an_operator_and_takes_operators_as_forward_parts():
    B = synthetic.dense([0.5, 1.0], ORIGIN[:, :2] + 1)
    T = ForwardBackward(B, HalfSpace(torch.ones(2).double(), 1.0), 1.0)
    assert isinstance(T, Operator)
    assert T.rate == pytest.approx(math.sqrt(1 - 0.5))  # of an operator, not of a gradient
    run = solve(T, ORIGIN[:, :2], ForwardStep(step_size=1.0), rtol=1e-10)
    x = T.solution(run.z)
    torch.testing.assert_close(x.sum(1), torch.ones(ROWS).double())  # the constraint is active
    slope = B(x)
    torch.testing.assert_close(slope[:, 0], slope[:, 1])  # along the normal
    for g in (L2(0.1), Huber()):
        assert DouglasRachford(g, HalfSpace(torch.ones(2).double()), 1.0).averagedness == 0.5


def test_a_splitting_also_has_its_name_in_lower_case():
    assert splittings.forward_backward is splittings.ForwardBackward
    assert splittings.douglas_rachford is splittings.DouglasRachford
    assert splittings.primal_dual is splittings.pdhg is splittings.PDHG
    module = importlib.import_module("fixpoint.splittings._davis_yin")
    assert splittings.davis_yin is module.DavisYin
