"""The size of a row, as a power of two: numbers of any size, squared without loss.

A row divided by its own power of two has the same digits, and its squares neither underflow nor
overflow.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.trees.rows import expand_rows


def row_exponent(a: Float[Tensor, "batch *shape"]) -> Int[Tensor, " batch"]:
    """e with 2^(e-1) <= max |a| < 2^e of every row; 0 for a row that is zero or not finite."""
    if a[:1].numel() == 0:
        return torch.zeros(len(a), dtype=torch.long, device=a.device)
    largest = a.detach().abs().reshape(len(a), -1).amax(1).double()
    exponent = torch.frexp(largest.nan_to_num(0, 0, 0)).exponent
    return exponent.long()


def scaled_rows(
    a: Float[Tensor, "batch *shape"], exponent: Int[Tensor, " batch"]
) -> Float[Tensor, "batch *shape"]:
    """a * 2^exponent, exact where the dtype has the result."""
    half = exponent // 2  # 2^exponent itself may be no number of the dtype
    for part in (half, exponent - half):
        power = ((part.clamp(-1022, 1023) + 1023) << 52).view(torch.float64)
        a = a * expand_rows(power.to(a.dtype), a)
    return a


def row_norm(a: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """`||a||` of every row as `kernels.row_norm`, also where the sum of squares is no number.

    Nothing is read back to the host.
    """
    exponent = row_exponent(a)
    wide = a.to(kernels.accumulation_dtype(a.dtype))
    return scaled_rows(kernels.row_norm(scaled_rows(wide, -exponent)), exponent)
