import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fixpoint.adapters import Clip, EightBit, Identity, Jpeg, PerRow
from fixpoint.adapters.observations import EIGHT_BIT_NOISE, from_levels, to_levels

ALL = (Identity(), Clip(), EightBit(), Jpeg(quality=60), Jpeg(quality=95, subsampling="4:4:4"))


def smooth(rows=2, side=32):
    grid = torch.linspace(-1.3, 1.3, side)
    picture = torch.stack([grid.expand(side, side), grid.expand(side, side).T, grid.outer(grid)])
    return picture.expand(rows, 3, side, side) * torch.arange(1, rows + 1).reshape(-1, 1, 1, 1)


@given(levels=st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_the_8_bit_grid_is_left_as_it_is(levels):
    values = from_levels(torch.tensor(levels, dtype=torch.float32))
    assert torch.equal(EightBit()(values), values)
    assert to_levels(values).tolist() == levels


def test_rounding_is_that_of_a_diffusers_pipeline():
    from diffusers.image_processor import VaeImageProcessor

    pictures = torch.rand(2, 3, 16, 16) * 2.6 - 1.3
    saved = VaeImageProcessor().postprocess(pictures, output_type="pil")
    expected = torch.from_numpy(np.stack([np.array(image) for image in saved]))
    assert torch.equal(to_levels(pictures).permute(0, 2, 3, 1), expected.float())


def test_the_noise_level_of_rounding_is_what_rounding_does():
    pictures = torch.rand(1, 3, 400, 400) * 1.9 - 0.95
    error = (EightBit()(pictures) - pictures).square().mean().sqrt()
    assert float(error) == pytest.approx(EIGHT_BIT_NOISE, rel=0.01)
    assert EightBit().noise_level == EIGHT_BIT_NOISE
    assert Identity().noise_level == Clip().noise_level == 0


@pytest.mark.parametrize("observation", ALL, ids=repr)
def test_an_observation_sees_each_row_alone_and_keeps_shape_and_dtype(observation):
    pictures = smooth()
    seen = observation(pictures)
    assert (seen.shape, seen.dtype) == (pictures.shape, pictures.dtype)
    assert torch.equal(observation(pictures[1:]), seen[1:])


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_repeats_what_a_file_went_through(quality, subsampling):
    picture = smooth(1)
    levels = to_levels(picture)[0].permute(1, 2, 0).to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as image:
        read = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).float()
        repeated = Jpeg.of(image)
    assert repeated.subsampling == subsampling
    assert torch.equal(to_levels(repeated(picture)), read)
    assert torch.equal(Jpeg(quality=quality, subsampling=subsampling)(picture), repeated(picture))


def test_each_row_can_have_its_own_observation():
    pictures = smooth(3)
    mixed = PerRow((EightBit(), Identity(), Jpeg(quality=30)))
    seen = mixed(pictures)
    assert torch.equal(seen[1], pictures[1])
    assert torch.equal(seen[2:], Jpeg(quality=30)(pictures[2:]))
    assert torch.equal(mixed.select(torch.tensor([2, 0]))(pictures[[2, 0]]), seen[[2, 0]])
    with pytest.raises(ValueError, match="3 observations for 2"):
        mixed(pictures[:2])


@pytest.mark.parametrize("options", [{"quality": 0}, {"subsampling": "4:1:1"}])
def test_jpeg_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        Jpeg(**options)
