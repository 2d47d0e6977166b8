"""A picture taken through an autoencoder again and again: what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.structural_similarity import WINDOW, ssim
from fixpoint.adapters.pictures.observations import EightBit
from fixpoint.adapters.round_trips.round_trip import RoundTrip

Edit = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""From the number of a cycle and pictures (batch, 3, height, width) to edited ones on the 8-bit
grid, and to the pixels that it changed on purpose, boolean (batch, 1, height, width)."""


@dataclass(frozen=True)
class Cycle:
    """Pictures after a cycle.

    Attributes:
        number: of the cycle, from 1 on.
        pictures: on the 8-bit grid of [-1, 1].
        wanted: what they would be without any loss: the first ones with all edits.
        touched: pixels that an edit has changed so far.
    """

    number: int
    pictures: Float[Tensor, "batch 3 height width"]
    wanted: Float[Tensor, "batch 3 height width"]
    touched: Bool[Tensor, "batch 1 height width"]

    @property
    def psnr_db(self) -> Float[Tensor, " batch"]:
        """Of pixels that nobody touched, in dB; NaN where there is none."""
        return psnr_db(self.pictures, self.wanted, ~self.touched)

    @property
    def touched_psnr_db(self) -> Float[Tensor, " batch"]:
        """Of the others."""
        return psnr_db(self.pictures, self.wanted, self.touched)

    @property
    def ssim(self) -> Float[Tensor, " batch"]:
        """Structural similarity around pixels that nobody touched; NaN for smaller pictures than
        its window."""
        if min(self.pictures.shape[-2:]) < WINDOW:
            return torch.full((len(self.pictures),), torch.nan)
        return ssim(self.pictures, self.wanted, (~self.touched).float())


def cycles(
    step: Callable[[Tensor], Tensor],
    pictures: Float[Tensor, "batch 3 height width"],
    count: int,
    edit: Edit | None = None,
) -> Iterator[Cycle]:
    """Pictures after each of `count` cycles of an edit, encoding, and decoding to 8 bits.

    Args:
        step: the way through the autoencoder, as `by_encoder` or `by_round_trip`.
        pictures: on the 8-bit grid of [-1, 1].
        edit: made before each passage; None for none. The edits of one cycle are the same for
            whatever is compared.
    """
    wanted, touched = pictures, torch.zeros_like(pictures[:, :1], dtype=torch.bool)
    for number in range(1, count + 1):
        if edit is not None:
            pictures, here = edit(number, pictures)
            touched = touched | here
            wanted = torch.where(here, pictures, wanted)
        pictures = step(pictures)
        yield Cycle(number, pictures, wanted, touched)


def by_encoder(autoencoder: Autoencoder) -> Callable[[Tensor], Tensor]:
    """Once through encoder and decoder, as everybody does it."""

    @torch.no_grad()
    def step(pictures: Tensor) -> Tensor:
        return EightBit()(autoencoder.decode(autoencoder.encode(pictures)))

    return step


def by_round_trip(trip: RoundTrip) -> Callable[[Tensor], Tensor]:
    """Once through a `RoundTrip`."""
    return lambda pictures: trip.decode(trip.encode(pictures, value_range=(-1, 1)).latent)


def pasted(
    source: Float[Tensor, "batch 3 height width"], mask: Bool[Tensor, "batch 1 height width"]
) -> Edit:
    """The edit that puts the pixels of another picture under the mask, cycle after cycle."""

    def edit(number: int, pictures: Tensor) -> tuple[Tensor, Tensor]:
        here = mask.to(pictures.device).expand(len(pictures), -1, -1, -1)
        return torch.where(here, source.to(pictures), pictures), here

    return edit


def psnr_db(
    one: Float[Tensor, "batch 3 height width"],
    other: Float[Tensor, "batch 3 height width"],
    where: Bool[Tensor, "batch 1 height width"],
) -> Float[Tensor, " batch"]:
    """Peak signal-to-noise ratio over some pixels, in dB; infinite where they are equal."""
    squares = (one - other).double().square() * where
    count = where.expand_as(one).flatten(1).sum(1)
    return 10 * (4 * count / squares.flatten(1).sum(1)).log10()
