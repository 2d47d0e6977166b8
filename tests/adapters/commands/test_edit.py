import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fixpoint.adapters import to_pil
from fixpoint.adapters.commands import main as main_command
from fixpoint.adapters.diffusion.editing import edit
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion

pytestmark = [pytest.mark.usefixtures("no_network"), pytest.mark.slow]
SHORT = ("--new-prompt", "dead leaves", "--steps", "2", "--refine", "1")


def run(*arguments):
    """`fixpoint edit`, as the command line runs it."""
    options = main_command.parser().parse_args(["edit", *map(str, arguments)])
    return main_command.execute(options)


@pytest.fixture(scope="module")
def model():
    return LatentDiffusion.embedded()


@pytest.fixture(scope="module")
def files(photograph, tmp_path_factory):
    """A picture of 64 x 64, and a mask with a white block."""
    folder = tmp_path_factory.mktemp("given")
    to_pil(photograph[0]).save(folder / "picture.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (20, 20, 44, 40))
    mask.save(folder / "mask.png")
    return folder / "picture.png", folder / "mask.png"


@pytest.fixture(scope="module")
def by_default(files, tmp_path_factory):
    """The latent that the options without any change give."""
    picture, mask = files
    out = tmp_path_factory.mktemp("default")
    assert run(picture, "--mask", mask, *SHORT, "--quiet", "--out", out) == 0
    return load_file(out / "picture.edited.safetensors")["latent"]


def test_edit_writes_the_picture_its_latent_and_a_report(files, tmp_path, capsys, model):
    picture, mask = files
    out, report = tmp_path / "out", tmp_path / "report.json"
    told = ("--prompt", "a photograph", *SHORT, "--out", out, "--json", report)
    assert run(picture, "--mask", mask, *told) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "picture.edited.png",
        "picture.edited.safetensors",
        "picture.report.png",
    ]
    expected = edit(
        model, picture, mask, "a photograph", new_prompt="dead leaves", steps=2, refine=1
    )
    latent = load_file(out / "picture.edited.safetensors")["latent"]
    assert torch.allclose(latent, expected.latent, atol=1e-5)
    drawn = Image.open(out / "picture.edited.png")
    assert drawn.tobytes() == expected.to_pil()[0].tobytes()
    entry = json.loads(report.read_text())
    assert entry["background_nmse_db"] == pytest.approx(float(expected.background_nmse_db), abs=0.1)
    assert entry["background_share"] == pytest.approx(1 - 24 * 20 / 64**2)
    assert entry["evaluations"] == 2 + 2 * 2
    shown = capsys.readouterr()
    assert f"(NMSE {entry['background_nmse_db']:.1f} dB)" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--new-prompt", "a page of text"],
        ["--guidance", "1"],
        ["--inversion-guidance", "3", "--prompt", "a texture"],
        ["--method", "backward-euler"],
        ["--decoder-inversion", "encoder"],
        ["--refine", "0"],
        ["--steps", "3"],
        ["--model", "flow", "--steps", "1"],
    ],
    ids=" ".join,
)
def test_every_option_changes_the_result(files, by_default, tmp_path, options):
    picture, mask = files
    told = ("--mask", mask, *SHORT, "--quiet")
    assert run(picture, *told, "--out", tmp_path, *options) == 0
    a, b = by_default, load_file(tmp_path / "picture.edited.safetensors")["latent"]
    assert a.shape == b.shape
    assert not torch.equal(a, b)


def test_quiet_prints_nothing(files, tmp_path, capsys):
    picture, mask = files
    assert run(picture, "--mask", mask, *SHORT, "--out", tmp_path / "out", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_result_that_is_not_finite_is_not_written(files, tmp_path, capsys, monkeypatch):
    picture, mask = files
    monkeypatch.setattr(
        "fixpoint.adapters.diffusion.sampling.Sampling.step",
        lambda self, latent, index: latent * torch.nan,
    )
    out = tmp_path / "out"
    assert run(picture, "--mask", mask, *SHORT, "--refine", "0", "--out", out, "--quiet") == 1
    assert "not finite" in capsys.readouterr().err
    assert not out.exists()


def bad_inputs(folder, picture, mask):
    Image.new("L", (32, 64), 255).save(folder / "narrow.png")
    Image.new("L", (64, 64)).save(folder / "black.png")
    Image.new("L", (64, 64), 255).save(folder / "white.png")
    (folder / "file").write_text("x")
    good = [picture, "--mask", mask, *SHORT]
    return {
        "missing picture": ([folder / "no.png", *good[1:]], "does not exist"),
        "missing mask": ([picture, "--mask", folder / "no.png", *SHORT], "does not exist"),
        "narrow mask": ([picture, "--mask", folder / "narrow.png", *SHORT], "64 x 32"),
        "black mask": ([picture, "--mask", folder / "black.png", *SHORT], "nothing to draw"),
        "white mask": ([picture, "--mask", folder / "white.png", *SHORT], "no latent cell"),
        "steps": ([*good, "--steps", "0"], "--steps must be at least 1"),
        "guidance": ([*good, "--guidance", "0.5"], "--guidance must be at least 1"),
        "refine": ([*good, "--refine", "-1"], "--refine must be at least 0"),
        "missing model": ([*good, "--model", folder / "no"], "does not exist"),
        "out is a file": ([*good, "--out", folder / "file"], "cannot write"),
        "json is a folder": ([*good, "--json", folder], "is a folder"),
        "device": ([*good, "--device", "abacus"], "abacus"),
    }


def test_bad_input_is_refused_and_leaves_nothing_behind(files, tmp_path):
    out = tmp_path / "out"
    for arguments, words in bad_inputs(tmp_path, *files).values():
        given = [] if "--out" in arguments else ["--out", out]
        with pytest.raises((ValueError, OSError), match=words):
            run(*arguments, *given, "--quiet")
        assert not out.exists()
