"""Halpern's step (Lieder, Optimization Letters 2021): a forward step, pulled back to the anchor.

    u = z - rho T z,    z' = u - w (u - z^0),    rho = 2 beta,  w = 1/(k+2)

The pull is written as a difference, so that z' = u exactly where w is 0.

Least traffic: read z, T z and z^0, write z': 4 elements moved per element.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels.device import jit, load, place, store, tl
from fixpoint.kernels.dispatch import operator
from fixpoint.kernels.finished_rows import keep_finished
from fixpoint.kernels.launch import launch, per_row
from fixpoint.kernels.summation import accumulation_dtype, widened


def halpern(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    anchor: Float[Tensor, "batch *shape"],
    step_size: float,
    pull: Float[Tensor, " batch"],
) -> Float[Tensor, "batch *shape"]:
    """The next point, in the dtype of `z`.

    Args:
        z, residual, anchor: (batch, *shape), of any strides: z, T z and z^0.
        step_size: rho.
        pull: w, one number per row in [0, 1].
    """
    return _halpern(z, residual, anchor, step_size, pull)


def _reference(
    z: Tensor, residual: Tensor, anchor: Tensor, step_size: float, pull: Tensor
) -> Tensor:
    wide = accumulation_dtype(z.dtype)
    image = widened(z, wide) - step_size * widened(residual, wide)
    weight = widened(pull, wide).reshape((-1,) + (1,) * (z.dim() - 1))
    following = image - weight * (image - widened(anchor, wide))
    return keep_finished(None, widened(following, z.dtype), z)


@jit
def _halpern_kernel(
    following,
    z,
    residual,
    anchor,
    partial,
    sizes,
    rows,
    size,
    blocks,
    step_size: tl.float64,
    pull,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, _, index, inside = place(size, blocks, BLOCK)
    t = load(residual, row, index, inside, sizes, ACC)
    image = load(z, row, index, inside, sizes, ACC) - tl.full((), step_size, ACC) * t
    weight = tl.load(pull[0] + row * pull[1]).to(ACC)
    back = image - load(anchor, row, index, inside, sizes, ACC)
    store(following, row, index, inside, sizes, image - weight * back)


def _launch(z: Tensor, residual: Tensor, anchor: Tensor, step_size: float, pull: Tensor) -> Tensor:
    following = torch.empty_like(z)
    launch(
        _halpern_kernel,
        (following, z, residual, anchor),
        0,
        step_size,
        per_row(pull, len(z)),
        accumulation=accumulation_dtype(z.dtype),
    )
    return following


_halpern = operator(
    "halpern(Tensor z, Tensor residual, Tensor anchor, float step_size, Tensor pull) -> Tensor",
    reference=_reference,
    launch=_launch,
    results=lambda z, *rest: torch.empty_like(z),
)
