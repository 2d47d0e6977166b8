"""What the monitors of both theorems remember of a run: its iterates, residuals and recursion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.rounding import finite_rows
from fixpoint.monitors.tightest import Tightest


@dataclass(frozen=True)
class Path:
    """What is known of the accepted iterates, per row; `point` is where T was evaluated."""

    start: Float[Tensor, "batch *shape"]
    first: Float[Tensor, " batch"]  # ||T z^0||
    last: Float[Tensor, " batch"]  # ||T z^k||
    least: Float[Tensor, " batch"]
    total: Float[Tensor, " batch"]  # sum of ||T z^k||^2
    steps: Int[Tensor, " batch"]
    begun: Bool[Tensor, " batch"]  # T z^0 is finite
    lost_at: Int[Tensor, " batch"]  # where T was first not finite at a finite point; -1: nowhere
    norm_at_zero: Float[Tensor, " batch"]  # ||T z^k|| where z^k was the zero given; else 0
    at_zero: Int[Tensor, " batch"]  # where it first was; -1: nowhere
    recursion: Tightest  # see `agreement`
    resolution: Float[Tensor, " batch"]  # rho is known to this from the steps
    by_the_method: bool  # the states are those of the theorem's own iterator

    @classmethod
    def begin(
        cls, iterate: Iterate, recursion: Float[Tensor, " batch"] | None, by_the_method: bool
    ) -> Path:
        """From the first iterate, whose `recursion` may fail already."""
        norm, residual = iterate.residual_norm, iterate.state.residual
        unseen = Tightest.unseen(norm)
        return cls(
            start=iterate.state.point,
            first=norm,
            last=norm,
            least=norm,
            total=norm.square(),
            steps=torch.zeros_like(unseen.iteration),
            begun=finite_rows(residual),
            lost_at=unseen.iteration,
            norm_at_zero=torch.zeros_like(norm),
            at_zero=unseen.iteration,
            recursion=unseen if recursion is None else unseen.seen(recursion, iterate.iteration),
            resolution=torch.full_like(norm, torch.inf),
            by_the_method=by_the_method,
        )

    def extended(
        self,
        iterate: Iterate,
        recursion: Float[Tensor, " batch"],
        resolution: Float[Tensor, " batch"] | None,
        by_the_method: bool,
    ) -> Path:
        """The path with one more iterate.

        Args:
            recursion: how well the step to it agrees with the recursion, see `agreement`.
            resolution: see `resolution`; None where it is not needed.
        """
        norm, state = iterate.residual_norm, iterate.state
        lost = iterate.point_norm.isfinite() & ~finite_rows(state.residual)
        lost = lost & self.begun & (self.lost_at < 0)
        return Path(
            start=self.start,
            first=self.first,
            last=norm,
            least=torch.fmin(norm, self.least),
            total=self.total + norm.square(),
            steps=self.steps + 1,
            begun=self.begun,
            lost_at=torch.where(lost, iterate.iteration, self.lost_at),
            norm_at_zero=self.norm_at_zero,
            at_zero=self.at_zero,
            recursion=self.recursion.seen(recursion, iterate.iteration),
            resolution=self.resolution
            if resolution is None
            else torch.fmin(self.resolution, resolution.to(norm.dtype)),
            by_the_method=self.by_the_method and by_the_method,
        )

    def with_zero_met(self, iterate: Iterate, squared_distance: Float[Tensor, " batch"]) -> Path:
        """The path, where its last point may be the zero that was given."""
        here = (squared_distance == 0) & (self.at_zero < 0)
        return replace(
            self,
            norm_at_zero=torch.where(here, iterate.residual_norm, self.norm_at_zero),
            at_zero=torch.where(here, iterate.iteration, self.at_zero),
        )

    @property
    def fallen(self) -> Float[Tensor, " batch"]:
        """The share by which the first residual has fallen, at least 0; 0 where it is NaN."""
        gone = 1 - self.last / self.first.clamp(min=torch.finfo(self.first.dtype).tiny)
        gone = torch.where(self.last == 0, 1.0, gone)
        return torch.nan_to_num(gone, nan=0.0).clamp(min=0)
