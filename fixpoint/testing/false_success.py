"""Successes that are none: rows that run away, and what a run says of them."""

from __future__ import annotations

from typing import Any

from fixpoint._solve import solve
from fixpoint.iterator import Iterator
from fixpoint.testing.broken_property import numbers
from fixpoint.testing.problems import Problem

_STEPS = 150
_NEAR = 0.1  # distance to a zero that passes for it, elementwise


def false_success(iterator: Iterator[Any], problem: Problem) -> str | None:
    """Run a problem without a zero, or with one far away, at tolerances from 1e-2 to 1e-8; a
    sentence on the first row that ends as a success away from the zero."""
    for rtol in (1e-2, 1e-3, 1e-5, 1e-8):
        solution = solve(
            problem.operator, problem.start, iterator, rtol=rtol, max_iterations=_STEPS
        )
        for row, status in enumerate(solution.status):
            at_zero = problem.zero is not None and bool(
                ((solution.z[row] - problem.zero[row]).abs() < _NEAR).all()
            )
            if status.success and not at_zero:
                return (
                    f"row {row} ends at {numbers(solution.z[row])} after "
                    f"{int(solution.iterations[row])} steps as {status.name} at rtol = {rtol:g}"
                )
    return None
