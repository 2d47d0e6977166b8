"""Fourier transforms of latents with the zero frequency in the middle, and discs of frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

MASKS = ("centred", "official")
"""Discs around the zero frequency; or, on grids with an even number of rows, one row off."""


def to_frequencies(
    signal: Float[Tensor, "*batch rows columns"],
) -> Complex[Tensor, "*batch rows columns"]:
    """The Fourier transform F, not normalised; zero frequency at (rows // 2, columns // 2)."""
    if signal.numel() == 0:  # not every backend transforms an empty batch
        return torch.complex(signal, signal)
    return torch.fft.fftshift(torch.fft.fft2(signal), dim=(-2, -1))


def from_frequencies(
    spectrum: Complex[Tensor, "*batch rows columns"],
) -> Float[Tensor, "*batch rows columns"]:
    """The real part of the inverse of `to_frequencies`."""
    if spectrum.numel() == 0:
        return spectrum.real
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real


def mirrored(grid: Tensor) -> Tensor:
    """The grid with the value of the opposite frequency at every frequency."""
    at_zero = torch.fft.ifftshift(grid, dim=(-2, -1))
    opposite = at_zero.flip(-2, -1).roll((1, 1), (-2, -1))
    return torch.fft.fftshift(opposite, dim=(-2, -1))


def distance_from_centre(
    shape: Sequence[int], radius: int, mask: str
) -> Float[Tensor, "rows columns"]:
    """The distance of every frequency from the centre of the disc.

    Args:
        shape: ends in (rows, columns).
        radius: of the disc, in steps of frequency.
        mask: "centred" or "official", see `MASKS`.

    Raises:
        ValueError: an argument cannot be used, or the disc does not fit the grid.
    """
    if mask not in MASKS:
        raise ValueError(f'mask must be "centred" or "official", got {mask!r}')
    if len(shape) < 2:
        raise ValueError(f"shape must end in (rows, columns), got {tuple(shape)}")
    rows, columns = shape[-2:]
    if not isinstance(radius, int) or isinstance(radius, bool) or radius < 1:
        raise ValueError(f"radius must be a whole number above 0, got {radius!r}")
    if 2 * radius >= min(rows, columns):
        raise ValueError(
            f"a disc of radius {radius} does not fit a latent of {rows} x {columns}: the radius "
            f"must lie below half of either side"
        )
    # The original counts rows from below: its centre is the zero frequency on odd grids only.
    centre = rows // 2 if mask == "centred" else rows - 1 - rows // 2
    down = torch.arange(rows, dtype=torch.float64) - centre
    across = torch.arange(columns, dtype=torch.float64) - columns // 2
    return torch.hypot(down[:, None], across[None, :])


def annuli(
    distance: Float[Tensor, "rows columns"], values: Tensor
) -> Complex[Tensor, "rows columns"]:
    """values[i] where the distance lies in (i, i + 1], values[0] also at distance 0, else 0."""
    index = (distance.ceil().long() - 1).clamp(min=0)
    inside = index < len(values)
    chosen = values.to(torch.complex128)[index.clamp(max=len(values) - 1)]
    return torch.where(inside, chosen, 0)
