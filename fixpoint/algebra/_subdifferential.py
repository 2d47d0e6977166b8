"""The subdifferential of a convex function, known by its resolvent."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from fixpoint.algebra.linear import Derived
from fixpoint.constants.region import Region
from fixpoint.operator import Operator
from fixpoint.proximal.function import Function


class Subdifferential(Derived):
    """The subdifferential of g; for a smooth g, its gradient.

    It has values only if g is smooth. For every g it has a resolvent, the proximal operator, and
    with it the reflected resolvent and the Yosida regularisation, the gradient of the Moreau
    envelope (Bauschke & Combettes, proposition 12.30 and example 23.3).

    With mu the strong convexity of g and L its smoothness, T - mu I is the gradient of a convex
    function that is (L - mu)-smooth, hence 1/(L - mu)-cocoercive (their corollary 18.17): more than
    the constants of T say. Its resolvents and combinations with I use this.
    """

    def __init__(self, function: Function) -> None:
        if not isinstance(function, Function):
            raise TypeError(
                f"subdifferential takes a fixpoint.proximal.Function, got {type(function).__name__}"
            )
        self.function = function
        self._know(self._region().constants())

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The gradient. Raises TypeError where g is not smooth."""
        return self.function.gradient(z)

    def select(self, rows: Tensor) -> Operator:
        return Subdifferential(self.function.select(rows))

    def _region(self) -> Region:
        mu, smoothness = self.function.strong_convexity, self.function.smoothness
        rest = math.inf if smoothness is None else max(smoothness - mu, 0.0)
        beta = 1 / rest if rest > 0 else math.inf
        return Region(beta, rest, 0.0).affine(mu, 1)


class Prox(Derived):
    """z -> prox_{step g}(z); the values of a resolvent."""

    def __init__(self, function: Function, step: float) -> None:
        self.function, self.step = function, step

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.function.prox(z, self.step)

    def select(self, rows: Tensor) -> Operator:
        return Prox(self.function.select(rows), self.step)


def subdifferential(function: Function) -> Subdifferential:
    """The subdifferential of g as an operator; see `Subdifferential`.

    Raises:
        TypeError: it is no `fixpoint.proximal.Function`.
    """
    return Subdifferential(function)
