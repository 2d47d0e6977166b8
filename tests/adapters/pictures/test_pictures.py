import numpy as np
import pytest
import torch
from PIL import Image

from fixpoint.adapters import Clip, EightBit, Identity, Jpeg, PerRow
from fixpoint.adapters.pictures.observations import from_levels
from fixpoint.adapters.pictures.pictures import (
    as_pictures,
    as_values,
    check_sides,
    read_picture,
    to_pil,
)
from fixpoint.adapters.pictures.videos import as_videos

LEVELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
VALUES = from_levels(torch.from_numpy(LEVELS).permute(2, 0, 1).unsqueeze(0).float())


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(LEVELS),
        Image.fromarray(LEVELS).convert("RGBA"),
        LEVELS,
        LEVELS[None],
        LEVELS.astype(np.float32) / 255,
        torch.from_numpy(LEVELS).permute(2, 0, 1),
        VALUES,
        VALUES.double(),
    ],
    ids=["pil", "opaque rgba", "uint8", "batch", "float array", "uint8 tensor", "tensor", "double"],
)
def test_every_way_to_hold_a_picture_gives_the_same_values(image):
    pictures = as_pictures(image)
    torch.testing.assert_close(pictures.values, VALUES, rtol=0, atol=1e-6)
    assert pictures.values.dtype == torch.float32
    assert pictures.observation == EightBit()


def test_a_file_gives_the_values_it_holds(tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "a.png")
    assert torch.equal(as_pictures(tmp_path / "a.png").values, VALUES)
    assert torch.equal(as_pictures(str(tmp_path / "a.png")).values, VALUES)
    assert np.array_equal(np.array(to_pil(VALUES[0])), LEVELS)


def test_grey_pictures_become_rgb(tmp_path):
    Image.fromarray(LEVELS[..., 0]).save(tmp_path / "grey.png")
    values = as_pictures(tmp_path / "grey.png").values
    assert torch.equal(values[:, 0], values[:, 2])
    assert torch.equal(values[:, 0], VALUES[:, 0])


def test_pictures_that_were_converted_are_returned_as_they_are(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", quality=80)
    once = as_pictures(tmp_path / "a.jpg")
    assert as_pictures(once) is once
    assert as_values(once, "picture", 3, 2, None) is once
    assert as_pictures([once, once]).observation == once.observation
    with pytest.raises(TypeError, match="no video"):
        as_videos(once)


def test_a_jpeg_file_brings_its_own_settings(tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", quality=40, subsampling="4:2:2")
    pictures = as_pictures(tmp_path / "a.jpg")
    assert isinstance(pictures.observation, Jpeg)
    assert pictures.observation.subsampling == "4:2:2"
    assert torch.equal(pictures.observation(VALUES), pictures.values)


def test_pictures_of_one_size_make_a_batch_with_an_observation_each(tmp_path):
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg")
    pictures = as_pictures([Image.fromarray(LEVELS), tmp_path / "a.jpg"])
    assert pictures.values.shape == (2, 3, 8, 12)
    assert isinstance(pictures.observation, PerRow)
    assert as_pictures([LEVELS, LEVELS]).observation == EightBit()
    with pytest.raises(ValueError, match="one size"):
        as_pictures([LEVELS, LEVELS[:4]])


def test_float_values_tell_how_they_were_observed():
    free = torch.linspace(-1.2, 1.1, 48).reshape(1, 3, 4, 4)
    assert as_pictures(free).observation == Identity()
    assert as_pictures(free.clamp(-1, 1)).observation == Clip()


def test_the_range_of_a_float_tensor_is_never_guessed():
    bright = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="value_range"):
        as_pictures(bright)
    assert torch.equal(as_pictures(bright, (-1, 1)).values, bright)
    assert torch.equal(as_pictures(bright, (0, 1)).values, 2 * bright - 1)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (3, TypeError, "int"),
        ([], ValueError, "image is empty"),
        (np.zeros((4, 4)), ValueError, r"\(4, 4\)"),
        (np.zeros((4, 4, 3), dtype=np.int32), TypeError, "int32"),
        (torch.zeros(4, 4), ValueError, r"\(4, 4\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.long), TypeError, "int64"),
        (torch.full((1, 3, 4, 4), torch.nan), ValueError, "NaN"),
        (np.full((4, 4, 3), 7.0), ValueError, r"outside \[0, 1\]"),
        (Image.new("RGBA", (4, 4), (9, 9, 9, 100)), ValueError, "transparent"),
        (Image.new("F", (4, 4)), ValueError, "mode F"),
        (Image.new("CMYK", (4, 4)), ValueError, "mode CMYK"),
    ],
)
def test_what_is_not_a_picture_is_refused(image, error, words):
    with pytest.raises(error, match=words):
        as_pictures(image)


def test_rows_of_one_tensor_are_judged_one_by_one():
    free = torch.linspace(-1.2, 1.1, 288).reshape(1, 3, 8, 12)
    pictures = as_pictures(torch.cat((VALUES, free)))
    assert isinstance(pictures.observation, PerRow)
    assert pictures.observation.observations == (EightBit(), Identity())
    with pytest.raises(ValueError, match="up to 127"):
        as_pictures(VALUES * 127)


def test_jpeg_settings_that_cannot_be_repeated_fall_back_to_rounding(tmp_path, monkeypatch):
    from PIL import JpegImagePlugin

    Image.fromarray(LEVELS).save(tmp_path / "a.jpg")
    monkeypatch.setattr(JpegImagePlugin, "get_sampling", lambda image: -1)
    assert as_pictures(tmp_path / "a.jpg").observation == EightBit()


def test_a_turned_jpeg_is_turned_and_taken_as_rounded(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", exif=exif)
    pictures = as_pictures(tmp_path / "a.jpg")
    assert pictures.values.shape == (1, 3, 12, 8)
    assert pictures.observation == EightBit()


def test_more_than_8_bits_are_refused_rather_than_cut(tmp_path):
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(24) for _ in range(4)))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    (tmp_path / "deep.png").write_bytes(data + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="more than 8 bits"):
        as_pictures(tmp_path / "deep.png")


def test_broken_files_are_named_with_what_is_wrong(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    Image.fromarray(LEVELS.repeat(20, 0).repeat(20, 1)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    frames = [Image.fromarray(LEVELS), Image.fromarray(255 - LEVELS)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    for name, words in {
        "empty.png": "0 bytes",
        "text.png": "not a picture",
        "cut.png": "damaged",
        "missing.png": "does not exist",
        ".": "folder",
        "film.gif": "2 frames",
    }.items():
        with pytest.raises(ValueError, match=words) as caught:
            as_pictures(tmp_path / name)
        assert name == "." or name in str(caught.value)
    assert read_picture(tmp_path / "whole.png").size == (240, 160)


def test_sides_that_do_not_divide_are_refused_with_the_size_to_crop_to():
    check_sides(torch.zeros(1, 3, 8, 16), 8)
    with pytest.raises(ValueError, match=r"multiples of 8.*got 17 x 9.*16 x 8"):
        check_sides(torch.zeros(1, 3, 9, 17), 8)
