"""Pictures on the 8-bit grid and what an observation leaves of them, for the tests."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from fixpoint.adapters import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    RoundingCells,
    WhiteNoise,
)

ALL = (Identity(), Clip(), EightBit(), Jpeg(quality=60), Jpeg(quality=95, subsampling="4:4:4"))


def smooth(rows=2, side=32):
    grid = torch.linspace(-1.3, 1.3, side)
    picture = torch.stack([grid.expand(side, side), grid.expand(side, side).T, grid.outer(grid)])
    return picture.expand(rows, 3, side, side) * torch.arange(1, rows + 1).reshape(-1, 1, 1, 1)


drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)

seeds = st.integers(0, 2**16)


def normal(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def uniform(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1


def grid(seed, *shape, largest=1.0):
    """Pictures on the 8-bit grid, within [-largest, largest]."""
    return EightBit()(largest * uniform(seed, *shape))


def deviation(observation, pictures, image):
    return observation.observe(pictures, image)[0] - image


def root_mean_square(pictures):
    return pictures.double().square().flatten(1).mean(1).sqrt()


def known(height=6, width=8):
    """A mask that knows a quarter, the crop [1:4, 2:6]."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[1:4, 2:6] = True
    return mask


INNER = (Identity(), Clip(), EightBit(), RoundingCells(), WhiteNoise(level=0.02))
