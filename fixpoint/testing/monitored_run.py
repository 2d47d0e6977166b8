"""The iterates of a run, and the memories of a monitor that watches it."""

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

MonitorOrFactory = Monitor | Callable[[Problem, Iterator[Any]], Monitor]


def make_monitor(monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]) -> Monitor:
    """The given instance, or the one that a factory makes for this problem and iterator."""
    return monitor if isinstance(monitor, Monitor) else monitor(problem, iterator)


def iterates(problem: Problem, iterator: Iterator[Any], steps: int) -> list[Iterate]:
    """The first iterate, and those after each of `steps` steps."""
    rows = torch.arange(len(problem.start))
    state = iterator.init(problem.operator, problem.start.clone())
    found = [_iterate(0, rows, state)]
    for number in range(1, steps + 1):
        state = iterator.step(problem.operator, state)
        found.append(_iterate(number, rows, state))
    return found


def memories(monitor: Monitor, run: Sequence[Iterate]) -> list[Any]:
    """The memory of the monitor after each iterate of a run."""
    found = [monitor.start(run[0])]
    for iterate in run[1:]:
        found.append(monitor.watch(iterate, found[-1]))
    return found


def _iterate(number: int, rows: Tensor, state: State) -> Iterate:
    norms = kernels.row_norm(state.residual), kernels.row_norm(state.point)
    return Iterate(number, rows, state, *norms, {})
