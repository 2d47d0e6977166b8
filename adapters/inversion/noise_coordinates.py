"""Pictures in coordinates in which the noise of a codec is white, with unit variance.

JPEG rounds each block coefficient to a multiple of its step: what was there before lies anywhere
within half a step, so that a step over sqrt(12) is the unit. Of other changes of a picture the
power by frequency is measured, on examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.pictures.block_transform import block_coefficients
from fixpoint.adapters.pictures.jpeg_traces import quantisation_tables
from fixpoint.adapters.pictures.observations import Jpeg

LEAST_UNIT = 0.3
"""Of a coefficient, in levels: what rounding the pixels to 8 bits leaves."""


@dataclass(frozen=True)
class NoiseCoordinates:
    """Attributes:
    of: pictures on [-1, 1] to their coordinates, differentiable.
    target: the coordinates of x.
    telling: 1 where the noise is known to have unit variance. What JPEG rounded to zero was near it
        already in most pictures.
    """

    of: Callable[[Tensor], Float[Tensor, "batch count"]]
    target: Float[Tensor, "batch count"]
    telling: Float[Tensor, "batch count"]

    def error(self, pictures: Float[Tensor, "batch 3 height width"]) -> Tensor:
        """Coordinates less those of x."""
        return self.of(pictures) - self.target

    def level(self, pictures: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """Root mean square of the error over what is telling; at most about 1 where the noise is
        all there is."""
        squares = self.telling * self.error(pictures).double().square()
        return (squares.sum(1) / self.telling.sum(1).clamp(min=1)).sqrt().cpu()


def of_jpeg(image: Float[Tensor, "batch 3 height width"], jpeg: Jpeg) -> NoiseCoordinates:
    """Those of decompressed JPEG files; the target is what the files hold."""
    tables = quantisation_tables(jpeg)
    steps = [tables[0], tables[1], tables[1]]

    def in_steps(pictures: Tensor) -> Tensor:
        planes = block_coefficients(pictures, jpeg.subsampling)
        return _joined([plane / step.to(plane) for plane, step in zip(planes, steps, strict=True)])

    unit = 1 / math.sqrt(12)
    held = in_steps(image).round()
    return NoiseCoordinates(
        of=lambda pictures: in_steps(pictures) / unit,
        target=held / unit,
        telling=(held != 0).double(),
    )


def of_noise(
    image: Float[Tensor, "batch 3 height width"], noise: Float[Tensor, "count 3 rows columns"]
) -> NoiseCoordinates:
    """Those in which noise of which these are examples is white.

    Args:
        image: x.
        noise: differences of pictures on [-1, 1].
    """
    without = block_coefficients(torch.zeros_like(noise))  # Y of grey is not 0
    units = [
        (plane - grey).double().square().mean((0, 1)).sqrt() + LEAST_UNIT
        for plane, grey in zip(block_coefficients(noise), without, strict=True)
    ]

    def of(pictures: Tensor) -> Tensor:
        planes = block_coefficients(pictures)
        return _joined([plane / unit.to(plane) for plane, unit in zip(planes, units, strict=True)])

    target = of(image)
    return NoiseCoordinates(of, target, torch.ones_like(target, dtype=torch.float64))


def _joined(planes: list[Tensor]) -> Tensor:
    return torch.cat([plane.flatten(1) for plane in planes], 1)
