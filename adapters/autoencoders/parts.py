"""What part of a video can be inverted by itself, as far as E and D of an autoencoder allow it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chunks:
    """Groups of frames that E and D compute apart: each is a problem of its own.

    Attributes:
        frames: of a chunk; the last one of a video may have fewer.
    """

    frames: int


@dataclass(frozen=True)
class PastFirst:
    """E and D look back, never ahead, and treat all latent frames but the first alike.

    Attributes:
        group: latent frames that go through E and D together.
        step: frames of a latent frame; the first latent frame stands for a single one.
    """

    group: int
    step: int


@dataclass(frozen=True)
class Whole:
    """No part can be inverted by itself.

    Attributes:
        reason: why, to stand after a colon.
    """

    reason: str


Parts = Chunks | PastFirst | Whole
