"""The convex conjugate through Moreau's identity."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class Conjugate(Function):
    """g*(y) = sup_z <y, z> - g(z), for the g that has no conjugate among the classes.

    prox: z - s prox_{g/s}(z/s) (Moreau 1965; Bauschke & Combettes, theorem 14.3(ii)).
    Proof: v = prox_{g/s}(z/s) has s (z/s - v) = z - s v = u in dg(v), so that v = (z - u)/s is in
    dg*(u) (their theorem 16.29).

    `strong_convexity` is 1/L and `smoothness` 1/mu of g (their theorem 18.15).
    """

    function: Function

    def __post_init__(self) -> None:
        smoothness, convexity = self.function.smoothness, self.function.strong_convexity
        self._set(
            strong_convexity=1 / smoothness if smoothness else 0.0,
            smoothness=1 / convexity if convexity > 0 else None,
        )

    @property
    def conjugate(self) -> Function:
        """g again: a closed convex function is its own biconjugate."""
        return self.function

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return self.function._conjugate_value(z, tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        steps = expand_rows(step, z)
        return z - steps * self.function._prox(z / steps, 1 / step)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.function._conjugate_gradient(z)
