"""Operations on a function that leave its proximal operator exact.

Parikh & Boyd (2014), section 2.2; Bauschke & Combettes, proposition 24.8.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fixpoint._moved import renamed as _renamed
from fixpoint.kernels import row_dot
from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import (
    Parameter,
    check_finite,
    check_numbers,
    elements,
    limits,
    numbers,
)
from fixpoint.proximal.row_algebra import rounding, total
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class Scaled(Function):
    """factor * g.

    prox: that of g with step s * factor.
    Proof: (z - u)/(s factor) in dg(u) is (z - u)/s in factor dg(u).

    Args:
        function: g.
        factor: above 0; a number, or `RowParameter` of (batch,).
    """

    function: Function
    factor: Parameter

    def __post_init__(self) -> None:
        check_numbers("factor", self.factor, 0, strict=True)
        least, most = limits("factor", self.factor)
        smoothness = self.function.smoothness
        self._set(
            strong_convexity=least * self.function.strong_convexity,
            smoothness=None if smoothness is None else most * smoothness,
        )

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return numbers("factor", self.factor, z) * self.function._value(z, tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        return self.function._prox(z, step * numbers("factor", self.factor, z))

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return expand_rows(numbers("factor", self.factor, z), z) * self.function._gradient(z)

    # (a g)*(y) = a g*(y/a)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        factor = numbers("factor", self.factor, y)
        inner = self.function.conjugate
        return factor * inner._value(y / expand_rows(factor, y), tolerance / factor)

    def _conjugate_gradient(
        self, y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        factor = expand_rows(numbers("factor", self.factor, y), y)
        return self.function.conjugate._gradient(y / factor)


@dataclass(frozen=True, eq=False)
class TranslatedFunction(Function):
    """z -> g(z - shift).

    prox: shift + prox_{s g}(z - shift).
    Proof: v = u - shift has (z - shift - v)/s = (z - u)/s in dg(v) = d(g(. - shift))(u).

    Args:
        function: g.
        shift: finite; broadcasts against a row, or `RowParameter`.
    """

    function: Function
    shift: Parameter

    def __post_init__(self) -> None:
        check_finite("shift", self.shift)
        self._set(
            strong_convexity=self.function.strong_convexity, smoothness=self.function.smoothness
        )

    @property
    def conjugate(self) -> Function:
        """g* + <shift, .>."""
        return self.function.conjugate.plus_linear(self.shift)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        shift = elements("shift", self.shift, z).expand_as(z)
        return self.function._value(z - shift, tolerance + rounding(shift))

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        shift = elements("shift", self.shift, z)
        return shift + self.function._prox(z - shift, step)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.function._gradient(z - elements("shift", self.shift, z))


@dataclass(frozen=True, eq=False)
class PlusLinear(Function):
    """z -> g(z) + <slope, z>.

    prox: prox_{s g}(z - s slope).
    Proof: (z - s slope - u)/s in dg(u) is (z - u)/s in dg(u) + slope.

    Args:
        function: g.
        slope: finite; broadcasts against a row, or `RowParameter`.
    """

    function: Function
    slope: Parameter

    def __post_init__(self) -> None:
        check_finite("slope", self.slope)
        self._set(
            strong_convexity=self.function.strong_convexity, smoothness=self.function.smoothness
        )

    @property
    def conjugate(self) -> Function:
        """g*(. - slope)."""
        return self.function.conjugate.translated(self.slope)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return self.function._value(z, tolerance) + total(elements("slope", self.slope, z) * z)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        slope = elements("slope", self.slope, z)
        return self.function._prox(z - expand_rows(step, z) * slope, step)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.function._gradient(z) + elements("slope", self.slope, z)


@dataclass(frozen=True, eq=False)
class PlusSquared(Function):
    """z -> g(z) + weight/2 ||z - center||^2.

    prox: with w the weight and c the center, prox_{t g}((z + s w c)/(1 + s w)), t = s/(1 + s w).
    Proof: ((z + s w c)/(1 + s w) - u)/t = (z - u)/s - w (u - c) in dg(u).

    Its conjugate is smooth: the sup is attained at prox_{g/w}(center + y/w), its gradient.

    Args:
        function: g.
        weight: above 0; a number, or `RowParameter` of (batch,).
        center: finite; broadcasts against a row, or `RowParameter`.
    """

    function: Function
    weight: Parameter
    center: Parameter = 0.0

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0, strict=True)
        check_finite("center", self.center)
        least, most = limits("weight", self.weight)
        smoothness = self.function.smoothness
        self._set(
            strong_convexity=self.function.strong_convexity + least,
            smoothness=None if smoothness is None else smoothness + most,
        )

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        offset = z - elements("center", self.center, z)
        squared = numbers("weight", self.weight, z) / 2 * row_dot(offset, offset)
        return self.function._value(z, tolerance) + squared

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        pull = step * numbers("weight", self.weight, z)  # s w
        share = expand_rows(pull / (1 + pull), z)
        between = z + share * (elements("center", self.center, z) - z)
        return self.function._prox(between, step / (1 + pull))

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        offset = z - elements("center", self.center, z)
        weight = expand_rows(numbers("weight", self.weight, z), z)
        return self.function._gradient(z) + weight * offset

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        best = self._conjugate_gradient(y)
        # `best` is in the domain by construction: what is forgiven is its own rounding.
        room = rounding(best) + rounding(y) / numbers("weight", self.weight, y)
        return row_dot(y, best) - self._value(best, room)

    def _conjugate_gradient(
        self, y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        weight = numbers("weight", self.weight, y)
        center = elements("center", self.center, y)
        return self.function._prox(center + y / expand_rows(weight, y), 1 / weight)


__getattr__ = _renamed(__name__, {"Translated": "TranslatedFunction"})
