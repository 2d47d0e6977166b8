"""A way: one method of one library on one problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from fixpoint import solve


@dataclass(frozen=True)
class Way:
    """One method of one library on one problem.

    Attributes:
        run: so many iterations; returns the point.
        family: methods to compare with one another.
        variants: of one `group` only the default and the one that needs the fewest evaluations are
            timed.
    """

    library: str
    method: str
    run: Callable[[int], Any]
    group: str = ""
    family: str = ""
    jitted: bool = False  # its evaluations are not seen from outside
    find: Callable[[int], Any] | None = None  # the same points without compiling for each length
    first: Callable[[int, Callable[[Tensor], bool]], int | None] | None = None  # in one run


@dataclass
class Counter:
    """Rows at which a map was evaluated."""

    rows: int = 0
    batch: int = 1


class Reached(Exception):
    """Ends a run; its argument is the iteration."""


def fixpoint_way(
    method: str, operator: Any, start: Tensor, iterator: Any, rtol: float = 0.0, **options: Any
) -> Way:
    """A way of fixpoint.

    Args:
        rtol: with 0 no row stops.
        after: an option, the function from the last z to the point that is judged.
    """
    after = options.pop("after", lambda z: z)

    def first(limit: int, reached: Callable[[Tensor], bool]) -> int | None:
        def look(iterate: Any) -> None:
            if iterate.iteration > 0 and reached(after(iterate.state.point)):
                raise Reached(iterate.iteration)

        never = {"rtol": 0.0, "atol": 0.0, "max_iterations": limit}
        try:
            solve(operator, start, iterator, callback=look, **never)
        except Reached as found:
            return found.args[0]
        return None

    def run(iterations: int) -> Tensor:
        found = solve(
            operator,
            start,
            iterator,
            rtol=rtol,
            atol=0.0,
            max_iterations=iterations,
            keep="last",
        )
        return after(found.z)

    return Way("fixpoint", method, run, first=None if rtol else first, **options)


def compiled(
    make: Callable[[Any], Any], start: Any, *data: Any
) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """Two functions of the number of iterations: `run`, compiled for each number, and `find`.

    `find` returns the same points from steps that are compiled once.
    """
    jax = import_module("jax")
    whole = jax.jit(lambda limit, z: make(limit).run(z, *data).params, static_argnums=0)
    solver = make(1)

    def step(_: Any, held: Any) -> Any:
        return tuple(solver.update(*held, *data))

    def steps(limit: Any, z: Any) -> Any:
        # The first step settles the types of the state.
        held = step(0, (z, solver.init_state(z, *data)))
        return jax.lax.fori_loop(1, limit, step, held)[0]

    stepwise = jax.jit(steps)

    def run(iterations: int) -> Any:
        return whole(iterations, start).block_until_ready()

    return run, lambda iterations: stepwise(iterations, start)
