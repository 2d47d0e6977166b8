"""Every solver on every problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.shared.machine import machine_name
from benchmarks.solvers import generated as solver_generated
from benchmarks.solvers.counting import BUDGET, TARGET, Solver, attempt
from benchmarks.solvers.own import default_name, own_solvers
from benchmarks.solvers.peers import peers, plain_loop
from benchmarks.solvers.problems import Problem, solver_problems

PLAIN_LIMIT = 20_000
"""Evaluations of plain steps at most, which say how hard a problem is."""


def compare(problems: Sequence[Problem], solvers: Sequence[Solver]) -> dict[str, Any]:
    """Every solver on every problem."""
    plain = plain_loop()
    return {
        "target": TARGET,
        "budget": BUDGET,
        "default": f"fixpoint {default_name()}",
        "problems": [
            {
                "name": problem.name,
                "unknowns": problem.start.shape[1],
                "note": problem.note,
                "plain": attempt(plain, problem, PLAIN_LIMIT).evaluations,
            }
            for problem in problems
        ],
        "solvers": [
            {
                "library": solver.library,
                "method": solver.method,
                "tuned": solver.tuned,
                "derivatives": solver.derivatives,
                "outcomes": [_line(solver, problem) for problem in problems],
            }
            for solver in solvers
        ],
    }


def _line(solver: Solver, problem: Problem) -> dict[str, Any]:
    found = attempt(solver, problem)
    return asdict(found) | {"false_success": found.false_success}


def measure_comparison(_: int) -> dict[str, Any]:
    others, libraries = peers()
    found = compare(solver_problems(), [*own_solvers(), *others])
    return {"machine": machine_name(), "libraries": libraries} | found


def measure_generated(problems: int) -> dict[str, Any]:
    return {"machine": machine_name()} | solver_generated.measure(problems)
