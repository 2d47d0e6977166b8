"""Inertial Krasnoselskii-Mann (the paper, equations 10 and 11), read from y^k to y^{k+1}:

    z^{k+1} = y^k - 2 lambda beta T y^k
    y^{k+1} = z^{k+1} + alpha (z^{k+1} - z^k)

Least traffic: read y, T y and z, write z' and y': 5 elements moved per element.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def inertial_km(
    point: Float[Tensor, "batch *shape"],
    residual: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    inertia: float,
    step_size: float,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]]:
    """The next `(z, y)` from `y = point`, `T y = residual` and the present `z`."""
    following = point - step_size * residual
    return following, following + inertia * (following - z)
