"""Latents of pictures, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.inversion.judgement import Judgement
from fixpoint.summary import Summarised


class Origin(Enum):
    """Where the latent of a picture came from; the value says it in a few words."""

    REMEMBERED = "remembered"
    EDITED = "edited: encoded anew where it changed"
    INVERTED = "inverted"


@dataclass(frozen=True)
class Encoded(Summarised):
    """Latents of pictures; rows in the order of the pictures.

    Attributes:
        latent: in the pipeline's scaling: what `pipe(latents=...)` takes.
        picture: on [-1, 1].
        origin: of each latent.
        moved: cells whose latent is not that of the picture before; all of them where there was
            none.
        judgements: per row, what the inversion came to, in a sentence.
        settings: per row, what was remembered besides.
        seconds: of the whole batch.
    """

    latent: Float[Tensor, "batch channels rows columns"]
    picture: Float[Tensor, "batch 3 height width"]
    origin: tuple[Origin, ...]
    moved: Bool[Tensor, "batch rows columns"]
    judgements: tuple[Judgement, ...]
    settings: tuple[Mapping[str, Any], ...]
    seconds: float

    @property
    def verdict(self) -> tuple[str, ...]:
        """What each row came to, in a sentence."""
        return tuple(each.sentence for each in self.judgements)
