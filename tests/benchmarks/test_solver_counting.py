"""Evaluations are counted by the map, whatever the solver says."""

import torch

from benchmarks.solvers import counting, peers, problems

PROBLEMS = problems.solver_problems()
EASY = [problem for problem in PROBLEMS if problem.name in ("affine 0.9", "consumption")]


def test_the_map_counts_whatever_the_solver_says():
    def deceived(counted, z):
        counted(z)
        return z, True

    liar = counting.Solver("none", "liar", deceived)
    outcome = counting.attempt(liar, EASY[0])
    assert (outcome.evaluations, outcome.spent) == (None, 1)
    assert outcome.false_success
    plain = counting.attempt(peers.plain_loop(), EASY[0])
    assert plain.evaluations == plain.spent == 116
    assert plain.claimed
    assert not plain.false_success
    assert counting.attempt(peers.plain_loop(), EASY[0], budget=115).ended == "budget"


def test_a_solver_that_gives_up_early_is_judged_by_a_tighter_run():
    def early(counted, z):
        while float((counted(z) - z).norm()) > 10 * counted.tolerance:
            z = EASY[0].function(z)
        return z, False

    outcome = counting.attempt(counting.Solver("none", "early", early), EASY[0])
    assert outcome.spent < 116
    assert outcome.evaluations == 116
    assert not outcome.claimed


def test_a_derivative_along_a_direction_is_counted_as_an_evaluation():
    counted = counting.CountedMap(EASY[0])
    direction = torch.ones(100, dtype=torch.float64)
    slope = counted.derivative(EASY[0].start[0].numpy(), direction.numpy())
    assert counted.spent == 1
    start = EASY[0].start
    moved = EASY[0].function(start + direction) - EASY[0].function(start)
    torch.testing.assert_close(torch.as_tensor(slope), moved[0])
