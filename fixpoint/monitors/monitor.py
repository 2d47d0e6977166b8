"""Monitors watch a run and never steer it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from fixpoint.loop.iterate import Iterate
from fixpoint.summary import Summarised


class Monitor(Summarised, ABC):
    """Observes every iteration; what it remembers is a tree of per-row tensors.

    `solve` carries that memory: rows take theirs along when they leave the batch, and the memory
    of all rows, in their first order, is given to `report` at the end.

    `pairs`: it asks `Iterate.pair` or `Iterate.squared_step`, so that updates take those sums
    along in their one pass over memory.
    """

    pairs: ClassVar[bool] = False

    @abstractmethod
    def start(self, iterate: Iterate) -> Any:
        """The memory after the first iterate."""

    @abstractmethod
    def watch(self, iterate: Iterate, memory: Any) -> Any:
        """The memory after a further iterate. The old one is left untouched."""

    def report(self, memory: Any) -> Any:
        """What the solution shows of it; the memory itself unless overridden."""
        return memory
