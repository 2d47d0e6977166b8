"""The coordinates of JPEG: luma and chroma, in blocks of 8 x 8 by the discrete cosine transform.

They are differentiable, and those of ITU-T T.81 and JFIF: Y, Cb and Cr of the full range, chroma
averaged over the pixels that share it, sides filled up with the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

BLOCK = 8

SHARED = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}
"""Rows and columns of pixels that share one value of chroma."""


def block_coefficients(
    pictures: Float[Tensor, "batch 3 height width"], subsampling: str = "4:4:4"
) -> list[Float[Tensor, "batch blocks 64"]]:
    """The coefficients of Y, Cb and Cr, in levels of 255, frequencies row by row.

    Args:
        pictures: on [-1, 1].
        subsampling: of the chroma, a key of `SHARED`.
    """
    luma, *chroma = _planes(pictures)
    down, across = SHARED[subsampling]
    planes = [luma, *(_averaged(plane, down, across) for plane in chroma)]
    return [_transformed(plane) for plane in planes]


def _planes(pictures: Tensor) -> Sequence[Float[Tensor, "batch height width"]]:
    red, green, blue = ((pictures + 1) * 127.5).unbind(1)
    return (
        0.299 * red + 0.587 * green + 0.114 * blue - 128,
        -0.168736 * red - 0.331264 * green + 0.5 * blue,
        0.5 * red - 0.418688 * green - 0.081312 * blue,
    )


def _averaged(plane: Tensor, down: int, across: int) -> Tensor:
    if down == across == 1:
        return plane
    return functional.avg_pool2d(_filled(plane, down, across)[:, None], (down, across))[:, 0]


def _filled(plane: Tensor, down: int, across: int) -> Tensor:
    """With the border repeated until the sides are multiples."""
    bottom, right = -plane.shape[-2] % down, -plane.shape[-1] % across
    if not (bottom or right):
        return plane
    return functional.pad(plane[:, None], (0, right, 0, bottom), mode="replicate")[:, 0]


def _transformed(plane: Tensor) -> Tensor:
    plane = _filled(plane, BLOCK, BLOCK)
    batch, height, width = plane.shape
    blocks = plane.reshape(batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3)
    cosines = _cosines().to(plane)
    return (cosines @ blocks @ cosines.T).reshape(batch, -1, BLOCK * BLOCK)


def _cosines() -> Float[Tensor, "8 8"]:
    """The orthonormal discrete cosine transform of eight values."""
    frequency = torch.arange(BLOCK, dtype=torch.float64)[:, None]
    place = torch.arange(BLOCK, dtype=torch.float64)[None]
    cosines = (math.pi * (2 * place + 1) * frequency / (2 * BLOCK)).cos() / 2
    cosines[0] /= math.sqrt(2)
    return cosines
