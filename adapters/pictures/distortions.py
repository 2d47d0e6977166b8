"""Distortions of published pictures, for tables of robustness.

A distortion maps decoded pictures to published ones: saved with 8 bits, distorted, and saved with 8
bits again. It also has the observation that a user who knows the distortion would give to an
inversion.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.pictures.composed_observations import Masked
from fixpoint.adapters.pictures.observations import (
    EIGHT_BIT_NOISE,
    EightBit,
    Jpeg,
    Observation,
    WhiteNoise,
)

_rounded = EightBit()


class Distortion(ABC):
    """A map from generated to published pictures; rows are independent."""

    def __call__(
        self, pictures: Float[Tensor, "batch 3 height width"], seed: int = 0
    ) -> Float[Tensor, "batch 3 height width"]:
        """The published pictures, on the 8-bit grid of [-1, 1].

        Args:
            pictures: on [-1, 1].
            seed: of random distortions; row i uses `seed + i`, so that a picture has the same
                result alone and in a batch.
        """
        if pictures.dim() != 4 or pictures.shape[1] != 3 or not pictures.is_floating_point():
            raise ValueError(
                f"pictures must be floating-point of shape (batch, 3, height, width), got "
                f"{pictures.dtype} of {tuple(pictures.shape)}"
            )
        return self._harm(_rounded(pictures), seed)

    @abstractmethod
    def observation(self, height: int, width: int) -> Observation | None:
        """The observation for `invert` with pictures of this size; None for the default."""

    @abstractmethod
    def _harm(self, pictures: Tensor, seed: int) -> Tensor:
        """The published pictures of pictures with 8 bits."""


@dataclass(frozen=True)
class Png(Distortion):
    """Saved without loss, with 8 bits."""

    def observation(self, height: int, width: int) -> None:
        return None

    def _harm(self, pictures: Tensor, seed: int) -> Tensor:
        return pictures


@dataclass(frozen=True)
class JpegFile(Distortion):
    """Saved as JPEG.

    Args:
        quality, subsampling: as for the observation `Jpeg`.
    """

    quality: int
    subsampling: str = "4:2:0"

    def __post_init__(self) -> None:
        self.observation(0, 0)  # refuses what is out of range

    def observation(self, height: int, width: int) -> Jpeg:
        return Jpeg(quality=self.quality, subsampling=self.subsampling)

    def _harm(self, pictures: Tensor, seed: int) -> Tensor:
        return self.observation(0, 0)(pictures)


@dataclass(frozen=True)
class CentreCrop(Distortion):
    """Cut to the centre, at its place in the original size, with the border repeated around it.

    Args:
        side: the part of each side that is kept, above 0 and at most 1.
    """

    side: float

    def __post_init__(self) -> None:
        if not 0 < self.side <= 1:
            raise ValueError(f"side must lie in (0, 1], got {self.side}")

    def known(self, height: int, width: int) -> Bool[Tensor, "height width"]:
        """The mask of the pixels that are kept."""
        mask = torch.zeros(height, width, dtype=torch.bool)
        top, bottom, left, right = self._edges(height, width)
        mask[top:bottom, left:right] = True
        return mask

    def observation(self, height: int, width: int) -> Masked:
        return Masked(self.known(height, width))

    def _harm(self, pictures: Tensor, seed: int) -> Tensor:
        height, width = pictures.shape[-2:]
        top, bottom, left, right = self._edges(height, width)
        rows = torch.arange(height, device=pictures.device).clamp(top, bottom - 1)
        columns = torch.arange(width, device=pictures.device).clamp(left, right - 1)
        return pictures.index_select(-2, rows).index_select(-1, columns)

    def _edges(self, height: int, width: int) -> tuple[int, int, int, int]:
        kept = [max(1, round(self.side * side)) for side in (height, width)]
        top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
        return top, top + kept[0], left, left + kept[1]


@dataclass(frozen=True)
class GaussianBlur(Distortion):
    """Convolved with a Gaussian; outside, the border is repeated.

    Args:
        sigma: its standard deviation in pixels, above 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be a number of pixels above 0, got {self.sigma}")

    def observation(self, height: int, width: int) -> Blurred:
        return Blurred(self.sigma)

    def _harm(self, pictures: Tensor, seed: int) -> Tensor:
        return Blurred(self.sigma)(pictures)


@dataclass(frozen=True)
class GaussianNoise(Distortion):
    """White noise added.

    Args:
        level: its standard deviation on [-1, 1], above 0.
    """

    level: float

    def __post_init__(self) -> None:
        if not 0 < self.level < math.inf:
            raise ValueError(f"the level of the noise must be above 0, got {self.level}")

    def observation(self, height: int, width: int) -> WhiteNoise:
        return WhiteNoise(level=math.hypot(self.level, EIGHT_BIT_NOISE))

    def _harm(self, pictures: Tensor, seed: int) -> Tensor:
        drawn = [
            torch.randn(pictures.shape[1:], generator=torch.Generator().manual_seed(seed + row))
            for row in range(len(pictures))
        ]
        noise = torch.stack(drawn) if drawn else torch.empty(pictures.shape)
        return _rounded(pictures + self.level * noise.to(pictures))


@dataclass(frozen=True)
class Blurred(Observation):
    """Clipped, blurred by a Gaussian and rounded to 8 bits.

    The blur is part of the operator, so that it needs neither an inverse nor a derivative.

    Args:
        sigma: standard deviation of the Gaussian in pixels.
    """

    noise_level = EIGHT_BIT_NOISE

    sigma: float

    def __call__(self, pictures: Tensor) -> Tensor:
        return _rounded(_blurred(_rounded(pictures), self.sigma))

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self(pictures), _blurred(pictures.clamp(-1, 1), self.sigma)


def standard_distortions() -> dict[str, Distortion]:
    """The columns of a table of robustness, by name, each kind from weak to strong."""
    return {
        "8 bit": Png(),
        "JPEG 95": JpegFile(95),
        "JPEG 75": JpegFile(75),
        "JPEG 50": JpegFile(50),
        "crop 0.9": CentreCrop(0.9),
        "crop 0.75": CentreCrop(0.75),
        "blur 0.5": GaussianBlur(0.5),
        "blur 1": GaussianBlur(1.0),
        "noise 0.05": GaussianNoise(0.05),
        "noise 0.1": GaussianNoise(0.1),
    }


def _blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Convolved along rows and columns with a Gaussian, cut off at 4 standard deviations."""
    reach = max(1, math.ceil(4 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = weights / weights.sum()
    for axis in (-2, -1):
        side = pictures.shape[axis]
        places = torch.arange(side, device=pictures.device)
        total = torch.zeros_like(pictures)
        for offset, weight in zip(offsets.long().tolist(), weights.tolist(), strict=True):
            neighbour = (places + offset).clamp(0, side - 1)
            total = total + weight * pictures.index_select(axis, neighbour)
        pictures = total
    return pictures
