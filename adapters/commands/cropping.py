"""--crop: the largest part of a picture whose sides a model takes, from its upper left corner."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import Jpeg, Observation
from fixpoint.adapters.pictures.pictures import Pictures

JPEG_BLOCK = 16
"""Pixels: JPEG treats blocks of at most this side alone, from the upper left corner on."""


def cropped(pictures: Pictures, autoencoder: Autoencoder) -> Pictures:
    """Pictures of sides that the autoencoder takes; those that have them are returned as they are.

    Of a JPEG picture whole blocks are kept, which are what they were before.

    Raises:
        ValueError: no part is large enough.
    """
    height, width = pictures.values.shape[-2:]
    block = JPEG_BLOCK if _of_jpeg(pictures.observation) else 1
    rules = autoencoder.sizes.rules[-2:]
    sides = [
        side if rule.holds(side) and side % autoencoder.factor == 0 else _side(side, rule, block)
        for side, rule in zip((height, width), rules, strict=True)
    ]
    if None in sides:
        raise ValueError(f"{width} x {height} pixels leave no part that {autoencoder.name} takes")
    if sides == [height, width]:
        return pictures
    return Pictures(like(pictures.values, sides), pictures.observation)


def like(values: Tensor, sides: Any) -> Tensor:
    """The upper left part of these sides: (..., height, width)."""
    height, width = sides
    return values[..., :height, :width]


def _side(side: int, rule: Any, block: int) -> int | None:
    """The largest side up to this one; None where there is none."""
    multiples = range(side - side % block, 0, -block)
    return next((each for each in multiples if rule.holds(each)), None)


def _of_jpeg(observation: Observation) -> bool:
    parts = observation.observations if isinstance(observation, PerRow) else (observation,)
    return any(isinstance(part, Jpeg) for part in parts)
