"""What `solve` returns: the points, and how every row ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.monitors.certificate import Certificate, Claim, TheoremReport
from fixpoint.status import Status
from fixpoint.summary import Summarised


@dataclass(frozen=True)
class History(Summarised):
    """What was measured at every iteration; NaN once a row has left.

    `residual_norm` and the tensors in `measured` have shape (iterations + 1, batch): entry 0
    belongs to the starting point.
    """

    residual_norm: Float[Tensor, "iterations batch"]
    measured: dict[str, Float[Tensor, "iterations batch"]]


@dataclass(frozen=True)
class Solution(Summarised):
    """How a run ended, row by row; rows in the order of `z0`.

    Attributes:
        z: (batch, *shape), the returned points; a tree where `z0` was one.
        residual_norm: `||T z||` of the returned points.
        status: why each row ended.
        iterations: steps taken by each row.
        evaluations: calls of T in which each row took part.
        history: residuals and measurements, iteration by iteration.
        monitors: the report of each monitor, in the order given.
        statistics: counts that the iterator keeps, per row.
        displacement: (batch, *shape), T at the last iterate of rows that end as NO_ZERO. For
            forward steps of an averaged operator it tends to the least displacement. NaN in other
            rows; None if there is no such row.
        graph: with `cuda_graph=True`, how many iterations were replayed, or why none.
    """

    z: Float[Tensor, "batch *shape"]
    residual_norm: Float[Tensor, " batch"]
    status: tuple[Status, ...]
    iterations: Int[Tensor, " batch"]
    evaluations: Int[Tensor, " batch"]
    history: History
    monitors: tuple[Any, ...]
    statistics: dict[str, Int[Tensor, " batch"]]
    displacement: Float[Tensor, "batch *shape"] | None = None
    graph: str | None = None

    @property
    def certificate(self) -> Certificate:
        """What the run says about the theorems among its monitors; see `Certificate`."""
        claims: list[Claim] = []
        remarks: list[str] = []
        for report in self.monitors:
            if isinstance(report, TheoremReport):
                claims.extend(report.claims)
                remarks.extend(report.remarks(self.status))
        return Certificate(tuple(claims), tuple(remarks))

    @property
    def success(self) -> bool:
        """True where every row found a zero, to within tolerance, rounding or noise."""
        return all(status.success for status in self.status)

    def __repr__(self) -> str:
        counts = Counter(self.status)
        ends = ", ".join(f"{counts[status]} {status.name}" for status in Status if counts[status])
        return f"Solution({len(self.status)} rows: {ends or 'none'})"

    def __str__(self) -> str:
        counts = Counter(self.status)
        lines = [
            f"{len(self.status)} rows, {int(self.evaluations.sum())} row evaluations of T, "
            f"largest residual {float(self.residual_norm.max()):.3g}"
            if self.status
            else "no rows"
        ]
        for status in Status:
            if counts[status]:
                lines.append(f"  {counts[status]:>5}  {status.name}: {status.message}")
        return "\n".join(lines)


class SolveError(RuntimeError):
    """Raised by `solve(..., throw=True)` where a row did not succeed; carries the `solution`."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(str(solution))
        self.solution = solution
