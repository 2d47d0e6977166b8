"""What is known of every row during a run, and how an iterate changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from fixpoint.loop.iterate import Iterate
from fixpoint.monitors import Monitor
from fixpoint.stop import StopRule
from fixpoint.trees.rows import expand_rows

RUNNING = -1


@dataclass(frozen=True)
class Record:
    """What is known of every row. The part of a row freezes with it and leaves with it."""

    z: Tensor
    residual_norm: Tensor
    merit: Tensor  # the least of what `keep` names
    status: Tensor
    iterations: Tensor
    evaluations: Tensor
    memories: tuple[Any, ...]
    observations: tuple[Any, ...]
    statistics: dict[str, Tensor]
    iterate_norm: Tensor  # ||T z|| at the last accepted iterate
    point_norm: Tensor  # ||z|| there
    numbers: dict[str, Tensor]  # what was measured there, as one number a row


def recorded(
    record: Record | None,
    iterate: Iterate,
    rules: Sequence[StopRule],
    monitors: Sequence[Monitor],
    keep: str,
    statistics: dict[str, Tensor],
    calls: int,
    *,
    look: bool = False,
    running: Tensor | None = None,
) -> Record:
    """The record after one more iterate.

    Args:
        calls: of T for this iterate.
        look: read back whether any row ends, and whether all rows have improved. Mostly none ends
            and all have improved. Then a third of the time of a small problem's iteration is
            saved, and of a large one the pass over memory that chooses the best point.
        running: the rows whose z may change; None: all.
    """
    norm, point = iterate.residual_norm, iterate.state.point
    if record is None:
        memories: tuple[Any, ...] = tuple(rule.start(iterate) for rule in rules)
        observations = tuple(monitor.start(iterate) for monitor in monitors)
    else:
        memories = record.memories
        observations = tuple(
            monitor.watch(iterate, memory)
            for monitor, memory in zip(monitors, record.observations, strict=True)
        )
    checks = [rule.check(iterate, memory) for rule, memory in zip(rules, memories, strict=True)]
    status = torch.full_like(norm, RUNNING, dtype=torch.long) if record is None else record.status
    accepted: Tensor | None = None
    fired = reduce(torch.logical_or, [fires for fires, _ in checks]) if look else None
    if fired is None or bool(fired.any()):
        checks = [
            rule.confirm(iterate, memory, fires)
            for rule, (fires, memory) in zip(rules, checks, strict=True)
        ]
        status = torch.full_like(status, RUNNING)
        # The first rule that fires decides: it comes last.
        for rule, (fires, _) in zip(reversed(rules), reversed(checks), strict=True):
            status = torch.where(fires, rule.status.code, status)
            if rule.accepts:
                accepted = fires if accepted is None else accepted | fires
            elif accepted is not None:
                accepted = accepted & ~fires

    merit = norm
    if keep not in ("best", "last"):
        merit = iterate.measured.get(keep, torch.full_like(norm, torch.inf))
        merit = torch.where(merit.isnan(), torch.inf, merit)
    best, best_norm, best_merit = point, norm, merit
    if record is not None:
        taken = better = iterate.finite
        if keep != "last":
            lower = merit < record.merit
            if keep != "best":  # where nothing was ever measured, the residual decides
                unknown = merit.isinf() & record.merit.isinf()
                lower = lower | (unknown & (norm < record.residual_norm))
            taken = better = lower & better
        if accepted is not None:
            taken = better | accepted
        if iterate.accepted is not None:  # at a refused trial there is no new iterate
            taken, better = taken & iterate.accepted, better & iterate.accepted
        if running is not None:
            taken = taken & running
        if not (look and bool(better.all())):
            best = torch.where(expand_rows(taken, point), point, record.z)
            best_norm = torch.where(taken, norm, record.residual_norm)
            best_merit = torch.where(better, merit, record.merit)
    return Record(
        z=best,
        residual_norm=best_norm,
        merit=best_merit,
        status=status,
        iterations=torch.zeros_like(status) if record is None else record.iterations + 1,
        evaluations=torch.full_like(status, calls)
        if record is None
        else record.evaluations + calls,
        memories=tuple(memory for _, memory in checks),
        observations=observations,
        statistics=statistics,
        iterate_norm=norm,
        point_norm=iterate.point_norm,
        numbers=iterate.numbers,
    )
