"""Norms, and the balls of their dual norms: each pair is conjugate (Parikh & Boyd, section 6.5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import (
    Parameter,
    check_elements,
    check_finite,
    check_numbers,
    elements,
    is_zero,
    map_parameter,
    numbers,
)
from fixpoint.proximal.row_algebra import (
    indicator,
    largest,
    power_of_two,
    root,
    scaled_norm,
    size,
    total,
)
from fixpoint.proximal.sets import Box
from fixpoint.proximal.threshold import clamp, clip_by_loss, simplex_projection, soft_threshold
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class L1(Function):
    """sum_i weight_i |z_i|.

    prox: soft thresholding, sign(z) max(|z| - s weight, 0) (Parikh & Boyd, section 6.5.2).
    Proof: where u_i = 0, |z_i|/s <= weight_i; elsewhere (z_i - u_i)/s = weight_i sign(u_i).

    Args:
        weight: at least 0; broadcasts against a row, or `RowParameter`.
    """

    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_elements("weight", self.weight, 0)

    @property
    def conjugate(self) -> Function:
        """The indicator of |y_i| <= weight_i."""
        return Box(map_parameter(torch.neg, self.weight), self.weight)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return total(elements("weight", self.weight, z) * z.abs())

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        threshold = expand_rows(step, z) * elements("weight", self.weight, z)
        return soft_threshold(z, threshold)


@dataclass(frozen=True, eq=False)
class L2(Function):
    """weight ||z||, the norm itself.

    prox: max(1 - s weight/||z||, 0) z, shrinkage of the whole row (Parikh & Boyd, section 6.5.1).
    Proof: where u = 0, ||z||/s <= weight; elsewhere (z - u)/s = weight u/||u||.

    Args:
        weight: at least 0; a number, or `RowParameter` of (batch,).
    """

    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0)

    @property
    def conjugate(self) -> Function:
        """The indicator of ||y|| <= weight."""
        return NormBall(2, self.weight)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        scale, norm = scaled_norm(z)
        return numbers("weight", self.weight, z) * (scale * norm)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        threshold = step * numbers("weight", self.weight, z)
        scale, norm = scaled_norm(z)
        return expand_rows(shrinkage(norm, threshold / scale), z) * z


@dataclass(frozen=True, eq=False)
class LInfinity(Function):
    """weight max_i |z_i|.

    prox: the coordinates are clamped to [-t, t], with the t at which they lose s weight in all;
    Moreau's identity with the projection onto the l1 ball (Parikh & Boyd, section 6.5.2). Exact.
    Proof: (z - u)/s is 0 where |u_i| < t, has the signs of u, and an l1 norm of `weight`; where
    ||z||_1 <= s weight, u = 0 and z/s is in the dual ball.

    Args:
        weight: at least 0; a number, or `RowParameter` of (batch,).
    """

    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0)

    @property
    def conjugate(self) -> Function:
        """The indicator of ||y||_1 <= weight."""
        return NormBall(1, self.weight)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return numbers("weight", self.weight, z) * largest(z.abs())

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        return clip_by_loss(z, step * numbers("weight", self.weight, z))


@dataclass(frozen=True, eq=False)
class NormBall(Function):
    """The indicator of ||z - center||_p <= radius, for p = 1, 2 or infinity.

    prox: with d = z - center, p = 1: soft thresholding of d by the tau that brings it onto the
    ball (Duchi et al. 2008, figure 1); p = 2: d min(1, radius/||d||); p = inf: d clamped. Exact.
    Proof: z - u is a multiple, at least 0, of a subgradient of the norm at u - center, and 0
    inside the ball.

    Args:
        p: 1, 2 or math.inf.
        radius: at least 0; a number, or `RowParameter` of (batch,).
        center: finite; broadcasts against a row, or `RowParameter`.
    """

    p: float
    radius: Parameter = 1.0
    center: Parameter = 0.0

    def __post_init__(self) -> None:
        if self.p not in (1, 2, math.inf):
            raise ValueError(f"need p in {{1, 2, inf}}, got {self.p}")
        check_numbers("radius", self.radius, 0)
        check_finite("center", self.center)

    @property
    def conjugate(self) -> Function:
        """radius times the dual norm, plus <center, y>."""
        duals: dict[float, Callable[[Parameter], Function]] = {1: LInfinity, 2: L2, math.inf: L1}
        norm = duals[self.p](self.radius)
        return norm if is_zero(self.center) else norm.plus_linear(self.center)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        offset = z - elements("center", self.center, z)
        if self.p == 1:
            norm, room = total(offset.abs()), float(size(z))
        elif self.p == 2:
            scale, norm = scaled_norm(offset)
            norm, room = scale * norm, math.sqrt(size(z))
        else:
            norm, room = largest(offset.abs()), 1.0
        return indicator(norm - numbers("radius", self.radius, z), room * tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        center = elements("center", self.center, z)
        offset, radius = z - center, numbers("radius", self.radius, z)
        if self.p == 1:
            inside = expand_rows(total(offset.abs()) <= radius, z)
            moved = offset.sign() * simplex_projection(offset.abs(), radius)
        elif self.p == 2:
            scale, norm = scaled_norm(offset)
            inside = expand_rows(scale * norm <= radius, z)
            kept = radius / torch.where(norm == 0, 1, norm)
            moved = expand_rows(kept, z) * (offset / expand_rows(scale, z))
        else:
            bound = expand_rows(radius, z)
            moved = clamp(offset, -bound, bound)
            inside = offset == moved
        inside = inside & (expand_rows(radius, z) > 0)  # a point has no inside
        return torch.where(inside, z, center + moved)


@dataclass(frozen=True, eq=False)
class GroupL1(Function):
    """sum_G weight_G ||z_G||, the group lasso (Yuan & Lin 2006), with slices of a row as groups.

    prox: every group is shrunk as by `L2`. Proof: that of `L2` in every group.

    Args:
        groups: sizes of consecutive slices along dimension `dim` of a row, each a group with all
            that lies in the other dimensions; "channels": every index of `dim` is one.
        weight: at least 0; a number, a tensor (groups,), or `RowParameter` of (batch, groups) or
            (batch,).
        dim: of the row, the batch not counted.
    """

    groups: tuple[int, ...] | str
    weight: Parameter = 1.0
    dim: int = 0

    def __post_init__(self) -> None:
        sizes = self.groups
        if isinstance(sizes, str):
            if sizes != "channels":
                raise ValueError(f'need groups "channels" or a tuple of sizes, got "{sizes}"')
        elif not (isinstance(sizes, tuple) and sizes and all(size >= 1 for size in sizes)):
            raise ValueError(f"need a tuple of group sizes of at least 1, got {sizes}")
        check_elements("weight", self.weight, 0)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        scales, norms = self._norms(z)
        norms = scales * norms
        return total(elements("weight", self.weight, norms) * norms)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        scales, norms = self._norms(z)
        threshold = expand_rows(step, norms) * elements("weight", self.weight, norms)
        return self._spread(shrinkage(norms, threshold / scales), z) * z

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        scales, norms = self._norms(y)
        norms = scales * norms
        excess = norms - elements("weight", self.weight, norms)
        return indicator(largest(excess), tolerance * math.sqrt(size(y)))

    def _dim(self, z: Float[Tensor, "batch *shape"]) -> int:
        if not -(z.dim() - 1) <= self.dim < z.dim() - 1:
            raise ValueError(f"a row of shape {tuple(z.shape[1:])} has no dimension {self.dim}")
        return self.dim % (z.dim() - 1) + 1

    def _sizes(self, z: Float[Tensor, "batch *shape"]) -> tuple[int, ...]:
        length = z.shape[self._dim(z)]
        if isinstance(self.groups, str):
            return (1,) * length
        if sum(self.groups) != length:
            raise ValueError(
                f"the groups have {sum(self.groups)} indices, dimension {self.dim} of a row "
                f"has {length}"
            )
        return self.groups

    def _norms(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch groups"], Float[Tensor, "batch groups"]]:
        """A scale of every group and the norm of the group divided by it, as `scaled_norm`."""
        scales = power_of_two(self._reduced(z.abs(), largest, _largest_last))
        scaled = z / self._spread(scales, z)
        return scales, root(self._reduced(scaled * scaled, total, _total_last))

    def _reduced(
        self,
        z: Float[Tensor, "batch *shape"],
        slice_of: Callable[[Tensor], Tensor],
        group_of: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "batch groups"]:
        """One number per group: of every slice along the dimension, then of those of a group."""
        sizes = self._sizes(z)
        slices = slice_of(z.movedim(self._dim(z), 1).flatten(0, 1))
        slices = slices.unflatten(0, (z.shape[0], sum(sizes)))
        if len(set(sizes)) == 1:
            return group_of(slices.unflatten(1, (len(sizes), sizes[0])))
        parts = slices.split(list(sizes), 1)  # an index tensor would have to cross to the device
        return torch.stack([group_of(part) for part in parts], 1)

    def _spread(
        self, values: Float[Tensor, "batch groups"], z: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch ..."]:
        """The value of its group, for every index along the dimension; broadcasts against z."""
        sizes = self._sizes(z)
        if len(set(sizes)) == 1:
            spread = values.unsqueeze(2).expand(-1, -1, sizes[0]).flatten(1)
        else:
            parts = zip(values.split(1, 1), sizes, strict=True)
            spread = torch.cat([value.expand(-1, size) for value, size in parts], 1)
        along = [1] * z.dim()
        along[0], along[self._dim(z)] = spread.shape
        return spread.reshape(along)


def _largest_last(values: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    return values.amax(-1)


def _total_last(values: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    return values.sum(-1)


def shrinkage(norm: Float[Tensor, "..."], threshold: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(1 - threshold/norm, 0), and 0 for the norm 0; 1 for the threshold 0."""
    kept = (norm - threshold).clamp(min=0) / torch.where(norm == 0, 1, norm)
    return torch.where(threshold == 0, 1, torch.where(kept == 0, 0, kept))
