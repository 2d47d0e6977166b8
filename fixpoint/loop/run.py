"""A run: the rows in the batch, the rows that have left, and the next iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from fixpoint.loop.history import Log
from fixpoint.loop.record import RUNNING, Record
from fixpoint.loop.replays import Replays
from fixpoint.loop.steps import Kept, Steps
from fixpoint.solution import History, Solution
from fixpoint.status import Status
from fixpoint.trees.rows import join_rows, select_rows


@dataclass(frozen=True)
class Progress:
    """Everything that a run needs to continue; a checkpoint holds it."""

    kept: Kept | None  # None: every row has left
    rows: Tensor
    left: tuple[tuple[Tensor, Record], ...]
    history: History
    displacement: tuple[Tensor, Tensor] | None = None


class Loop:
    """The state of a run. `retire` removes rows that have ended, `advance` makes an iteration.

    Args:
        z0: (batch, *shape), the start.
        steps: how an iteration is made.
        max_iterations: see `solve`.
        check_every: iterations between two looks at the flags.
        cuda_graph: replay the iterations between two looks where they can be captured.
        bar: the progress bar.
    """

    def __init__(
        self,
        z0: Tensor,
        steps: Steps,
        *,
        max_iterations: int,
        check_every: int,
        cuda_graph: bool,
        bar: tqdm[None],
    ) -> None:
        self.batch = len(z0)
        self.steps = steps
        self.max_iterations = max_iterations
        self.check_every = check_every
        self.replays = Replays(steps, check_every) if cuda_graph else None
        self.bar = bar
        self.rows = torch.arange(self.batch, device=z0.device)
        self.left: list[tuple[Tensor, Record]] = []
        self.log = Log(self.batch)
        self.iteration = 0
        self.kept: Kept | None = None
        self.seen: Tensor | None = None  # the flags that were looked at last
        # Rows without a zero, and T at their last iterates.
        self.displacement: tuple[Tensor, Tensor] | None = None

    def begin(self, z0: Tensor) -> None:
        """The first iterate."""
        self.kept, entry = self.steps.first(z0, self.rows)
        self.log.append(self.rows, entry)

    def go_on(self, progress: Progress) -> None:
        """Continue from where another run was."""
        self.left, self.log = list(progress.left), Log.of(progress.history, self.rows)
        self.iteration = len(self.log.lines) - 1
        self.kept, self.rows = progress.kept, progress.rows
        self.displacement = progress.displacement
        if self.left and self.kept is not None:
            self.steps.watched = self.steps.watched.select(self.rows)
        self.bar.update(self.iteration)

    @property
    def running(self) -> bool:
        """Whether rows are left in the batch."""
        return self.kept is not None

    @property
    def looks(self) -> bool:
        """Whether the flags are looked at before the next iteration."""
        return self.iteration % self.check_every == 0 or self.iteration == self.max_iterations

    @property
    def limited(self) -> bool:
        """Whether rows have left because of the limit on iterations."""
        codes = torch.tensor([Status.MAX_ITERATIONS.code, Status.NO_ZERO.code])
        return any(bool(torch.isin(record.status.cpu(), codes).any()) for _, record in self.left)

    def progress(self) -> Progress:
        """What the run carries now."""
        kept = self.kept
        if self.replays is not None and self.replays.graph is not None:
            kept = self.replays.graph.tree()
        if kept is not None:
            kept = replace(kept, iterate=None)
        left = tuple(self.left)
        return Progress(kept, self.rows, left, self.log.history(), self.displacement)

    def retire(self) -> None:
        """Remove the rows that have ended; at the limit on iterations all of them."""
        if self.kept is None or not self.looks or self._replaying:
            return
        record, limit = self.kept.record, self.iteration == self.max_iterations
        # The same tensor as at the last look: no rule has fired since.
        if record.status is not self.seen or limit:
            ended = record.status != RUNNING
            if limit:
                record = self._at_the_limit(self.kept)
                ended = torch.ones_like(ended)
            if bool(ended.any()):
                gone, stay = ended.nonzero().flatten(), (~ended).nonzero().flatten()
                self.left.append((self.rows[gone], select_rows(record, gone)))
                if not len(stay):
                    self.kept, self.rows = None, self.rows[:0]
                    return
                self.rows = self.rows[stay]
                self.kept = self.steps.select(Kept(self.kept.state, record), stay)
            self.seen = self.kept.record.status
        self.bar.set_postfix(running=len(self.rows), refresh=False)
        if self.replays is not None:
            self.replays.look(self.kept, self.rows, self.iteration, self.max_iterations)

    def advance(self) -> None:
        """One iteration, or those of a graph."""
        if self.kept is None:
            return
        if self.replays is not None and self.replays.graph is not None:
            entries = self.replays.next(self.rows, self.iteration, self.max_iterations)
            if not self._replaying:
                self.kept = self.replays.leave()
        else:
            last = self.iteration + 1 == self.max_iterations
            self.kept, entry = self.steps.next(self.kept, self.rows, self.iteration + 1, last=last)
            entries = [entry]
        for entry in entries:
            self.log.append(self.rows, entry)
        self.iteration += len(entries)
        self.bar.update(len(entries))

    def solution(self) -> Solution:
        """The solution, row by row."""
        record = join_rows(self.left)
        monitors = zip(self.steps.monitors, record.observations, strict=True)
        return Solution(
            z=record.z,
            residual_norm=record.residual_norm,
            status=tuple(Status.from_code(code) for code in record.status.tolist()),
            iterations=record.iterations,
            evaluations=record.evaluations,
            # Later lines hold frozen rows only.
            history=self.log.history(int(record.iterations.max()) + 1),
            monitors=tuple(monitor.report(memory) for monitor, memory in monitors),
            statistics=record.statistics,
            displacement=self._displacements(record.z),
            graph=None if self.replays is None else self.replays.report(),
        )

    def _displacements(self, z: Tensor) -> Tensor | None:
        if self.displacement is None:
            return None
        rows, values = self.displacement
        return torch.full_like(z, torch.nan).index_copy(0, rows, values)

    @property
    def _replaying(self) -> bool:
        return self.replays is not None and self.replays.graph is not None

    def _at_the_limit(self, kept: Kept) -> Record:
        """The record with a status for the rows that are still running."""
        record, iterate = kept.record, kept.iterate
        status = torch.full_like(record.status, Status.MAX_ITERATIONS.code)
        if iterate is not None:
            for rule, memory in zip(self.steps.rules, record.memories, strict=True):
                status = torch.where(rule.at_the_limit(iterate, memory), rule.status.code, status)
        running = record.status == RUNNING
        found = running & (status == Status.NO_ZERO.code)
        if bool(found.any()):
            rows = found.nonzero().flatten()
            self.displacement = self.rows[rows], kept.state.residual[rows]
        return replace(record, status=torch.where(running, status, record.status))
