"""Bit-for-bit comparison of states and memories, and their first dimension."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import Tensor


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """`(path, leaf)` of everything in a tree of dataclasses, dicts, tuples and lists."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name), f"{path}.{field.name}")
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(tree, (tuple, list)):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path.lstrip("."), tree


def first_difference(a: Any, b: Any) -> str | None:
    """Describe the first difference of two trees; None where they are equal bit for bit.

    NaN is equal to NaN.
    """
    left, right = list(leaves(a)), list(leaves(b))
    if [path for path, _ in left] != [path for path, _ in right]:
        return "they do not have the same parts"
    for (path, x), (_, y) in zip(left, right, strict=True):
        name = path or "the value"
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            if (x.shape, x.dtype, x.device) != (y.shape, y.dtype, y.device):
                return f"{name} is {_type(x)} in one and {_type(y)} in the other"
            unequal = (x != y) & ~(x.isnan() & y.isnan())
            if bool(unequal.any()):
                index = tuple(unequal.nonzero()[0].tolist())
                return f"{name} is {float(x[index])!r} in one and {float(y[index])!r} in the other"
        elif isinstance(x, Tensor) or isinstance(y, Tensor) or not (x is y or x == y):
            if isinstance(x, float) and isinstance(y, float) and x != x and y != y:
                continue
            return f"{name} is {x!r} in one and {y!r} in the other"
    return None


def not_per_row(tree: Any, batch: int) -> str | None:
    """Describe the first tensor that `select_rows` cannot select from; None if there is none."""
    for path, leaf in leaves(tree):
        name = path or "it"
        if isinstance(leaf, Tensor) and (leaf.dim() == 0 or leaf.shape[0] != batch):
            return f"{name} has shape {tuple(leaf.shape)}, not the batch of {batch} first"
    return _tensor_in_list(tree, "")


def _tensor_in_list(tree: Any, path: str) -> str | None:
    if isinstance(tree, list):
        if any(isinstance(leaf, Tensor) for _, leaf in leaves(tree)):
            return f"{path.lstrip('.') or 'it'} holds tensors in a list; use a tuple or a dict"
        return None
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        children = [
            (f".{field.name}", getattr(tree, field.name)) for field in dataclasses.fields(tree)
        ]
    elif isinstance(tree, dict):
        children = [(f"[{key!r}]", value) for key, value in tree.items()]
    elif isinstance(tree, tuple):
        children = [(f"[{index}]", value) for index, value in enumerate(tree)]
    else:
        return None
    found = (_tensor_in_list(value, path + name) for name, value in children)
    return next((text for text in found if text), None)


def _type(x: Tensor) -> str:
    return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"
