"""The second-order cone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.proximal.row_algebra import indicator, largest, power_of_two, root


@dataclass(frozen=True, eq=False)
class SecondOrderCone(Function):
    """The indicator of {(x, t): ||x|| <= t}, t the last number of the last dimension of a row.

    Leading dimensions of a row hold one cone each.

    prox: (x, t) where ||x|| <= t, 0 where ||x|| <= -t, else (1 + t/||x||)/2 (x, ||x||) (Parikh &
    Boyd, section 6.3.2). Exact.
    Proof: in the last case z - u = (||x|| - t)/2 (x/||x||, -1), a multiple, at least 0, of a vector
    of the polar cone {||x|| <= -t} that is orthogonal to u.

    Derivative: at the apex 1/2, which is between those of the three cases.

    Raises:
        ValueError: rows that are single numbers, or have a last dimension of no numbers.
    """

    def _value(
        self, z: Float[Tensor, "batch *shape n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        scale, norm, height = _parts(z)
        return indicator(largest(scale * (norm - height)), tolerance * _room(z))

    def _prox(
        self, z: Float[Tensor, "batch *shape n"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape n"]:
        scale, norm, height = (part.unsqueeze(-1) for part in _parts(z))
        share = (1 + height / torch.where(norm == 0, 1, norm)) / 2
        moved = torch.cat((share * z[..., :-1], scale * (norm + height) / 2), -1)
        found = torch.where(norm <= -height, 0, torch.where(norm <= height, z, moved))
        return torch.where((norm == 0) & (height == 0), z / 2, found)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # The polar cone.
        scale, norm, height = _parts(y)
        return indicator(largest(scale * (norm + height)), tolerance * _room(y))


def _parts(
    z: Float[Tensor, "batch *shape n"],
) -> tuple[
    Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]
]:
    """A scale of every cone, and ||x|| and t divided by it."""
    if z.dim() < 2 or z.shape[-1] == 0:
        raise ValueError(f"need rows of vectors (x, t), got rows of shape {tuple(z.shape[1:])}")
    scale = power_of_two(z.abs().amax(-1))
    scaled = z / scale.unsqueeze(-1)
    x = scaled[..., :-1]
    return scale, root((x * x).sum(-1)), scaled[..., -1]


def _room(z: Float[Tensor, "batch *shape n"]) -> float:
    """How far ||x|| - t may fall when every coordinate moves by 1."""
    return math.sqrt(z.shape[-1] - 1) + 1
