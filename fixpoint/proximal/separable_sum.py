"""The sum of functions of separate variables."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import Parameter


@dataclass(frozen=True, eq=False)
class SeparableSum(Function):
    """(z_1, z_2, ...) -> g_1(z_1) + g_2(z_2) + ..., on a product of spaces.

    Its points are tuples of tensors, one a function, with the same batch; the norm is
    ||z||^2 = sum ||z_i||^2. Whatever returns a point returns such a tuple.

    prox: each function's own.
    Proof: the subdifferential of a separable sum is the product of the subdifferentials.
    """

    functions: tuple[Function, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.functions, tuple) or not self.functions:
            raise TypeError("SeparableSum takes a tuple of functions, at least one")
        smoothnesses = [function.smoothness for function in self.functions]
        known = [value for value in smoothnesses if value is not None]
        self._set(
            strong_convexity=min(function.strong_convexity for function in self.functions),
            smoothness=max(known) if len(known) == len(smoothnesses) else None,
        )

    def __call__(  # type: ignore[override]
        self,
        z: tuple[Tensor, ...],
        tolerance: float | Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        first, *others = [g(part, tolerance) for g, part in self._pairs(z)]
        return sum(others, start=first)

    def prox(  # type: ignore[override]
        self, z: tuple[Tensor, ...], step: float | Float[Tensor, " batch"]
    ) -> tuple[Tensor, ...]:
        return tuple(g.prox(part, step) for g, part in self._pairs(z))

    def gradient(self, z: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(g.gradient(part) for g, part in self._pairs(z))

    @property
    def conjugate(self) -> SeparableSum:
        return SeparableSum(tuple(g.conjugate for g in self.functions))

    def scaled(self, factor: Parameter) -> SeparableSum:
        return SeparableSum(tuple(g.scaled(factor) for g in self.functions))

    def translated(self, shift: tuple[Parameter, ...]) -> SeparableSum:  # type: ignore[override]
        """One shift a function."""
        return SeparableSum(tuple(g.translated(b) for g, b in self._pairs(shift)))

    def plus_linear(self, slope: tuple[Parameter, ...]) -> SeparableSum:  # type: ignore[override]
        """One slope a function."""
        return SeparableSum(tuple(g.plus_linear(q) for g, q in self._pairs(slope)))

    def plus_squared(  # type: ignore[override]
        self, weight: Parameter, center: tuple[Parameter, ...] | float = 0.0
    ) -> SeparableSum:
        """One weight for all, one center a function."""
        centers = center if isinstance(center, tuple) else (center,) * len(self.functions)
        return SeparableSum(tuple(g.plus_squared(weight, c) for g, c in self._pairs(centers)))

    def _pairs(self, parts: tuple) -> list:  # type: ignore[type-arg]
        if not isinstance(parts, tuple) or len(parts) != len(self.functions):
            given = len(parts) if isinstance(parts, tuple) else type(parts).__name__
            raise ValueError(f"need a tuple of {len(self.functions)} parts, got {given}")
        return list(zip(self.functions, parts, strict=True))

    def _value(self, z: Tensor, tolerance: Tensor) -> Tensor:
        raise TypeError("a SeparableSum stands outermost: combine its functions instead")

    def _prox(self, z: Tensor, step: Tensor) -> Tensor:
        raise TypeError("a SeparableSum stands outermost: combine its functions instead")
