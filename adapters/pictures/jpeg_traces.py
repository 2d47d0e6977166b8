"""Whether pixels were JPEG once: the quantisation leaves its steps in them.

The coefficients of a decompressed picture lie near multiples of the steps of its table (Fan and de
Queiroz, IEEE Trans. Image Processing 2003), and what was compressed once hardly changes when it is
compressed again with the same settings (Farid, IEEE Trans. Information Forensics 2009). The first
proposes settings, the second decides.
"""

from __future__ import annotations

import io
import math
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.pictures.block_transform import BLOCK, SHARED, block_coefficients
from fixpoint.adapters.pictures.observations import Jpeg

QUALITIES = range(20, 98)
"""Tables that are looked for. Above them rounding to 8 bits hides the steps."""

LEAST_STEP = 2
"""Steps below it are hidden by the rounding of the pixels."""

LEAST_COEFFICIENTS = 40
"""Coefficients away from zero, from which a table is told."""

PERIODIC = 0.6
"""Mean of cos(2 pi c / step) from which steps are seen; it is 0 of pictures without them."""

REPEATED = 0.7
"""Mean change of the pixels in levels, up to which compressing again is taken to repeat."""

LARGEST_SIDE = 512
"""Of the part, from the top left corner, that is looked at."""


def jpeg_traces(picture: Float[Tensor, "1 3 height width"]) -> Jpeg | None:
    """The settings of the JPEG file that these pixels came from, or None.

    Seen are tables of the IJG library's qualities 20 to 97 in pictures that were neither moved
    against the grid of blocks nor changed after.

    Args:
        picture: 8 bits, on [-1, 1].
    """
    part = picture[..., :LARGEST_SIDE, :LARGEST_SIDE]
    if min(part.shape[-2:]) < 2 * BLOCK:
        return None
    quality = _proposed(block_coefficients(part.double())[0][0])
    if quality is None:
        return None
    changes = {}
    for near in range(max(1, quality - 1), min(100, quality + 1) + 1):
        for subsampling in SHARED:
            again = Jpeg(quality=near, subsampling=subsampling)
            changes[again] = float((again(part) - part).abs().mean()) * 127.5
    found = min(changes, key=changes.__getitem__)
    return found if changes[found] <= REPEATED else None


def _proposed(luma: Float[Tensor, "blocks 64"]) -> int | None:
    """The quality whose table has its steps in the coefficients of Y."""
    best, found = PERIODIC, None
    for quality in QUALITIES:
        steps = luma_table(quality).to(luma)
        seen = (luma.abs() > 0.5 * steps) & (steps >= LEAST_STEP)
        seen[:, 0] = False  # means are anywhere
        count = int(seen.sum())
        if count < LEAST_COEFFICIENTS:
            continue
        # A step of half the size fits as well: the larger one, of lower quality, comes first.
        periodic = float((2 * math.pi * luma / steps).cos()[seen].mean())
        if periodic > best:
            best, found = periodic + 0.01, quality
    return found


@cache
def luma_table(quality: int) -> Tensor:
    """The IJG library's steps for Y, frequencies row by row."""
    return quantisation_tables(Jpeg(quality=quality))[0]


@cache
def quantisation_tables(observation: Jpeg) -> tuple[Float[Tensor, " 64"], Float[Tensor, " 64"]]:
    """The steps for Y and for chroma, frequencies row by row."""
    if observation.tables is not None:
        tables = list(observation.tables)
    else:
        from PIL import Image, JpegImagePlugin

        buffer = io.BytesIO()
        Image.new("RGB", (BLOCK, BLOCK)).save(buffer, "JPEG", quality=observation.quality)
        with Image.open(buffer) as image:
            assert isinstance(image, JpegImagePlugin.JpegImageFile)
            tables = [tuple(image.quantization[key]) for key in sorted(image.quantization)]
    luma, chroma = tables[0], tables[min(1, len(tables) - 1)]
    return torch.tensor(luma, dtype=torch.float64), torch.tensor(chroma, dtype=torch.float64)
