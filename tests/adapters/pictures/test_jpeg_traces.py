"""What pixels tell of a JPEG file that they came from."""

import numpy as np
import pytest
import torch
from PIL import Image

from fixpoint.adapters import EightBit, Jpeg, as_pictures
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.pictures.jpeg_traces import jpeg_traces


@pytest.fixture(scope="module")
def photographs():
    return EightBit()(example_photographs(96, count=12))


@pytest.mark.parametrize("quality", [40, 63, 75, 80, 90])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_most_pictures_that_were_jpeg_are_known_again(photographs, quality, subsampling):
    found = [
        jpeg_traces(Jpeg(quality=quality, subsampling=subsampling)(p)) for p in photographs.split(1)
    ]
    told = [each for each in found if each is not None]
    assert len(told) >= 0.7 * len(found)
    assert all(abs(each.quality - quality) <= 1 for each in told)
    assert sum(each.subsampling == subsampling for each in told) >= 0.8 * len(told)


def changes():
    draws = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(1, 3, 96, 96, generator=draws)
    yield pytest.param(lambda p: p, id="never compressed")
    yield pytest.param(lambda p: EightBit()(p + noise), id="noise")
    yield pytest.param(lambda p: Jpeg(quality=80)(p).roll((3, 5), (-2, -1)), id="moved")
    yield pytest.param(lambda p: EightBit()(Jpeg(quality=80)(p) * 0.9), id="darker")
    yield pytest.param(lambda p: torch.full_like(p, 0.2), id="one colour")
    yield pytest.param(lambda p: p[..., :8, :8], id="one block")


@pytest.mark.parametrize("change", list(changes()))
def test_nothing_is_claimed_of_pictures_whose_pixels_are_no_files(photographs, change):
    for picture in photographs.split(1):
        assert jpeg_traces(change(picture)) is None


@pytest.mark.parametrize("kind", ["file", "array", "tensor"])
def test_pictures_come_with_what_they_show(photographs, kind, tmp_path):
    pixels = Jpeg(quality=75)(photographs[:1])
    array = ((pixels[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    given = {
        "file": tmp_path / "x.png",
        "array": array,
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
    }
    Image.fromarray(array).save(given["file"])
    found = as_pictures(given[kind])
    assert found.observation == Jpeg(quality=75)
    assert np.array_equal(
        found.values[0].permute(1, 2, 0).numpy(), pixels[0].permute(1, 2, 0).numpy()
    )
