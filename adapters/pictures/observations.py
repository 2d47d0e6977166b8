"""Observations: what happens to a decoded picture before it is seen: clipping, rounding, JPEG.

An observation Q is part of the operator, T z = E(Q(D(z))) - E(x). It needs no derivative.
Therefore every evaluation can repeat the steps that made the file, and the true latent is an exact
zero. Pictures are (batch, 3, height, width) on [-1, 1].
"""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint._moved import renamed as _renamed
from fixpoint.trees.rows import expand_rows

EIGHT_BIT_NOISE = (2 / 255) / math.sqrt(12)
"""Root mean square of the error of rounding to 8 bits on [-1, 1]: uniform over one level."""


class Observation(ABC):
    """A map from decoded to observed pictures; rows are independent."""

    noise_level: float = 0.0
    """Root mean square of the noise that it accounts for, per observed value that is not clipped;
    infinite if not known."""
    deviation_level: float = 0.0
    """Root mean square, over the same values, of the noise that it leaves in T at the truth."""
    hides: bool = False
    """Whether whole regions of the latent are not observed, and should keep their start."""
    pixelwise: bool = False
    """Whether it acts on every value separately, so that a part of the pixels can be observed."""

    @abstractmethod
    def __call__(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """The observed pictures."""

    def observe(
        self,
        pictures: Float[Tensor, "batch 3 height width"],
        image: Float[Tensor, "batch 3 height width"],
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 3 height width"]]:
        """The input of E for the decoded `pictures` D(z), where `image` is x; by default Q(D(z)).

        Returns:
            The input of E, and the same before rounding, from which the misfit is measured.
        """
        seen = self(pictures)
        return seen, seen

    def noise_levels(self, batch: int) -> Float[Tensor, " batch"]:
        """`noise_level` of every row."""
        return torch.full((batch,), self.noise_level)

    def deviation_levels(self, batch: int) -> Float[Tensor, " batch"]:
        """`deviation_level` of every row."""
        return torch.full((batch,), self.deviation_level)

    def free_shares(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, " batch"]:
        """For every row, the share of values of x that are observed and not clipped. Only these
        carry noise."""
        return (image.abs() < 1).reshape(len(image), -1).float().mean(1)

    def select(self, rows: Tensor) -> Observation:
        """The observation of the rows with these indices."""
        return self


@dataclass(frozen=True)
class Identity(Observation):
    """The decoder's output, unchanged: the paper's operator."""

    pixelwise = True

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures


@dataclass(frozen=True)
class Clip(Observation):
    """Values clipped to [-1, 1]."""

    pixelwise = True

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures.clamp(-1, 1)


@dataclass(frozen=True)
class EightBit(Observation):
    """Clipped and rounded to 8 bits, as pipelines do before they save a picture."""

    pixelwise = True
    noise_level = EIGHT_BIT_NOISE

    def __call__(self, pictures: Tensor) -> Tensor:
        return from_levels(to_levels(pictures))

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self(pictures), pictures.clamp(-1, 1)


@dataclass(frozen=True)
class RoundingCells(EightBit):
    """8 bits, where x determines only the cell that each value was rounded from.

    The input of E is x + (I - P) D(z). P is the projection onto the box of pictures that differ
    from x by at most `tolerance` times half a level, without bound where x is clipped. Values
    inside their cell thus do not contribute. Unlike rounding, this map is continuous. Far from x
    the cells are narrower, by the square of (noise of rounding / misfit), so that the first steps
    see nearly all of D(z) - x.

    Args:
        tolerance: in (0, 1]. At 1 the true latent is an exact zero, as is every latent whose
            picture rounds to x. Below 1 zeros lie further inside the cells, and a share of
            (1 - tolerance)^(3/2) of the noise of rounding remains.
    """

    tolerance: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.tolerance <= 1:
            raise ValueError(f"tolerance must lie in (0, 1], got {self.tolerance}")

    @property
    def deviation_level(self) -> float:  # type: ignore[override]
        # E[(|u| - t)_+^2] of u uniform in [-1, 1] is (1 - t)^3 / 3.
        return self.noise_level * (1 - self.tolerance) ** 1.5

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        clipped = pictures.clamp(-1, 1)
        deviation = clipped - image
        misfit = kernels.row_dot(deviation, deviation) / image[0].numel()
        near = (self.noise_level**2 / misfit).clamp(max=1)
        half = expand_rows(self.tolerance * near / 255, image).to(image.dtype)
        lower = torch.where(image <= -1, -torch.inf, image - half)
        upper = torch.where(image >= 1, torch.inf, image + half)
        return image + (pictures - pictures.clamp(lower, upper)), clipped


@dataclass(frozen=True)
class WhiteNoise(Observation):
    """Clipped, with white noise of a known level added.

    The noise cannot be repeated. Therefore only the part of D(z) - x that exceeds the noise has to
    vanish: the input of E is x + (1 - s^2 n^2 / m^2)_+ (D(z) - x). The noise n and the misfit m are
    root mean squares over the values that are not clipped. Zeros are the latents whose misfit is at
    most s times the noise (Morozov's discrepancy principle inside the operator). The iteration
    stops there and does not fit noise.

    Args:
        level: n, the root mean square of the noise per value on [-1, 1], above 0.
        share: s, in (0, 1]; below 1, since a latent fitted to x also explains a part of the noise.
    """

    pixelwise = True

    level: float
    share: float = 0.98

    def __post_init__(self) -> None:
        if not 0 < self.level < math.inf:
            raise ValueError(f"the level of the noise must be above 0, got {self.level}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}")

    @property
    def noise_level(self) -> float:  # type: ignore[override]
        return self.level

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures.clamp(-1, 1)

    def observe(self, pictures: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        clipped = pictures.clamp(-1, 1)
        deviation = clipped - image
        free = image.abs() < 1
        squared = kernels.row_dot(deviation * free, deviation)
        noise = (self.share * self.level) ** 2 * free.reshape(len(free), -1).sum(1)
        beyond = torch.where(squared > noise, 1 - noise / squared, (noise == 0).to(squared))
        return image + expand_rows(beyond, image).to(image.dtype) * deviation, clipped


@dataclass(frozen=True)
class Jpeg(Observation):
    """Compressed and decompressed by JPEG with the settings of a file.

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
        """The observation with the settings of an opened JPEG file.

        Args:
            image: a `PIL.JpegImagePlugin.JpegImageFile`.

        Raises:
            TypeError: it is no opened JPEG file. ValueError: its chroma subsampling cannot be
                repeated.
        """
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
        settings: dict[str, object] = {"subsampling": self.subsampling}
        if self.tables is None:
            settings["quality"] = self.quality
        else:
            settings["qtables"] = [list(table) for table in self.tables]
        return saved_and_opened(pictures, "JPEG", **settings)


class CallableObservation(Observation):
    """A function as an observation; its noise is not known."""

    noise_level = math.inf

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, pictures: Tensor) -> Tensor:
        return self.function(pictures)

    def __repr__(self) -> str:
        return f"CallableObservation({self.function!r})"


def as_observation(
    observation: Observation | Callable[[Tensor], Tensor] | None,
) -> Observation:
    """The observation: unchanged, made of a function of pictures, or `Identity()` for None.

    Raises:
        TypeError: it is something else.
    """
    if observation is None:
        return Identity()
    if isinstance(observation, Observation):
        return observation
    if isinstance(observation, type):
        raise TypeError(f"an observation must be an instance, as {observation.__name__}(...)")
    if callable(observation):
        return CallableObservation(observation)
    raise TypeError(f"an observation must be a callable on pictures, got {observation!r}")


def saved_and_opened(
    pictures: Float[Tensor, "batch 3 height width"], kind: str, **settings: object
) -> Float[Tensor, "batch 3 height width"]:
    """The pictures after a file of a kind that Pillow writes, row by row, in memory."""
    from PIL import Image

    levels = to_levels(pictures).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    rows = []
    for row in levels:
        buffer = io.BytesIO()
        Image.fromarray(row).save(buffer, kind, **settings)
        with Image.open(buffer) as image:
            pixels = bytearray(image.convert("RGB").tobytes())
        rows.append(torch.frombuffer(pixels, dtype=torch.uint8))
    seen = torch.stack(rows).reshape(levels.shape).permute(0, 3, 1, 2)
    return from_levels(seen.to(pictures.device, pictures.dtype))


def to_levels(pictures: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values on [-1, 1] as levels 0 to 255, clipped and rounded, in float32 or float64."""
    values = pictures if pictures.dtype == torch.float64 else pictures.float()
    return ((values / 2 + 0.5).clamp(0, 1) * 255).round()


def from_levels(levels: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Levels 0 to 255 as values on [-1, 1]."""
    return 2 * (levels / 255) - 1


__getattr__ = _renamed(__name__, {"Function": "CallableObservation"})
