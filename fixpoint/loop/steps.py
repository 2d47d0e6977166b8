"""One iteration of the rows in the batch, with its stop rules, monitors and callback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, Request, State
from fixpoint.loop.history import Entry
from fixpoint.loop.iterate import Iterate
from fixpoint.loop.record import RUNNING, Record, recorded
from fixpoint.loop.watched import WatchedOperator
from fixpoint.monitors import Monitor
from fixpoint.operator import Operator
from fixpoint.stop import StopRule
from fixpoint.trees.rows import select_rows, where_rows


@dataclass(frozen=True)
class Kept:
    """What the next iteration starts from."""

    state: State
    record: Record
    iterate: Iterate | None = field(default=None, compare=False)  # at the limit on iterations


class Steps:
    """Makes the iterations of a run and records them.

    Args:
        operator, iterator, rules, monitors, keep, callback: see `solve`.
        freeze: rows that have ended may still be in the batch.
    """

    def __init__(
        self,
        operator: Operator,
        iterator: Iterator[Any],
        rules: Sequence[StopRule],
        monitors: Sequence[Monitor],
        keep: str,
        callback: Callable[[Iterate], object] | None,
        *,
        freeze: bool,
    ) -> None:
        self.watched = WatchedOperator(operator)
        self.iterator = iterator
        self.rules = rules
        self.monitors = monitors
        self.keep = keep
        self.callback = callback
        self.freeze = freeze
        # On the CPU rules need the sums of pairs seldom, and compute them then.
        self.pairs = any(monitor.pairs for monitor in monitors)
        self.pairs = self.pairs or (freeze and any(rule.pairs for rule in rules))

    def first(self, z0: Tensor, rows: Tensor) -> tuple[Kept, Entry]:
        """The first iterate, and its entry in the history."""
        state = self.iterator.init(self.watched, z0)
        _check_state(state, z0, f"{type(self.iterator).__name__}.init")
        return self._observe(None, None, state, rows, 0)

    def next(
        self, kept: Kept, rows: Tensor, iteration: int | Tensor, *, last: bool
    ) -> tuple[Kept, Entry]:
        """The next iterate. `iteration` is a tensor where it is counted on the device."""
        before = kept.state
        if self.pairs or self.freeze or last:
            done = kept.record.status != RUNNING if self.freeze else None
            request = Request(pairs=self.pairs, done=done, last=last)
            before = replace(before, request=request)
        state = self.iterator.step(self.watched, before)
        _check_state(state, before.z, f"{type(self.iterator).__name__}.step")
        return self._observe(kept.record, before, state, rows, iteration, last=last)

    def select(self, kept: Kept, rows: Tensor) -> Kept:
        """Go on with some of the rows."""
        self.watched = self.watched.select(rows)
        return select_rows(kept, rows)

    def _observe(
        self,
        record: Record | None,
        previous: State | None,
        state: State,
        rows: Tensor,
        iteration: int | Tensor,
        *,
        last: bool = False,
    ) -> tuple[Kept, Entry]:
        sums = state.sums
        if sums is None:
            sums = kernels.row_sums(state.point, state.residual)
        wide = kernels.accumulation_dtype(state.point.dtype)
        norm, point_norm = sums.residual.sqrt().to(wide), sums.point.sqrt().to(wide)
        measured, evaluated = self.watched.measured_at(state.point), None
        accepted = state.accepted
        if accepted is not None and record is not None:
            evaluated = norm
            norm = torch.where(accepted, norm, record.iterate_norm)
            point_norm = torch.where(accepted, point_norm, record.point_norm)
            known = {name: record.numbers[name] for name in measured if name in record.numbers}
            measured |= {name: torch.where(accepted, measured[name], known[name]) for name in known}
        iterate = Iterate(
            iteration=iteration,
            rows=rows,
            state=state,
            residual_norm=norm,
            point_norm=point_norm,
            measured=measured,
            previous=previous,
            evaluated_norm=evaluated,
        )
        if record is None:
            _check_measured(self.keep, iterate)
        if self.callback is not None:
            self.callback(iterate)
        # Rows that ended since the flags were last looked at are frozen; None: there are none.
        running = None if record is None or not self.freeze else record.status == RUNNING
        following = recorded(
            record,
            iterate,
            self.rules,
            self.monitors,
            self.keep,
            self.iterator.statistics(state),
            self.watched.new_calls(),
            look=not self.freeze,
            running=running,
        )
        if record is not None and running is not None:
            # `recorded` has frozen z already.
            rest = where_rows(running, replace(following, z=record.z), record)
            following = replace(rest, z=following.z)
        return Kept(state, following, iterate if last else None), _entry(iterate, running)


def _entry(iterate: Iterate, running: Tensor | None) -> Entry:
    """Residuals and measured numbers, NaN for rows that have ended but not left."""
    numbers = iterate.numbers
    if running is None:
        return iterate.residual_norm, numbers
    return (
        torch.where(running, iterate.residual_norm, torch.nan),
        {name: torch.where(running, value, torch.nan) for name, value in numbers.items()},
    )


def _check_state(state: State, z: Tensor, method: str) -> None:
    """Refuse what an iterator returned if it is no state of these rows.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if not isinstance(state, State):
        raise TypeError(f"{method} must return a State, got {type(state).__name__}")
    for name in ("z", "point", "residual"):
        shape = getattr(state, name).shape
        if shape != z.shape:
            raise ValueError(
                f"{method} returned a state whose {name} has shape {tuple(shape)}, expected that "
                f"of z, {tuple(z.shape)}"
            )


def _check_measured(keep: str, iterate: Iterate) -> None:
    numbers = sorted(iterate.numbers)
    if keep not in ("best", "last", *numbers):
        raise ValueError(
            'keep must be "best", "last" or one of the numbers that the operator measures, '
            f"{numbers}; got {keep!r}"
        )
