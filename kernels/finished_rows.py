"""Finished rows, which an update leaves as they are."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fixpoint.kernels.dispatch import transformed


def keep_finished(
    done: Bool[Tensor, " batch"] | None,
    new: Float[Tensor, "batch *shape"],
    old: Float[Tensor, "batch *shape"],
) -> Float[Tensor, "batch *shape"]:
    """`new` with the strides of `old`; finished rows keep `old`."""
    if done is not None:
        new = torch.where(done.reshape((-1,) + (1,) * (old.dim() - 1)), old, new)
    # `vmap` refuses to copy mapped elements into a tensor that is not mapped.
    if new.stride() == old.stride() or transformed():
        return new
    return torch.empty_like(old).copy_(new)


def flags(done: Bool[Tensor, " batch"] | None, rows: int) -> UInt8[Tensor, " batch"] | None:
    """The mask of finished rows as a kernel takes it, in bytes.

    Raises:
        ValueError: there is not one flag per row.
    """
    if done is None:
        return None
    if done.shape != (rows,):
        raise ValueError(f"expected one flag per row of {rows}, got {tuple(done.shape)}")
    return done.contiguous().view(torch.uint8)
