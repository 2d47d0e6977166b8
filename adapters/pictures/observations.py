"""What happens to a decoded picture before anyone sees it: clipping, rounding, JPEG.

An observation Q stands inside the operator, T z = E(Q(D(z))) - E(x). It needs no derivative, so
the very steps that made the file can be repeated in every evaluation, and the true latent is an
exact zero again. Pictures are (batch, 3, height, width) on [-1, 1].
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
"""Root mean square of rounding to 8 bits on [-1, 1]: uniform over one level."""


class Observation(ABC):
    """A map from decoded pictures to observed ones, each row on its own."""

    noise_level: float = 0.0
    """Root mean square of the noise it accounts for, per value that it looks at and that is not
    clipped; infinite where that is not known."""
    deviation_level: float = 0.0
    """Root mean square, over the same values, of the noise that it leaves to be fitted."""
    hides: bool = False
    """Whether whole regions of the latent go unseen, and should stay where they started."""
    pixelwise: bool = False
    """Whether it acts on every value alone, so that some pixels can be observed without others."""

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
        """What E is given for the decoded `pictures`, where `image` is x: by default Q(D(z)).

        Returns it twice: as it is, and before rounding, which is what a misfit is measured with.
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
        """The share of the values of x that it looks at and that were not clipped, of every row:
        they alone carry noise."""
        return (image.abs() < 1).reshape(len(image), -1).float().mean(1)

    def select(self, rows: Tensor) -> Observation:
        """The observation of the rows with these indices."""
        return self


@dataclass(frozen=True)
class Identity(Observation):
    """The decoder's output as it is: the paper's operator."""

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
    """8 bits, where x tells no more than the cell that each value was rounded from.

    E is given x + (I - P) D(z), with P the projection onto the box of pictures that lie within
    `tolerance` of half a level of x, without bound where x is clipped: values inside their cell do
    not count. Unlike rounding, it is continuous, and repeats no rounding of its own. Far from
    x the cells are narrower, by the square of the noise of rounding over the misfit, so that the
    first steps see all of D(z) - x.

    Args:
        tolerance: in (0, 1]. At 1 the true latent is an exact zero, and so is everything that
            rounds to x. Below, zeros lie deeper in the cells: what is left of the noise of
            rounding is its (1 - tolerance)^(3/2).
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
    """Clipped, with white noise of a known level on top.

    The noise cannot be repeated, so what is made to vanish is the part of D(z) - x beyond it: E is
    given x + (1 - s^2 n^2 / m^2)_+ (D(z) - x), with n the noise and m the misfit, both as root mean
    squares over the values that are not clipped. Zeros are the latents that fit x as well as the
    true one does, or by the `share` better (Morozov's discrepancy principle, inside the operator),
    and the iteration comes to rest there instead of fitting noise.

    Args:
        level: n, the root mean square of the noise per value on [-1, 1], above 0.
        share: s, in (0, 1]: a latent fitted to x explains a little of the noise, too.
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


class CallableObservation(Observation):
    """A bare callable as an observation; what noise it adds is not known."""

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
    """An observation as such; a callable on pictures; None for `Identity()`.

    Raises:
        TypeError: something else.
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


def to_levels(pictures: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values on [-1, 1] to whole numbers 0 to 255, clipped and rounded; at least float32."""
    values = pictures if pictures.dtype == torch.float64 else pictures.float()
    return ((values / 2 + 0.5).clamp(0, 1) * 255).round()


def from_levels(levels: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers 0 to 255 to values on [-1, 1]."""
    return 2 * (levels / 255) - 1


__getattr__ = _renamed(__name__, {"Function": "CallableObservation"})
