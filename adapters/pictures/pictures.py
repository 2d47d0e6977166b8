"""Pictures as tensors on [-1, 1], with their observation.

They are never resized: resampling would destroy the information that an inversion needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.pictures.bit_depth import more_than_8_bits
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.jpeg_traces import jpeg_traces
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
    from_levels,
    to_levels,
)
from fixpoint.adapters.pictures.webp import WebP
from fixpoint.summary import Summarised

PLAIN_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class Pictures(Summarised):
    """A batch of pictures and their observation."""

    values: Float[Tensor, "batch 3 height width"]  # on [-1, 1], float32
    observation: Observation


def read_picture(path: str | Path) -> Any:
    """Read a picture file as a PIL image in the mode of the file.

    Raises:
        ValueError: the file is missing, empty, damaged or no picture; the message names the file.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a picture")
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes)")
    try:
        image = Image.open(path)
        deep = more_than_8_bits(image)
        image.load()
    except PermissionError as error:
        raise ValueError(f"{path} cannot be read: permission denied") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture in a format that Pillow reads") from error
    except Exception as error:  # Pillow's decoders may raise anything on damaged files
        raise ValueError(f"{path} is damaged: {error}") from error
    if deep:
        raise ValueError(f"{path} has more than 8 bits a channel; only 8-bit pictures can be read")
    return image


def as_pictures(image: Any, value_range: tuple[float, float] | None = None) -> Pictures:
    """A batch of pictures from files, PIL images, arrays or tensors.

    Args:
        image: a path or a PIL image, or a list of them, all of one size; a uint8 array or tensor;
            a float array on [0, 1] (as diffusers' `output_type="np"`); a float tensor; or
            `Pictures`, which are returned as they are. Arrays are (height, width, 3) or (batch,
            height, width, 3), tensors (3, height, width) or (batch, 3, height, width).
        value_range: of float input, (0, 1) or (-1, 1). A float tensor without negative values could
            have either range, so it must be given there.

    Returns:
        The pictures and their observation: `Jpeg` for opened JPEG files and for pixels in which its
        steps are left, `WebP` for opened lossy WebP files, `EightBit` for others on the 8-bit
        grid, `Clip` for float values that reach their bounds, `Identity` for other float values.

    Raises:
        TypeError, ValueError: the input is something else or empty, has more than 8 bits for each
            channel, or contains NaN or values outside the range.
    """
    if isinstance(image, list | tuple) and not image:
        raise ValueError(f"the image is empty: {image!r} holds no picture")
    if isinstance(image, list | tuple) and not isinstance(image[0], int | float):
        parts = [as_pictures(part, value_range) for part in image]
        sizes = {tuple(part.values.shape[1:]) for part in parts}
        if len(sizes) > 1:
            raise ValueError(f"pictures of one call must have one size, got {sorted(sizes)}")
        return Pictures(torch.cat([part.values for part in parts]), _common(parts))
    if isinstance(image, Pictures):
        return image
    if isinstance(image, str | Path):
        image = read_picture(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, value_range)
    if isinstance(image, Tensor):
        return _from_tensor(image, value_range)
    if hasattr(image, "getbands"):
        return _from_pil(image)
    raise TypeError(f"not a picture: {type(image).__name__}")


def as_values(
    given: Any, medium: str, channels: int, axes: int, value_range: tuple[float, float] | None
) -> Pictures:
    """The input of an autoencoder, from what the user gives.

    Args:
        given: for RGB pictures as for `as_pictures`; else a tensor (batch, channels, *axes), float
            or, for pictures and videos, uint8; or `Pictures`, which are returned as they are.
        medium: "picture", "video" or "audio".
        channels: colours, or channels of sound.
        axes: the number of axes after the channels.
        value_range: as for `as_pictures`; not used for sound.

    Raises:
        TypeError, ValueError: the input is something else, or contains NaN or values outside the
            range.
    """
    if isinstance(given, Pictures) or (medium == "picture" and channels == 3):
        return as_pictures(given, value_range)
    if not isinstance(given, Tensor):
        raise TypeError(
            f"this autoencoder takes {medium}s as tensors (batch, {channels}, ...), got "
            f"{type(given).__name__}"
        )
    if given.dim() != 2 + axes or given.shape[1] != channels:
        raise ValueError(
            f"{medium}s of this autoencoder are tensors of {2 + axes} axes, (batch, {channels}, "
            f"...), got {tuple(given.shape)}"
        )
    if medium == "audio":
        return Pictures(_finite_floats(given, medium), Identity())
    return _from_values(given, value_range, medium)


def check_sides(values: Float[Tensor, "batch 3 height width"], factor: int) -> None:
    """Check that the sides of pictures are multiples of the autoencoder's factor.

    Raises:
        ValueError: they are not; the message names the sides, the factor and the next smaller size.
    """
    height, width = values.shape[-2:]
    if height % factor or width % factor or not height or not width:
        cropped = f"{width // factor * factor} x {height // factor * factor}"
        advice = (
            f"crop it to {cropped}, as --crop does"
            if min(height, width) >= factor
            else "it is too small"
        )
        raise ValueError(
            f"picture sides must be multiples of {factor} for this autoencoder, got {width} x "
            f"{height}; {advice} (do not resize: that destroys the inversion)"
        )


