"""Observations as attribution uses them: chosen, named in files, and applied to pictures."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.pictures.composed_observations import Masked
from fixpoint.adapters.pictures.observations import (
    EightBit,
    Observation,
    RoundingCells,
    WhiteNoise,
    as_observation,
)


def observation_of(
    shown: Observation,
    dtype: torch.dtype,
    given: Observation | Callable[[Tensor], Tensor] | None = None,
) -> Observation:
    """The observation of an inversion.

    Args:
        shown: what the pictures show.
        dtype: of the autoencoder.
        given: by the user; replaces `shown`.
    """
    return default_observation(shown, dtype) if given is None else as_observation(given)


def stable_repr(observation: Observation) -> str:
    """The repr without addresses in memory, so that it is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(observation))


def observed(
    observation: Observation, pictures: Float[Tensor, "batch 3 height width"], seed: int = 0
) -> Float[Tensor, "batch 3 height width"]:
    """Pictures put through an observation; `seed + i` seeds the noise of row i."""
    if isinstance(observation, Masked):
        seen = observed(observation.observation, pictures, seed)
        return torch.where(observation.known.to(pictures.device), seen, pictures)
    if isinstance(observation, WhiteNoise):
        draws = [
            torch.randn(row.shape, generator=torch.Generator().manual_seed(seed + index))
            for index, row in enumerate(pictures)
        ]
        return (pictures + observation.level * torch.stack(draws).to(pictures)).clamp(-1, 1)
    return as_applied(observation)(pictures)


def as_applied(observation: Observation) -> Observation:
    """What the observation does to a picture: `RoundingCells`, made for inversion, round."""
    if isinstance(observation, RoundingCells):
        return EightBit()
    if isinstance(observation, Masked):
        return Masked(observation.known, as_applied(observation.observation))
    return observation
