"""Inertial Krasnoselskii-Mann (the paper, equations 10 and 11), with the sums of (y^k, T y^k):

    z^{k+1} = y^k - 2 lambda beta T y^k
    y^{k+1} = z^{k+1} + alpha (z^{k+1} - z^k)

The update goes from y^k to y^{k+1}, since T is evaluated there. Where a previous point is given,
||z^{k+1} - z^k||^2 is summed, too: it is not the difference of two points at which T is known.

Least traffic: read y, T y and z, write z' and y': 5 elements moved per element. With a previous
point, which monitors ask for, 7.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.kernels._row_sums import (
    RowSums,
    empty_sums,
    named_sums,
    put_row_sums,
    sums_count,
    sums_reference,
)
from fixpoint.kernels.device import dot, jit, load, place, put_nan_sums, put_sum, store, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.finished_rows import flags, keep_finished
from fixpoint.kernels.launch import launch
from fixpoint.kernels.summation import accumulation_dtype, widened


def inertial_km(
    point: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    inertia: float,
    step_size: float,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]]:
    """The next `(z, y)` from `y = point`, `T y = residual` and the present `z`.

    Args:
        point, residual, z: (batch, *shape), of any strides: y, T y and z. T y may have 16 bits.
        inertia, step_size: alpha and rho = 2 lambda beta.
    """
    return _inertial_km(point, residual, z, inertia, step_size, False, None, None, None)[:2]


def inertial_km_with_sums(
    point: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    inertia: float,
    step_size: float,
    *,
    previous: tuple[Tensor, Tensor] | None = None,
    done: Bool[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"], RowSums]:
    """`inertial_km`, and the sums of (y, T y).

    Args:
        point, residual, z, inertia, step_size: see `inertial_km`.
        previous: the point before y, and T there; the sums of the pair and ||z' - z||^2 are then
            returned, too.
        done: finished rows. They keep z and y, and their sums are NaN.
    """
    before, value_before = previous or (None, None)
    following, ahead, sums = _inertial_km(
        point, residual, z, inertia, step_size, True, before, value_before, done
    )
    return following, ahead, named_sums(sums)


def _reference(
    point: Tensor,
    residual: Tensor,
    z: Tensor,
    inertia: float,
    step_size: float,
    sums: bool,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = accumulation_dtype(z.dtype)
    following = widened(point, wide) - step_size * widened(residual, wide)
    step = following - widened(z, wide)
    ahead = following + inertia * step
    found = sums_reference(sums, point, residual, previous_point, previous_residual, done, step)
    return (
        keep_finished(done, widened(following, z.dtype), z),
        keep_finished(done, widened(ahead, z.dtype), point),
        found,
    )


@jit
def _inertial_km_kernel(
    following,
    ahead,
    point,
    residual,
    z,
    previous_point,
    previous_residual,
    partial,
    sizes,
    rows,
    size,
    blocks,
    inertia: tl.float64,
    step_size: tl.float64,
    done,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, index, inside = place(size, blocks, BLOCK)
    y = load(point, row, index, inside, sizes, ACC)
    x = load(z, row, index, inside, sizes, ACC)
    if done is not None:
        if tl.load(done + row) != 0:
            store(following, row, index, inside, sizes, x)
            store(ahead, row, index, inside, sizes, y)
            put_nan_sums(partial, row, rows, block, blocks, SUMS)
            return
    t = load(residual, row, index, inside, sizes, ACC)
    new = y - tl.full((), step_size, ACC) * t
    step = new - x
    store(following, row, index, inside, sizes, new)
    store(ahead, row, index, inside, sizes, new + tl.full((), inertia, ACC) * step)
    if SUMS > 0:
        put_row_sums(
            partial, row, rows, block, blocks,
            y, t, previous_point, previous_residual, index, inside, sizes, ACC,
        )  # fmt: skip
        if previous_point is not None:
            put_sum(partial, 5, row, rows, block, blocks, dot(step, step))


def _launch(
    point: Tensor,
    residual: Tensor,
    z: Tensor,
    inertia: float,
    step_size: float,
    sums: bool,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    following, ahead = torch.empty_like(z), torch.empty_like(point)
    found = launch(
        _inertial_km_kernel,
        (following, ahead, point, residual, z, previous_point, previous_residual),
        sums_count(sums, previous_point, 1),
        inertia,
        step_size,
        flags(done, len(z)),
        accumulation=accumulation_dtype(z.dtype),
    )
    return following, ahead, found


_inertial_km = operator(
    "inertial_km(Tensor point, Tensor residual, Tensor z, float inertia, float step_size,"
    " bool sums, Tensor? previous_point, Tensor? previous_residual, Tensor? done)"
    " -> (Tensor, Tensor, Tensor)",
    reference=_reference,
    launch=_launch,
    results=lambda point, residual, z, inertia, step_size, sums, previous, *rest: (
        torch.empty_like(z),
        torch.empty_like(point),
        empty_sums(z, sums_count(sums, previous, 1)),
    ),
)
