"""Autoencoders of pictures that take videos frame by frame."""

from __future__ import annotations

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.around import Around
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import as_autoencoder
from fixpoint.adapters.autoencoders.parts import Chunks
from fixpoint.adapters.autoencoders.sizes import Sizes, any_size
from fixpoint.adapters.pictures.frames import of_each_frame
from fixpoint.adapters.pictures.videos import check_count


class PerFrame(Around):
    """An autoencoder of pictures as one of videos, frame by frame, as LaVie and AnimateDiff do.

    Takes (batch, 3, frames, height, width) and gives latents (batch, channels, frames, rows,
    columns).

    Args:
        pictures: an `Autoencoder`, or a model of diffusers, whose medium is "picture".
        frames_at_once: frames that go through the model together, at most: they bound the memory
            of a pass, and change nothing else.

    Raises:
        TypeError, ValueError: `pictures` or `frames_at_once` is something else.
    """

    def __init__(self, pictures: Autoencoder, *, frames_at_once: int = 8) -> None:
        pictures = as_autoencoder(pictures)
        if pictures.medium != "picture":
            raise ValueError(
                f"{pictures.name} is an autoencoder of {pictures.medium}s; only one of pictures "
                "can be applied frame by frame"
            )
        check_count(frames_at_once, "frames_at_once")
        super().__init__(pictures)
        self.pictures = pictures
        self.frames_at_once = frames_at_once
        self.medium = "video"
        self.sizes = Sizes(
            ("the number of frames", *pictures.sizes.names), (any_size(), *pictures.sizes.rules)
        )

    @property
    def parts(self) -> Chunks:
        """Every frame by itself."""
        return Chunks(1)

    def encode(self, x: Tensor) -> Tensor:
        """E of every frame."""
        return of_each_frame(self.pictures.encode, x, self.frames_at_once)

    def decode(self, latents: Tensor) -> Tensor:
        """D of every frame."""
        return of_each_frame(self.pictures.decode, latents, self.frames_at_once)

    def raw(self, latents: Tensor) -> Tensor:
        """Latents of every frame as the model takes them; the axis of frames stays."""
        return of_each_frame(self.pictures.raw, latents)

    def copy(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> PerFrame:
        pictures = self.pictures.copy(dtype, channels_last=channels_last)
        return PerFrame(pictures, frames_at_once=self.frames_at_once)

    def __repr__(self) -> str:
        return f"PerFrame({self.pictures!r}, frames_at_once={self.frames_at_once})"
