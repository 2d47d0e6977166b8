"""Sums, products and membership per row, in an order that depends on the row alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels import row_dot
from fixpoint.kernels.summation import row_sum
from fixpoint.trees.rows import expand_rows


def flat(z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch size"]:
    """Every row as a vector."""
    return z.flatten(1) if z.dim() > 1 else z.unsqueeze(1)


def size(z: Float[Tensor, "batch *shape"]) -> int:
    """How many numbers a row has."""
    return math.prod(z.shape[1:])


def total(z: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """The sum of every row."""
    return row_sum(flat(z))


def largest(z: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """The largest entry of every row; 0 for rows of no numbers."""
    entries = flat(z)
    return entries.amax(1) if entries.shape[1] > 0 else entries.sum(1)


def power_of_two(size: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The power of two within a factor of two of a size; 1 for 0, infinity and NaN.

    Dividing by it is exact, and the squares of numbers of this size then neither overflow nor
    underflow. A constant to autograd.
    """
    size = size.detach()
    power = size / (2 * size.frexp().mantissa)
    return torch.where(power > 0, power, 1)


def root(square: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The square root; its derivative at 0 is taken to be 0, a subgradient of a norm there."""
    return torch.where(square == 0, 0, torch.where(square == 0, 1, square).sqrt())


def scaled_norm(
    z: Float[Tensor, "batch *shape"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """A scale of every row and the norm of the row divided by it; their product is the norm."""
    scale = power_of_two(largest(z.abs()))
    scaled = z / expand_rows(scale, z)
    return scale, root(row_dot(scaled, scaled))


def times_log(factor: Float[Tensor, "..."], z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """factor log z, and 0, with the derivative 0, where the factor is not above 0."""
    counted = factor > 0
    known = torch.where(counted, z, 1).log() * torch.where(counted, factor, 0)
    return torch.where(factor.isnan(), factor, known)


def product(
    matrix: Float[Tensor, "... outputs inputs"], z: Float[Tensor, "batch inputs"]
) -> Float[Tensor, "batch outputs"]:
    """The matrix, one for all rows or one for each, times every row.

    A sum per row, not a matrix product: BLAS may order its sums by the size of the batch. torch
    orders them by the strides, which therefore are always the same.
    """
    return (matrix.contiguous() * z.contiguous().unsqueeze(-2)).sum(-1)


def rounding(z: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """How far rounding may have moved a coordinate of a row: 8 eps of its dtype times the largest.

    In the dtype of `z`; the smallest normal number is added, for coordinates that underflow.
    """
    info = torch.finfo(z.dtype)
    return 8 * info.eps * largest(z.abs()) + info.tiny


def indicator(
    violation: Float[Tensor, " batch"], tolerance: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """0 where the violation is within the tolerance, +inf elsewhere; NaN where either is NaN."""
    inside = 0 * (violation.clamp(min=0) + tolerance)
    return torch.where(violation > tolerance, torch.inf, inside)
