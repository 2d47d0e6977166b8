"""The two passes of limited-memory Broyden (Byrd, Nocedal & Schnabel, Math. Programming 1994):

    d = H r = beta r + (S - beta Y) gamma

where the columns of S and Y are the differences of points and of residuals. `broyden_products`
forms all new inner products of the small system for gamma in one pass over the memory, and
`broyden_direction` applies gamma in a second one. The compact form needs these two passes alone;
the recursion of rank-one updates would pass over the memory once for every pair.

Least traffic with memory m: broyden_products 2 m + 3, broyden_direction 2 m + 2 elements moved per
element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels.device import dot, jit, load, place, put_sum, store, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.launch import launch
from fixpoint.kernels.summation import accumulation_dtype, dots_reference, summation_dtype, widened


def broyden_products(
    point_differences: Sequence[Float[Tensor, "batch *shape"]],
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    dz: Float[Tensor, "batch *shape"],
    dr: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
) -> tuple[
    Float[Tensor, "batch memory"],
    Float[Tensor, "batch memory"],
    Float[Tensor, "batch memory"],
    Float[Tensor, "batch memory"],
]:
    """`<s_i, dz>`, `<y_i, dz>`, `<s_i, dr>` and `<s_i, residual>` for every remembered pair i.

    Args:
        point_differences, residual_differences: s and y, the same number of each.
        dz, dr, residual: (batch, *shape), of any strides: the newest differences, and r.
    """
    s, y = [*point_differences], [*residual_differences]
    return _broyden_products(s, y, dz, dr, residual)


def broyden_direction(
    residual: Float[Tensor, "batch *shape"],
    point_differences: Sequence[Float[Tensor, "batch *shape"]],
    residual_differences: Sequence[Float[Tensor, "batch *shape"]],
    weights: Float[Tensor, "batch memory"],
    mixing: float,
) -> Float[Tensor, "batch *shape"]:
    """`mixing r + sum_i (s_i - mixing y_i) weights_i`, in the accumulation dtype.

    Args:
        residual: (batch, *shape), of any strides: r.
        point_differences, residual_differences: s and y, one pair for each weight.
        weights: (batch, memory), gamma.
        mixing: beta.
    """
    s, y = [*point_differences], [*residual_differences]
    return _broyden_direction(residual, s, y, weights, mixing)


# The references.


def _products_reference(
    s: list[Tensor], y: list[Tensor], dz: Tensor, dr: Tensor, residual: Tensor
) -> tuple[Tensor, ...]:
    wide = accumulation_dtype(dz.dtype)
    count, ends = len(s), [widened(each, wide) for each in (dz, dr, residual)]
    left = [*s, *y, *s, *s]
    right = [end for end in (ends[0], *ends) for _ in range(count)]
    sums = dots_reference(left, right).reshape(4, count, len(dz)).transpose(1, 2)
    return tuple(each.contiguous() for each in sums.unbind())


def _direction_reference(
    residual: Tensor, s: list[Tensor], y: list[Tensor], weights: Tensor, mixing: float
) -> Tensor:
    shape = (-1,) + (1,) * (residual.dim() - 1)
    direction = mixing * residual.to(accumulation_dtype(residual.dtype))
    for dz, dr, weight in zip(s, y, weights.unbind(1), strict=True):
        direction = direction + weight.to(dz.dtype).reshape(shape) * (dz - mixing * dr)
    return direction


# The kernels.


@jit
def _broyden_products_kernel(
    dz,
    dr,
    residual,
    s,
    y,
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
    a = load(dz, row, index, inside, sizes, ACC)
    b = load(dr, row, index, inside, sizes, ACC)
    r = load(residual, row, index, inside, sizes, ACC)
    for i in tl.static_range(len(s)):
        each = load(s[i], row, index, inside, sizes, ACC)
        put_sum(partial, 4 * i, row, rows, block, blocks, dot(each, a))
        put_sum(partial, 4 * i + 2, row, rows, block, blocks, dot(each, b))
        put_sum(partial, 4 * i + 3, row, rows, block, blocks, dot(each, r))
        other = load(y[i], row, index, inside, sizes, ACC)
        put_sum(partial, 4 * i + 1, row, rows, block, blocks, dot(other, a))


@jit
def _broyden_direction_kernel(
    direction,
    residual,
    s,
    y,
    partial,
    sizes,
    rows,
    size,
    blocks,
    weights,
    memory,
    mixing: tl.float64,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, _, index, inside = place(size, blocks, BLOCK)
    beta = tl.full((), mixing, ACC)
    d = beta * load(residual, row, index, inside, sizes, ACC)
    for i in tl.static_range(len(s)):
        gamma = tl.load(weights + row * memory + i).to(ACC)
        dz = load(s[i], row, index, inside, sizes, ACC)
        d += gamma * (dz - beta * load(y[i], row, index, inside, sizes, ACC))
    store(direction, row, index, inside, sizes, d)


def _launch_products(
    s: list[Tensor], y: list[Tensor], dz: Tensor, dr: Tensor, residual: Tensor
) -> tuple[Tensor, ...]:
    sums = launch(
        _broyden_products_kernel,
        (dz, dr, residual, s, y),
        4 * len(s),
        accumulation=accumulation_dtype(dz.dtype),
    )
    # Each result has memory of its own, as torch.compile assumes.
    return tuple(sums[which::4].T.contiguous() for which in range(4))


def _launch_direction(
    residual: Tensor, s: list[Tensor], y: list[Tensor], weights: Tensor, mixing: float
) -> Tensor:
    wide = accumulation_dtype(residual.dtype)
    direction = torch.empty_like(residual, dtype=wide)
    launch(
        _broyden_direction_kernel,
        (direction, residual, s, y),
        0,
        weights.contiguous(),
        weights.shape[1],
        mixing,
        accumulation=wide,
    )
    return direction


_broyden_products = operator(
    "broyden_products(Tensor[] s, Tensor[] y, Tensor dz, Tensor dr, Tensor residual)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    reference=_products_reference,
    launch=_launch_products,
    results=lambda s, y, dz, *rest: tuple(
        dz.new_empty((len(dz), len(s)), dtype=summation_dtype(dz.device)) for _ in range(4)
    ),
)
_broyden_direction = operator(
    "broyden_direction(Tensor residual, Tensor[] s, Tensor[] y, Tensor weights, float mixing)"
    " -> Tensor",
    reference=_direction_reference,
    launch=_launch_direction,
    results=lambda residual, *rest: torch.empty_like(
        residual, dtype=accumulation_dtype(residual.dtype)
    ),
)
