"""The same iterations, replayed from CUDA graphs where they can be captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fixpoint.loop.cuda_graph import CudaGraph, NotCapturable, NotSettled
from fixpoint.loop.history import Entry
from fixpoint.loop.record import RUNNING
from fixpoint.loop.steps import Kept, Steps


class Replays:
    """Captures iterations where it can, and replays them.

    A graph is captured when two successive looks at the flags find trees of the same shape. It is
    dropped when half of its rows have ended, or the limit on iterations is near.

    Args:
        steps: how an iteration is made otherwise.
        count: iterations of a graph.
    """

    def __init__(self, steps: Steps, count: int) -> None:
        self.steps = steps
        self.count = count
        self.replayed = 0
        self.graph: CudaGraph[Kept] | None = None
        self.before: Kept | None = None  # at the last look
        self.reason: str | None = None  # why there can be none
        self.pending: str | None = None  # why there was none yet
        if steps.callback is not None:
            self.reason = "a callback is called at every iteration"

    def look(self, kept: Kept, rows: Tensor, iteration: int, max_iterations: int) -> None:
        """Capture the coming iterations, if they can be."""
        if self.reason or self.graph is not None:
            return
        before, self.before = self.before, kept
        if before is None or iteration + self.count >= max_iterations:
            return
        try:
            self.graph = CudaGraph(self._body(rows), kept, before, iteration, self.count)
        except NotCapturable as error:
            self.steps.watched.forget()
            if isinstance(error, NotSettled):
                self.pending = str(error)
            else:
                self.reason = str(error)

    def next(self, rows: Tensor, iteration: int, max_iterations: int) -> list[Entry]:
        """`count` more iterations; drops the graph when it is no longer of use."""
        assert self.graph is not None
        entries: list[Entry] = self.graph.replay()
        self.replayed += len(entries)
        ended = self.graph.present().record.status != RUNNING
        near = iteration + len(entries) + self.count >= max_iterations
        if near or 2 * int(ended.sum()) >= len(rows):
            self.before = self.graph.tree()
            self.graph = None
        return entries

    def leave(self) -> Kept:
        """What the dropped graph leaves to the next iteration."""
        kept, self.before = self.before, None
        assert kept is not None
        return kept

    def report(self) -> str:
        """What was replayed, or why nothing was, in a sentence."""
        if self.replayed:
            return f"{self.replayed} iterations were replayed from CUDA graphs"
        reason = self.reason or self.pending or "the run was too short"
        return f"no CUDA graph: {reason}"

    def _body(self, rows: Tensor) -> Callable[[Kept, Tensor], tuple[Kept, Any]]:
        return lambda kept, number: self.steps.next(kept, rows, number, last=False)
