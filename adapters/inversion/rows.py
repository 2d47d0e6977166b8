"""Latents of some rows and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.adapters.inversion.judgement import Judgement


@dataclass(frozen=True)
class Rows:
    """What a method returns for the rows it was given.

    Attributes:
        latent: of every row.
        evaluations: of E(D(.)), or passes through D and back.
        judgements: one a row.
        decoded: D(latent), where it was computed on the way.
    """

    latent: Float[Tensor, "batch channels *cells"]
    evaluations: Int[Tensor, " batch"]
    judgements: Sequence[Judgement]
    decoded: Float[Tensor, "batch *sample"] | None = None
