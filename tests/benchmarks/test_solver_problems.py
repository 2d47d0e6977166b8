"""The problems on which solvers are compared."""

import pytest
import torch

from benchmarks.solvers import problems

PROBLEMS = problems.solver_problems()


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_a_map_is_finite_at_its_start_and_maps_each_row_on_its_own(problem):
    start = problem.start
    assert start.dtype == torch.float64
    assert start.shape[0] == 1
    rows = torch.cat((start, problem.function(start), start))
    values = problem.function(rows)
    assert values.shape == rows.shape
    assert values.isfinite().all()
    alone = torch.cat([problem.function(row[None]) for row in rows])
    torch.testing.assert_close(values, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(values[0], values[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_plain_steps_come_nearer_to_a_fixed_point(problem):
    z = problem.start
    for _ in range(2000):
        z = problem.function(z)
    assert problem.residual_norm(z) < 0.1 * problem.residual_norm(problem.start)


def test_a_problem_is_the_same_each_time_it_is_made():
    again = problems.solver_problems.__wrapped__()
    for one, other in zip(PROBLEMS, again, strict=True):
        assert torch.equal(one.function(one.start), other.function(other.start))
