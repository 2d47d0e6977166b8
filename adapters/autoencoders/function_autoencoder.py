"""Autoencoders of two callables of a user's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder, constructs
from fixpoint.adapters.autoencoders.convention import Medium, Pixels
from fixpoint.adapters.autoencoders.held_modules import HeldModules, modules_of
from fixpoint.adapters.autoencoders.pair import Pair
from fixpoint.adapters.autoencoders.probe import COLOURS, Probe, probe


class FunctionAutoencoder(Autoencoder):
    """Two callables: `Autoencoder.from_functions(encode, decode)`.

    Attributes:
        pair: the callables, and what they take.
        probe: what was found out about them.
    """

    def __init__(self, pair: Pair, probe: Probe, name: str) -> None:
        self.pair = pair
        self.probe = probe
        self.name = name
        self.medium = pair.medium
        self.sample_channels = COLOURS
        self.channels = probe.latent[0]
        self.factor = probe.factor
        self.sizes = probe.sizes

    @property
    def dtype(self) -> torch.dtype:
        return self.pair.dtype

    @property
    def device(self) -> torch.device:
        return self.pair.device

    @property
    def module(self) -> torch.nn.Module | None:
        return self.pair.modules if len(self.pair.modules.held) else None

    @property
    def differentiable(self) -> bool:
        return self.probe.differentiable

    @property
    def encoder_differentiable(self) -> bool:
        return self.probe.encoder_differentiable

    @property
    def uncompilable(self) -> str | None:
        if not (self.differentiable and self.encoder_differentiable):
            return f"{self.name} leaves torch, as autograd cannot follow it"
        if self.pair.alone:
            return (
                f"{self.name} takes rows one by one: the loop would be compiled anew for every "
                "number"
            )
        return None

    def encode(self, x: Tensor) -> Tensor:
        return self.pair.encode(x)

    def decode(self, latents: Tensor) -> Tensor:
        return self.pair.decode(latents)

    def copy(
        self, dtype: torch.dtype | None = None, *, channels_last: bool = False
    ) -> FunctionAutoencoder:
        other = copy.copy(self)
        modules = self.pair.modules.copied(dtype, channels_last=channels_last)
        other.pair = replace(self.pair, modules=modules, dtype=dtype or self.dtype)
        return other


@constructs("from_functions")
def from_functions(
    encode: Callable[[Tensor], Any],
    decode: Callable[[Tensor], Any],
    *,
    value_range: tuple[float, float],
    medium: Medium,
    modules: Iterable[torch.nn.Module],
    size: int | tuple[int, ...] | None,
    dtype: torch.dtype | None,
    device: str | torch.device | None,
    name: str | None,
) -> FunctionAutoencoder:
    """See `Autoencoder.from_functions`."""
    for half, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise TypeError(f"{half} must be callable on a tensor, got {type(function).__name__}")
    if medium not in ("picture", "video"):
        raise ValueError(f"medium must be 'picture' or 'video', got {medium!r}")
    held = HeldModules(_modules(modules) or modules_of(encode, decode))
    training = held.in_training()
    if training:
        raise ValueError(
            f"{', '.join(training)} in training mode: the pair would mix rows, be random or change "
            "with every call; call .eval() on the modules first"
        )
    weight = next((each for each in held.parameters() if each.is_floating_point()), None)
    pair = Pair(
        functions={"encode": encode, "decode": decode},
        medium=medium,
        pixels=_pixels(value_range),
        dtype=_dtype(dtype, weight),
        device=torch.device(device or ("cpu" if weight is None else weight.device)),
        modules=held,
    )
    found = probe(pair, _size(size, medium))
    named = name or f"({_name(encode)}, {_name(decode)})"
    return FunctionAutoencoder(replace(pair, alone=found.alone), found, named)


def _modules(given: Any) -> list[torch.nn.Module]:
    modules = [given] if isinstance(given, torch.nn.Module) else list(given)
    for module in modules:
        if not isinstance(module, torch.nn.Module):
            raise TypeError(
                f"modules must be torch modules, got {type(module).__name__}: leave out what "
                "torch does not hold"
            )
    return modules


def _pixels(value_range: tuple[float, float]) -> Pixels:
    try:
        low, high = (float(end) for end in value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise ValueError(
            f"value_range must be the two ends (low, high) of the range that the callables take "
            f"and return, got {value_range!r}"
        )
    return Pixels(((high - low) / 2,), ((high + low) / 2,))


def _dtype(given: torch.dtype | None, weight: Tensor | None) -> torch.dtype:
    if given is None:
        return torch.float32 if weight is None else weight.dtype
    if not (isinstance(given, torch.dtype) and given.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype or None, got {given!r}")
    return given


def _size(given: int | tuple[int, ...] | None, medium: Medium) -> tuple[int, ...] | None:
    if given is None:
        return None
    axes = ("height", "width") if medium == "picture" else ("frames", "height", "width")
    size = (given, given) if isinstance(given, int) and medium == "picture" else given
    if (
        not isinstance(size, tuple)
        or len(size) != len(axes)
        or not all(isinstance(each, int) and each >= 1 for each in size)
    ):
        raise ValueError(
            f"size must be ({', '.join(axes)}), whole numbers from 1 on, got {given!r}"
        )
    return size


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, torch.nn.Module):
        return type(function).__name__
    return str(getattr(function, "__name__", type(function).__name__))