def to_pil(values: Float[Tensor, "3 height width"]) -> Any:
    """One picture on [-1, 1] as an 8-bit PIL image."""
    from PIL import Image

    levels = to_levels(values.detach()).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def _from_pil(image: Any) -> Pictures:
    from PIL import ImageOps

    name = getattr(image, "filename", "") or "the picture"
    if image.mode not in PLAIN_MODES:
        raise ValueError(
            f"{name} has mode {image.mode}; only 8-bit grey and RGB pictures can be inverted"
        )
    if more_than_8_bits(image):
        raise ValueError(
            f"{name} has more than 8 bits a channel, cut to 8 when it was opened; only 8-bit "
            "pictures can be read"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"{name} has {image.n_frames} frames; give them one by one")
    transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
    if transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise ValueError(
            f"{name} is partly transparent; lay it on a colour first, on the "
            "command line with --background"
        )
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # the EXIF block is damaged, not the pixels
        upright = image
    array = np.array(upright.convert("RGB"))
    values = from_levels(torch.from_numpy(array).permute(2, 0, 1).unsqueeze(0).float())
    return Pictures(values, _of_file(image) or _of_pixels(values))


def _of_file(image: Any) -> Observation | None:
    """What the format of an opened file tells."""
    if image.mode != "RGB" or turned(image):
        return None
    kind = getattr(image, "format", None)
    if kind == "JPEG":
        with suppress(ValueError):  # unusual chroma subsampling: it is treated as rounded
            return Jpeg.of(image)
        return EightBit()
    return WebP.of(image) if kind == "WEBP" else None


def _of_pixels(values: Float[Tensor, "1 3 height width"]) -> Observation:
    """What 8-bit values tell."""
    return jpeg_traces(values) or EightBit()


def turned(image: Any) -> bool:
    """Whether EXIF turns the picture, so that the blocks of JPEG have another orientation."""
    try:
        return image.getexif().get(0x0112, 1) != 1
    except Exception:  # a damaged EXIF block is ignored
        return False


def _from_array(array: np.ndarray[Any, Any], value_range: tuple[float, float] | None) -> Pictures:
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(
            f"an array must be (height, width, 3) or (batch, height, width, 3), got {array.shape}"
        )
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"an array must be uint8 or floating point, got {array.dtype}")
    batch = torch.from_numpy(np.ascontiguousarray(array if array.ndim == 4 else array[None]))
    return _from_tensor(batch.permute(0, 3, 1, 2), value_range or (0, 1))


def _from_tensor(tensor: Tensor, value_range: tuple[float, float] | None) -> Pictures:
    if tensor.dim() == 3:
        tensor = tensor.unsqueeze(0)
    if tensor.dim() != 4 or tensor.shape[1] != 3:
        raise ValueError(
            "a tensor must be (3, height, width) or (batch, 3, height, width), "
            f"got {tuple(tensor.shape)}"
        )
    return _from_values(tensor, value_range, "picture")


def _check_not_empty(tensor: Tensor, medium: str) -> None:
    if not tensor.numel():
        raise ValueError(f"the {medium} is empty: it has shape {tuple(tensor.shape)}")


def _finite_floats(tensor: Tensor, medium: str) -> Tensor:
    _check_not_empty(tensor, medium)
    if not tensor.is_floating_point():
        allowed = "floating point" if medium == "audio" else "uint8 or floating point"
        raise TypeError(f"a tensor must be {allowed}, got {tensor.dtype}")
    values = tensor.detach().float()
    if not bool(values.isfinite().all()):
        raise ValueError(f"the {medium} contains NaN or infinity")
    return values


def _from_values(tensor: Tensor, value_range: tuple[float, float] | None, medium: str) -> Pictures:
    _check_not_empty(tensor, medium)
    if tensor.dtype == torch.uint8:
        levels = from_levels(tensor.float())
        if tensor.dim() != 4 or tensor.shape[1] != 3:
            return Pictures(levels, EightBit())
        return Pictures(levels, _shared([_of_pixels(row) for row in levels.split(1)]))
    values = _finite_floats(tensor, medium)
    if value_range is None:
        if float(values.min()) >= 0:
            raise ValueError(
                "a float tensor without negative values could be on [0, 1] or on [-1, 1]: "
                "say value_range=(0, 1) or value_range=(-1, 1)"
            )
        value_range = (-1, 1)
    if tuple(value_range) not in ((0, 1), (-1, 1)):
        raise ValueError(f"value_range must be (0, 1) or (-1, 1), got {value_range}")
    if tuple(value_range) == (0, 1):
        if not (float(values.min()) >= 0 and float(values.max()) <= 1):
            raise ValueError(
                f"values lie in [{float(values.min()):.9g}, {float(values.max()):.9g}], outside "
                "[0, 1]"
            )
        values = 2 * values - 1
    if float(values.abs().max()) > 3:
        raise ValueError(
            f"values go up to {float(values.abs().max()):.4g}: that is not a {medium} on [-1, 1]"
        )
    parts = [_with_observation(row) for row in values.split(1)]
    return Pictures(torch.cat([part.values for part in parts]), _common(parts))


def _with_observation(values: Tensor) -> Pictures:
    """One picture with the observation that follows from its values."""
    rounded = from_levels(to_levels(values))
    if bool(((rounded - values).abs() < 1e-5).all()):
        colour = values.dim() == 4 and values.shape[1] == 3
        return Pictures(rounded, _of_pixels(rounded) if colour else EightBit())
    return Pictures(values, Clip() if float(values.abs().max()) == 1 else Identity())


def _common(parts: Sequence[Pictures]) -> Observation:
    """The common observation of all rows, or `PerRow`."""
    return _shared([part.observation for part in parts for _ in range(len(part.values))])


def _shared(rows: Sequence[Observation]) -> Observation:
    return rows[0] if all(row == rows[0] for row in rows) else PerRow(tuple(rows))
