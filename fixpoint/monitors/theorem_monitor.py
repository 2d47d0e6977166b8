"""What the monitors of both theorems do alike: they watch accepted points, and report claims."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from fixpoint import kernels
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.accepted import accepted_rows
from fixpoint.monitors.certificate import Claim, TheoremReport
from fixpoint.monitors.claims import Conclusions, residual_claim
from fixpoint.monitors.cocoercivity import Cocoercivity, CocoercivityMemory
from fixpoint.monitors.monitor import Monitor
from fixpoint.trees.rows import where_rows


class TheoremMonitor(Monitor):
    """The monitor of a theorem.

    Subclasses are frozen dataclasses with the fields below. Their memory is one, too, with the
    fields `ratios` (a `CocoercivityMemory`) and `path` (a `Path`).
    """

    pairs: ClassVar = True
    theorem: ClassVar[str]
    zero: Tensor | None
    capacity: int
    precision: float | None

    @abstractmethod
    def _following(self, iterate: Iterate, memory: Any, ratios: CocoercivityMemory) -> Any:
        """The memory after an accepted point."""

    @abstractmethod
    def _at_zero(self, iterate: Iterate, memory: Any) -> Any:
        """The memory with what the known zero says of this point."""

    def watch(self, iterate: Iterate, memory: Any) -> Any:
        ratios = self._ratios.watch(iterate, memory.ratios)
        following = self._at_zero(iterate, self._following(iterate, memory, ratios))
        accepted = accepted_rows(iterate)
        if accepted is None:
            return following
        return where_rows(accepted, following, replace(memory, ratios=ratios))

    @property
    def _ratios(self) -> Cocoercivity:
        return Cocoercivity(zero=self.zero, capacity=self.capacity, precision=self.precision)

    def _squared_distance(self, z: Tensor, ratios: CocoercivityMemory) -> Tensor:
        """`||z - z*||^2`; 0 where no zero is known."""
        if self.zero is None:
            return ratios.norm.new_zeros(len(z))
        offset = z - ratios.zero
        return kernels.row_dot(offset, offset).to(ratios.norm.dtype)

    def _reported(
        self,
        memory: Any,
        hypotheses: Sequence[Claim],
        conclude: Callable[[Conclusions], Sequence[Claim]],
        limit: str,
    ) -> TheoremReport:
        """The report: hypotheses, what `conclude` makes of them, the residual's limit, ratios."""
        conclusions = Conclusions(self.theorem, hypotheses)
        claims = (
            *hypotheses,
            *conclude(conclusions),
            residual_claim(conclusions, limit, memory.path),
        )
        return TheoremReport(claims, self._ratios.report(memory.ratios))
