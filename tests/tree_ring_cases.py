"""White noise and tree-ring keys of every kind, for the tests."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

from fixpoint.adapters.provenance.frequencies import (
    MASKS,
)
from fixpoint.adapters.provenance.tree_ring import TreeRing

LATENT = (64, 64)

laws = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def white(count, shape, seed=0, channels=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, *shape, generator=generator)


def every_kind(shape, radius=3, mask="centred", seed=0, channel=0):
    options = {"radius": radius, "mask": mask, "channel": channel}
    return (
        TreeRing.zeros(shape, **options),
        TreeRing.rand(shape, seed=seed, **options),
        TreeRing.ring(shape, seed=seed, **options),
        TreeRing.paper(shape, key=1 + seed % 3, **options),
    )


@st.composite
def keys(draw, masks=MASKS):
    """A key of any kind on a grid of even or odd sides, with a seed for noise."""
    shape = draw(st.tuples(st.integers(3, 14), st.integers(3, 14)))
    radius = draw(st.integers(1, min(6, (min(shape) - 1) // 2)))
    kinds = every_kind(
        shape,
        radius,
        draw(st.sampled_from(masks)),
        draw(st.integers(0, 99)),
        draw(st.integers(0, 2)),
    )
    return draw(st.sampled_from(kinds)), draw(st.integers(0, 999))
