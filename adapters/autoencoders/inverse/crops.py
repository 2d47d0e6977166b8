"""The pictures that an inverse is trained on: augmented crops, each by its number alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from fixpoint.adapters.pictures.observations import from_levels, to_levels
from fixpoint.adapters.pictures.pictures import as_pictures
from fixpoint.checkpoints.tree_file import digest_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

WIDEST = 3.0
"""Sides of the crop that its window spans, at most: the same content at several resolutions."""

KEPT_SIDES = 8
"""Larger pictures are reduced to this many sides of a crop on the shorter side, to be kept."""

HELD_OUT_EVERY = 8
"""One picture in so many is held out, where the caller holds out none."""

Levels = UInt8[Tensor, "3 height width"]


@dataclass(frozen=True)
class Crops:
    """An endless row of crops: (3, side, side) on [-1, 1].

    Attributes:
        pictures: in levels of 8 bits, each of its own size, at least `side` on every side.
        side: of the crops.
        seed: of the drawing.
        augmented: whether pictures are drawn at random, and crops turned, mirrored, and changed in
            colour and contrast, too; else the pictures come in turn.
    """

    pictures: Sequence[Levels]
    side: int
    seed: int
    augmented: bool = True

    def __getitem__(self, number: int) -> Float[Tensor, "3 side side"]:
        draws = seeded(self.seed, number)
        drawn = int(torch.randint(len(self.pictures), (), generator=draws))
        picture = self.pictures[drawn if self.augmented else number % len(self.pictures)]
        widest = min(WIDEST, min(picture.shape[-2:]) / self.side)
        window = int(self.side * float(torch.empty(()).uniform_(1, widest, generator=draws)))
        top, left = (
            int(torch.randint(0, length - window + 1, (), generator=draws))
            for length in picture.shape[-2:]
        )
        part = from_levels(picture[:, top : top + window, left : left + window].float())
        if window != self.side:
            part = _resized(part, self.side)
        return _augmented(part, draws) if self.augmented else part

    def batch(self, numbers: Iterable[int]) -> Float[Tensor, "count 3 side side"]:
        """Several of them."""
        return torch.stack([self[number] for number in numbers])

    @property
    def digest(self) -> str:
        """Of the pictures, in hexadecimal."""
        joined = " ".join(digest_of(picture) for picture in self.pictures)
        return hashlib.sha256(joined.encode()).hexdigest()


def seeded(seed: int, number: int) -> torch.Generator:
    """Draws that belong to a number: what comes after an interruption is what would have come."""
    mixed = hashlib.sha256(f"{seed} {number}".encode()).digest()[:7]
    return torch.Generator().manual_seed(int.from_bytes(mixed, "little"))


def training_pictures(
    given: Any, side: int, value_range: tuple[float, float] | None = None
) -> list[Levels]:
    """What the user gives, each picture apart, in levels of 8 bits.

    Args:
        given: a folder, whose picture files are read; or what `as_pictures` takes; or a sequence
            of that, of pictures of any sizes.
        side: of the crops; smaller pictures are refused.
        value_range: of float input, see `as_pictures`.

    Raises:
        TypeError, ValueError: a picture cannot be read or is too small, or the folder holds none.
    """
    if isinstance(given, str | Path) and Path(given).is_dir():
        given = [path for path in sorted(Path(given).iterdir()) if path.suffix.lower() in SUFFIXES]
        if not given:
            raise ValueError(f"the folder holds no pictures ({', '.join(SUFFIXES)})")
    single = not isinstance(given, list | tuple)
    found = []
    for index, each in enumerate([given] if single else given):
        for picture in as_pictures(each, value_range).values:
            if min(picture.shape[-2:]) < side:
                name = each if isinstance(each, str | Path) else f"picture {index}"
                height, width = picture.shape[-2:]
                raise ValueError(
                    f"{name} is {width} x {height} pixels, and the crops have {side} a side"
                )
            found.append(_kept(picture, KEPT_SIDES * side))
    return found


def split(pictures: list[Levels]) -> tuple[list[Levels], list[Levels]]:
    """To train on, and held out.

    Raises:
        ValueError: there are too few.
    """
    held_out = pictures[::HELD_OUT_EVERY]
    training = [each for index, each in enumerate(pictures) if index % HELD_OUT_EVERY]
    if not training:
        raise ValueError("an inverse is trained on at least two pictures, one of them held out")
    return training, held_out


def _kept(picture: Tensor, shorter: int) -> Levels:
    least = min(picture.shape[-2:])
    if least > shorter:
        sides = [max(shorter, round(length * shorter / least)) for length in picture.shape[-2:]]
        picture = interpolate(picture[None], sides, mode="bilinear", antialias=True)[0]
    return to_levels(picture).to(torch.uint8).cpu()


def _resized(part: Tensor, side: int) -> Tensor:
    return interpolate(part[None], (side, side), mode="bilinear", antialias=True)[0]


def _augmented(part: Tensor, draws: torch.Generator) -> Tensor:
    """Quarter turns, mirrored, colours exchanged, contrast, brightness and tint."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=draws)

    part = part.rot90(int(torch.randint(4, (), generator=draws)), (1, 2))
    if float(uniform(0, 1)) < 0.5:
        part = part.flip(-1)
    if float(uniform(0, 1)) < 0.2:
        part = part[torch.randperm(3, generator=draws)]
    if float(uniform(0, 1)) < 0.5:
        part = part * uniform(0.6, 1.3) * uniform(0.85, 1.15, 3, 1, 1) + uniform(-0.3, 0.3)
    return part.clamp(-1, 1).contiguous()
