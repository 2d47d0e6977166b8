"""Compositions, and operators side by side on a product space."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from fixpoint import calculus
from fixpoint.algebra.linear import Derived
from fixpoint.operator import Operator


class Composition(Derived):
    """z -> T(S z). Measurements are not passed on.

    Args:
        outer: T.
        inner: S.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        self.outer, self.inner = outer, inner
        self._know(calculus.composition(outer, inner))

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.outer(self.inner(z))

    def select(self, rows: Tensor) -> Operator:
        return Composition(self.outer.select(rows), self.inner.select(rows))


class Succession(Derived):
    """I - (I - T)(I - S): the fixed-point map of S, then that of T. Nothing is measured.

    Args:
        outer: T.
        inner: S.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        if not isinstance(inner, Operator):
            raise TypeError(f"after takes an Operator, got {type(inner).__name__}")
        self.outer, self.inner = outer, inner
        self._know(calculus.succession(outer, inner))

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        value = self.inner(z)
        return tree_map(torch.add, value, self.outer(tree_map(torch.sub, z, value)))

    def select(self, rows: Tensor) -> Operator:
        return Succession(self.outer.select(rows), self.inner.select(rows))


class Product(Derived):
    """(z_1, z_2, ...) -> (T_1 z_1, T_2 z_2, ...), on tuples or dicts of tensors.

    The constants are those of the norm ||z||^2 = ||z_1||^2 + ||z_2||^2 + ... . Nothing is measured.
    """

    def __init__(self, blocks: tuple[Operator, ...] | dict[str, Operator]) -> None:
        self.blocks = blocks
        self._know(calculus.side_by_side(list(self._named().values())))

    def __call__(self, z: Any) -> Any:
        expected = tuple if isinstance(self.blocks, tuple) else dict
        named = self._named()
        points = dict(enumerate(z)) if isinstance(z, tuple) else z
        if not isinstance(z, expected) or points.keys() != named.keys():
            raise ValueError(
                f"this product takes a {expected.__name__} of {list(named)}, got "
                f"{type(z).__name__}" + (f" of {list(points)}" if isinstance(points, dict) else "")
            )
        values = {name: block(points[name]) for name, block in named.items()}
        if isinstance(z, tuple):
            return type(z)(*values.values()) if hasattr(z, "_fields") else tuple(values.values())
        return values

    def select(self, rows: Tensor) -> Operator:
        return self.mapped(lambda block: block.select(rows))

    def mapped(self, function: Any) -> Product:
        """The product of function(block), block by block."""
        if isinstance(self.blocks, tuple):
            return Product(tuple(function(block) for block in self.blocks))
        return Product({name: function(block) for name, block in self.blocks.items()})

    def _named(self) -> dict[Any, Operator]:
        return dict(enumerate(self.blocks)) if isinstance(self.blocks, tuple) else self.blocks


def product(*blocks: Operator, **named: Operator) -> Product:
    """(z_1, z_2, ...) -> (T_1 z_1, T_2 z_2, ...).

    Args:
        blocks: operators, for tuples of as many tensors (or trees of them).
        named: operators by name, for dicts; instead of `blocks`.

    Raises:
        TypeError: none, or both kinds, or something that is no operator.
    """
    if bool(blocks) == bool(named):
        raise TypeError("product takes operators for a tuple, or by keyword for a dict, not both")
    for block in (*blocks, *named.values()):
        if not isinstance(block, Operator):
            raise TypeError(f"product takes operators, got {type(block).__name__}")
    return Product(blocks or named)
