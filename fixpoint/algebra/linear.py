"""Combinations with the identity, shifts and sums."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from fixpoint._moved import renamed as _renamed
from fixpoint.calculus import total
from fixpoint.constants.constants import Constants
from fixpoint.constants.region import Region
from fixpoint.operator import Operator
from fixpoint.trees.rows import select_rows


class Derived(Operator):
    """An operator that is made of others, and takes its constants from theirs."""

    def _know(self, constants: Constants) -> None:
        self.cocoercivity = constants.cocoercivity
        self.lipschitz = constants.lipschitz
        self.strong_monotonicity = constants.strong_monotonicity
        self.averagedness = constants.averagedness


class Computed(Derived):
    """An operator with the values of `compute`, whose constants are not used."""

    compute: Operator

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.compute(z)

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        return self.compute.evaluate(z)


class Combination(Derived):
    """identity * I + factor * T; made by `combination`.

    Scalings, I - T, relaxations, reflected resolvents and Yosida regularisations are of this form.
    """

    def __init__(self, inner: Operator, identity: float, factor: float) -> None:
        self.inner, self.identity, self.factor = inner, identity, factor
        self._know(self._region().constants())

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self._combined(z, self.inner(z))

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        value, measured = self.inner.evaluate(z)
        return self._combined(z, value), measured

    def select(self, rows: Tensor) -> Operator:
        return Combination(self.inner.select(rows), self.identity, self.factor)

    def _combined(self, z: Any, value: Any) -> Any:
        if self.identity == 0:
            return tree_map(lambda each: self.factor * each, value)
        return tree_map(lambda a, b: self.identity * a + self.factor * b, z, value)

    def _region(self) -> Region:
        return self.inner._region().affine(self.identity, self.factor)


def combination(inner: Operator, identity: float, factor: float) -> Operator:
    """identity * I + factor * T, where T may be such a combination itself.

    Raises:
        ValueError: a number is not finite.
    """
    if not (math.isfinite(identity) and math.isfinite(factor)):
        raise ValueError(f"factors must be finite, got {identity} for I and {factor} for T")
    if isinstance(inner, Combination):
        identity, factor = identity + factor * inner.identity, factor * inner.factor
        inner = inner.inner
    return inner if identity == 0 and factor == 1 else Combination(inner, identity, factor)


class IdentityOperator(Derived):
    """z -> z."""

    def __init__(self) -> None:
        self._know(Region(1.0, 1.0, 1.0).constants())

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return z

    def select(self, rows: Tensor) -> Operator:
        return self


class Shifted(Derived):
    """z -> T z + shift; the constants are those of T.

    Args:
        inner: T.
        shift: of the shape of z, (batch, *shape).
    """

    def __init__(self, inner: Operator, shift: Any) -> None:
        self.inner, self.shift = inner, shift
        self._know(self._region().constants())

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return added(self.inner(z), self.shift)

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        value, measured = self.inner.evaluate(z)
        return added(value, self.shift), measured

    def select(self, rows: Tensor) -> Operator:
        return Shifted(self.inner.select(rows), select_rows(self.shift, rows))

    def _region(self) -> Region:
        return self.inner._region()


class TranslatedOperator(Derived):
    """z -> T(z - shift); the constants are those of T.

    Args:
        inner: T.
        shift: of the shape of z, (batch, *shape).
    """

    def __init__(self, inner: Operator, shift: Any) -> None:
        self.inner, self.shift = inner, shift
        self._know(self._region().constants())

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.inner(added(z, self.shift, -1))

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        return self.inner.evaluate(added(z, self.shift, -1))

    def select(self, rows: Tensor) -> Operator:
        return TranslatedOperator(self.inner.select(rows), select_rows(self.shift, rows))

    def _region(self) -> Region:
        return self.inner._region()


class Dilated(Derived):
    """z -> T(factor * z), for a factor that is not 0."""

    def __init__(self, inner: Operator, factor: float) -> None:
        self.inner, self.factor = inner, factor
        self._know(self._region().constants())

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.inner(self._moved(z))

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        return self.inner.evaluate(self._moved(z))

    def select(self, rows: Tensor) -> Operator:
        return Dilated(self.inner.select(rows), self.factor)

    def _moved(self, z: Any) -> Any:
        return tree_map(lambda leaf: self.factor * leaf, z)

    def _region(self) -> Region:
        # <T ca - T cb, a - b> is that of T at ca and cb over c.
        return self.inner._region().affine(0.0, self.factor)


class Sum(Derived):
    """T_1 + T_2 + ...; the terms of a sum among them are terms of this one.

    Measurements are not passed on: two terms may use the same name.
    """

    def __init__(self, *terms: Operator) -> None:
        flat: list[Operator] = []
        for term in terms:
            flat.extend(term.terms if isinstance(term, Sum) else (term,))
        self.terms: tuple[Operator, ...] = tuple(flat)
        self._know(total([_affine_region(term) for term in self.terms]))

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        value = self.terms[0](z)
        for term in self.terms[1:]:
            value = tree_map(torch.add, value, term(z))
        return value

    def select(self, rows: Tensor) -> Operator:
        return Sum(*(term.select(rows) for term in self.terms))


def _affine_region(term: Operator) -> Region:
    """An affine image of a G that holds the region of the term."""
    region = term._region()
    return region if region.moebius[2] == 0 else Region.of(term)


def added(value: Any, shift: Any, sign: int = 1) -> Any:
    """value + sign * shift, in the dtype and on the device of `value`.

    Raises:
        ValueError: the shapes differ.
    """
    leaves, structure = tree_flatten(value)
    shifts, shift_structure = tree_flatten(shift)
    if structure != shift_structure or any(
        a.shape != b.shape for a, b in zip(leaves, shifts, strict=False)
    ):
        raise ValueError(
            "a shift must have the shape of z, batch first: got "
            f"{_shapes(shift)} for {_shapes(value)}"
        )
    return tree_map(lambda a, b: torch.add(a, b.to(a), alpha=sign), value, shift)


def negative(shift: Any) -> Any:
    """-shift."""
    return tree_map(torch.neg, shift)


def _shapes(value: Any) -> Any:
    return tree_map(lambda leaf: tuple(leaf.shape), value)


__getattr__ = _renamed(
    __name__, {"Identity": "IdentityOperator", "Translated": "TranslatedOperator"}
)
