"""The point that a row returns: the best, the last, or that of a measured number."""

import math

import pytest
import torch
from measured_operators import Measuring
from problems import ITERATORS, problem

from fixpoint import ForwardStep, Status, as_operator, solve
from fixpoint.operator import Operator


def test_the_best_point_is_kept_unless_the_last_is_asked_for():
    for keep, residual, z in (("best", 1.0, -3.0), ("last", 2.0, -4.0)):
        norms = iter([3.0, 1.0, 2.0])
        operator = as_operator(lambda z, norms=norms: torch.full_like(z, next(norms)))
        solution = solve(operator, torch.zeros(1, 1), ForwardStep(), max_iterations=2, keep=keep)
        assert (float(solution.residual_norm), float(solution.z)) == (residual, z)


def test_only_what_is_measured_can_be_kept():
    with pytest.raises(ValueError, match=r"keep must be .*'misfit'.*got 'first'"):
        solve(Measuring(), torch.ones(1, 1), ForwardStep(), keep="first")
    with pytest.raises(ValueError, match="picture"):  # no number
        solve(Measuring(), torch.ones(1, 1), ForwardStep(), keep="picture")


def test_the_point_of_the_least_measured_number_can_be_kept():
    # z goes 1, 0.5, 0.25, ...: the misfit |z - 0.3| is least at 0.25, the residual at the end.
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 6}
    kept = solve(
        Measuring(), torch.ones(2, 1), ForwardStep(step_size=0.5), keep="misfit", **options
    )
    assert kept.z.tolist() == [[0.25], [0.25]]
    assert kept.residual_norm.tolist() == [0.25, 0.25]
    assert set(kept.history.measured) == {"misfit"}  # numbers only
    best = solve(Measuring(), torch.ones(2, 1), ForwardStep(step_size=0.5), **options)
    assert best.z.tolist() == [[0.5**6]] * 2


@pytest.mark.parametrize("check_every", [1, 4])
def test_every_row_keeps_the_point_of_its_own_least_number(check_every):
    # z goes z0, z0/2, ...: rows reach 0.3 at different times, and the last one is converged at z0.
    z0 = torch.tensor([[1.0], [0.5], [3.2], [0.0]])
    solution = solve(
        Measuring(),
        z0,
        ForwardStep(step_size=0.5),
        keep="misfit",
        rtol=0.0,
        atol=0.0,
        max_iterations=6,
        check_every=check_every,
    )
    assert solution.z.flatten().tolist() == pytest.approx([0.25, 0.25, 0.4, 0.0])
    assert torch.equal(solution.residual_norm, solution.z.abs().flatten())
    assert solution.status[3] is Status.CONVERGED
    misfit = solution.history.measured["misfit"].nan_to_num(torch.inf)
    torch.testing.assert_close((solution.z[:, 0] - 0.3).abs(), misfit.amin(0))


def test_a_row_that_converges_returns_that_point_whatever_it_should_keep():
    solution = solve(
        Measuring(), torch.ones(1, 1), ForwardStep(step_size=0.5), keep="misfit", atol=0.1, rtol=0.0
    )
    assert solution.status == (Status.CONVERGED,)
    assert solution.z.tolist() == [[0.0625]]


class MeasuringOnce(Operator):
    """T z = z; "misfit" is given by the calls, one number for all rows."""

    def __init__(self, misfits):
        self.misfits = iter(misfits)

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"misfit": torch.full_like(z[:, 0], next(self.misfits))}

    def select(self, rows):
        return self


@pytest.mark.parametrize(
    ("misfits", "kept"),
    [
        ([3.0, 1.0, math.nan, 2.0], 0.5),
        ([3.0, math.nan, math.nan, 2.0], 0.125),
        ([math.inf, 2.0, 2.0, 2.0], 0.5),
        ([math.nan, 2.0, 1.0, 3.0], 0.25),
    ],
    ids=["NaN later", "NaN before the least", "infinite first", "NaN first"],
)
def test_a_number_that_is_nan_is_never_the_least(misfits, kept):
    solution = solve(
        MeasuringOnce(misfits),
        torch.ones(1, 1),
        ForwardStep(step_size=0.5),
        keep="misfit",
        rtol=0.0,
        atol=0.0,
        max_iterations=3,
    )
    assert solution.z.tolist() == [[kept]]


@pytest.mark.parametrize("name", ITERATORS)
def test_what_is_kept_does_not_steer(name):
    class Norms(Operator):
        def __init__(self, operator):
            self.operator = operator

        def __call__(self, z):
            return self.evaluate(z)[0]

        def evaluate(self, z):
            value = self.operator(z)
            return value, {"norm": value.norm(dim=1), "minus": -value.norm(dim=1)}

        def select(self, rows):
            return Norms(self.operator.select(rows))

    operator, _, z0 = problem()
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 8}
    best = solve(Norms(operator), z0, ITERATORS[name], keep="best", **options)
    least = solve(Norms(operator), z0, ITERATORS[name], keep="norm", **options)
    worst = solve(Norms(operator), z0, ITERATORS[name], keep="minus", **options)
    torch.testing.assert_close(
        best.history.residual_norm, worst.history.residual_norm, rtol=0, atol=0
    )
    assert torch.equal(best.evaluations, worst.evaluations)
    assert torch.equal(best.z, least.z)
    assert (worst.residual_norm > best.residual_norm).all()
