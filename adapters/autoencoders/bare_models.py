"""diffusers' own models in the place of an `Autoencoder`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from fixpoint._keywords import suggests
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.diffusers_classes import CLASSES

P = ParamSpec("P")
R = TypeVar("R")


def as_autoencoder(model: Any) -> Autoencoder:
    """An `Autoencoder` as it is, or a diffusers model wrapped.

    Raises:
        TypeError: it is something else, or of a class that is not supported. ValueError: its
            configuration cannot be taken.
    """
    if isinstance(model, Autoencoder):
        return model
    name = type(model).__name__
    if name in CLASSES:
        return Autoencoder.from_diffusers(model)
    inside = next((part for part in ("vae", "vqvae", "movq") if hasattr(model, part)), None)
    advice = (
        f"give its .{inside}"
        if inside is not None
        else "two functions are taken with Autoencoder.from_functions"
    )
    raise TypeError(
        f"expected an Autoencoder or a diffusers model of its kind, got {name}; {advice}"
    )


def takes_models(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that takes an `autoencoder` first take a bare diffusers model, too.

    A wrong keyword is answered with the name that was meant.
    """
    checked: Callable[..., R] = suggests(function)

    @functools.wraps(function)
    def taking(*arguments: P.args, **keywords: P.kwargs) -> R:
        if arguments:
            return checked(as_autoencoder(arguments[0]), *arguments[1:], **keywords)
        if "autoencoder" in keywords:
            keywords["autoencoder"] = as_autoencoder(keywords["autoencoder"])
        return checked(**keywords)

    return taking
