"""What users see when they print a result: a few lines, tensors as `float32[2, 4, 8, 8]`."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

WIDTH = 100
_LINES = 6  # of one summary, at most
_FEW = 4  # numbers that are shown one by one
_LONG = 80  # characters of the repr of anything else, at most


class Summarised:
    """Prints itself in a few lines, as `summary` does or by a `__repr__` of its own.

    So do subclasses, which may be dataclasses.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A dataclass writes a `__repr__` of its own unless the class itself has one.
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return summary(self)


def summary(thing: Any) -> str:
    """A dataclass with its fields, in a few lines; fields that do not fit are counted."""
    name = type(thing).__qualname__
    if not dataclasses.is_dataclass(thing):
        return object.__repr__(thing)
    fields = [field.name for field in dataclasses.fields(thing) if field.repr]
    words = [f"{field}={described(getattr(thing, field))}" for field in fields]
    line = f"{name}({', '.join(words)})"
    if len(line) <= WIDTH:
        return line
    lines = _lines(words)
    count = len(words)
    while len(lines) > _LINES - 2:
        count -= 1
        lines = _lines([*words[:count], f"and {len(words) - count} more fields"])
    return "\n".join([f"{name}(", *lines, ")"])


def described(value: Any) -> str:
    """A value inside of a summary: short, whatever it is."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Tensor):
        return tensor_summary(value)
    if isinstance(value, dict):
        words = [f"{key!r}: {described(part)}" for key, part in list(value.items())[:_FEW]]
        return "{" + ", ".join(words + ["..."] * (len(value) > _FEW)) + "}"
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        words = [described(part) for part in value[:_FEW]]
        if len(value) > 1 and isinstance(value[0], Tensor) and len(set(words)) == 1:
            return f"{len(value)} x {words[0]}"
        text = ", ".join(words + [f"{len(value)} in all"] * (len(value) > _FEW))
        return f"({text},)" if len(value) == 1 else f"({text})"
    if isinstance(value, Summarised):
        text = " ".join(repr(value).split())
    elif dataclasses.is_dataclass(value) or isinstance(value, tuple):
        if any(isinstance(part, Tensor) for part in _parts(value)):
            return f"{type(value).__qualname__}(...)"
        text = repr(value)
    else:
        text = repr(value)
    return text if len(text) <= _LONG and "\n" not in text else _clipped(text, value)


def tensor_summary(tensor: Tensor) -> str:
    """Its numbers where they are few, else dtype and shape; of one number a row also the range."""
    shape = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
    if tensor.device.type != "cpu":
        shape += f" on {tensor.device}"
    if tensor.dim() > 1 or tensor.is_meta or tensor.dtype.is_complex:
        return shape
    try:
        if tensor.dim() == 0:
            return _number(tensor.item())
        if len(tensor) <= _FEW:
            return f"[{', '.join(map(_number, tensor.tolist()))}]"
        if tensor.dtype == torch.bool:
            return f"{shape} with {int(tensor.sum())} true"
        return f"{shape} from {_number(tensor.min().item())} to {_number(tensor.max().item())}"
    except RuntimeError:  # inside of a transform, where tensors have no values
        return shape


def _lines(words: list[str]) -> list[str]:
    """The words side by side, as many on a line as fit."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 2 + len(word) > WIDTH - 5:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + word
    return [f"    {line}," for line in lines[:-1]] + [f"    {lines[-1]}"]


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _parts(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return list(value)
    return [getattr(value, field.name) for field in dataclasses.fields(value)]


def _clipped(text: str, value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"{type(value).__qualname__}(...)"
    return " ".join(text.split())[: _LONG - 3] + "..."
