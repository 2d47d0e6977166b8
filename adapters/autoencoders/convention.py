"""How a class of autoencoders is called: the vocabulary of the table of diffusers' classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.extents import temporal_ratio
from fixpoint.adapters.autoencoders.parts import Chunks, Parts, PastFirst, Whole
from fixpoint.adapters.autoencoders.sizes import Rule, Sizes

Medium = Literal["picture", "video", "audio"]


@dataclass(frozen=True)
class Settings:
    """What a user chooses of a decoder, where its class has it.

    Attributes:
        decode_chunk_size: frames that are decoded together, as pipelines of Stable Video Diffusion
            do; None for all.
        decode_timestep: of a decoder that is conditioned on one, as LTX pipelines take it.
        seed: of the noise in a decoder, the same for every call and every row.
    """

    decode_chunk_size: int | None = None
    decode_timestep: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        size = self.decode_chunk_size
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise ValueError(f"decode_chunk_size must be a whole number above 0, got {size!r}")
        if not 0 <= self.decode_timestep <= 1:
            raise ValueError(f"decode_timestep must lie in [0, 1], got {self.decode_timestep}")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            raise ValueError(f"seed must be a whole number from 0 on, got {self.seed!r}")


@dataclass(frozen=True)
class Pixels:
    """Values v on [-1, 1] as the model takes them: gain * v + offset, per colour or for all."""

    gain: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)

    def to_model(self, values: Tensor) -> Tensor:
        return (
            values
            if self == SIGNED
            else values * self._of(self.gain, values) + self._of(self.offset, values)
        )

    def from_model(self, values: Tensor) -> Tensor:
        return (
            values
            if self == SIGNED
            else (values - self._of(self.offset, values)) / self._of(self.gain, values)
        )

    @staticmethod
    def _of(numbers: tuple[float, ...], values: Tensor) -> Tensor:
        tensor = torch.tensor(numbers, dtype=torch.float32, device=values.device)
        return tensor.reshape(1, -1, *[1] * (values.dim() - 2))


SIGNED = Pixels()
UNIT = Pixels((0.5,), (0.5,))
IMAGENET = Pixels(
    tuple(0.5 / std for std in (0.229, 0.224, 0.225)),
    tuple(
        (0.5 - mean) / std
        for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ),
)
BY_128 = Pixels((127.5 / 128,), (127.5 / 128 - 1,))
"""levels / 128 - 1, where [-1, 1] is levels / 127.5 - 1 (Kandinsky 6's K-VAE)."""


@dataclass(frozen=True)
class Layout:
    """How pipelines arrange latents, where the model arranges them otherwise.

    Attributes:
        channels: of the pipeline's latents for every one of the model's.
    """

    to_pipeline: Callable[[Tensor], Tensor]
    to_model: Callable[[Tensor], Tensor]
    channels: int


@dataclass(frozen=True)
class Convention:
    """How a class is called.

    Attributes:
        medium: "picture" (batch, colours, height, width), "video" (batch, colours, frames, height,
            width) or "audio" (batch, channels, samples), or (batch, channels, frames, mel bins).
        channels: the entry of the configuration that holds the number of latent channels.
        colours: of a model, how many channels go in and come out.
        encode: x to raw latents, by the mode of the posterior.
        decode: raw latents to x.
        factor: of a model: pixels, or samples, per latent cell along a side.
        rules: of a model, the sizes that come back, for each axis after the channels.
        axes: names of these axes.
        statistics: of a model, (shift, scale) of its pipelines: (raw - shift) * scale.
        pixels: the range that the model takes.
        layout: of latents in its pipelines, where that is not the model's own.
        upcast: whether pipelines run a float16 model in float32 where `config.force_upcast` says
            so.
        alone: rows go through the model one by one, because it mixes several or refuses them.
        settings: the fields of `Settings` that the class has.
        needs_tiling: whether the class computes in tiles only.
        tidy: called after every pass, also after an error: removes what the pass left on the
            model.
        refuse: why a configuration cannot be taken; None where it can.
        looks_back: of videos, where E and D never look ahead and treat all latent frames but the
            first alike: how many latent frames go through them together. The tests check this.
            Cosmos looks back as well, but scales every latent frame by statistics of its own.
        frame_step: of a model that looks back: frames of a latent frame.
        chunks: whether frames are decoded in chunks of `decode_chunk_size`, each by itself.
    """

    medium: Medium
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor, Settings], Tensor]
    factor: Callable[[Any], int]
    rules: Callable[[Any], tuple[Rule, ...]]
    axes: tuple[str, ...]
    statistics: Callable[[Any, int], tuple[Tensor, Tensor]]
    channels: str = "latent_channels"
    colours: Callable[[Any], tuple[int, int]] = lambda model: (
        model.config.in_channels,
        model.config.out_channels,
    )
    pixels: Pixels = SIGNED
    layout: Layout | None = None
    upcast: bool = False
    alone: bool = False
    settings: tuple[str, ...] = ()
    needs_tiling: bool = False
    tidy: Callable[[Any], object] | None = None
    refuse: Callable[[Any], str | None] = lambda model: None
    looks_back: int | None = None
    frame_step: Callable[[Any], int] = temporal_ratio
    chunks: bool = False

    def sizes(self, model: Any) -> Sizes:
        return Sizes(self.axes, self.rules(model))

    def parts(self, model: Any, settings: Settings) -> Parts:
        """What part of a video can be inverted by itself."""
        if self.looks_back is not None:
            return PastFirst(self.looks_back, self.frame_step(model))
        if not self.chunks:
            return Whole("its frames are not known to depend on their past alone")
        if settings.decode_chunk_size is not None:
            return Chunks(settings.decode_chunk_size)
        return Whole(
            "all frames are decoded together; if the video was made in chunks, say so: "
            "Autoencoder.from_diffusers(model, decode_chunk_size=...)"
        )


@dataclass(frozen=True)
class Refused:
    """A class that cannot be taken, and why."""

    reason: str
