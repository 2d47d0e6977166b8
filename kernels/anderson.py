"""The two passes of Anderson mixing, type II (Walker & Ni, SIAM J. Numer. Anal. 2011):

    z' = z - beta r - (dZ - beta dR) gamma,    gamma = argmin ||r - dR gamma||,   r = T z

`gram_row` gives the one new row of dR^T dR that a step needs and the right-hand side dR^T r in a
single pass over the memory; `anderson_mix` applies the weights in a second one.
Least traffic with memory m: gram_row m + 2, anderson_mix 2 m + 3 elements moved per element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels.row_sums import accumulation_dtype, row_dot


def gram_row(
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    newest: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
) -> tuple[Float[Tensor, "batch memory"], Float[Tensor, "batch memory"]]:
    """`<dR_i, newest>` and `<dR_i, residual>` for every remembered difference i."""
    row = [row_dot(difference, newest) for difference in residual_differences]
    right_hand_side = [row_dot(difference, residual) for difference in residual_differences]
    return torch.stack(row, 1), torch.stack(right_hand_side, 1)


def anderson_mix(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    point_differences: Sequence[Float[Tensor, "batch *shape"]],
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    weights: Float[Tensor, "batch memory"],
    mixing: float | Tensor,
) -> Float[Tensor, "batch *shape"]:
    """`z - mixing r - sum_i (dZ_i - mixing dR_i) weights_i`, in the dtype of `z`; a mixing
    per row broadcasts against it."""
    shape = (-1,) + (1,) * (z.dim() - 1)
    wide = accumulation_dtype(z.dtype)
    following = z.to(wide) - mixing * residual.to(wide)
    for dz, dr, weight in zip(
        point_differences, residual_differences, weights.unbind(1), strict=True
    ):
        following = following - weight.to(dz.dtype).reshape(shape) * (dz - mixing * dr)
    return following.to(z.dtype)
