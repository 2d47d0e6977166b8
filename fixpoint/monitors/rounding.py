"""How large rounding errors are: what counts as equal, and the error of a comparison.

Everything scales with the dtype in which T was computed and with the size of what was computed
there, so that no verdict changes where z and T are multiplied by numbers. The size of a row is the
largest `||z||` of its run, and `||z*||`: near a zero at the origin ||z^k|| itself would say
nothing.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint import kernels

ALLOWED = 4.0
"""Units of the last place by which an update may differ from its formula, element by element."""


def eps_of(point: Float[Tensor, "batch *shape"]) -> float:
    """The spacing of numbers around 1 in the dtype of a point."""
    return torch.finfo(point.dtype).eps


def rounding_of(point: Float[Tensor, "batch *shape"]) -> float:
    """The relative error that rounding may cause in a comparison of sums over a row.

    That of the elements themselves, and that of a sum of so many.
    """
    summed = torch.finfo(kernels.accumulation_dtype(point.dtype)).eps
    elements = max(1, math.prod(point.shape[1:]))
    return 4 * eps_of(point) + 16 * summed * math.sqrt(elements)


def value_error(
    point: Float[Tensor, "batch *shape"],
    scale: Float[Tensor, " batch"],
    slope: Float[Tensor, " batch"],
    norm: Float[Tensor, " batch"],
    precision: float | None,
) -> Float[Tensor, " batch"]:
    """The error of T's values, in the units of T.

    Args:
        point: of the dtype in which T was computed.
        scale: the size of the row. slope: the largest `||T a - T b|| / ||a - b||` that was seen.
        norm: of the values.
        precision: see `Cocoercivity`; None: the error that the rounding of z causes in T.
    """
    eps = eps_of(point)
    error = 2 * eps * slope * scale if precision is None else precision * scale
    return error + eps * norm


def step_error(
    point: Float[Tensor, "batch *shape"],
    scale: Float[Tensor, " batch"],
    step: Float[Tensor, " batch"],
    step_size: float,
    precision: float | None,
) -> Float[Tensor, " batch"]:
    """By how far rounding moves an iterate in one step of length `step`, in the units of z.

    Where rho < 2 beta, T moves by at most 2/rho times what z does: rounding in T costs a step no
    more than some roundings of z.
    """
    error = 8 * eps_of(point) * (scale + step)
    return error if precision is None else error + 2 * step_size * precision * scale


def zero_level(
    point: Float[Tensor, "batch *shape"],
    scale: Float[Tensor, " batch"],
    step_size: float,
    precision: float | None,
) -> Float[Tensor, " batch"]:
    """The largest `||T z||` that counts as 0: the step that it causes is a rounding error."""
    unit = eps_of(point) if precision is None else max(precision, eps_of(point))
    tiny = torch.finfo(torch.float64).tiny
    return 16 * unit * scale / max(abs(step_size), tiny)


def finite_rows(x: Float[Tensor, "batch *shape"]) -> Bool[Tensor, " batch"]:
    """No element of the row is NaN or infinite."""
    return _flat(x.isfinite()).all(1)


def agreement(
    actual: Float[Tensor, "batch *shape"],
    predicted: Float[Tensor, "batch *shape"],
    size: Float[Tensor, "batch *shape"],
) -> Float[Tensor, " batch"]:
    """The difference from its formula that rounding allows an update, less the actual one.

    Both are relative to `size`, the sum of the moduli in the formula, element by element. -inf
    where the update alone is not finite; NaN, which is ignored, where the formula is not.
    """
    dtype = actual.dtype
    if not _flat(size).shape[1]:
        return size.new_zeros(len(size))
    eps, tiny = torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    relative = (actual.to(size.dtype) - predicted).abs() / (size + tiny)
    margin = torch.nan_to_num(ALLOWED * eps - _flat(relative).amax(1), nan=-torch.inf)
    return torch.where(finite_rows(predicted.to(dtype)), margin, torch.nan)


def resolution(
    actual: Float[Tensor, "batch *shape"],
    size: Float[Tensor, "batch *shape"],
    direction: Float[Tensor, "batch *shape"],
) -> Float[Tensor, " batch"]:
    """The error of the factor of `direction` that such an agreement still allows."""
    if not _flat(size).shape[1]:
        return size.new_full((len(size),), torch.inf)
    ratio = torch.nan_to_num(size / direction.abs(), nan=torch.inf, posinf=torch.inf)
    return 2 * ALLOWED * eps_of(actual) * _flat(ratio).amin(1)


def widened(x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """In the dtype in which rows are summed."""
    return x.to(kernels.accumulation_dtype(x.dtype))


def _flat(x: Tensor) -> Tensor:
    return x.reshape(len(x), math.prod(x.shape[1:]))
