"""Stop rules and statuses."""

import math

import pytest
import torch
from measured_operators import Measuring

from fixpoint import ForwardStep, Status, as_operator, solve, synthetic
from fixpoint.loop.residual import Residual
from fixpoint.operator import Operator
from fixpoint.stop import Divergence, NoiseFloor, Stagnation

# Statuses and stop rules


def test_an_operator_without_zero_stalls():
    operator = as_operator(lambda z: z + torch.sign(z + 0.1))
    z0 = torch.tensor([[1.0]])
    solution = solve(operator, z0, ForwardStep(step_size=0.3), stop=(Stagnation(window=8),))
    assert solution.status == (Status.STALLED,)
    assert int(solution.iterations) < 1000


def test_stagnation_counts_from_the_last_improvement():
    norms = iter([8.0, 4.0, 3.99, 3.98, 2.0, 2.1, 1.99, 1.985, 1.0])
    operator = as_operator(lambda z: torch.full_like(z, next(norms)))
    solution = solve(
        operator,
        torch.zeros(1, 1),
        ForwardStep(),
        stop=(Stagnation(window=3, improvement=0.01),),
        max_iterations=8,
    )
    assert solution.status == (Status.STALLED,)
    assert int(solution.iterations) == 7
    assert float(solution.residual_norm) == pytest.approx(1.985)


def test_a_diverging_row_is_told_from_its_neighbours():
    slope = torch.tensor([[1.0], [2.5]], dtype=torch.float64)
    operator = as_operator(lambda z, a: a * z, slope)
    z0 = torch.ones(2, 3, dtype=torch.float64)
    solution = solve(operator, z0, ForwardStep())
    assert solution.status == (Status.CONVERGED, Status.DIVERGED)
    assert torch.equal(solution.z[1], z0[1])  # its best point is the first


def test_an_infinite_point_is_never_convergence():
    constant = as_operator(lambda z: torch.full_like(z, -1000.0))
    solution = solve(constant, torch.zeros(1, 2, dtype=torch.float16), ForwardStep())
    assert solution.status == (Status.NONFINITE,)
    assert bool(solution.z.isfinite().all())


def test_a_quarter_rotation_diverges_at_its_known_rate():
    operator = synthetic.rotation(math.pi / 2)
    operator.cocoercivity = None
    solution = solve(operator, torch.ones(1, 2, dtype=torch.float64), ForwardStep(step_size=0.5))
    growth = solution.history.residual_norm[1:] / solution.history.residual_norm[:-1]
    torch.testing.assert_close(growth, torch.full_like(growth, math.sqrt(1.25)))
    assert solution.status == (Status.DIVERGED,)


class Misfit(Operator):
    """T z = z with a misfit to data that falls to 0.5 at z = 0."""

    def __init__(self, level=None):
        self.level = level

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"misfit": 0.5 + z.abs().amax(1)}

    def select(self, rows):
        return self


def test_the_noise_floor_ends_a_row_and_returns_that_point():
    level = torch.tensor([1.0, 0.6])
    z0 = torch.full((2, 3), 4.0)
    solution = solve(Misfit(), z0, ForwardStep(step_size=0.5), stop=(NoiseFloor(level=level),))
    assert solution.status == (Status.NOISE_FLOOR, Status.NOISE_FLOOR)
    assert solution.success
    assert solution.iterations.tolist() == [3, 6]
    assert solution.z[:, 0].tolist() == [0.5, 0.0625]


def test_the_noise_floor_needs_something_to_watch():
    with pytest.raises(ValueError, match=r"'misfit'.*measures nothing"):
        solve(
            as_operator(lambda z: z), torch.ones(1, 1), ForwardStep(), stop=(NoiseFloor(level=1.0),)
        )
    rule = NoiseFloor(level=torch.ones(3))
    with pytest.raises(ValueError, match="one per row"):
        solve(Misfit(), torch.ones(2, 1), ForwardStep(), stop=(rule,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Residual(rtol=-1.0, atol=0.0), "got -1.0"),
        (lambda: Divergence(factor=0.5), "0.5"),
        (lambda: Stagnation(window=0), "0"),
        (lambda: Stagnation(improvement=1.0), "1.0"),
    ],
)
def test_stop_rules_check_their_options(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_statuses_carry_their_messages():
    assert Status.CONVERGED.message.startswith("the residual")
    assert [status.success for status in Status] == [True, True, *[False] * 4, True, False, False]
    assert all(Status.from_code(status.code) is status for status in Status)


def test_stagnation_can_watch_a_measured_number():
    # |z - 0.3| goes 0.7, 0.2, 0.05, 0.175, ...: it is least at the second step.
    rule = Stagnation(window=2, improvement=0.1, quantity="misfit")
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 20}
    start, halving = torch.ones(1, 1), ForwardStep(step_size=0.5)
    watched = solve(Measuring(), start, halving, stop=(rule,), **options)
    assert watched.status == (Status.STALLED,)
    assert watched.iterations.tolist() == [4]
    # The residual itself never stagnates.
    by_residual = Stagnation(window=2, improvement=0.1)
    assert solve(Measuring(), start, halving, stop=(by_residual,), **options).iterations == 20


def test_stagnation_of_what_is_not_measured_is_refused():
    with pytest.raises(ValueError, match=r"Stagnation watches 'level'.*\['misfit'\]"):
        solve(Measuring(), torch.ones(1, 1), ForwardStep(), stop=(Stagnation(quantity="level"),))
