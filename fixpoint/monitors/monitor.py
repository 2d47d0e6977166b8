"""Monitors watch a run and never steer it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from fixpoint.loop.iterate import Iterate
from fixpoint.summary import Summarised


class Monitor(Summarised, ABC):
    """Observes every iteration; its memory is a tree of per-row tensors.

    `solve` keeps that memory. A row that leaves the batch takes its part along, and `report` gets
    the memory of all rows in their first order at the end.

    `pairs`: the monitor uses `Iterate.pair` or `Iterate.squared_step`: updates then compute these
    sums in their one pass over memory.
    """

    pairs: ClassVar[bool] = False

    @abstractmethod
    def start(self, iterate: Iterate) -> Any:
        """The memory after the first iterate."""

    @abstractmethod
    def watch(self, iterate: Iterate, memory: Any) -> Any:
        """The memory after a further iterate. The old one is left untouched."""

    def report(self, memory: Any) -> Any:
        """What the solution holds; by default the memory itself."""
        return memory
