"""One solver on one problem, judged by the evaluations of the map alone.

The map counts its evaluations and takes the residual at every one of them. The evaluations of a
solver are those up to the first point within the target. When it stops, and what it claims then, is
judged separately.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.solvers.problems import Problem

TARGET = 1e-6
"""Of the residual's norm, relative to that of the start."""

BUDGET = 1000
"""Evaluations of the map at most."""


TIGHTER = 1e-3
"""Of the target: the tolerance of a second run, see `attempt`."""


class BudgetSpent(Exception):
    """Ends a run at the first evaluation beyond the budget."""


class CountedMap:
    """The map of a problem, which counts its evaluations.

    Attributes:
        goal: norm of the residual that is sought.
        tolerance: on that norm, for the solver to stop at; the goal, or less.
        spent: evaluations, and derivatives along one direction, so far.
        first: of them, up to the first point within the goal; None before.
    """

    def __init__(self, problem: Problem, budget: int = BUDGET, tighter: float = 1.0) -> None:
        self.problem, self.budget = problem, budget
        self.goal = TARGET * float(problem.residual_norm(problem.start))
        self.tolerance = tighter * self.goal
        self.spent = 0
        self.first: int | None = None

    def __call__(self, z: Tensor) -> Tensor:
        """G(z) of one row."""
        if len(z) != 1:
            raise ValueError(f"evaluations are counted one row at a time, got {len(z)} rows")
        self._spend()
        with torch.no_grad():
            value = self.problem.function(z)
            if self.first is None and float((value - z).norm()) <= self.goal:
                self.first = self.spent
        return value

    def numpy(self, z: Any) -> Any:
        """G of a vector."""
        row = torch.from_numpy(np.array(z, dtype=np.float64))[None]
        return self(row)[0].numpy()

    def derivative(self, z: Any, direction: Any) -> Any:
        """G'(z) along a vector: it costs as much as an evaluation and counts as one."""
        self._spend()
        row, tangent = (torch.from_numpy(np.array(x, dtype=np.float64)) for x in (z, direction))
        along = torch.func.jvp(self.problem.function, (row[None],), (tangent[None],))[1]
        return along[0].numpy()

    def _spend(self) -> None:
        if self.spent >= self.budget:
            raise BudgetSpent
        self.spent += 1


Returned = tuple[Any, bool | None]
"""The point, and whether the solver calls it a solution; None where it has no test."""


@dataclass(frozen=True)
class Solver:
    """One method of one library.

    Attributes:
        run: from a counted map and its start to what is returned; stops at `tolerance`.
        tuned: the method whose settings were chosen for these problems; empty for defaults.
        derivatives: it takes derivatives of the map, which the others do without.
    """

    library: str
    method: str
    run: Callable[[CountedMap, Tensor], Returned]
    tuned: str = ""
    derivatives: bool = False

    @property
    def name(self) -> str:
        return f"{self.library} {self.method}"


@dataclass(frozen=True)
class Outcome:
    """How a solver did on a problem.

    Attributes:
        evaluations: up to the first point within the target; None: not within the budget.
        spent: evaluations until the solver stopped, or the budget.
        claimed: success, by the solver's own test at the same target; None: it has no such test.
        excess: residual of the returned point over the target; None where none was returned.
        ended: the error that ended the run, if one did.
    """

    evaluations: int | None
    spent: int
    claimed: bool | None
    excess: float | None
    ended: str = ""

    @property
    def false_success(self) -> bool:
        return bool(self.claimed) and not (self.excess is not None and self.excess <= 1 + 1e-9)


def attempt(solver: Solver, problem: Problem, budget: int = BUDGET) -> Outcome:
    """Run a solver on a problem; an error ends the run and claims nothing.

    A solver that stops before the target and within the budget runs again with a much smaller
    tolerance. The evaluations of the second run count, and the claim of the first.
    """
    counted = CountedMap(problem, budget)
    excess, claimed, ended = None, False, ""
    try:
        point, claimed = _run(solver, counted)
        found = point if isinstance(point, Tensor) else torch.from_numpy(np.array(point))
        row = found.reshape(1, -1)
        excess = float(problem.residual_norm(row)) / counted.goal
    except Exception as error:  # whatever a library raises, its run has ended without a claim
        ended = "budget" if counted.spent >= budget else type(error).__name__
    first = counted.first
    if first is None and counted.spent < budget:
        again = CountedMap(problem, budget, tighter=TIGHTER)
        with contextlib.suppress(Exception):
            _run(solver, again)
        first = again.first
    return Outcome(first, counted.spent, claimed, excess, ended)


def _run(solver: Solver, counted: CountedMap) -> Returned:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return solver.run(counted, counted.problem.start.clone())
