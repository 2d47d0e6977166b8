"""`fixpoint roundtrip`: what it writes, says and refuses."""

import json

import pytest
import torch
from PIL import Image

from fixpoint.adapters import to_pil
from fixpoint.adapters.commands.main import main


@pytest.fixture
def picture(tmp_path, autoencoder, photograph):
    with torch.no_grad():
        made = autoencoder.decode(autoencoder.encode(photograph[..., :32, :32]))
    path = tmp_path / "made.png"
    to_pil(made[0]).save(path)
    return path


def test_a_picture_of_the_decoder_survives_its_cycles(picture, tmp_path, capsys):
    out, report = tmp_path / "out", tmp_path / "report.json"
    arguments = ["roundtrip", str(picture), "--cycles", "3", "--gradients", "never"]
    assert main([*arguments, "--out", str(out), "--json", str(report)]) == 0
    (entry,) = json.loads(report.read_text())["pictures"]
    ours, theirs = (entry[name]["psnr_db"][-1] for name in ("ours", "encoder"))
    assert ours is None or ours > theirs + 15
    assert Image.open(out / "made.strip.png").width > 500
    assert "fixpoint-latent-0" in Image.open(out / "made.roundtrip.png").text
    assert "encoder, dB" in capsys.readouterr().out


def test_pixels_outside_the_mask_come_back_as_they_were(picture, tmp_path):
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (8, 8, 16, 16))
    mask.save(tmp_path / "mask.png")
    Image.new("RGB", (32, 32), (200, 40, 40)).save(tmp_path / "source.png")
    report = tmp_path / "report.json"
    arguments = ["roundtrip", str(picture), "--cycles", "2", "--gradients", "never"]
    arguments += ["--mask", str(tmp_path / "mask.png"), "--source", str(tmp_path / "source.png")]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--json", str(report)]) == 0
    (entry,) = json.loads(report.read_text())["pictures"]
    assert all(psnr is None or psnr > 60 for psnr in entry["ours"]["psnr_db"])
    assert entry["ours"]["touched_psnr_db"][-1] is not None


def test_a_mask_without_a_source_is_refused(picture, tmp_path, assert_refused):
    arguments = ["roundtrip", str(picture), "--mask", str(picture)]
    assert_refused(arguments, "--mask and --source go together", tmp_path / "out")


def test_no_cycles_are_refused(picture, tmp_path, assert_refused):
    arguments = ["roundtrip", str(picture), "--cycles", "0"]
    assert_refused(arguments, "--cycles must be at least 1", tmp_path / "out")
