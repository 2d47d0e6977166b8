"""The two passes of Anderson mixing, type II (Walker & Ni, SIAM J. Numer. Anal. 2011):

    z' = z - beta r - (dZ - beta dR) gamma,    gamma = argmin ||r - dR gamma||,   r = T z

`anderson_mix` applies gamma and returns the new column of dZ with the new point. `gram_row` forms
the new column d of dR and its products: the new row dR^T d of the Gram matrix dR^T dR and the
right-hand side dR^T r' at the new point. Between the two, systems of (memory, memory) numbers are
solved for gamma.

Why the Gram matrix: a step changes one row of it, so that one pass over the memory suffices,
batches need no loop, and rows never meet. A QR factorisation would pass over the memory once for
every column. The price is a squared condition number. The products are therefore summed in
float64, and the iterator regularises the systems.

Of the right-hand side dR^T r at the old point only the entry <d, r> is new. The other entries are
known from the step before; a refused step needs them.

Differences are stored as 0 where they are not finite. Their products are not finite, so that the
iterator gives them the weight 0, and then they add nothing.

Least traffic with memory m: anderson_mix 2 m + 4, gram_row m + 3 elements moved per element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.kernels._row_sums import empty_sums
from fixpoint.kernels.device import dot, jit, load, place, put_nan_sums, put_sum, store, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.finished_rows import flags, keep_finished
from fixpoint.kernels.launch import launch, per_row
from fixpoint.kernels.summation import (
    accumulation_dtype,
    dots_reference,
    is_short,
    summation_dtype,
    widened,
)


class MixSums(NamedTuple):
    """Squared norms of a mixed point and of its step, per row."""

    point: Float[Tensor, " batch"]  # ||z'||^2
    difference: Float[Tensor, " batch"]  # ||z' - z||^2


class GramRow(NamedTuple):
    """Inner products of d = r' - r and of r' with every difference D_i, of which d is the first.

    The products of a difference that is not finite are not finite.
    """

    value: Float[Tensor, " batch"]  # ||r'||^2
    at_anchor: Float[Tensor, " batch"]  # <d, r>
    newest: Float[Tensor, "batch memory"]  # <D_i, d>
    at_value: Float[Tensor, "batch memory"]  # <D_i, r'>


def anderson_mix(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    point_differences: Sequence[Float[Tensor, "batch *shape"]],
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    weights: Float[Tensor, "batch memory"],
    mixing: float | Tensor,
    *,
    done: Bool[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"], MixSums]:
    """`z' = z - mixing r - sum_i (dZ_i - mixing dR_i) weights_i`, `z' - z` and their sums.

    Args:
        z, residual: (batch, *shape), of any strides: z and r. The residual may have 16 bits.
        point_differences, residual_differences: columns of dZ and dR, one for each weight.
        weights: (batch, memory), gamma; a row of zeros is a forward step.
        mixing: beta; a number, or (batch,).
        done: finished rows. They keep z, their difference is 0, and their sums are NaN.

    Returns:
        z' in the dtype of `z`, z' - z in the accumulation dtype, and the sums.

    Raises:
        ValueError: the numbers of weights and of differences are not the same.
    """
    if not len(point_differences) == len(residual_differences) == weights.shape[1]:
        raise ValueError(
            f"{weights.shape[1]} weights for {len(point_differences)} differences of points and "
            f"{len(residual_differences)} of residuals"
        )
    wide = accumulation_dtype(z.dtype)
    number, rows = (1.0, mixing.to(wide)) if isinstance(mixing, Tensor) else (mixing, None)
    dz, dr = [*point_differences], [*residual_differences]
    point, difference, sums = _anderson_mix(
        z, residual, dz, dr, weights.to(wide), number, rows, done
    )
    return point, difference, MixSums(*sums.unbind())


def gram_row(
    differences: Sequence[Float[Tensor, "batch *shape"]],
    value: Float[Tensor, "batch *shape"],
    anchor: Float[Tensor, "batch *shape"],
    *,
    done: Bool[Tensor, " batch"] | None = None,
) -> tuple[Float[Tensor, "batch *shape"], GramRow]:
    """The new difference d = `value - anchor`, and its products with itself and `differences`.

    Args:
        differences: the remembered columns of dR, the newest first.
        value, anchor: (batch, *shape), of any strides: r' and r.
        done: finished rows. Their difference is 0, and their products are NaN.

    Returns:
        d in the accumulation dtype, 0 where it is not finite, and the products.
    """
    difference, ends, newest, at_value = _gram_row([*differences], value, anchor, done)
    of_value, at_anchor = ends.unbind()
    return difference, GramRow(of_value, at_anchor, newest, at_value)


# The references.


def _mix_reference(
    z: Tensor,
    residual: Tensor,
    point_differences: list[Tensor],
    residual_differences: list[Tensor],
    weights: Tensor,
    mixing: float,
    row_mixing: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, ...]:
    shape = (-1,) + (1,) * (z.dim() - 1)
    wide = accumulation_dtype(z.dtype)
    beta = mixing if row_mixing is None else row_mixing.reshape(shape)
    following = widened(z, wide) - beta * widened(residual, wide)
    if is_short(z) and point_differences:
        # The order of these sums depends on strides, and weights come with several.
        gamma = weights.contiguous().reshape(*weights.shape, *(1,) * (z.dim() - 1))
        dz, dr = torch.stack(point_differences, 1), torch.stack(residual_differences, 1)
        following = following - (gamma * dz).sum(1) + beta * (gamma * dr).sum(1)
    else:
        for dz, dr, weight in zip(
            point_differences, residual_differences, weights.unbind(1), strict=True
        ):
            gamma = weight.reshape(shape)
            following = following - gamma * dz + gamma * beta * dr
    point = widened(following, z.dtype)
    difference = _finite(widened(point, wide) - widened(z, wide))
    ends = [widened(point, wide), difference]
    sums = dots_reference(ends, ends)
    if done is not None:
        difference = keep_finished(done, difference, torch.zeros_like(difference))
        sums = torch.where(done, torch.nan, sums)
    return keep_finished(done, point, z), difference, sums


def _gram_reference(
    differences: list[Tensor], value: Tensor, anchor: Tensor, done: Tensor | None
) -> tuple[Tensor, ...]:
    wide = accumulation_dtype(value.dtype)
    newest = widened(value, wide) - widened(anchor, wide)
    everything = [newest, *differences]
    wide_value, count = widened(value, wide), len(everything)
    sums = dots_reference(
        [*everything, *everything, wide_value, newest],
        [*[newest] * count, *[wide_value] * count, wide_value, widened(anchor, wide)],
    )
    stored = _finite(newest)
    if done is not None:
        stored = keep_finished(done, stored, torch.zeros_like(stored))
        sums = torch.where(done, torch.nan, sums)
    # Each result has memory of its own, as torch.compile assumes.
    at_newest, at_value = sums[:count].T, sums[count : 2 * count].T
    return stored, sums[2 * count :].clone(), at_newest.contiguous(), at_value.contiguous()


def _finite(difference: Tensor) -> Tensor:
    """`difference`, and 0 where it is not finite."""
    return difference.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


# The kernels.


@jit
def finite(x):
    """x, and 0 where it is not finite."""
    return tl.where(x - x == 0, x, 0.0)


@jit
def _anderson_mix_kernel(
    following,
    difference,
    z,
    residual,
    point_differences,
    residual_differences,
    partial,
    sizes,
    rows,
    size,
    blocks,
    weights,
    memory,
    mixing: tl.float64,
    row_mixing,
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
            store(difference, row, index, inside, sizes, tl.zeros((BLOCK,), ACC))
            put_nan_sums(partial, row, rows, block, blocks, SUMS)
            return
    beta = tl.full((), mixing, ACC)
    if row_mixing is not None:
        beta = tl.load(row_mixing[0] + row * row_mixing[1]).to(ACC)
    point = x - beta * load(residual, row, index, inside, sizes, ACC)
    for i in tl.static_range(len(point_differences)):
        gamma = tl.load(weights + row * memory + i).to(ACC)
        dz = load(point_differences[i], row, index, inside, sizes, ACC)
        dr = load(residual_differences[i], row, index, inside, sizes, ACC)
        point = point - gamma * dz + gamma * beta * dr
    # Rounded to the stored dtype, so that the difference is that of the stored points.
    point = point.to(following[0].dtype.element_ty).to(ACC)
    step = finite(point - x)
    store(following, row, index, inside, sizes, point)
    store(difference, row, index, inside, sizes, step)
    put_sum(partial, 0, row, rows, block, blocks, dot(point, point))
    put_sum(partial, 1, row, rows, block, blocks, dot(step, step))


@jit
def _gram_row_kernel(
    difference,
    value,
    anchor,
    differences,
    partial,
    sizes,
    rows,
    size,
    blocks,
    done,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, index, inside = place(size, blocks, BLOCK)
    if done is not None:
        if tl.load(done + row) != 0:
            store(difference, row, index, inside, sizes, tl.zeros((BLOCK,), ACC))
            put_nan_sums(partial, row, rows, block, blocks, SUMS)
            return
    new = load(value, row, index, inside, sizes, ACC)
    old = load(anchor, row, index, inside, sizes, ACC)
    d = new - old
    store(difference, row, index, inside, sizes, finite(d))
    put_sum(partial, 0, row, rows, block, blocks, dot(new, new))
    put_sum(partial, 1, row, rows, block, blocks, dot(d, old))
    put_sum(partial, 2, row, rows, block, blocks, dot(d, d))
    put_sum(partial, 3, row, rows, block, blocks, dot(d, new))
    for i in tl.static_range(len(differences)):
        each = load(differences[i], row, index, inside, sizes, ACC)
        put_sum(partial, 2 * i + 4, row, rows, block, blocks, dot(each, d))
        put_sum(partial, 2 * i + 5, row, rows, block, blocks, dot(each, new))


def _launch_mix(
    z: Tensor,
    residual: Tensor,
    point_differences: list[Tensor],
    residual_differences: list[Tensor],
    weights: Tensor,
    mixing: float,
    row_mixing: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, ...]:
    wide = accumulation_dtype(z.dtype)
    following, difference = torch.empty_like(z), torch.empty_like(z, dtype=wide)
    sums = launch(
        _anderson_mix_kernel,
        (following, difference, z, residual, point_differences, residual_differences),
        2,
        weights.contiguous(),
        weights.shape[1],
        mixing,
        per_row(row_mixing, len(z)),
        flags(done, len(z)),
        accumulation=wide,
    )
    return following, difference, sums


def _launch_gram(
    differences: list[Tensor], value: Tensor, anchor: Tensor, done: Tensor | None
) -> tuple[Tensor, ...]:
    wide = accumulation_dtype(value.dtype)
    difference = torch.empty_like(value, dtype=wide)
    sums = launch(
        _gram_row_kernel,
        (difference, value, anchor, differences),
        4 + 2 * len(differences),
        flags(done, len(value)),
        accumulation=wide,
    )
    newest, at_value = (sums[first::2].T.contiguous() for first in (2, 3))
    return difference, sums[:2].clone(), newest, at_value


_anderson_mix = operator(
    "anderson_mix(Tensor z, Tensor residual, Tensor[] point_differences,"
    " Tensor[] residual_differences, Tensor weights, float mixing, Tensor? row_mixing,"
    " Tensor? done) -> (Tensor, Tensor, Tensor)",
    reference=_mix_reference,
    launch=_launch_mix,
    results=lambda z, *rest: (
        torch.empty_like(z),
        torch.empty_like(z, dtype=accumulation_dtype(z.dtype)),
        empty_sums(z, 2),
    ),
)
_gram_row = operator(
    "gram_row(Tensor[] differences, Tensor value, Tensor anchor, Tensor? done)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    reference=_gram_reference,
    launch=_launch_gram,
    results=lambda differences, value, *rest: (
        torch.empty_like(value, dtype=accumulation_dtype(value.dtype)),
        empty_sums(value, 2),
        *(
            value.new_empty((len(value), 1 + len(differences)), dtype=summation_dtype(value.device))
            for _ in range(2)
        ),
    ),
)
