"""The two passes of limited-memory Broyden (Byrd, Nocedal & Schnabel, Math. Programming 1994):

    d = H r = beta r + (S - beta Y) gamma

`broyden_products` gives every inner product that the small system for gamma needs anew, in a single
pass over the memory; `broyden_direction` applies gamma in a second one.
Least traffic with memory m: products 2 m + 3, direction 2 m + 2 elements moved per element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels.row_sums import accumulation_dtype, row_dot


def broyden_products(
    point_differences: Sequence[Float[Tensor, "batch *shape"]],
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    dz: Float[Tensor, "batch *shape"],
    dr: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
) -> tuple[
    Float[Tensor, "batch memory"],
    Float[Tensor, "batch memory"],
    Float[Tensor, "batch memory"],
    Float[Tensor, "batch memory"],
]:
    """`<s_i, dz>`, `<y_i, dz>`, `<s_i, dr>` and `<s_i, residual>` for every remembered pair i."""
    return (
        torch.stack([row_dot(s, dz) for s in point_differences], 1),
        torch.stack([row_dot(y, dz) for y in residual_differences], 1),
        torch.stack([row_dot(s, dr) for s in point_differences], 1),
        torch.stack([row_dot(s, residual) for s in point_differences], 1),
    )


def broyden_direction(
    residual: Float[Tensor, "batch *shape"],
    point_differences: Sequence[Float[Tensor, "batch *shape"]],
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    weights: Float[Tensor, "batch memory"],
    mixing: float,
) -> Float[Tensor, "batch *shape"]:
    """`mixing r + sum_i (s_i - mixing y_i) weights_i`, in the dtype of accumulation."""
    shape = (-1,) + (1,) * (residual.dim() - 1)
    direction = mixing * residual.to(accumulation_dtype(residual.dtype))
    for s, y, weight in zip(
        point_differences, residual_differences, weights.unbind(1), strict=True
    ):
        direction = direction + weight.to(s.dtype).reshape(shape) * (s - mixing * y)
    return direction
