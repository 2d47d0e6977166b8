"""check_operator passes what is right, and catches what is wrong by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import Operator, as_operator, synthetic
from fixpoint.testing import (
    BrokenProperty,
    KnownOperator,
    Planes,
    Separable,
    check_operator,
    ladder,
    operators,
)

few = settings(max_examples=8, deadline=None, derandomize=True, database=None)
UNCOCOERCIVE = ("nearly cocoercive", "not cocoercive")


@given(operator=operators(kinds=("cocoercive", *UNCOCOERCIVE), rows=st.integers(2, 3)))
@few
def test_drawn_operators_pass(operator):
    check_operator(operator, examples=5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_pass_in_fewer_bits(dtype):
    for problem in ladder():
        check_operator(problem.operator, problem.zero.to(dtype), examples=10)


@pytest.mark.parametrize(
    "make",
    [
        lambda zero: synthetic.diagonal([1.0, 2.0, 0.0, 1e-6], zero),
        lambda zero: synthetic.dense([1.0, 2.0, 0.5, 0.1], zero),
        lambda zero: synthetic.rotation(0.4, zero, size=4),
        lambda zero: synthetic.projection(torch.eye(2, 4), zero),
        lambda zero: synthetic.Cocoercive(0.5, zero),
        lambda zero: synthetic.Cocoercive(0.5, zero, torch.tanh),
        lambda zero: as_operator(lambda z, at: torch.sin(z - at) / 2 + z - at, zero, lipschitz=1.5),
    ],
    ids=["diagonal", "dense", "rotation", "projection", "cocoercive", "tanh", "function"],
)
def test_synthetic_operators_pass(make):
    zero = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_operator(make(zero), zero)


# Operators that lie


class Lying(Operator):
    """An operator that passes; each lie overrides a part of it."""

    def __init__(self, zero):
        self.zero = zero
        self.cocoercivity = self.lipschitz = self.strong_monotonicity = 1.0
        self.averagedness = 0.5

    def __call__(self, z):
        return z - self.zero.to(z)

    def select(self, rows):
        return type(self)(self.zero[rows])


class MixesRows(Lying):
    def __call__(self, z):
        return super().__call__(z) + 1e-9 * z.mean(0)


class WritesIntoItsInput(Lying):
    def __call__(self, z):
        return z.sub_(self.zero.to(z))


class ReturnsFloat64(Lying):
    def __call__(self, z):
        return z.double() - self.zero


class IsNoisy(Lying):
    def __call__(self, z):
        return super().__call__(z) + 1e-9 * torch.randn_like(z)


class ForgetsItsRows(Lying):
    def select(self, rows):
        return type(self)(self.zero[: len(rows)])


class ForgetsItsConstants(Lying):
    def select(self, rows):
        selected = super().select(rows)
        selected.cocoercivity = None
        return selected


class MisplacesItsZero(Lying):
    def __call__(self, z):
        return z - self.zero.to(z) - 0.1


class EvaluatesAnotherMap(Lying):
    def evaluate(self, z):
        return 2 * self(z), {}


class MeasuresTheBatch(Lying):
    def evaluate(self, z):
        return self(z), {"misfit": z.square().mean()}


class SeesOnlyNaN(Lying):
    def __call__(self, z):
        return super().__call__(z) + 0 * z.sum()


ZERO = torch.randn(3, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_an_operator_that_tells_the_truth_passes():
    check_operator(Lying(ZERO))


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (MixesRows, "rows are independent"),
        (SeesOnlyNaN, "rows are independent"),
        (WritesIntoItsInput, "input is not modified"),
        (IsNoisy, "evaluations are repeatable"),
        (EvaluatesAnotherMap, "evaluations are repeatable"),
        (MeasuresTheBatch, "evaluations are repeatable"),
        (ForgetsItsRows, "rows are independent"),
        (ForgetsItsConstants, "select agrees"),
        (MisplacesItsZero, "declared zero is a zero"),
    ],
)
def test_an_operator_that_lies_is_caught(lie, broken):
    with pytest.raises(AssertionError, match=f"^{broken}: broken by .*{lie.__name__}"):
        check_operator(lie(ZERO))


def test_an_operator_that_reorders_rows_is_caught():
    class SortsItsRows(Lying):
        def select(self, rows):
            return super().select(rows.sort().values)

    with pytest.raises(AssertionError, match=r"^select agrees: .*"):
        check_operator(SortsItsRows(ZERO))


def test_an_operator_that_changes_the_dtype_is_caught():
    with pytest.raises(AssertionError, match=r"^shape, dtype and device are kept"):
        check_operator(ReturnsFloat64(ZERO), ZERO.float())


@pytest.mark.parametrize("rung", range(6), ids=[problem.name for problem in ladder()])
def test_an_operator_declaring_twice_its_beta_is_caught(rung):
    operator = ladder(0.7)[rung].operator
    operator.cocoercivity *= 2
    with pytest.raises(AssertionError, match=r"^declared cocoercivity holds: .*\n.*less than 1\.4"):
        check_operator(operator)


@given(operator=operators(rows=2))
@few
def test_drawn_operators_declaring_a_little_more_than_their_beta_are_caught(operator):
    operator.cocoercivity *= 1.01
    if isinstance(operator.form, Planes) or operator.form.shape == "linear":
        with pytest.raises(BrokenProperty) as caught:
            check_operator(operator, examples=10)
        assert caught.value.property == "declared cocoercivity holds"


@pytest.mark.parametrize(
    ("name", "factor"),
    [("lipschitz", 0.95), ("strong_monotonicity", 1.05), ("averagedness", 0.95)],
)
def test_other_constants_that_are_not_true_are_caught(name, factor):
    operator = KnownOperator(0.8, ZERO, Separable((1.0, 0.5)), basis=1)
    setattr(operator, name, getattr(operator, name) * factor)
    with pytest.raises(AssertionError, match=f"^declared {name} holds"):
        check_operator(operator)


def test_a_rare_direction_is_found():
    spectrum = torch.full((40,), 0.01)
    spectrum[7] = 1.0  # a random direction hardly moves here
    operator = synthetic.dense(spectrum, torch.zeros(2, 40, dtype=torch.float64))
    operator.cocoercivity *= 2
    with pytest.raises(AssertionError, match=r"^declared cocoercivity holds"):
        check_operator(operator)


def test_the_example_is_the_simplest_pair():
    operator = KnownOperator(1.0, torch.zeros(2, 1, dtype=torch.float64), Separable((1.0,)))
    operator.cocoercivity = 2.0
    with pytest.raises(AssertionError, match=r"a = \[\[0\.0\], \[0\.0\]\], b = \[\[1\.0\], "):
        check_operator(operator)


def test_two_rows_are_needed_and_a_point():
    with pytest.raises(ValueError, match="no attribute `zero`"):
        check_operator(as_operator(torch.sin))
    with pytest.raises(ValueError, match="batch >= 2"):
        check_operator(as_operator(torch.sin), torch.zeros(1, 3))
    with pytest.raises(TypeError, match="as_operator"):
        check_operator(torch.sin, torch.zeros(2, 3))
