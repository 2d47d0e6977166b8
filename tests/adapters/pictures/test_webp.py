"""WebP files and what they say of their settings."""

import io

import pytest
import torch
from PIL import Image, features

from fixpoint.adapters import EightBit, as_pictures, to_pil
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.pictures.webp import WebP, quantiser_index

pytestmark = pytest.mark.skipif(not features.check("webp"), reason="Pillow without WebP")


def saved(picture, **settings):
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, "WEBP", **settings)
    return buffer


@pytest.fixture(scope="module")
def photographs():
    return EightBit()(example_photographs(96, count=4))


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_the_quality_of_a_file_is_estimated(photographs, quality, tmp_path):
    for number, picture in enumerate(photographs):
        path = tmp_path / f"{number}.webp"
        path.write_bytes(saved(picture, quality=quality).getvalue())
        for source in (path, saved(picture, quality=quality)):
            found = WebP.of(Image.open(source))
            assert found is not None
            assert abs(found.quality - quality) <= 8
        assert as_pictures(path).observation == found


def test_a_lossless_file_is_a_picture_in_eight_bits(photographs, tmp_path):
    path = tmp_path / "x.webp"
    path.write_bytes(saved(photographs[0], lossless=True).getvalue())
    assert WebP.of(Image.open(path)) is None
    found = as_pictures(path)
    assert found.observation == EightBit()
    assert torch.equal(found.values[0], photographs[0])


def test_finer_quantisers_come_with_more_quality(photographs):
    indices = [quantiser_index(saved(photographs[0], quality=q).getvalue()) for q in (10, 50, 90)]
    assert indices == sorted(indices, reverse=True)


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\x00\x00\x00\x00WEBPVP8L\xff\xff\xff\xff", b"x" * 40]
)
def test_what_is_no_lossy_file_has_no_quantiser(data):
    assert quantiser_index(data) is None


def test_a_file_that_is_cut_off_does_not_raise(photographs):
    whole = saved(photographs[0], quality=80).getvalue()
    for end in range(12, 60):
        quantiser_index(whole[:end])


def test_the_observation_is_what_a_file_holds(photographs):
    held = as_pictures(Image.open(saved(photographs[0], quality=70)).convert("RGB"))
    assert torch.equal(WebP(quality=70)(photographs[:1]), held.values)


@pytest.mark.parametrize("quality", [-1, 101])
def test_a_quality_out_of_range_is_refused(quality):
    with pytest.raises(ValueError, match=r"quality must lie in \[0, 100\]"):
        WebP(quality=quality)


def test_something_else_is_no_webp_file():
    with pytest.raises(TypeError, match="not an opened WebP file"):
        WebP.of(Image.new("RGB", (8, 8)))
