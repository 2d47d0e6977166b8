"""Inner products and norms per row, in a summation order that depends on the row alone.

torch splits a reduction to a single number across threads, so the sum over a batch of one can
differ in its last bit from the same row's sum in a larger batch. Summing fixed blocks first makes
the two equal bit for bit, whatever the batch and the number of threads; the Triton kernels sum
fixed blocks too, of another size and in the order of memory.

Products are formed and added in float64, whatever the dtype of the rows: of float32 numbers they
are exact there, and neither overflow nor vanish where the numbers themselves are representable.

`row_sums` gives what stop rules and monitors ask of an iterate in one pass: ||T z||^2 and ||z||^2,
and with a previous point <dT, dz>, ||dT||^2 and ||dz||^2. Updates that read these tensors anyway
return the same sums along with their own results.

Least traffic, in elements moved per element: row_dot 2, row_sums 2, with a previous point 4.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels.dispatch import operator, wants_gradient
from fixpoint.kernels.launch import dot, jit, load, place, put_sum, run, tl

BLOCK = 4096
_LONG = 64 * BLOCK  # elements of a row that are widened at a time


class PairSums(NamedTuple):
    """What two points (a, T a) and (b, T b) say together, per row."""

    inner: Float[Tensor, " batch"]  # <T a - T b, a - b>
    residual: Float[Tensor, " batch"]  # ||T a - T b||^2
    point: Float[Tensor, " batch"]  # ||a - b||^2


class RowSums(NamedTuple):
    """What stop rules and monitors need to know of an iterate, per row."""

    residual: Float[Tensor, " batch"]  # ||T z||^2
    point: Float[Tensor, " batch"]  # ||z||^2
    pair: PairSums | None = None  # with the previous point
    step: Float[Tensor, " batch"] | None = None  # of an update: ||z' - z||^2, where it is no pair's


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which updates of `dtype` compute: float64 for itself, float32 for the rest."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def summation_dtype(device: torch.device) -> torch.dtype:
    """The dtype in which products of a row are formed and added: float64, where there is one."""
    return torch.float32 if device.type == "mps" else torch.float64


def widened(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, without a call where it has that dtype: small problems feel each one."""
    return x if x.dtype == dtype else x.to(dtype)


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
    """`<a, b>` of every row, added in float64 and rounded to the accumulation dtype."""
    dot = dot_reference(a, b) if wants_gradient(a, b) else _dot(a, b)
    return widened(dot, accumulation_dtype(a.dtype))


def row_norm(a: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """`||a||` of every row, in the accumulation dtype; no square over- or underflows in it."""
    squared = dot_reference(a, a) if wants_gradient(a) else _dot(a, a)
    return widened(squared.sqrt(), accumulation_dtype(a.dtype))


def row_sums(
    point: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    previous: tuple[Tensor, Tensor] | None = None,
) -> RowSums:
    """The sums of an iterate; `previous` is the point before it and T there."""
    return named_sums(_sums(point, residual, *(previous or (None, None))))


def named_sums(sums: Float[Tensor, "count batch"]) -> RowSums:
    """`RowSums` out of a kernel's sums, in the order of their fields."""
    parts = sums.unbind()
    if len(parts) == 2:
        return RowSums(parts[0], parts[1])
    return RowSums(parts[0], parts[1], PairSums(*parts[2:5]), *parts[5:])


# The reference.


def dot_reference(a: Tensor, b: Tensor) -> Tensor:
    same = a is b
    if a.dim() != 2:
        a, b = (x.reshape(len(x), math.prod(x.shape[1:])) for x in (a, b))
    dtype = summation_dtype(a.device)
    if a.shape[1] <= _LONG:
        x = widened(a, dtype)
        return row_sum(x * (x if same else widened(b, dtype)))
    # Piece by piece, for float64 copies of long rows to stay small; the order is that of `row_sum`.
    whole = a.shape[1] // BLOCK * BLOCK
    pieces = [
        (widened(x, dtype) * widened(y, dtype)).reshape(len(x), -1, BLOCK).sum(2)
        for x, y in zip(a[:, :whole].split(_LONG, 1), b[:, :whole].split(_LONG, 1), strict=True)
    ]
    rest = widened(a[:, whole:], dtype) * widened(b[:, whole:], dtype)
    return torch.cat(pieces, 1).sum(1) + rest.sum(1)


def dots_reference(left: list[Tensor], right: list[Tensor]) -> Float[Tensor, "count batch"]:
    """`<a, b>` of every row of each pair; the tensors are of one dtype."""
    if not is_short(left[0]):
        return torch.stack([dot_reference(a, b) for a, b in zip(left, right, strict=True)])
    dtype = summation_dtype(left[0].device)
    product = widened(torch.stack(left), dtype)
    product = product * (product if right is left else widened(torch.stack(right), dtype))
    if product.dim() != 3:
        product = product.reshape(*product.shape[:2], math.prod(product.shape[2:]))
    return product.sum(2)


def is_short(row: Tensor) -> bool:
    """Whether rows are so short that a call costs more than to copy some of them together."""
    return 0 < math.prod(row.shape[1:]) <= BLOCK


def sums_reference(
    wanted: bool,
    point: Tensor,
    residual: Tensor,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None = None,
    step: Tensor | None = None,
) -> Float[Tensor, "count batch"]:
    """The sums of an iterate, where they are wanted; NaN in rows that are done. `step` is that of
    an update whose step is no pair's."""
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


def frozen(done: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """The result of an update in the layout of what it replaces; in rows that are done, that."""
    if done is not None:
        new = torch.where(done.reshape((-1,) + (1,) * (old.dim() - 1)), old, new)
    return new if new.stride() == old.stride() else torch.empty_like(old).copy_(new)


def empty_sums(like: Tensor, count: int) -> Tensor:
    """(count, batch), for the results of an update."""
    return like.new_empty((count, like.shape[0]), dtype=summation_dtype(like.device))


def sums_count(wanted: bool, pair: object, more: int = 0) -> int:
    """How many sums a kernel returns, with or without those of a pair and `more` of an update."""
    if not wanted:
        return 0
    return 2 if pair is None else 5 + more


# The kernels.


@jit
def put_row_sums(
    partial, row, rows, block, blocks, z, t, previous_z, previous_t, index, inside, sizes, ACC
):
    """Store ||t||^2 and ||z||^2 of a block, with a previous point also its pair sums."""
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
    return run(_row_dot_kernel, (a, b), 1, accumulation=accumulation_dtype(a.dtype)).squeeze(0)


def _launch_sums(
    point: Tensor,
    residual: Tensor,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
) -> Tensor:
    return run(
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
