"""Videos as tensors on [-1, 1], and autoencoders of pictures that take them frame by frame.

Nothing is ever resized, and no frame is dropped or repeated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.diffusers_classes import Medium
from fixpoint.adapters.autoencoders.sizes import Sizes, any_size
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import EightBit, Jpeg, Observation
from fixpoint.adapters.pictures.pictures import as_pictures, as_values

LAYOUTS = (
    "tensors are (frames, 3, height, width) or (batch, 3, frames, height, width), arrays "
    "(frames, height, width, 3) or (batch, frames, height, width, 3)"
)


@dataclass(frozen=True)
class Videos:
    """A batch of videos and the observation that fits how they came."""

    values: Float[Tensor, "batch 3 frames height width"]  # on [-1, 1], float32
    observation: Observation


class EachFrame(Observation):
    """An observation of pictures, made of every frame of a video: `EachFrame(Jpeg(quality=90))`.

    Raises:
        TypeError: it has rows of its own, as `PerRow`.
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
        return _of_frames(self.observation, pictures)

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        seen, before = self.observation.observe(_frames(pictures), _frames(image))
        return _video(seen, len(image)), _video(before, len(image))

    def free_shares(self, image: Tensor) -> Tensor:
        return self.observation.free_shares(_frames(image)).reshape(len(image), -1).mean(1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EachFrame) and self.observation == other.observation

    def __hash__(self) -> int:
        return hash((EachFrame, self.observation))

    def __repr__(self) -> str:
        return f"EachFrame({self.observation!r})"


