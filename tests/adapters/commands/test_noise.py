import json
import re

import pipelines
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixpoint.adapters import Autoencoder, EightBit, to_pil
from fixpoint.adapters.commands import main as main_command
from fixpoint.adapters.commands.options import one_line
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion

pytestmark = [pytest.mark.usefixtures("no_network"), pytest.mark.slow]
STEPS = 2


def main(arguments):
    """The command by itself, with the exit codes of `fixpoint`."""
    options = main_command.parser().parse_args([str(argument) for argument in arguments])
    try:
        return main_command.execute(options)
    except (ValueError, TypeError, OSError) as error:
        raise SystemExit(one_line(error)) from None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random pipeline around the embedded autoencoder."""
    made = pipelines.stable_diffusion(smoothness=2.0, scheduled=pipelines.mild_scheduler())
    made.register_modules(vae=Autoencoder.embedded().model)
    where = tmp_path_factory.mktemp("pipeline")
    made.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def files(folder, photograph, tmp_path_factory):
    """An 8-bit picture, another one, and the noise that the first was made of."""
    model = LatentDiffusion.from_pretrained(folder)
    sampling = model.sampling("a cat", steps=STEPS)
    with torch.no_grad():
        latent = model.autoencoder.encode(photograph[..., :32, :32])
    noise = sampling.invert(latent, "backward-euler").noise
    made = EightBit()(model.decode(sampling.generate(noise)))
    where = tmp_path_factory.mktemp("files")
    to_pil(made[0]).save(where / "one.png")
    to_pil(photograph[0, :, 32:, 32:]).save(where / "two.png")
    save_file({"noise": noise}, where / "truth.safetensors")
    return where


def test_noise_latent_and_json_are_written(folder, files, tmp_path, capsys):
    out, report = tmp_path / "out", tmp_path / "report.json"
    options = ["--model", folder, "--prompt", "a cat", "--steps", STEPS, "--out", out]
    options += ["--method", "backward-euler", "--json", report]
    truth = ["--truth", files / "truth.safetensors"]
    assert main(["noise", files / "one.png", *options, *truth]) == 0
    written = sorted(path.name for path in out.iterdir())
    assert written == ["one.latent.safetensors", "one.noise.safetensors"]
    content = json.loads(report.read_text())
    assert content["prompt"] == "a cat"
    assert content["steps"] == STEPS
    assert content["guidance"] == 1.0
    (entry,) = content["pictures"]
    assert entry["status"] == "CONVERGED"
    assert entry["nmse_db"] < -25
    assert entry["decoder"]["psnr_db"] > 40
    assert entry["network_evaluations"] > 2 * STEPS
    found = load_file(out / "one.noise.safetensors")["noise"]
    noise = load_file(files / "truth.safetensors")["noise"]
    error = 20 * float(((found - noise).norm() / noise.norm()).log10())
    assert entry["nmse_db"] == pytest.approx(error, abs=1e-3)
    shown = capsys.readouterr()
    assert f"NMSE of the noise {entry['nmse_db']:.1f} dB" in shown.out
    assert shown.err == ""


def test_the_encoder_alone_and_the_naive_inversion_are_worse(folder, files, tmp_path):
    def nmse(*options):
        report = tmp_path / "report.json"
        common = ["--model", folder, "--prompt", "a cat", "--steps", STEPS, "--quiet"]
        common += ["--truth", files / "truth.safetensors", "--out", tmp_path, "--json", report]
        assert main(["noise", files / "one.png", *common, *options]) == 0
        return json.loads(report.read_text())["pictures"][0]["nmse_db"]

    best = nmse("--method", "backward-euler")
    assert best < nmse("--method", "backward-euler", "--decoder-inversion", "encoder")
    assert best < nmse()


def test_several_pictures_go_one_after_the_other(folder, files, tmp_path, capsys):
    pictures = [files / "one.png", files / "two.png"]
    options = ["--model", folder, "--steps", STEPS, "--out", tmp_path / "out", "--quiet"]
    assert main(["noise", *pictures, *options, "--decoder-inversion", "encoder"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", 0], "--steps must be at least 1"),
        (["--steps", 2000], "steps must be a whole number from 1 to 1000"),
        (["--guidance", 0.5], "--guidance must be at least 1"),
        (["--negative-prompt", "dark"], "--guidance above 1"),
        (["--truth", "{files}/one.png"], "not a readable safetensors file"),
        (["--truth", "{files}/wrong.safetensors"], "the true noise has shape (1, 2)"),
        (["--model", "{files}/none"], "does not exist"),
        (["{files}/one.png"], "one.png would write the same results"),
        (["{files}/missing.png"], "missing.png does not exist"),
        (["{files}/odd.png"], "odd.png: "),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing_behind(folder, files, tmp_path, options, words):
    save_file({"noise": torch.ones(1, 2)}, files / "wrong.safetensors")
    to_pil(torch.zeros(3, 30, 33)).save(files / "odd.png")
    filled = [str(option).format(files=files) for option in options]
    out = ["--out", tmp_path / "out", "--json", tmp_path / "report.json"]
    with pytest.raises(SystemExit, match=re.escape(words)):
        main(["noise", "--model", folder, "--steps", STEPS, *filled, files / "one.png", *out])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_method_is_refused(files, capsys):
    with pytest.raises(SystemExit):
        main(["noise", files / "one.png", "--method", "exact"])
    assert "invalid choice: 'exact'" in capsys.readouterr().err
