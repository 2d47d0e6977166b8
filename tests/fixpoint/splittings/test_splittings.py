"""Every splitting of one table meets the same claims."""

import dataclasses
import importlib
import math
from collections.abc import Callable

import pytest
import torch
from splitting_cases import (
    DIFFERENCE,
    FIT,
    GAME,
    MU,
    NEAR,
    NONNEGATIVE,
    ROWS,
    SIGNAL,
    SIZE,
    SPARSE,
    SUM_IS_ONE,
    TALL,
    TARGET,
    L,
    close,
    normal,
    solves_total_variation,
)
from torch import Tensor

from fixpoint import (
    Anderson,
    ForwardStep,
    Halpern,
    InertialKM,
    Operator,
    solve,
    splittings,
    synthetic,
)
from fixpoint.proximal import L1, L2, Box, HalfSpace, Huber, RowParameter, Simplex, SquaredL2, Zero
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
    PrimalDual,
    ProximalPoint,
    Splitting,
)
from fixpoint.testing import check_operator


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


def solves_mean(x):
    close(x, (SIGNAL + TARGET[:, :SIZE] - 2) / 3)


ORIGIN = torch.zeros(ROWS, SIZE, dtype=torch.float64)


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


@pytest.mark.slow
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
