"""What happens to a decoded picture before anyone sees it: clipping, rounding, JPEG.

An observation Q stands inside the operator, T z = E(Q(D(z))) - E(x). It needs no derivative, so
the very steps that made the file can be repeated in every evaluation, and the true latent is an
exact zero again. Pictures are (batch, 3, height, width) on [-1, 1].
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EIGHT_BIT_NOISE = (2 / 255) / math.sqrt(12)
"""Root mean square of rounding to 8 bits on [-1, 1]: uniform over one level."""


class Observation(ABC):
    """A map from decoded pictures to observed ones, each row on its own."""

    noise_level: float = 0.0
    """Root mean square, per value, of the noise it adds; infinite where that is not known."""

    @abstractmethod
    def __call__(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """The observed pictures."""

    def observe(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 3 height width"]]:
        """The observed pictures, and the same before rounding: what a misfit is measured with."""
        seen = self(pictures)
        return seen, seen

    def noise_levels(self, batch: int) -> Float[Tensor, " batch"]:
        """`noise_level` of every row."""
        return torch.full((batch,), self.noise_level)

    def select(self, rows: Tensor) -> Observation:
        """The observation of the rows with these indices."""
        return self


@dataclass(frozen=True)
class Identity(Observation):
    """The decoder's output as it is: the paper's operator."""

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures


@dataclass(frozen=True)
class Clip(Observation):
    """Values clipped to [-1, 1]."""

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures.clamp(-1, 1)


@dataclass(frozen=True)
class EightBit(Observation):
    """Clipped and rounded to 8 bits, as pipelines do before they save a picture."""

    noise_level = EIGHT_BIT_NOISE

    def __call__(self, pictures: Tensor) -> Tensor:
        return from_levels(to_levels(pictures))

    def observe(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return self(pictures), pictures.clamp(-1, 1)


@dataclass(frozen=True)
class Jpeg(Observation):
    """Compressed and decompressed by JPEG with a file's own settings.

    Args:
        quality: 1 to 100, in the scale of the IJG library; ignored where `tables` are given.
        subsampling: of the chroma, "4:4:4", "4:2:2" or "4:2:0".
        tables: quantisation tables, 64 whole numbers each, in the order of Pillow's
            `image.quantization`.
    """

    noise_level = EIGHT_BIT_NOISE

    quality: int = 75
    subsampling: str = "4:2:0"
    tables: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"JPEG quality must lie in [1, 100], got {self.quality}")
        if self.subsampling not in ("4:4:4", "4:2:2", "4:2:0"):
            raise ValueError(
                f'JPEG subsampling must be "4:4:4", "4:2:2" or "4:2:0", got {self.subsampling!r}'
            )

        for table in self.tables or ():
            if len(table) != 64:
                raise ValueError(f"a quantisation table has 64 numbers, got {len(table)}")

    @classmethod
    def of(cls, image: object) -> Jpeg:
        """The settings of an opened JPEG file (`PIL.JpegImagePlugin.JpegImageFile`)."""
        from PIL import JpegImagePlugin

        if not isinstance(image, JpegImagePlugin.JpegImageFile):
            raise TypeError(f"not an opened JPEG file: {image!r}")
        names = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
        subsampling = names.get(JpegImagePlugin.get_sampling(image))
        if subsampling is None:
            raise ValueError("the JPEG file uses a chroma subsampling that cannot be repeated")
        tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
        return cls(subsampling=subsampling, tables=tables)

    def __call__(self, pictures: Tensor) -> Tensor:
        from PIL import Image

        levels = to_levels(pictures).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        settings: dict[str, object] = {"subsampling": self.subsampling}
        if self.tables is None:
            settings["quality"] = self.quality
        else:
            settings["qtables"] = [list(table) for table in self.tables]
        rows = []
        for row in levels:
            buffer = io.BytesIO()
            Image.fromarray(row).save(buffer, "JPEG", **settings)
            with Image.open(buffer) as image:
                rows.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8))
        seen = torch.stack(rows).reshape(levels.shape).permute(0, 3, 1, 2)
        return from_levels(seen.to(pictures.device, pictures.dtype))


class PerRow(Observation):
    """An observation of its own for every row: `PerRow((EightBit(), Jpeg(quality=90)))`."""

    def __init__(self, observations: Sequence[Observation | Callable[[Tensor], Tensor]]) -> None:
        self.observations = tuple(as_observation(observation) for observation in observations)

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.observe(pictures)[0]

    def observe(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        if len(pictures) != len(self.observations):
            raise ValueError(f"{len(self.observations)} observations for {len(pictures)} pictures")
        rows = zip(self.observations, pictures.split(1), strict=True)
        seen, before = zip(*(observation.observe(row) for observation, row in rows), strict=True)
        return torch.cat(seen), torch.cat(before)

    def noise_levels(self, batch: int) -> Tensor:
        return torch.cat([observation.noise_levels(1) for observation in self.observations])

    def select(self, rows: Tensor) -> PerRow:
        return PerRow([self.observations[row] for row in rows.tolist()])

    def __repr__(self) -> str:
        return f"PerRow({list(self.observations)})"


class Function(Observation):
    """A bare callable as an observation; what noise it adds is not known."""

    noise_level = math.inf

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.function(pictures)

    def __repr__(self) -> str:
        return f"Function({self.function!r})"


def as_observation(
    observation: Observation | Callable[[Tensor], Tensor] | None,
) -> Observation:
    """An observation as such; a callable on pictures; None for `Identity()`.

    Raises:
        TypeError: something else.
    """
    if observation is None:
        return Identity()
    if isinstance(observation, Observation):
        return observation
    if callable(observation):
        return Function(observation)
    raise TypeError(f"an observation must be a callable on pictures, got {observation!r}")


def to_levels(pictures: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values on [-1, 1] to whole numbers 0 to 255, clipped and rounded; at least float32."""
    values = pictures if pictures.dtype == torch.float64 else pictures.float()
    return ((values / 2 + 0.5).clamp(0, 1) * 255).round()


def from_levels(levels: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers 0 to 255 to values on [-1, 1]."""
    return 2 * (levels / 255) - 1
