"""Indicators of convex sets: 0 on the set, +inf elsewhere. The proximal operator projects.

"Proof" lines use that z - u is in the normal cone of the set C at u: <z - u, w - u> <= 0 for every
w in C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels import row_dot, row_norm
from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import (
    Parameter,
    RowParameter,
    aligned,
    check_finite,
    check_numbers,
    check_one_number,
    elements,
    numbers,
    values_of,
)
from fixpoint.proximal.row_algebra import flat, indicator, largest, product, size, total
from fixpoint.proximal.threshold import clamp, simplex_projection
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class Zero(Function):
    """g = 0. prox: the identity. Proof: (z - z)/s = 0 is the gradient."""

    smoothness = 0.0

    @property
    def conjugate(self) -> Function:
        """The indicator of the origin."""
        return Box(0.0, 0.0)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return torch.zeros_like(tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        return z.clone()

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return torch.zeros_like(z)


@dataclass(frozen=True, eq=False)
class Box(Function):
    """The indicator of lower <= z <= upper, coordinate by coordinate.

    prox: every coordinate is clamped.
    Proof: z_i - u_i is above 0 only where u_i = upper_i, below 0 only where u_i = lower_i.

    Args:
        lower, upper: broadcast against a row, or `RowParameter`; -inf and inf for no bound.

    Raises:
        ValueError: lower <= upper does not hold, or a bound is NaN.
    """

    lower: Parameter
    upper: Parameter

    def __post_init__(self) -> None:
        lower, upper = values_of("lower", self.lower), values_of("upper", self.upper)
        for name, values in (("lower", lower), ("upper", upper)):
            if bool(values.isnan().any()):
                raise ValueError(f"need {name} not NaN")
        if bool((lower == math.inf).any()) or bool((upper == -math.inf).any()):
            raise ValueError("need lower < inf and upper > -inf")
        lower, upper = aligned("lower, upper", self.lower, self.upper)
        wrong = lower > upper
        if bool(wrong.any()):
            low, high = lower[wrong][0].item(), upper[wrong][0].item()
            raise ValueError(f"need lower <= upper, got lower {low:g} and upper {high:g}")

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        lower, upper = elements("lower", self.lower, z), elements("upper", self.upper, z)
        return indicator(largest(torch.maximum(lower - z, z - upper)), tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        lower, upper = elements("lower", self.lower, z), elements("upper", self.upper, z)
        return clamp(z, lower, upper)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # sum max(lower y, upper y); where a bound is infinite, y must not point that way.
        lower, upper = elements("lower", self.lower, y), elements("upper", self.upper, y)
        room = expand_rows(tolerance, y)
        open_up, open_down = upper.isinf(), lower.isinf()
        outside = torch.where((open_up & (y > room)) | (open_down & (-y > room)), torch.inf, 0.0)
        up = torch.where(open_up, 0, upper) * y.clamp(min=0)
        down = torch.where(open_down, 0, lower) * y.clamp(max=0)
        return total(up + down + outside)


@dataclass(frozen=True, eq=False)
class Simplex(Function):
    """The indicator of {z >= 0, sum z = radius}.

    prox: max(z - tau, 0) with the tau for which the sum is right (Held, Wolfe & Crowder 1974;
    Duchi, Shalev-Shwartz, Singer & Chandra 2008, figure 1), from sorted coordinates. Exact.
    Proof: z - u is tau where u > 0 and at most tau elsewhere; <z - u, w - u> <= tau sum (w - u)
    = 0.

    Args:
        radius: above 0; a number, or `RowParameter` of (batch,).
    """

    radius: Parameter = 1.0

    def __post_init__(self) -> None:
        check_numbers("radius", self.radius, 0, strict=True)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        excess = (total(z) - numbers("radius", self.radius, z)).abs() / size(z)
        return indicator(torch.maximum(largest(-z), excess), tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        return simplex_projection(z, numbers("radius", self.radius, z))

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return numbers("radius", self.radius, y) * largest(y)


@dataclass(frozen=True, eq=False)
class HalfSpace(Function):
    """The indicator of {<normal, z> <= offset}.

    prox: z - max(<a, z> - b, 0) / ||a||^2 a, with a the normal and b the offset, both divided by
    ||a|| in float64, once.
    Proof: z - u = t a with t >= 0, and t > 0 only where <a, u> = b >= <a, w>.

    Args:
        normal: a, finite and not 0; broadcasts against a row, or `RowParameter`.
        offset: b, finite; a number, or `RowParameter` of (batch,).
    """

    normal: Tensor | RowParameter
    offset: Parameter = 0.0
    direction: Tensor | RowParameter = field(init=False, repr=False)  # a / ||a||
    level: Tensor | RowParameter = field(init=False, repr=False)  # b / ||a||

    def __post_init__(self) -> None:
        check_finite("normal", self.normal)
        check_finite("offset", self.offset)
        check_one_number("offset", self.offset)
        values = values_of("normal", self.normal).to(torch.float64)
        owned = isinstance(self.normal, RowParameter)
        rows = flat(values) if owned else values.reshape(1, -1)
        largest_entry = rows.abs().amax(1, keepdim=True)  # two divisions: squares may underflow
        if bool((largest_entry == 0).any()):
            raise ValueError("need ||normal|| > 0, got 0")
        rows = rows / largest_entry
        norms = rows.norm(dim=1, keepdim=True)
        direction = (rows / norms).reshape(values.shape)
        size_of = RowParameter(norms.squeeze(1)) if owned else norms.reshape(())
        top_of = RowParameter(largest_entry.squeeze(1)) if owned else largest_entry.reshape(())
        offset, norm, top = aligned("offset, normal", self.offset, size_of, top_of)
        level = offset.to(norm) / top / norm
        self._set(
            direction=RowParameter(direction) if owned else direction,
            level=RowParameter(level) if owned or isinstance(self.offset, RowParameter) else level,
        )

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        normal, excess = self._excess(z)
        return indicator(excess, tolerance * total(normal.abs()))

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        normal, excess = self._excess(z)
        return z - expand_rows(excess.clamp(min=0) / row_dot(normal, normal), z) * normal

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # y = t a with t >= 0 has the value t b.
        normal = elements("normal", self.direction, y) + torch.zeros_like(y)
        multiple = (row_dot(y, normal) / row_dot(normal, normal)).clamp(min=0)
        off = largest((y - expand_rows(multiple, y) * normal).abs())
        return indicator(off, tolerance) + multiple * numbers("offset", self.level, y)

    def _excess(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Float[Tensor, " batch"]]:
        normal = elements("normal", self.direction, z) + torch.zeros_like(z)
        return normal, row_dot(normal, z) - numbers("offset", self.level, z)


@dataclass(frozen=True, eq=False)
class AffineSet(Function):
    """The indicator of {A z = b}, z a row as a vector.

    prox: z - V (V' z - c). The columns of V are an orthonormal basis of the range of A', and
    V' z = c is A z = b: a singular value decomposition in float64, done once. Exact.
    Proof: V' u = c, and z - u is in the range of V, the normal cone everywhere.

    Equations count as dependent where a singular value is at most max(equations, size) eps of the
    largest, for the eps of the dtype that `matrix` was given in: what its rounding alone can make.
    Rounding may also take dependent equations apart, by as much: what b misses by then is
    forgiven, and A z = b holds in the least squares sense.

    Args:
        matrix: A, finite, (equations, size), or `RowParameter` of (batch, equations, size);
            equations may depend on each other.
        target: b, finite, (equations,), or `RowParameter` of (batch, equations).

    Raises:
        ValueError: A z = b has no solution.
    """

    matrix: Tensor | RowParameter
    target: Tensor | RowParameter
    basis: Tensor | RowParameter = field(init=False, repr=False)  # V'
    level: Tensor | RowParameter = field(init=False, repr=False)  # c

    def __post_init__(self) -> None:
        check_finite("matrix", self.matrix)
        check_finite("target", self.target)
        given, sought = values_of("matrix", self.matrix), values_of("target", self.target)
        matrix, target = given.to(torch.float64), sought.to(torch.float64)
        ranks = 2 + isinstance(self.matrix, RowParameter), 1 + isinstance(self.target, RowParameter)
        if (matrix.dim(), target.dim()) != ranks or matrix.shape[-2] != target.shape[-1]:
            raise ValueError(
                "need matrix (equations, size) and target (equations,), batch first as "
                f"RowParameter, got {tuple(matrix.shape)} and {tuple(target.shape)}"
            )
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        cutoff = _relative_rounding(max(matrix.shape[-2:]), given)
        most = values.amax(-1, keepdim=True)
        kept = values > cutoff * most
        basis = torch.where(kept.unsqueeze(-1), right, 0)
        inverse = torch.where(kept, 1 / values, 0)
        level = inverse * (left.mT @ target.unsqueeze(-1)).squeeze(-1)
        solution = (basis.mT @ level.unsqueeze(-1)).squeeze(-1)
        missed = ((matrix @ solution.unsqueeze(-1)).squeeze(-1) - target).norm(dim=-1)
        slack = max(cutoff, _relative_rounding(max(matrix.shape[-2:]), sought))
        reach = most.squeeze(-1) * solution.norm(dim=-1) + target.norm(dim=-1)
        forgiven = torch.maximum(1e-6 * target.norm(dim=-1), slack * reach)
        if bool((missed > forgiven).any()):
            raise ValueError(
                f"need target in the range of matrix, but A z = b misses b by {missed.max():.2g}"
            )
        owned = isinstance(self.matrix, RowParameter) or isinstance(self.target, RowParameter)
        self._set(
            basis=RowParameter(basis) if isinstance(self.matrix, RowParameter) else basis,
            level=RowParameter(level) if owned else level,
        )

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        _, missed = self._missed(z)
        return indicator(row_norm(missed), tolerance * math.sqrt(size(z)))

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        basis, missed = self._missed(z)
        return z - product(basis.mT, missed).reshape(z.shape)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # y = V t has the value <t, c>.
        basis, missed = self._missed(y)
        level = elements("level", self.level, missed)
        along = missed + level
        off = largest((flat(y) - product(basis.mT, along)).abs())
        return indicator(off, tolerance) + total(along * level)

    def _missed(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """V' and V' z - c."""
        matrix = values_of("basis", self.basis)
        if matrix.shape[-1] != flat(z).shape[1]:
            raise ValueError(
                f"the matrix takes rows of {matrix.shape[-1]} numbers, a row of z has "
                f"{flat(z).shape[1]}"
            )
        if isinstance(self.basis, RowParameter) and len(matrix) != len(z):
            raise ValueError(f"matrix has {len(matrix)} rows, z has {len(z)}")
        basis = matrix.to(z)
        along = product(basis, flat(z))
        return basis, along - elements("target", self.level, along)


def _relative_rounding(size: int, given: Tensor) -> float:
    """size * eps of the dtype of `given`, as far as it stays well below 1."""
    eps = torch.finfo(given.dtype if given.is_floating_point() else torch.float64).eps
    return min(size * eps, math.sqrt(eps))
