"""Structured state: tuples and dicts of tensors, packed into one tensor for the solver.

A tree is a tuple, a named tuple or a dict, of tensors with the batch first or of trees; it may
contain lists, but `solve` takes none as `z0` itself, since a list could be meant as rows. Row i
of the tree is row i of every leaf, and is packed into one vector, leaf after leaf; its norm is that
of all its numbers, and the constants of an operator on trees are those of that norm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ParamSpec

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import (
    TreeSpec,
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_unflatten,
)

from fixpoint.operator import Operator

if TYPE_CHECKING:
    from fixpoint.solution import Solution

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class Structure:
    """How the leaves of a tree lie in one tensor (batch, size)."""

    tree: TreeSpec
    names: tuple[str, ...]  # the path to each leaf
    shapes: tuple[tuple[int, ...], ...]  # of a row of each leaf
    dtype: torch.dtype
    device: torch.device

    @staticmethod
    def of(tree: Any) -> Structure:
        """The structure of a tree of tensors.

        Raises:
            TypeError, ValueError: there is no tensor, or a leaf is none; dtypes, devices or
                batches of the leaves differ.
        """
        leaves, spec = tree_flatten_with_path(tree)
        names = tuple(keystr(path) or "z" for path, _ in leaves)
        tensors = [leaf for _, leaf in leaves]
        if not tensors:
            raise TypeError(f"a tree of tensors needs one at least, got {tree!r}")
        for name, leaf in zip(names, tensors, strict=True):
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    f"the leaves of a tree must be tensors, but {name} is a {type(leaf).__name__}"
                )
            if leaf.dim() < 1:
                raise ValueError(f"the leaves of a tree have the batch first, but {name} is (),")
        first = tensors[0]
        for name, leaf in zip(names, tensors, strict=True):
            if (leaf.dtype, leaf.device, len(leaf)) != (first.dtype, first.device, len(first)):
                raise ValueError(
                    "the leaves of a tree must agree in dtype, device and batch: "
                    f"{names[0]} is {_described(first)}, {name} is {_described(leaf)}"
                )
        shapes = tuple(tuple(leaf.shape[1:]) for leaf in tensors)
        return Structure(spec, names, shapes, first.dtype, first.device)

    def pack(self, tree: Any) -> Float[Tensor, "batch size"]:
        """The leaves side by side.

        Raises:
            TypeError, ValueError: the tree has another structure than this one.
        """
        leaves, spec = tree_flatten(tree)
        if spec != self.tree:
            leaves = self._in_order(tree)
        for name, shape, leaf in zip(self.names, self.shapes, leaves, strict=True):
            if not isinstance(leaf, Tensor):
                raise TypeError(f"{name} must be a tensor, got {type(leaf).__name__}")
            if (
                tuple(leaf.shape[1:]) != shape
                or leaf.dtype != self.dtype
                or leaf.device != self.device
                or len(leaf) != len(leaves[0])
            ):
                raise ValueError(
                    f"{name} must be {(len(leaves[0]), *shape)} {self.dtype} on {self.device}, "
                    f"got {_described(leaf)}"
                )
        sizes = self._sizes()
        flat = [leaf.reshape(len(leaf), n) for leaf, n in zip(leaves, sizes, strict=True)]
        return torch.cat(flat, 1)

    def unpack(self, packed: Float[Tensor, "batch size"]) -> Any:
        """The tree again."""
        leaves = [
            part.reshape(len(packed), *shape)
            for part, shape in zip(packed.split(self._sizes(), 1), self.shapes, strict=True)
        ]
        return tree_unflatten(leaves, self.tree)

    def _sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    def _in_order(self, tree: Any) -> list[Any]:
        """The leaves in this structure's order: dicts may have their keys in another one."""
        found = {keystr(path) or "z": leaf for path, leaf in tree_flatten_with_path(tree)[0]}
        if found.keys() != set(self.names):
            raise ValueError(
                f"expected a tree with the leaves {list(self.names)}, got {list(found)}"
            )
        return [found[name] for name in self.names]


class Packed(Operator):
    """An operator on trees as one on tensors (batch, size).

    Args:
        operator: T, from a tree to a tree of the same structure.
        structure: of the trees.
    """

    def __init__(self, operator: Operator, structure: Structure) -> None:
        self.operator, self.structure = operator, structure
        self.cocoercivity = operator.cocoercivity
        self.star_cocoercivity = getattr(operator, "star_cocoercivity", None)
        self.lipschitz = operator.lipschitz
        self.strong_monotonicity = operator.strong_monotonicity
        self.averagedness = operator.averagedness

    def __call__(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        return self.evaluate(z)[0]

    def evaluate(
        self, z: Float[Tensor, "batch size"]
    ) -> tuple[Float[Tensor, "batch size"], dict[str, Tensor]]:
        value, measured = self.operator.evaluate(self.structure.unpack(z))
        try:
            return self.structure.pack(value), measured
        except (TypeError, ValueError) as error:
            raise type(error)(f"T must return a tree like its argument: {error}") from None

    def select(self, rows: Tensor) -> Operator:
        return Packed(self.operator.select(rows), self.structure)


def takes_trees(solve: Callable[Parameters, Solution]) -> Callable[Parameters, Solution]:
    """`solve`, extended to a tree for `z0` and an operator on such trees.

    Iterators, stop rules, monitors and callbacks see the packed tensor, (batch, size); what the
    operator measures passes as it is. `Solution.z` is a tree like `z0`.
    """

    @functools.wraps(solve)
    def solve_tree(*arguments: Parameters.args, **options: Parameters.kwargs) -> Solution:
        from fixpoint.solution import SolveError

        z0: Any = arguments[1] if len(arguments) > 1 else options.get("z0")
        if not isinstance(z0, (tuple, dict)):
            return solve(*arguments, **options)
        structure = Structure.of(z0)
        named = dict(zip(("operator", "z0"), arguments, strict=False))
        given: dict[str, Any] = {**options, **named, "z0": structure.pack(z0)}
        if isinstance(given.get("operator"), Operator):  # solve refuses anything else
            given["operator"] = Packed(given["operator"], structure)
        if len(arguments) > 2:
            given["iterator"] = arguments[2]
        anything: Any = solve
        try:
            solution: Solution = anything(*arguments[3:], **given)
        except SolveError as error:
            raise SolveError(_unpacked(error.solution, structure)) from None
        return _unpacked(solution, structure)

    return solve_tree


def _unpacked(solution: Solution, structure: Structure) -> Solution:
    moved = solution.displacement
    return replace(
        solution,
        z=structure.unpack(solution.z),
        displacement=None if moved is None else structure.unpack(moved),
    )


def _described(leaf: Tensor) -> str:
    return f"{tuple(leaf.shape)} {leaf.dtype} on {leaf.device}"
