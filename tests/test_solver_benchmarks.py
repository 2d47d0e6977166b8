"""The comparison of solvers: its problems, its counting, its generated truths, its page."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.solvers import comparison, counting, generated, own, page, peers, problems

ROOT = Path(__file__).parents[1]
PROBLEMS = problems.solver_problems()
EASY = [problem for problem in PROBLEMS if problem.name in ("affine 0.9", "consumption")]
MISSING = ("none", "a_module_that_is_not_there")


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


def test_missing_libraries_are_named_and_the_rest_is_compared(monkeypatch):
    monkeypatch.setattr(peers, "LIBRARIES", dict.fromkeys(peers.LIBRARIES, MISSING))
    others, libraries = peers.peers()
    assert set(libraries.values()) == {"not installed"}
    assert [solver.library for solver in others] == ["plain loop"]
    found = comparison.compare(EASY, [*own.own_solvers(), *others])
    found |= {"machine": "A machine.", "libraries": libraries}
    by_name = {solver["method"]: solver["outcomes"] for solver in found["solvers"]}
    plain = [outcome["evaluations"] for outcome in by_name["z = G(z)"]]
    assert [outcome["evaluations"] for outcome in by_name["ForwardStep"]] == plain
    assert all(outcome["evaluations"] < 100 for outcome in by_name["Broyden"])
    text = page.markdown({"comparison": json.loads(json.dumps(found))})
    assert "| SciPy | not installed |" in text
    assert "| nan" not in text


@pytest.mark.parametrize("family", generated.FAMILIES, ids=lambda family: family.name)
def test_a_generated_operator_keeps_its_residual_where_it_has_no_zero(family):
    batch = generated.Batch.drawn(family, 50, torch.float64, seed=1)
    scale = batch.data[0]
    residuals = torch.stack(
        [
            batch.residual_norm(scale * shift * problems.Draws(2).normal(50, generated.WIDTH))
            for shift in (0, 1, 10, 100)
        ]
    )
    least = (residuals / scale[:, 0]).amin()
    assert residuals.isfinite().all() or family.name == "exp(z) - 1"
    if not family.solvable:
        assert least > 0.09


def test_generated_problems_expose_a_success_that_is_none():
    family = next(family for family in generated.FAMILIES if not family.solvable)
    batch = generated.Batch.drawn(family, 4, torch.float32, seed=1)

    def boast(operator, z0, **_):
        return type("Boast", (), {"z": z0, "status": [Claimed] * 4, "evaluations": torch.ones(4)})

    Claimed = type("Claimed", (), {"success": True})
    counts = batch.judged(boast, 10)
    assert counts == {"claimed": 4, "solved": 0, "false": 4, "beyond": 4, "evaluations": 4}


def test_the_page_on_solvers_is_rendered_from_what_was_measured():
    found = json.loads((ROOT / "docs" / "results" / "solvers.json").read_text())
    assert page.markdown(found) == (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")
