"""What stop rules, monitors and callbacks see of one iteration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import State


@dataclass(frozen=True)
class Iterate:
    """One iteration of the rows that are still in the batch."""

    iteration: int | Tensor  # steps taken so far; a tensor where they are counted on the device
    rows: Int[Tensor, " batch"]  # their indices in the batch given to `solve`
    state: State
    # ||T point||; where the flags are not looked at each time, NaN for rows that have ended
    residual_norm: Float[Tensor, " batch"]
    point_norm: Float[Tensor, " batch"]  # ||point||
    measured: dict[str, Tensor]  # what `Operator.evaluate` measured at `point`

    @cached_property
    def finite(self) -> Bool[Tensor, " batch"]:
        """Neither T nor the point contains NaN or infinity."""
        return torch.maximum(self.residual_norm, self.point_norm) < torch.inf

    @property
    def numbers(self) -> dict[str, Float[Tensor, " batch"]]:
        """What was measured as one number a row."""
        return {name: value for name, value in self.measured.items() if value.dim() == 1}

    def pair(
        self, point: Float[Tensor, "batch *shape"], residual: Float[Tensor, "batch *shape"]
    ) -> kernels.PairSums:
        """What this point and the previous one say together; the latter is given with T there."""
        sums = self.state.sums
        if sums is None or sums.pair is None:
            sums = kernels.row_sums(self.state.point, self.state.residual, (point, residual))
        assert sums.pair is not None
        return sums.pair

    def squared_step(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """`||z^k - z^{k-1}||^2`; the previous iterate is given."""
        sums = self.state.sums
        if sums is not None and sums.step is not None:
            return sums.step
        if sums is not None and sums.pair is not None and self.state.z is self.state.point:
            return sums.pair.point
        step = self.state.z - z
        return kernels.row_dot(step, step)
