"""Inner products and norms per row, in a summation order that depends on the row alone.

torch splits a reduction to a single number across threads, so the sum over a batch of one can
differ in its last bit from the same row's sum in a larger batch. Summing fixed blocks first makes
the two equal bit for bit on the CPU, whatever the batch, the strides and the number of threads. On
a GPU torch chooses the order of a reduction by its shape, and they are equal to rounding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 4096


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which rows of `dtype` are summed: float64 for itself, float32 for the rest."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def row_sum(x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
    """The sum of every row, block by block."""
    whole = x.shape[1] // BLOCK * BLOCK
    if whole == 0:
        return x.sum(1)
    blocks = x[:, :whole].reshape(x.shape[0], -1, BLOCK).sum(2)
    return blocks.sum(1) + x[:, whole:].sum(1)


def row_dot(
    a: Float[Tensor, "batch *shape"], b: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """`<a, b>` of every row, accumulated in float32 or, for float64, in float64."""
    dtype = accumulation_dtype(a.dtype)
    return row_sum((a.to(dtype) * b.to(dtype)).reshape(a.shape[0], -1))


def row_norm(a: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """`||a||` of every row, in the accumulation dtype."""
    return row_dot(a, a).sqrt()
