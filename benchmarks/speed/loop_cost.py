"""What `solve` adds to the evaluations of an operator."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.device_clock import seconds_of
from benchmarks.speed.evaluation_cases import Case, Plan
from fixpoint import InertialKM, Operator, solve
from fixpoint.adapters import DecoderInversion
from fixpoint.adapters.inversion import default_iterator
from fixpoint.iterator import Iterator as Method
from fixpoint.monitors import Cocoercivity, Convergence, Fejer, InertialKMTheorem, Monitor
from fixpoint.trees.rows import select_rows

LOOP = 50  # iterations around an operator that costs nothing


def loop(case: Case) -> list[dict[str, Any]]:
    """What `solve` adds to an evaluation, alone and as the difference of two runs.

    The evaluation is compiled where that is possible: a shorter evaluation gives a larger share.
    """
    plan = case.plan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operator = case.operator(compile=True)
        evaluation = seconds_of(
            lambda: operator(operator.start), plan.device, plan.calls, plan.repeats
        )
    recorded = Recorded(operator)
    rows = []
    for name, iterator in (
        ("the default", default_iterator(operator.observation, case.dtype)),
        ("inertial KM", InertialKM()),
    ):
        for watched in (False, True):
            monitors = all_monitors(iterator, case.truth) if watched else ()
            alone, whole = (
                _seconds_an_iteration(each, iterator, monitors, plan, iterations)
                for each, iterations in ((recorded, LOOP), (operator, plan.iterations))
            )
            rows.append(
                {
                    "iterator": name,
                    "monitors": watched,
                    "evaluation_milliseconds": 1e3 * evaluation,
                    "loop_milliseconds": 1e3 * alone,
                    "iteration_milliseconds": 1e3 * whole,
                    "share": alone / evaluation,
                    "difference_share": whole / evaluation - 1,
                }
            )
    return rows


def _seconds_an_iteration(
    operator: DecoderInversion | Recorded,
    iterator: Method[Any],
    monitors: tuple[Monitor, ...],
    plan: Plan,
    iterations: int,
) -> float:
    def run() -> None:
        solve(
            operator,
            operator.start,
            iterator,
            rtol=0.0,
            atol=0.0,
            max_iterations=iterations,
            monitors=monitors,
        )

    return seconds_of(run, plan.device, 1, plan.repeats) / (iterations + 1)


def all_monitors(iterator: Method[Any], zero: Tensor) -> tuple[Monitor, ...]:
    """Every monitor that fits the iterator."""
    monitors: tuple[Monitor, ...] = (Cocoercivity(zero=zero), Convergence(), Fejer(zero=zero))
    if isinstance(iterator, InertialKM):
        theorem = InertialKMTheorem(
            inertia=iterator.inertia,
            relaxation=iterator.relaxation,
            cocoercivity=iterator.cocoercivity,
            zero=zero,
        )
        return (*monitors, theorem)
    return monitors


class Recorded(Operator):
    """An operator without cost: it repeats the values of another operator at some points."""

    def __init__(self, operator: DecoderInversion, points: int = 8) -> None:
        self.start = operator.start
        step = 0.1 * torch.randn_like(self.start)
        self.given = [operator.evaluate(self.start + step / (k + 1)) for k in range(points)]
        self.calls = 0

    def __call__(self, z: Tensor) -> Tensor:
        return self.evaluate(z)[0]

    def evaluate(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        return self.given[self.calls % len(self.given)]

    def select(self, rows: Tensor) -> Recorded:
        selected = copy.copy(self)
        selected.given = [select_rows(each, rows) for each in self.given]
        return selected
