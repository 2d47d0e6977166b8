"""Adam (Kingma & Ba, ICLR 2015, algorithm 1) with T z as the gradient, and the sums of (z, T z):

    m' = b1 m + (1 - b1) T z,    v' = b2 v + (1 - b2) (T z)^2
    z' = z - rate * (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)

The kernel rounds its divisions and its root correctly, as the reference does and Triton's own
operators do not. Where t is a tensor, 1 - b^t is computed on its device, so that a CUDA graph can
be replayed with another t.

Least traffic: read z, T z, m and v, write z', m' and v': 7 elements moved per element. With a
previous point, which monitors ask for, 9.
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
from fixpoint.kernels.device import divide, jit, load, place, put_nan_sums, square_root, store, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.finished_rows import flags, keep_finished
from fixpoint.kernels.launch import launch
from fixpoint.kernels.summation import accumulation_dtype, widened


def adam(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    first_moment: Float[Tensor, "batch *shape"],
    second_moment: Float[Tensor, "batch *shape"],
    *,
    count: int | Tensor,
    rate: float | Tensor,
    betas: tuple[float, float],
    eps: float,
) -> tuple[
    Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]
]:
    """The next `(z, m, v)`.

    Args:
        z, residual: (batch, *shape), of any strides: z and T z. T z may have 16 bits.
        first_moment, second_moment: (batch, *shape), m and v. They keep their own dtype, which is
            float32 for a `z` of 16 bits.
        count: t, the number of this step, from 1; an int or a tensor of one number.
        rate: the step size; a float or a tensor of one number.
        betas: b1 and b2.
        eps: added to the root.
    """
    numbers, scales = _numbers(z, count, rate, betas, eps)
    return _adam(
        z, residual, first_moment, second_moment, numbers, scales, False, None, None, None
    )[:3]


def adam_with_sums(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    first_moment: Float[Tensor, "batch *shape"],
    second_moment: Float[Tensor, "batch *shape"],
    *,
    count: int | Tensor,
    rate: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    previous: tuple[Tensor, Tensor] | None = None,
    done: Bool[Tensor, " batch"] | None = None,
) -> tuple[
    Float[Tensor, "batch *shape"],
    Float[Tensor, "batch *shape"],
    Float[Tensor, "batch *shape"],
    RowSums,
]:
    """`adam`, and the sums of (z, T z).

    Args:
        z, residual, first_moment, second_moment, count, rate, betas, eps: see `adam`.
        previous: the point before z, and T there; the sums of the pair are then returned, too.
        done: finished rows. They keep z, m and v, and their sums are NaN.
    """
    numbers, scales = _numbers(z, count, rate, betas, eps)
    before, value_before = previous or (None, None)
    following, first, second, sums = _adam(
        z, residual, first_moment, second_moment,
        numbers, scales, True, before, value_before, done,
    )  # fmt: skip
    return following, first, second, named_sums(sums)


def _numbers(
    z: Tensor, count: int | Tensor, rate: float | Tensor, betas: tuple[float, float], eps: float
) -> tuple[list[float], Tensor | None]:
    """b1, b2, eps, the rate and 1 - b^t for both moments.

    Where the rate or t is a tensor, the last three are in a tensor of their own, and 1 in the list.
    """
    b1, b2 = betas
    if not isinstance(count, Tensor) and not isinstance(rate, Tensor):
        return [b1, b2, eps, rate, 1 - b1**count, 1 - b2**count], None
    t = _on(z, count)
    return [b1, b2, eps, 1.0, 1.0, 1.0], torch.stack((_on(z, rate), 1 - b1**t, 1 - b2**t))


def _on(z: Tensor, number: float | Tensor) -> Tensor:
    """A number in float64 on the device of z. A copy from the host would wait; none is made."""
    if isinstance(number, Tensor):
        return number.to(torch.float64).reshape(())
    return torch.full((), number, dtype=torch.float64, device=z.device)


def _reference(
    z: Tensor,
    residual: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    numbers: list[float],
    scales: Tensor | None,
    sums: bool,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = accumulation_dtype(z.dtype)
    first_beta, second_beta, eps, *of_step = numbers
    size, c1, c2 = of_step if scales is None else widened(scales, wide).unbind()
    t = widened(residual, wide)
    first = first_beta * widened(first_moment, wide) + (1 - first_beta) * t
    second = second_beta * widened(second_moment, wide) + (1 - second_beta) * (t * t)
    step = size * (first / c1) / ((second / c2).sqrt() + eps)
    following = (widened(z, wide) - step).to(z.dtype)
    return (
        keep_finished(done, following, z),
        keep_finished(done, widened(first, first_moment.dtype), first_moment),
        keep_finished(done, widened(second, second_moment.dtype), second_moment),
        sums_reference(sums, z, residual, previous_point, previous_residual, done),
    )


@jit
def _adam_kernel(
    following,
    first,
    second,
    z,
    residual,
    first_moment,
    second_moment,
    previous_point,
    previous_residual,
    partial,
    sizes,
    rows,
    size,
    blocks,
    rate: tl.float64,
    first_bias: tl.float64,
    second_bias: tl.float64,
    scales,
    first_beta: tl.float64,
    first_rest: tl.float64,
    second_beta: tl.float64,
    second_rest: tl.float64,
    eps: tl.float64,
    done,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, block, index, inside = place(size, blocks, BLOCK)
    x = load(z, row, index, inside, sizes, ACC)
    m = load(first_moment, row, index, inside, sizes, ACC)
    v = load(second_moment, row, index, inside, sizes, ACC)
    if done is not None:
        if tl.load(done + row) != 0:
            store(following, row, index, inside, sizes, x)
            store(first, row, index, inside, sizes, m)
            store(second, row, index, inside, sizes, v)
            put_nan_sums(partial, row, rows, block, blocks, SUMS)
            return
    t = load(residual, row, index, inside, sizes, ACC)
    step_size = tl.full((), rate, ACC)
    c1 = tl.full((), first_bias, ACC)
    c2 = tl.full((), second_bias, ACC)
    if scales is not None:
        step_size = tl.load(scales).to(ACC)
        c1 = tl.load(scales + 1).to(ACC)
        c2 = tl.load(scales + 2).to(ACC)
    m = tl.full((), first_beta, ACC) * m + tl.full((), first_rest, ACC) * t
    v = tl.full((), second_beta, ACC) * v + tl.full((), second_rest, ACC) * (t * t)
    root = square_root(divide(v, c2)) + tl.full((), eps, ACC)
    store(following, row, index, inside, sizes, x - divide(step_size * divide(m, c1), root))
    store(first, row, index, inside, sizes, m)
    store(second, row, index, inside, sizes, v)
    if SUMS > 0:
        put_row_sums(
            partial, row, rows, block, blocks,
            x, t, previous_point, previous_residual, index, inside, sizes, ACC,
        )  # fmt: skip


def _launch(
    z: Tensor,
    residual: Tensor,
    first_moment: Tensor,
    second_moment: Tensor,
    numbers: list[float],
    scales: Tensor | None,
    sums: bool,
    previous_point: Tensor | None,
    previous_residual: Tensor | None,
    done: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first_beta, second_beta, eps, rate, first_bias, second_bias = numbers
    following = torch.empty_like(z)
    first, second = torch.empty_like(first_moment), torch.empty_like(second_moment)
    found = launch(
        _adam_kernel,
        (
            following, first, second,
            z, residual, first_moment, second_moment, previous_point, previous_residual,
        ),
        sums_count(sums, previous_point),
        rate,
        first_bias,
        second_bias,
        scales,
        first_beta,
        1 - first_beta,
        second_beta,
        1 - second_beta,
        eps,
        flags(done, len(z)),
        accumulation=accumulation_dtype(z.dtype),
    )  # fmt: skip
    return following, first, second, found


_adam = operator(
    "adam(Tensor z, Tensor residual, Tensor first_moment, Tensor second_moment, float[] numbers,"
    " Tensor? scales, bool sums, Tensor? previous_point, Tensor? previous_residual, Tensor? done)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    reference=_reference,
    launch=_launch,
    results=lambda z, residual, first, second, *rest: (
        torch.empty_like(z),
        torch.empty_like(first),
        torch.empty_like(second),
        empty_sums(z, sums_count(*rest[2:4])),
    ),
)
