"""Functions and observations of pictures, applied to each frame of a video."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import Observation


class EachFrame(Observation):
    """An observation of pictures, applied to every frame of a video: `EachFrame(Jpeg(quality=90))`.

    Raises:
        TypeError: it is no observation, or one for each row (`PerRow`).
    """

    def __init__(self, observation: Observation) -> None:
        if not isinstance(observation, Observation) or isinstance(observation, PerRow):
            raise TypeError(f"EachFrame takes one observation of pictures, got {observation!r}")
        self.observation = observation
        self.noise_level = observation.noise_level
        self.deviation_level = observation.deviation_level
        self.hides = observation.hides
        self.pixelwise = observation.pixelwise

    def __call__(self, pictures: Tensor) -> Tensor:
        return of_each_frame(self.observation, pictures)

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        seen, before = self.observation.observe(as_frames(pictures), as_frames(image))
        return as_video(seen, len(image)), as_video(before, len(image))

    def free_shares(self, image: Tensor) -> Tensor:
        return self.observation.free_shares(as_frames(image)).reshape(len(image), -1).mean(1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EachFrame) and self.observation == other.observation

    def __hash__(self) -> int:
        return hash((EachFrame, self.observation))

    def __repr__(self) -> str:
        return f"EachFrame({self.observation!r})"


def as_frames(videos: Tensor) -> Tensor:
    """(batch, channels, frames, ...) as (batch * frames, channels, ...)."""
    return videos.transpose(1, 2).flatten(0, 1)


def as_video(frames: Tensor, batch: int) -> Tensor:
    """Inverse of `as_frames`."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def of_each_frame(
    function: Callable[[Tensor], Tensor], videos: Tensor, at_once: int | None = None
) -> Tensor:
    """Apply a function of pictures to every frame, at most `at_once` frames at a time."""
    if videos.dim() != 5:
        raise ValueError(
            f"videos have 5 axes, (batch, channels, frames, ...), got {tuple(videos.shape)}"
        )
    frames = as_frames(videos)
    groups = frames.split(at_once or max(1, len(frames)))
    return as_video(torch.cat([function(group) for group in groups]), len(videos))
