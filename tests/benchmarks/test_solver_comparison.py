"""Every solver on every problem, and the page."""

import json
from pathlib import Path

from benchmarks.solvers import comparison, own, page, peers, problems

ROOT = Path(__file__).parents[2]
PROBLEMS = problems.solver_problems()
EASY = [problem for problem in PROBLEMS if problem.name in ("affine 0.9", "consumption")]
MISSING = ("none", "a_module_that_is_not_there")


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


def test_the_page_on_solvers_is_rendered_from_what_was_measured():
    found = json.loads((ROOT / "docs" / "results" / "solvers.json").read_text())
    assert page.markdown(found) == (ROOT / "docs" / "solvers.md").read_text(encoding="utf-8")
