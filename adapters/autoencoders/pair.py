"""A user's pair of callables, called on tensors, and the refusal of what is no tensor of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.convention import Medium, Pixels
from fixpoint.adapters.autoencoders.held_modules import HeldModules

Half = Literal["encode", "decode"]
PLACES = {"encode": "latents", "decode": "x"}


class WrongRows(ValueError):
    """A callable returned another number of rows than it was given."""


@dataclass(frozen=True)
class Pair:
    """Two callables, and the tensors that they take.

    Attributes:
        functions: "encode", from x to latents, and "decode".
        medium: "picture" or "video".
        pixels: the range of x that they take.
        dtype, device: of the tensors that they take.
        modules: that hold their weights.
        alone: rows are given one at a time.
    """

    functions: dict[Half, Callable[[Tensor], Any]]
    medium: Medium
    pixels: Pixels
    dtype: torch.dtype
    device: torch.device
    modules: HeldModules
    alone: bool = False

    def encode(self, x: Tensor) -> Tensor:
        """Latents of x on [-1, 1], float32."""
        return self._rows("encode", self.taken("encode", x)).float()

    def decode(self, latents: Tensor) -> Tensor:
        """x on [-1, 1] of latents, float32."""
        decoded = self._rows("decode", self.taken("decode", latents))
        return self.pixels.from_model(decoded.float())

    def taken(self, half: Half, values: Tensor) -> Tensor:
        """x or latents as the callable takes them."""
        values = values.to(self.device)
        if half == "encode":
            values = self.pixels.to_model(values.float())
        return values.to(self.dtype)

    def call(self, half: Half, values: Tensor) -> Tensor:
        """The checked result of a callable.

        Raises:
            TypeError, ValueError: it returned something else.
        """
        value = tensor_of(half, self.modules.call(self.functions[half], values), len(values))
        if value.is_inference():  # such tensors may not be changed, nor saved for a gradient
            value = value.clone()
        return value.to(self.device)

    def _rows(self, half: Half, values: Tensor) -> Tensor:
        if self.alone and len(values) > 1:
            return torch.cat([self.call(half, row) for row in values.split(1)])
        return self.call(half, values)


def tensor_of(half: Half, value: Any, rows: int) -> Tensor:
    """A result, if it is a floating-point tensor of so many rows.

    Raises:
        TypeError: it is something else. WrongRows: it has another number of rows.
    """
    place = PLACES[half]
    if isinstance(value, list | tuple):
        raise TypeError(
            f"{half} returned a {type(value).__name__} of {len(value)}, expected one tensor: "
            f"return the {place} alone"
        )
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{half} returned a {type(value).__name__}, expected a tensor{_hint(half, value)}"
        )
    if not value.is_floating_point():
        advice = (
            "codes cannot be inverted, for steps need numbers to go between; return what is "
            "decoded before it is quantised"
            if half == "encode"
            else "return the values before they are rounded, and name their value_range"
        )
        raise TypeError(f"{half} returned {place} of {value.dtype}, expected floats: {advice}")
    if value.dim() < 1 or len(value) != rows:
        raise WrongRows(
            f"{half} returned a tensor of shape {tuple(value.shape)} for a batch of {rows}: the "
            "batch comes first, row by row"
        )
    return value


def _hint(half: Half, value: Any) -> str:
    """How to get at the tensor in an output of another library."""
    if hasattr(value, "latent_dist"):
        return ": return its .latent_dist.mode()"
    if half == "encode" and callable(getattr(value, "mode", None)):
        return ": return its .mode()"
    for name in ("latents", "latent", "sample", "last_hidden_state"):
        if isinstance(getattr(value, name, None), Tensor):
            return f": return its .{name}"
    if hasattr(value, "__array__"):
        return ": torch.from_numpy makes one of an array"
    return ""
