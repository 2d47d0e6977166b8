"""Sums over rows in plain torch, in an order that depends on the row alone.

torch splits a reduction to a single number across threads. The sum of a batch of one can therefore
differ in its last bit from the sum of the same row in a larger batch. Here blocks of fixed size are
summed first, and the two are equal bit for bit, for any batch and any number of threads. The Triton
kernels sum fixed blocks, too, of another size and in memory order.

Products are formed and added in float64, whatever the dtype of the rows. Products of float32
numbers are exact there; they neither overflow nor vanish where the numbers are representable.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 4096
_LONG = 64 * BLOCK  # elements of a row that are widened at a time


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which updates of `dtype` compute: float64 for float64, float32 for the rest."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def summation_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which products of a row are added: float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`. No call is made where nothing changes: on small problems a call is felt."""
    return x if x.dtype == dtype else x.to(dtype)


def row_sum(x: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
    """The sum of every row, block by block."""
    whole = x.shape[1] // BLOCK * BLOCK
    if whole == 0:
        return x.sum(1)
    blocks = x[:, :whole].reshape(x.shape[0], -1, BLOCK).sum(2)
    return blocks.sum(1) + x[:, whole:].sum(1)


def dot_reference(
    a: Float[Tensor, "batch *shape"], b: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """`<a, b>` of every row, in the summation dtype."""
    same = a is b
    if a.dim() != 2:
        a, b = (x.reshape(len(x), math.prod(x.shape[1:])) for x in (a, b))
    dtype = summation_dtype(a.device)
    if a.shape[1] <= _LONG:
        x = widened(a, dtype)
        return row_sum(x * (x if same else widened(b, dtype)))
    # Piece by piece, so that float64 copies stay small. The order is that of `row_sum`.
    whole = a.shape[1] // BLOCK * BLOCK
    pieces = [
        (widened(x, dtype) * widened(y, dtype)).reshape(len(x), -1, BLOCK).sum(2)
        for x, y in zip(a[:, :whole].split(_LONG, 1), b[:, :whole].split(_LONG, 1), strict=True)
    ]
    rest = widened(a[:, whole:], dtype) * widened(b[:, whole:], dtype)
    return torch.cat(pieces, 1).sum(1) + rest.sum(1)


def dots_reference(left: list[Tensor], right: list[Tensor]) -> Float[Tensor, "count batch"]:
    """`<a, b>` of every row of each pair (a, b); all tensors have one dtype."""
    if not is_short(left[0]):
        return torch.stack([dot_reference(a, b) for a, b in zip(left, right, strict=True)])
    dtype = summation_dtype(left[0].device)
    product = widened(torch.stack(left), dtype)
    product = product * (product if right is left else widened(torch.stack(right), dtype))
    if product.dim() != 3:
        product = product.reshape(*product.shape[:2], math.prod(product.shape[2:]))
    return product.sum(2)


def is_short(x: Float[Tensor, "batch *shape"]) -> bool:
    """True if rows fit one block, where a call costs more than a copy of several tensors."""
    return 0 < math.prod(x.shape[1:]) <= BLOCK
