"""Videos as tensors on [-1, 1]. They are never resized, and no frame is dropped or repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.observations import EightBit, Jpeg, Observation
from fixpoint.adapters.pictures.pictures import Pictures, as_pictures, as_values
from fixpoint.summary import Summarised

LAYOUTS = (
    "tensors are (frames, 3, height, width) or (batch, 3, frames, height, width), arrays "
    "(frames, height, width, 3) or (batch, frames, height, width, 3)"
)


@dataclass(frozen=True)
class Videos(Summarised):
    """A batch of videos and their observation."""

    values: Float[Tensor, "batch 3 frames height width"]  # on [-1, 1], float32
    observation: Observation


def as_videos(video: Any, value_range: tuple[float, float] | None = None) -> Videos:
    """A batch of videos from frames, arrays or tensors.

    Args:
        video: a list of frames (paths, PIL images, arrays or tensors of pictures), all of one
            size; an array (frames, height, width, 3) or (batch, frames, height, width, 3); a
            tensor (frames, 3, height, width) or (batch, 3, frames, height, width); or a list of
            such videos, all of one size; or `Pictures` whose values are a batch of videos.
        value_range: of float input, see `as_pictures`.

    Returns:
        The videos and their observation: `EachFrame(Jpeg(...))` if all frames are opened JPEG
        files with the same settings, `EightBit` for others on the 8-bit grid, `Clip` for float
        values that reach their bounds, `Identity` for other float values.

    Raises:
        TypeError, ValueError: the input is something else, or contains NaN or values outside the
            range.
    """
    if isinstance(video, list | tuple):
        return _from_list(video, value_range)
    if isinstance(video, Pictures) and video.values.dim() == 5:
        return Videos(video.values, video.observation)
    if isinstance(video, np.ndarray):
        return _from_tensor(_channels_first(video), value_range or (0, 1))
    if isinstance(video, Tensor):
        return _from_tensor(video, value_range)
    if hasattr(video, "getbands") or isinstance(video, str | Path | Pictures):
        raise TypeError(
            f"one {type(video).__name__} is no video; give a list of its frames, as "
            "sorted(Path(folder).glob('*.png'))"
        )
    raise TypeError(f"not a video: {type(video).__name__}; {LAYOUTS}")


def check_count(number: object, name: str) -> None:
    """Check that a number is whole and above 0."""
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
    # Float frames are stacked first, since the range and the 8-bit grid are properties of all.
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
