"""Rows that a run calls solved although they are not at a zero."""

from __future__ import annotations

from typing import Any

from fixpoint._solve import solve
from fixpoint.iterator import Iterator
from fixpoint.testing.broken_property import format_tensor
from fixpoint.testing.problems import Problem

_STEPS = 150
_ZERO_TOLERANCE = 0.1  # elementwise distance from the zero


def false_success(iterator: Iterator[Any], problem: Problem) -> str | None:
    """Describe the first row that ends as a success away from a zero; None where there is none.

    The problem has no zero, or one far from the start. It is run at tolerances from 1e-2 to 1e-8.
    """
    for rtol in (1e-2, 1e-3, 1e-5, 1e-8):
        solution = solve(
            problem.operator, problem.start, iterator, rtol=rtol, max_iterations=_STEPS
        )
        for row, status in enumerate(solution.status):
            at_zero = problem.zero is not None and bool(
                ((solution.z[row] - problem.zero[row]).abs() < _ZERO_TOLERANCE).all()
            )
            if status.success and not at_zero:
                return (
                    f"row {row} ends at {format_tensor(solution.z[row])} after "
                    f"{int(solution.iterations[row])} steps as {status.name} at rtol = {rtol:g}"
                )
    return None
