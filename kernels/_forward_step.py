"""Forward step (the paper, equation 8), with the sums of (z, T z):

    z' = z - rho T z

The sums are formed from elements that the update reads anyway, so that they move nothing.

Least traffic: read z and T z, write z': 3 elements moved per element. With a previous point, which
monitors ask for, 5.
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
from fixpoint.kernels.device import jit, load, place, put_nan_sums, store, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.finished_rows import flags, keep_finished
from fixpoint.kernels.launch import launch, per_row
from fixpoint.kernels.summation import accumulation_dtype, widened


def forward_step(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    step_size: float | Tensor,
) -> Float[Tensor, "batch *shape"]:
    """`z - step_size * residual`, in the dtype of `z`.

    Args:
        z, residual: (batch, *shape), of any strides: z and T z. T z may have 16 bits, z more.
        step_size: rho; a number, or a tensor of one number or one per row, (batch, 1, ...).
    """
    return _call(z, residual, step_size, False, None, None)[0]


def forward_step_with_sums(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    step_size: float | Tensor,
    *,
    previous: tuple[Tensor, Tensor] | None = None,
    done: Bool[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch *shape"], RowSums]:
    """`forward_step`, and the sums of (z, T z).

    Args:
        z, residual, step_size: see `forward_step`.
        previous: the point before z, and T there; the sums of the pair are then returned, too.
        done: finished rows. They keep z, and their sums are NaN.
    """
    following, sums = _call(z, residual, step_size, True, previous, done)
    return following, named_sums(sums)


def _call(
    z: Tensor,
    residual: Tensor,
    step_size: float | Tensor,
    sums: bool,
    previous: tuple[Tensor, Tensor] | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor]:
    number, rows = (1.0, step_size) if isinstance(step_size, Tensor) else (step_size, None)
    before, value_before = previous or (None, None)
    return _forward_step(z, residual, number, rows, sums, before, value_before, done)


def _reference(
    z: Tensor,
    residual: Tensor,
    step_size: float,
    row_step_size: Tensor | None,
    sums: bool,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor]:
    wide = accumulation_dtype(z.dtype)
    rho = step_size if row_step_size is None else widened(row_step_size, wide)
    following = widened(widened(z, wide) - rho * widened(residual, wide), z.dtype)
    found = sums_reference(sums, z, residual, previous_point, previous_residual, done)
    return keep_finished(done, following, z), found


@jit
def _forward_step_kernel(
    following,
    z,
    residual,
    previous_point,
    previous_residual,
    partial,
    sizes,
    rows,
    size,
    blocks,
    step_size: tl.float64,
    row_step_size,
    done,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, index, inside = place(size, blocks, BLOCK)
    x = load(z, row, index, inside, sizes, ACC)
    if done is not None:
        if tl.load(done + row) != 0:
            store(following, row, index, inside, sizes, x)
            put_nan_sums(partial, row, rows, block, blocks, SUMS)
            return
    t = load(residual, row, index, inside, sizes, ACC)
    rho = tl.full((), step_size, ACC)
    if row_step_size is not None:
        rho = tl.load(row_step_size[0] + row * row_step_size[1]).to(ACC)
    store(following, row, index, inside, sizes, x - rho * t)
    if SUMS > 0:
        put_row_sums(
            partial, row, rows, block, blocks,
            x, t, previous_point, previous_residual, index, inside, sizes, ACC,
        )  # fmt: skip


def _launch(
    z: Tensor,
    residual: Tensor,
    step_size: float,
    row_step_size: Tensor | None,
    sums: bool,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor]:
    following = torch.empty_like(z)
    found = launch(
        _forward_step_kernel,
        (following, z, residual, previous_point, previous_residual),
        sums_count(sums, previous_point),
        step_size,
        per_row(row_step_size, len(z)),
        flags(done, len(z)),
        accumulation=accumulation_dtype(z.dtype),
    )
    return following, found


_forward_step = operator(
    "forward_step(Tensor z, Tensor residual, float step_size, Tensor? row_step_size,"
    " bool sums, Tensor? previous_point, Tensor? previous_residual, Tensor? done)"
    " -> (Tensor, Tensor)",
    reference=_reference,
    launch=_launch,
    results=lambda z, residual, step_size, row_step_size, sums, previous, *rest: (
        torch.empty_like(z),
        empty_sums(z, sums_count(sums, previous)),
    ),
)
