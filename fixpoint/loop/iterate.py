"""What stop rules, monitors and callbacks see of one iteration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import State
from fixpoint.summary import Summarised, described


@dataclass(frozen=True)
class Iterate(Summarised):
    """One iteration of the rows that are still in the batch.

    Norms and measured numbers are those of the accepted iterate: in a row whose `state.point` is a
    refused trial they are what they were before, and `accepted` is False.
    """

    iteration: int | Tensor  # steps taken so far; a tensor where they are counted on the device
    rows: Int[Tensor, " batch"]  # their indices in the batch given to `solve`
    state: State
    # ||T z||; where the flags are not looked at each time, NaN for rows that have ended
    residual_norm: Float[Tensor, " batch"]
    point_norm: Float[Tensor, " batch"]  # ||z||
    measured: dict[str, Tensor]  # what `Operator.evaluate` measured there
    previous: State | None = None  # the state before; not given at the first iterate
    evaluated_norm: Float[Tensor, " batch"] | None = None  # ||T point||, where points are refused

    def __repr__(self) -> str:
        rows = f"{len(self.rows)} row" + "s" * (len(self.rows) != 1)
        return (
            f"Iterate(iteration {int(self.iteration)}, {rows}, z {described(self.state.z)}, "
            f"residual norms {described(self.residual_norm)})"
        )

    @property
    def accepted(self) -> Bool[Tensor, " batch"] | None:
        """The rows that have a new iterate; None: all of them."""
        return self.state.accepted

    @cached_property
    def change(self) -> kernels.PairSums | None:
        """The sums of the last two points evaluated; None at the first iterate."""
        if self.previous is None:
            return None
        return self.pair(self.previous.point, self.previous.residual)

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
        """The sums of this point and the previous one, which is given with T there."""
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
