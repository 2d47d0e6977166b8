"""Fejer monotonicity: the distance to a known zero never grows (Ryu & Yin 2022, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.accepted import accepted_rows
from fixpoint.monitors.monitor import Monitor
from fixpoint.summary import Summarised
from fixpoint.trees.rows import where_rows


@dataclass(frozen=True)
class FejerReport(Summarised):
    """Per row: distances to the zero, and by how much the distance ever grew in one iteration."""

    first_distance: Float[Tensor, " batch"]
    last_distance: Float[Tensor, " batch"]
    largest_growth: Float[Tensor, " batch"]  # of ||z^k - z*||; at most 0 where it never grew
    iteration: Int[Tensor, " batch"]  # where it first grew beyond rounding; -1 if never

    @property
    def monotone(self) -> Bool[Tensor, " batch"]:
        """The distance never grew beyond rounding."""
        return self.iteration < 0


@dataclass(frozen=True)
class FejerMemory:
    """Of the accepted iterates so far."""

    zero: Float[Tensor, "batch *shape"]
    first: Float[Tensor, " batch"]  # ||z^0 - z*||
    distance: Float[Tensor, " batch"]  # ||z^k - z*||
    growth: Float[Tensor, " batch"]  # the largest in one iteration
    iteration: Int[Tensor, " batch"]  # where it first grew beyond rounding; -1 if never


@dataclass(frozen=True, kw_only=True, eq=False)
class Fejer(Monitor):
    """Watches `||z^k - z*||`.

    Args:
        zero: (batch, *shape), z*.
        tolerance: growth, relative to `||z^k|| + ||z*||`, that passes for rounding; None for
            that of the dtype.
    """

    zero: Float[Tensor, "batch *shape"]
    tolerance: float | None = None

    def start(self, iterate: Iterate) -> FejerMemory:
        z = iterate.state.z
        if self.zero.shape != z.shape:
            raise ValueError(
                f"zero must have the shape of the iterates, {tuple(z.shape)}; "
                f"got {tuple(self.zero.shape)}"
            )
        zero = self.zero.to(z)
        distance = kernels.row_norm(z - zero)
        return FejerMemory(
            zero=zero,
            first=distance,
            distance=distance,
            growth=torch.full_like(distance, -torch.inf),
            iteration=torch.full_like(distance, -1, dtype=torch.long),
        )

    def watch(self, iterate: Iterate, memory: FejerMemory) -> FejerMemory:
        z, zero = iterate.state.z, memory.zero
        distance = kernels.row_norm(z - zero)
        growth = distance - memory.distance
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = 8 * torch.finfo(z.dtype).eps
        grown = growth > tolerance * (kernels.row_norm(z) + kernels.row_norm(zero))
        following = replace(
            memory,
            distance=distance,
            growth=torch.maximum(growth, memory.growth),
            iteration=torch.where(
                grown & (memory.iteration < 0), iterate.iteration, memory.iteration
            ),
        )
        accepted = accepted_rows(iterate)  # the iterate of a refused trial is the last one again
        return following if accepted is None else where_rows(accepted, following, memory)

    def report(self, memory: FejerMemory) -> FejerReport:
        return FejerReport(
            first_distance=memory.first,
            last_distance=memory.distance,
            largest_growth=memory.growth,
            iteration=memory.iteration,
        )
