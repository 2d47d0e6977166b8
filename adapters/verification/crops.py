"""The crops of `fixpoint verify`, and their observation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.example import PHOTOGRAPH
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
)
from fixpoint.adapters.pictures.pictures import as_pictures, read_picture


@dataclass(frozen=True)
class Crop:
    """A crop: its place in its picture, its values and the observation of the file."""

    picture: str
    left: int
    top: int
    width: int
    height: int
    values: Float[Tensor, "1 3 height width"]  # on [-1, 1]
    file: Observation  # `EightBit`, or `Jpeg` with the file's own settings

    def overlaps(self, other: Crop) -> bool:
        """Whether the two share pixels of one picture."""
        return (
            self.picture == other.picture
            and abs(self.left - other.left) < self.width
            and abs(self.top - other.top) < self.height
        )


def cut(paths: Sequence[Path], *, count: int | None, size: int, seed: int) -> tuple[Crop, ...]:
    """Crops of picture files, or of the bundled photograph at half its resolution.

    Every picture gives the same number, up to one. They lie on a grid without overlap if it has
    enough cells, else at random places. A picture with a side below `size` is taken whole. Nothing
    is resized.

    Args:
        paths: of pictures; empty for the bundled photograph.
        count: total number; by default 16, or the number of pictures if that is larger.
        size: side of a crop in pixels.
        seed: of the choice of places.

    Raises:
        ValueError: an argument is out of range, a picture cannot be read, or the crops would have
            different sizes.
    """
    if count is not None and count < max(1, len(paths)):
        raise ValueError(f"--crops must be at least {max(1, len(paths))} here, got {count}")
    if size < 1:
        raise ValueError(f"--crop-size must be at least 1, got {size}")
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, got {seed}")
    twice = [str(path) for path, times in Counter(paths).items() if times > 1]
    if twice:
        raise ValueError(f"given twice: {', '.join(twice)}")
    images = [(str(path), read_picture(path)) for path in paths] or [_bundled()]
    if count is None:
        count = max(16, len(images))
    crops: list[Crop] = []
    for index, (name, image) in enumerate(images):
        pictures = as_pictures(image)
        height, width = pictures.values.shape[-2:]
        share = count // len(images) + (index < count % len(images))
        box = (size, size) if min(height, width) >= size else (height, width)
        generator = np.random.default_rng([seed, index])
        crops += [
            Crop(
                name,
                left,
                top,
                box[1],
                box[0],
                pictures.values[..., top : top + box[0], left : left + box[1]],
                pictures.observation,
            )
            for left, top in _places(height, width, box, share, generator)
        ]
    sizes = {(crop.width, crop.height): crop.picture for crop in crops}
    if len(sizes) > 1:
        shown = ", ".join(f"{w} x {h} ({name})" for (w, h), name in sorted(sizes.items()))
        raise ValueError(
            f"all crops of one run must have one size, got {shown}; give a --crop-size that no "
            "picture falls short of"
        )
    return tuple(crops)


def observation_of(name: str, crops: Sequence[Crop]) -> tuple[Observation, Observation]:
    """The observation that maps D(z*) to x, and the observation Q inside the operator.

    Args:
        name: of Q: "none" (the paper's), "clip", "8bit", "jpeg", or "auto" for that of x.
        crops: whose files determine "jpeg" and "auto".

    Raises:
        ValueError: "jpeg" for a crop that does not come from a JPEG file.
    """
    files = [crop.file for crop in crops]
    if name == "jpeg":
        for crop in crops:
            if not isinstance(crop.file, Jpeg):
                raise ValueError(f"--observation jpeg: {crop.picture} is not a JPEG file")
    if name in ("jpeg", "auto"):
        same = all(file == files[0] for file in files)
        made = files[0] if same else PerRow(tuple(files))
        return made, made
    return EightBit(), {"none": Identity(), "clip": Clip(), "8bit": EightBit()}[name]


def _bundled() -> tuple[str, Any]:
    from PIL import Image

    with Image.open(PHOTOGRAPH) as image:
        size = (image.width // 2, image.height // 2)
        return f"{PHOTOGRAPH.name} at half size", image.convert("RGB").resize(
            size, Image.Resampling.BOX
        )


def _places(
    height: int,
    width: int,
    box: tuple[int, int],
    share: int,
    generator: np.random.Generator,
) -> list[tuple[int, int]]:
    """(left, top) of `share` crops, or of fewer if there are not as many places."""
    rows, columns = height // box[0], width // box[1]
    if share <= rows * columns:
        left, top = (width - columns * box[1]) // 2, (height - rows * box[0]) // 2
        cells = np.sort(generator.choice(rows * columns, share, replace=False))
        return [
            (left + int(cell % columns) * box[1], top + int(cell // columns) * box[0])
            for cell in cells
        ]
    across, down = width - box[1] + 1, height - box[0] + 1
    places = generator.choice(across * down, min(share, across * down), replace=False)
    return [(int(place % across), int(place // across)) for place in places]
