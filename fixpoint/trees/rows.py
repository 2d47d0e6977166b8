"""Trees of per-row tensors: selecting, freezing and reassembling rows.

Everything that a run holds (states, memories of stop rules and monitors, results) is a tree of
dataclasses, tuples and dicts whose leaves are tensors with the batch first. Leaves that are not
tensors (a step counter, say) are shared by all rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")


def map_rows(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to the tensors at every leaf of trees of one structure."""
    first: Any = tree
    if isinstance(first, Tensor):
        return function(first, *others)  # type: ignore[return-value]
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first)]
        return dataclasses.replace(  # type: ignore[return-value]
            first,
            **{
                name: map_rows(
                    function, getattr(first, name), *(getattr(other, name) for other in others)
                )
                for name in names
            },
        )
    if isinstance(first, dict):
        return {  # type: ignore[return-value]
            key: map_rows(function, value, *(other[key] for other in others))  # type: ignore[index]
            for key, value in first.items()
        }
    if isinstance(first, list):
        raise TypeError("a tree of per-row tensors holds tuples and dicts, no lists")
    if isinstance(first, tuple):
        parts = [map_rows(function, *leaves) for leaves in zip(first, *others, strict=True)]  # type: ignore[arg-type]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)  # type: ignore[return-value]
    return tree


def select_rows(tree: Tree, rows: Tensor) -> Tree:
    """The rows with the given indices, in that order, each laid out in memory as it was."""
    return map_rows(lambda leaf: _selected(leaf, rows.to(leaf.device)), tree)


def _selected(leaf: Tensor, rows: Tensor) -> Tensor:
    if leaf.dim() < 3 or leaf.is_contiguous():
        return leaf.index_select(0, rows)
    # Kernels sum in the order of memory: a row's sums must not change when others leave.
    order = [0, *sorted(range(1, leaf.dim()), key=lambda d: -leaf.stride()[d])]
    back = [order.index(d) for d in range(leaf.dim())]
    return leaf.permute(order).index_select(0, rows).permute(back)


def where_rows(mask: Tensor, tree: Tree, otherwise: Tree) -> Tree:
    """Rows of `tree` where `mask` (batch,) holds, rows of `otherwise` elsewhere."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        if a is b:  # saves a pass over memory
            return a
        return torch.where(expand_rows(mask, a), a, b)

    return map_rows(choose, tree, otherwise)


def join_rows(parts: Sequence[tuple[Tensor, Tree]]) -> Tree:
    """One tree of `(indices, tree)` parts; every row's index is in exactly one part."""
    order = torch.argsort(torch.cat([indices for indices, _ in parts]))
    trees = [tree for _, tree in parts]
    return map_rows(
        lambda *leaves: torch.cat(leaves).index_select(0, order.to(leaves[0].device)), *trees
    )


def expand_rows(values: Tensor, like: Tensor) -> Tensor:
    """`values` (batch,) with trailing ones, so that it broadcasts against `like`."""
    return values.reshape((-1,) + (1,) * (like.dim() - 1))
