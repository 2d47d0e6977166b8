"""Adam (Kingma & Ba, ICLR 2015, algorithm 1) with T z in the gradient's place:

    m' = b1 m + (1 - b1) T z,    v' = b2 v + (1 - b2) (T z)^2
    z' = z - rate * (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)

Least traffic: read z, T z, m and v, write z', m' and v': 7 elements moved per element.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def adam(
    z: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    first_moment: Float[Tensor, "batch *shape"],
    second_moment: Float[Tensor, "batch *shape"],
    *,
    count: int,
    rate: float,
    betas: tuple[float, float],
    eps: float,
) -> tuple[
    Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]
]:
    """The next `(z, m, v)`; `count` is t, the number of this step, from 1. The moments keep
    their own dtype, so that they can be float32 beside a 16-bit `z`."""
    residual = residual.to(first_moment.dtype)
    first = betas[0] * first_moment + (1 - betas[0]) * residual
    second = betas[1] * second_moment + (1 - betas[1]) * (residual * residual)
    first_unbiased = first / (1 - betas[0] ** count)
    second_unbiased = second / (1 - betas[1] ** count)
    step = rate * first_unbiased / (second_unbiased.sqrt() + eps)
    return (z.to(step.dtype) - step).to(z.dtype), first, second
