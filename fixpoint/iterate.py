"""What stop rules, monitors and callbacks see of one iteration."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.iterator import State


@dataclass(frozen=True)
class Iterate:
    """One iteration of the rows that are still in the batch."""

    iteration: int  # steps taken so far
    rows: Int[Tensor, " batch"]  # their indices in the batch given to `solve`
    state: State
    residual_norm: Float[Tensor, " batch"]  # ||T point||
    point_norm: Float[Tensor, " batch"]  # ||point||
    measured: dict[str, Tensor]  # what `Operator.evaluate` measured at `point`

    @property
    def numbers(self) -> dict[str, Float[Tensor, " batch"]]:
        """What was measured as one number a row."""
        return {name: value for name, value in self.measured.items() if value.dim() == 1}
