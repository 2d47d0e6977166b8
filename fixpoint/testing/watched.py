"""A run step by step, and what a monitor makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors import Monitor
from fixpoint.testing.problems import Problem

Make = Callable[[Problem, Iterator[Any]], Monitor]


def made(monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]) -> Monitor:
    """The monitor itself, or the one made for this problem and iterator."""
    return monitor if isinstance(monitor, Monitor) else monitor(problem, iterator)


def iterates(problem: Problem, iterator: Iterator[Any], steps: int) -> list[Iterate]:
    """The first iterate and those of so many steps."""
    rows = torch.arange(len(problem.start))
    state = iterator.init(problem.operator, problem.start.clone())
    found = [_iterate(0, rows, state)]
    for number in range(1, steps + 1):
        state = iterator.step(problem.operator, state)
        found.append(_iterate(number, rows, state))
    return found


def memories(monitor: Monitor, run: Sequence[Iterate]) -> list[Any]:
    """What the monitor remembers after each of these iterates."""
    found = [monitor.start(run[0])]
    for iterate in run[1:]:
        found.append(monitor.watch(iterate, found[-1]))
    return found


def _iterate(number: int, rows: Tensor, state: State) -> Iterate:
    norms = kernels.row_norm(state.residual), kernels.row_norm(state.point)
    return Iterate(number, rows, state, *norms, {})
