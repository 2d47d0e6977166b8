"""fixpoint's own solvers, as they are without settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.solvers.counting import BUDGET, CountedMap, Returned, Solver
from fixpoint import (
    Anderson,
    Broyden,
    ForwardStep,
    NewtonKrylov,
    Operator,
    Solution,
    fixed_point_of,
    recommend,
    solve,
)

Method = Callable[..., Solution]
"""From an operator, its start and the keywords of `solve`."""

DEFAULT = "solve, default"


def _recommended(operator: Operator, z0: Tensor, **options: Any) -> Solution:
    found = recommend(operator, z0)
    return solve(operator, found.z, found.iterator, **options)


def _with(iterator: Any) -> Method:
    return lambda operator, z0, **options: solve(operator, z0, iterator, **options)


def methods() -> dict[str, Method]:
    """Methods by the names that tables show; `solve` without an iterator where that is allowed."""
    found: dict[str, Method] = {
        "ForwardStep": _with(ForwardStep(step_size=1.0)),
        "ForwardStep.adaptive": _with(ForwardStep.adaptive()),
        "Anderson": _with(Anderson()),
        "Broyden": _with(Broyden()),
        "NewtonKrylov": _with(NewtonKrylov()),
        "recommend": _recommended,
    }
    if inspect.signature(solve).parameters["iterator"].default is not inspect.Parameter.empty:
        found[DEFAULT] = solve
    return found


def default_name() -> str:
    """The method of a user who chooses nothing."""
    return DEFAULT if DEFAULT in methods() else "recommend"


def own_solvers() -> list[Solver]:
    def run(counted: CountedMap, z: Tensor, *, method: Method) -> Returned:
        found = method(
            fixed_point_of(counted), z, rtol=0.0, atol=counted.tolerance, max_iterations=BUDGET
        )
        return found.z, found.success

    return [
        Solver("fixpoint", name, partial(run, method=method)) for name, method in methods().items()
    ]
