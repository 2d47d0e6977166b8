"""What stop rules and monitors ask of an iterate, per row, in one pass over memory:

    ||T z||^2,  ||z||^2    and with a previous point    <dT, dz>,  ||dT||^2,  ||dz||^2

and the inner products and norms of single pairs. Updates that read z and T z anyway return the
same sums with their own results. The order of the sums is that of `summation`.

Least traffic: row_dot 2 elements moved per element; row_sums 2, with a previous point 4.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels.device import dot, jit, load, place, put_sum, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.launch import launch
from fixpoint.kernels.summation import (
    accumulation_dtype,
    dot_reference,
    dots_reference,
    summation_dtype,
    widened,
)


class PairSums(NamedTuple):
    """Inner product and squared norms of the difference of (a, T a) and (b, T b), per row."""

    inner: Float[Tensor, " batch"]  # <T a - T b, a - b>
    residual: Float[Tensor, " batch"]  # ||T a - T b||^2
    point: Float[Tensor, " batch"]  # ||a - b||^2


class RowSums(NamedTuple):
    """Squared norms of an iterate, per row, and the sums of its difference to the previous one."""

    residual: Float[Tensor, " batch"]  # ||T z||^2
    point: Float[Tensor, " batch"]  # ||z||^2
    pair: PairSums | None = None  # of z and the previous point
    step: Float[Tensor, " batch"] | None = None  # ||z' - z||^2, where z' - z is no pair's a - b


def row_dot(
    a: Float[Tensor, "batch *shape"], b: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """`<a, b>` of every row, summed in float64 and rounded to the accumulation dtype."""
    return widened(_dot(a, b), accumulation_dtype(a.dtype))


def row_norm(a: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """`||a||` of every row, in the accumulation dtype. Squares neither overflow nor vanish."""
    return widened(_dot(a, a).sqrt(), accumulation_dtype(a.dtype))


def row_sums(
    point: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    previous: tuple[Tensor, Tensor] | None = None,
) -> RowSums:
    """The sums of an iterate.

    Args:
        point, residual: (batch, *shape), of any strides: z and T z.
        previous: the point before z, and T there; the sums of the pair are then returned, too.
    """
    return named_sums(_sums(point, residual, *(previous or (None, None))))


def named_sums(sums: Float[Tensor, "count batch"]) -> RowSums:
    """`RowSums` from a kernel's sums, which are in the order of the fields."""
    parts = sums.unbind()
    if len(parts) == 2:
        return RowSums(parts[0], parts[1])
    return RowSums(parts[0], parts[1], PairSums(*parts[2:5]), *parts[5:])


# The reference.


def sums_reference(
    wanted: bool,
    point: Tensor,
    residual: Tensor,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None = None,
    step: Tensor | None = None,
) -> Float[Tensor, "count batch"]:
    """The sums of an iterate, none unless `wanted`, and NaN in finished rows.

    `step` is z' - z, of an update for which that is not the difference of a pair.
    """
    wide = accumulation_dtype(point.dtype)
    if not wanted:
        return point.new_empty((0, len(point)), dtype=summation_dtype(point.device))
    t, z = widened(residual, wide), widened(point, wide)
    left = right = [t, z]
    if previous_point is not None and previous_residual is not None:
        dt, dz = t - widened(previous_residual, wide), z - widened(previous_point, wide)
        left, right = [t, z, dt, dt, dz], [t, z, dz, dt, dz]
        if step is not None:
            left, right = [*left, step], [*right, step]
    sums = dots_reference(left, right)
    return sums if done is None else torch.where(done, torch.nan, sums)


def empty_sums(like: Tensor, count: int) -> Tensor:
    """An empty tensor (count, batch) for the sums of `like`."""
    return like.new_empty((count, like.shape[0]), dtype=summation_dtype(like.device))


def sums_count(wanted: bool, pair: object, more: int = 0) -> int:
    """The number of sums that a kernel returns: none, or those of an iterate, of a pair where
    there is one, and then `more` of the update itself."""
    if not wanted:
        return 0
    return 2 if pair is None else 5 + more


# The kernels.


@jit
def put_row_sums(
    partial, row, rows, block, blocks, z, t, previous_z, previous_t, index, inside, sizes, ACC
):
    """Store ||t||^2 and ||z||^2 of a block, and its pair sums where there is a previous point."""
    put_sum(partial, 0, row, rows, block, blocks, dot(t, t))
    put_sum(partial, 1, row, rows, block, blocks, dot(z, z))
    if previous_z is not None:
        dz = z - load(previous_z, row, index, inside, sizes, ACC)
        dt = t - load(previous_t, row, index, inside, sizes, ACC)
        put_sum(partial, 2, row, rows, block, blocks, dot(dt, dz))
        put_sum(partial, 3, row, rows, block, blocks, dot(dt, dt))
        put_sum(partial, 4, row, rows, block, blocks, dot(dz, dz))


@jit
def _row_dot_kernel(
    a,
    b,
    partial,
    sizes,
    rows,
    size,
    blocks,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, index, inside = place(size, blocks, BLOCK)
    x = load(a, row, index, inside, sizes, ACC)
    y = load(b, row, index, inside, sizes, ACC)
    put_sum(partial, 0, row, rows, block, blocks, dot(x, y))


@jit
def _row_sums_kernel(
    point,
    residual,
    previous_point,
    previous_residual,
    partial,
    sizes,
    rows,
    size,
    blocks,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, index, inside = place(size, blocks, BLOCK)
    z = load(point, row, index, inside, sizes, ACC)
    t = load(residual, row, index, inside, sizes, ACC)
    put_row_sums(
        partial,
        row,
        rows,
        block,
        blocks,
        z,
        t,
        previous_point,
        previous_residual,
        index,
        inside,
        sizes,
        ACC,
    )


def _launch_dot(a: Tensor, b: Tensor) -> Tensor:
    return launch(_row_dot_kernel, (a, b), 1, accumulation=accumulation_dtype(a.dtype)).squeeze(0)


def _launch_sums(
    point: Tensor,
    residual: Tensor,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
) -> Tensor:
    return launch(
        _row_sums_kernel,
        (point, residual, previous_point, previous_residual),
        sums_count(True, previous_point),
        accumulation=accumulation_dtype(point.dtype),
    )


_dot = operator(
    "row_dot(Tensor a, Tensor b) -> Tensor",
    reference=dot_reference,
    launch=_launch_dot,
    results=lambda a, b: a.new_empty(a.shape[:1], dtype=summation_dtype(a.device)),
)
_sums = operator(
    "row_sums(Tensor point, Tensor residual, Tensor? previous_point, Tensor? previous_residual)"
    " -> Tensor",
    reference=functools.partial(sums_reference, True),
    launch=_launch_sums,
    results=lambda point, residual, previous_point, previous_residual: empty_sums(
        point, sums_count(True, previous_point)
    ),
)
