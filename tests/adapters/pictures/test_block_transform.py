"""The coordinates of JPEG."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fixpoint.adapters import Jpeg, to_pil
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.pictures.block_transform import SHARED, block_coefficients
from fixpoint.adapters.pictures.jpeg_traces import quantisation_tables

SUBSAMPLINGS = sorted(SHARED)


def levels(height, width, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(1, 3, height, width, generator=draws, dtype=torch.float64) - 1


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from(SUBSAMPLINGS))
def test_every_size_has_whole_blocks(height, width, subsampling):
    luma, blue, red = block_coefficients(levels(height, width), subsampling)
    down, across = SHARED[subsampling]
    assert luma.shape == (1, -(-height // 8) * -(-width // 8), 64)
    assert blue.shape == red.shape == (1, -(-height // (8 * down)) * -(-width // (8 * across)), 64)


def test_the_transform_keeps_the_sum_of_squares():
    picture = levels(16, 24)
    shade = picture.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    luma, blue, red = block_coefficients(shade)
    assert luma.square().sum().isclose(((shade[:, 0] + 1) * 127.5 - 128).square().sum())
    assert float(blue.abs().max()) < 1e-9
    assert float(red.abs().max()) < 1e-9


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_they_are_those_that_the_codec_quantises(subsampling):
    """What libjpeg writes are these coefficients, rounded to steps: decompressed pictures have
    theirs of Y near whole steps, and within half a step of those of the picture before."""
    picture = example_photographs(64, count=1).double()
    jpeg = Jpeg(quality=60, subsampling=subsampling)
    step = quantisation_tables(jpeg)[0]
    before, after = (block_coefficients(each)[0] / step for each in (picture, jpeg(picture)))
    assert float((after - after.round()).abs().quantile(0.95)) < 0.15
    assert float((before - after.round()).abs().quantile(0.95)) < 0.6


def test_tables_of_a_file_are_those_of_its_quality():
    buffer = io.BytesIO()
    to_pil(example_photographs(32, count=1)[0]).save(buffer, "JPEG", quality=73)
    named, read = Jpeg(quality=73), Jpeg.of(Image.open(buffer))
    for ours, theirs in zip(quantisation_tables(named), quantisation_tables(read), strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_pass_through():
    picture = levels(8, 8).requires_grad_(True)
    sum(plane.square().sum() for plane in block_coefficients(picture)).backward()
    assert bool((picture.grad != 0).any())
