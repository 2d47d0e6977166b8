"""Forward step: z' = z - rho T z (the paper, equation 8).

Least traffic: read z and T z, write z': 3 elements moved per element.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def forward_step(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    step_size: float | Tensor,
) -> Float[Tensor, "batch *shape"]:
    """`z - step_size * residual`, in the dtype of `z`; a step per row broadcasts against it."""
    return z - step_size * residual
