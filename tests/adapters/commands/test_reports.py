"""JSON reports: to a file or the output, under a schema that the documentation describes."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fixpoint.adapters import Autoencoder, to_pil
from fixpoint.adapters.commands.cropping import cropped
from fixpoint.adapters.commands.main import main
from fixpoint.adapters.commands.reports import SCHEMA
from fixpoint.adapters.pictures.background import on_background
from fixpoint.adapters.pictures.observations import Jpeg
from fixpoint.adapters.pictures.pictures import as_pictures

pytestmark = pytest.mark.usefixtures("no_network")
PAGE = (Path(__file__).parents[3] / "docs" / "json.md").read_text()


@pytest.fixture
def picture(photograph, tmp_path):
    to_pil(photograph[0, :, :34, :35]).save(tmp_path / "odd.png")
    return tmp_path / "odd.png"


def test_the_report_goes_to_the_output_alone_and_has_the_documented_fields(
    picture, tmp_path, capsys
):
    options = ["--crop", "--iterations", "2", "--out", str(tmp_path / "out"), "--json", "-"]
    assert main(["invert", str(picture), *options]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.err.startswith("Model: kl, the small demonstration model")
    assert "cropped to 32 x 32" in shown.err
    assert (report["schema"], report["command"]) == (SCHEMA, "invert")
    assert f"`schema` is {SCHEMA}." in PAGE
    documented = set(re.findall(r"`([a-z0-9_]+)`", PAGE))
    assert {*report, *report["pictures"][0]} <= documented
    assert not (tmp_path / "-").exists()


def test_quiet_leaves_the_report_on_the_output(picture, tmp_path, capsys):
    options = ["--crop", "--iterations", "2", "--out", str(tmp_path / "out"), "--json", "-"]
    assert main(["invert", str(picture), *options, "--quiet"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["pictures"][0]["picture"] == str(picture)
    assert shown.err == ""


def test_what_a_crop_keeps_is_the_largest_upper_left_part(photograph):
    pair = Autoencoder.embedded()
    whole = as_pictures(to_pil(photograph[0, :, :34, :35]))
    part = cropped(whole, pair)
    assert part.values.shape[-2:] == (32, 32)
    assert (part.values == whole.values[..., :32, :32]).all()
    assert cropped(part, pair) is part
    with pytest.raises(ValueError, match="3 x 34 pixels leave no part"):
        cropped(as_pictures(to_pil(photograph[0, :, :34, :3])), pair)


def test_of_a_jpeg_whole_blocks_are_kept_whose_pixels_are_as_compressed(photograph, tmp_path):
    path = tmp_path / "odd.jpg"
    to_pil(photograph[0, :, :61, :50]).save(path, quality=75)
    with Image.open(path) as image:
        whole = as_pictures(image)
    assert isinstance(whole.observation, Jpeg)
    assert cropped(whole, Autoencoder.embedded()).values.shape[-2:] == (48, 48)


def test_a_background_shows_where_a_picture_is_transparent_and_nowhere_else():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    flat = on_background(image, "white")
    assert list(flat.getdata()) == [(10, 20, 30), (255, 255, 255)]
    assert on_background(flat, "white") is flat
    with pytest.raises(ValueError, match="no colour 'wite'"):
        on_background(image, "wite")


def test_what_is_refused_without_them_names_the_options(picture, tmp_path, capsys):
    Image.new("RGBA", (32, 32), (1, 2, 3, 9)).save(tmp_path / "clear.png")
    for path, option in ((picture, "--crop"), (tmp_path / "clear.png", "--background")):
        assert main(["invert", str(path), "--out", str(tmp_path / "out")]) == 2
        assert option in capsys.readouterr().err
    options = ["--background", "#808080", "--iterations", "1", "--out", str(tmp_path / "out")]
    assert main(["invert", str(tmp_path / "clear.png"), *options]) == 0


def test_pictures_that_would_write_one_file_are_both_named(picture, tmp_path, capsys):
    other = tmp_path / "b" / picture.name
    assert main(["invert", str(picture), str(other)]) == 2
    assert f"{picture} and {other} would write the same results" in capsys.readouterr().err