class PerFrame(Autoencoder):
    """An autoencoder of pictures as one of videos, frame by frame, as LaVie and AnimateDiff do.

    Takes (batch, 3, frames, height, width) and gives latents (batch, channels, frames, rows,
    columns). The model and everything around it are those of `pictures`.

    Args:
        pictures: an `Autoencoder` whose medium is "picture".
        frames_at_once: frames that go through the model together, at most: they bound the memory
            of a pass, and change nothing else.

    Raises:
        TypeError, ValueError: `pictures` or `frames_at_once` is something else.
    """

    def __init__(self, pictures: Autoencoder, *, frames_at_once: int = 8) -> None:
        if not isinstance(pictures, Autoencoder):
            raise TypeError(
                f"expected an Autoencoder, got {type(pictures).__name__}; wrap a diffusers model "
                "with Autoencoder.from_diffusers"
            )
        if pictures.medium != "picture":
            raise ValueError(
                f"{type(pictures.model).__name__} is an autoencoder of {pictures.medium}s; only "
                "one of pictures can be applied frame by frame"
            )
        check_count(frames_at_once, "frames_at_once")
        vars(self).update(vars(pictures))
        self.pictures = pictures
        self.frames_at_once = frames_at_once
        self.sizes = Sizes(
            ("the number of frames", *pictures.sizes.names), (any_size(), *pictures.sizes.rules)
        )

    @property
    def medium(self) -> Medium:
        return "video"

    def encode(self, x: Tensor) -> Tensor:
        """E of every frame."""
        return _of_frames(self.pictures.encode, x, self.frames_at_once)

    def decode(self, latents: Tensor) -> Tensor:
        """D of every frame."""
        return _of_frames(self.pictures.decode, latents, self.frames_at_once)

    def raw(self, latents: Tensor) -> Tensor:
        """Scaled latents as the model takes them, but for the axis of frames."""
        return _of_frames(self.pictures.raw, latents)

    def copy(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> PerFrame:
        """A copy with weights of its own, see `Autoencoder.copy`."""
        copied = copy.copy(self)
        copied.pictures = self.pictures.copy(dtype, channels_last=channels_last)
        copied.model = copied.pictures.model
        return copied

    def __repr__(self) -> str:
        return f"PerFrame({self.pictures!r}, frames_at_once={self.frames_at_once})"


def as_videos(video: Any, value_range: tuple[float, float] | None = None) -> Videos:
    """A batch of videos from whatever holds one.

    Args:
        video: a list of frames (paths, PIL images, arrays or tensors of pictures), all of one
            size; an array (frames, height, width, 3) or (batch, frames, height, width, 3); a
            tensor (frames, 3, height, width) or (batch, 3, frames, height, width); or a list of
            such videos, all of one size.
        value_range: of float input, see `as_pictures`.

    Returns:
        The videos, and as their observation: `EachFrame(Jpeg(...))` where all frames are opened
        JPEG files with the same settings, `EightBit` for anything else on the 8-bit grid, `Clip`
        for float values that touch their bounds, `Identity` for other float values.

    Raises:
        TypeError, ValueError: something else, or NaN, or values outside the range.
    """
    if isinstance(video, list | tuple):
        return _from_list(video, value_range)
    if isinstance(video, np.ndarray):
        return _from_tensor(_channels_first(video), value_range or (0, 1))
    if isinstance(video, Tensor):
        return _from_tensor(video, value_range)
    if hasattr(video, "getbands") or isinstance(video, str | Path):
        raise TypeError(
            f"one {type(video).__name__} is no video; give a list of its frames, as "
            "sorted(Path(folder).glob('*.png'))"
        )
    raise TypeError(f"not a video: {type(video).__name__}; {LAYOUTS}")


def check_count(number: object, name: str) -> None:
    """Refuse anything but a whole number above 0."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{name} must be a whole number above 0, got {number!r}")


def _from_list(parts: Sequence[Any], value_range: tuple[float, float] | None) -> Videos:
    if not parts:
        raise ValueError("a video needs at least one frame, got an empty list")
    if isinstance(parts[0], list | tuple) or getattr(parts[0], "ndim", 0) >= 4:
        videos = [as_videos(part, value_range) for part in parts]
        _check_one_size([tuple(each.values.shape[1:]) for each in videos], "videos")
        rows = [each.observation for each in videos for _ in range(len(each.values))]
        same = all(row == rows[0] for row in rows)
        observation = rows[0] if same else PerRow(tuple(rows))
        return Videos(torch.cat([each.values for each in videos]), observation)
    # Float frames are stacked first: whether the video is on the 8-bit grid, or has negative
    # values, is a question to all of its frames.
    for kind in (np.ndarray, Tensor):
        if all(isinstance(part, kind) for part in parts):
            _check_one_size([tuple(part.shape) for part in parts], "frames")
            stacked = np.stack(parts) if kind is np.ndarray else torch.stack(list(parts))
            return as_videos(stacked, value_range)
    pictures = as_pictures(list(parts), value_range)
    values = pictures.values.transpose(0, 1).unsqueeze(0)
    found = pictures.observation
    if isinstance(found, Jpeg):
        return Videos(values, EachFrame(found))
    if isinstance(found, PerRow) and all(
        isinstance(each, EightBit | Jpeg) for each in found.observations
    ):
        return Videos(values, EightBit())
    return _from_tensor(values, (-1, 1))


def _channels_first(array: np.ndarray[Any, Any]) -> Tensor:
    if array.ndim not in (4, 5) or array.shape[-1] != 3:
        raise ValueError(f"not the shape of a video: {array.shape}; {LAYOUTS}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"an array must be uint8 or floating point, got {array.dtype}")
    batch = torch.from_numpy(np.ascontiguousarray(array if array.ndim == 5 else array[None]))
    return batch.permute(0, 4, 1, 2, 3)


def _from_tensor(tensor: Tensor, value_range: tuple[float, float] | None) -> Videos:
    if tensor.dim() == 4 and tensor.shape[1] == 3:
        tensor = tensor.transpose(0, 1).unsqueeze(0)
    if tensor.dim() != 5 or tensor.shape[1] != 3:
        hint = "; transpose(1, 2) brings the colours before the frames, as of output_type='pt'"
        wrong = tensor.dim() == 5 and tensor.shape[2] == 3
        raise ValueError(
            f"not the shape of a video: {tuple(tensor.shape)}{hint if wrong else ''}; {LAYOUTS}"
        )
    if not tensor.numel():
        raise ValueError(f"the video is empty: {tuple(tensor.shape)}")
    found = as_values(tensor, "video", 3, 3, value_range)
    return Videos(found.values, found.observation)


def _check_one_size(sizes: Sequence[tuple[int, ...]], what: str) -> None:
    if len(set(sizes)) > 1:
        raise ValueError(f"{what} of one call must have one size, got {sorted(set(sizes))}")


def _frames(videos: Tensor) -> Tensor:
    """(batch, channels, frames, ...) as (batch * frames, channels, ...)."""
    return videos.transpose(1, 2).flatten(0, 1)


def _video(frames: Tensor, batch: int) -> Tensor:
    """The way back."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def _of_frames(
    function: Callable[[Tensor], Tensor], videos: Tensor, at_once: int | None = None
) -> Tensor:
    """A function of pictures, of every frame; `at_once` of them at most."""
    if videos.dim() != 5:
        raise ValueError(
            f"videos have 5 axes, (batch, channels, frames, ...), got {tuple(videos.shape)}"
        )
    frames = _frames(videos)
    groups = frames.split(at_once or max(1, len(frames)))
    return _video(torch.cat([function(group) for group in groups]), len(videos))
