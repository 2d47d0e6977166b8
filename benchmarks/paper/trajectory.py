"""The errors of the points of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fixpoint.adapters import nmse_db
from fixpoint.loop.iterate import Iterate


@dataclass
class Trajectory:
    """Callback that records the error of every iterate.

    Attributes:
        truth: z* of every case.
        error: of points against the truth of their rows, in dB; (points, truth) to (rows,).
        errors: (cases,) a point, NaN for rows that have left.
    """

    truth: Tensor
    error: Callable[[Tensor, Tensor], Tensor] = nmse_db
    errors: list[Tensor] = field(default_factory=list)

    def __call__(self, iterate: Iterate) -> None:
        self.add(iterate.state.point, iterate.rows)

    def add(self, point: Tensor, rows: Tensor | None = None) -> None:
        rows = torch.arange(len(self.truth)) if rows is None else rows
        self.errors.append(torch.full((len(self.truth),), torch.nan, dtype=torch.float64))
        self.errors[-1][rows] = self.error(point, self.truth[rows]).double()

    @property
    def oracle(self) -> Tensor:
        """The least error of every case: what a perfect stop rule would return."""
        return torch.stack(self.errors).nan_to_num(nan=torch.inf).amin(0)

    @property
    def curve(self) -> Tensor:
        """The mean error at every point; a row that has left keeps its last error."""
        latest, means = self.errors[0], []
        for errors in self.errors:
            latest = torch.where(errors.isnan(), latest, errors)
            means.append(latest.mean())
        return torch.stack(means)
