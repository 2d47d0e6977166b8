import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fixpoint.adapters import invert, to_pil
from fixpoint.adapters.commands.main import main

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def picture(generated, tmp_path):
    """A PNG with a known latent beside it."""
    latent, seen = generated
    to_pil(seen[0]).save(tmp_path / "picture.png")
    save_file({"latent": latent}, tmp_path / "truth.safetensors")
    return tmp_path / "picture.png"


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_invert_writes_latent_reconstruction_report_and_json(picture, tmp_path, capsys, generated):
    out, report = tmp_path / "out", tmp_path / "report.json"
    truth = str(tmp_path / "truth.safetensors")
    options = ["--out", str(out), "--json", str(report), "--truth", truth]
    assert main(["invert", str(picture), *options]) == 0
    assert files_in(out) == [
        "picture.latent.safetensors",
        "picture.reconstruction.png",
        "picture.report.png",
    ]
    latent = load_file(out / "picture.latent.safetensors")["latent"]
    (entry,) = json.loads(report.read_text())["pictures"]
    assert entry["nmse_db"] < -40
    assert entry["observation"] == "RoundingCells(tolerance=0.8)"
    error = (latent - generated[0]).norm() / generated[0].norm()
    assert entry["nmse_db"] == pytest.approx(20 * float(error.log10()), abs=1e-3)
    assert entry["status"] in ("CONVERGED", "NOISE_FLOOR")
    assert Image.open(out / "picture.reconstruction.png").size == (64, 64)
    shown = capsys.readouterr()
    assert f"NMSE {entry['nmse_db']:.1f} dB" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "forward-step", "--step-size", "0.8"],
        ["--method", "anderson"],
        ["--method", "inertial-km"],
        ["--method", "paper-adam"],
        ["--method", "broyden"],
        ["--method", "gradient"],
        ["--method", "gradient-lbfgs"],
        ["--noise-level", "0.02"],
        ["--observation", "none"],
        ["--observation", "clip"],
        ["--dtype", "bfloat16"],
    ],
    ids=" ".join,
)
def test_every_option_of_invert_runs_and_changes_the_latent(picture, tmp_path, options):
    limit = ["--iterations", "4", "--quiet"]
    assert main(["invert", str(picture), "--out", str(tmp_path / "a"), *limit]) == 0
    assert main(["invert", str(picture), "--out", str(tmp_path / "b"), *limit, *options]) == 0
    a, b = (load_file(tmp_path / f / "picture.latent.safetensors")["latent"] for f in "ab")
    assert a.shape == b.shape
    assert not torch.equal(a, b)


def test_the_encoder_alone_can_be_asked_for(picture, tmp_path, autoencoder):
    assert main(["invert", str(picture), "--out", str(tmp_path / "o"), "--method", "encoder"]) == 0
    latent = load_file(tmp_path / "o" / "picture.latent.safetensors")["latent"]
    assert torch.equal(latent, invert(autoencoder, picture, max_iterations=0).latent)


def test_a_model_folder_is_taken(picture, tmp_path, tiny_vae):
    tiny_vae().save_pretrained(tmp_path / "model")
    options = [
        "--model",
        str(tmp_path / "model"),
        "--out",
        str(tmp_path / "o"),
        "--iterations",
        "2",
    ]
    assert main(["invert", str(picture), *options]) in (0, 1)
    latent = load_file(tmp_path / "o" / "picture.latent.safetensors")["latent"]
    assert latent.shape == (1, 4, 32, 32)


def test_quiet_prints_nothing(picture, tmp_path, capsys):
    assert main(["invert", str(picture), "--out", str(tmp_path / "o"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def bad_inputs(folder, picture):
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture\n")
    data = picture.read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (63, 64)).save(folder / "odd.png")
    (folder / "empty model").mkdir()
    (folder / "file").write_text("x")
    save_file({"latent": torch.zeros(1, 4, 2, 2)}, folder / "small.safetensors")
    good = str(picture)
    return {
        "missing picture": ([str(folder / "no.png")], "does not exist"),
        "folder as picture": ([str(folder)], "is a folder"),
        "0 bytes": ([str(folder / "empty.png")], "0 bytes"),
        "text named png": ([str(folder / "text.png")], "not a picture"),
        "truncated": ([str(folder / "cut.png")], "damaged"),
        "sides": ([str(folder / "odd.png")], "multiples of 4"),
        "one bad of two": ([good, str(folder / "cut.png")], "damaged"),
        "missing model": ([good, "--model", str(folder / "no")], "does not exist"),
        "empty model": ([good, "--model", str(folder / "empty model")], "not a model folder"),
        "model is a file": ([good, "--model", str(folder / "file")], "not a folder"),
        "out is a file": ([good, "--out", str(folder / "file")], "cannot write"),
        "out below a file": ([good, "--out", str(folder / "file" / "o")], "cannot write"),
        "json below a file": ([good, "--json", str(folder / "file" / "j")], "cannot write"),
        "device": ([good, "--device", "abacus"], "abacus"),
        "method": ([good, "--method", "magic"], "magic"),
        "dtype": ([good, "--dtype", "int8"], "int8"),
        "iterations": ([good, "--iterations", "0"], "at least 1"),
        "json is a folder": ([good, "--json", str(folder)], "is a folder"),
        "step size": ([good, "--method", "forward-step", "--step-size", "0"], "step_size"),
        "stray step size": ([good, "--step-size", "1"], "--step-size belongs"),
        "encoder iterations": ([good, "--method", "encoder", "--iterations", "3"], "does not go"),
        "gradient observation": (
            [good, "--method", "gradient", "--observation", "clip"],
            "does not go",
        ),
        "no noise": ([good, "--noise-level", "0"], "level of the noise must be above 0"),
        "gradient noise": (
            [good, "--method", "gradient-lbfgs", "--noise-level", "0.02"],
            "does not go",
        ),
        "two observations": (
            [good, "--observation", "clip", "--noise-level", "0.02"],
            "leave --observation out",
        ),
        "jpeg of a png": ([good, "--observation", "jpeg"], "not a JPEG"),
        "truth of another size": ([good, "--truth", str(folder / "small.safetensors")], "shape"),
        "truth is no tensor": ([good, "--truth", str(folder / "file")], "safetensors"),
        "same names": ([good, good], "same results"),
        "no picture": ([], "PICTURE"),
    }


CASES = (
    *("missing picture", "folder as picture", "0 bytes", "text named png", "truncated", "sides"),
    *("one bad of two", "missing model", "empty model", "model is a file", "out is a file"),
    *("out below a file", "json below a file", "device", "method", "dtype", "iterations"),
    *("json is a folder",),
    *("step size", "stray step size", "encoder iterations", "gradient observation"),
    *("no noise", "gradient noise", "two observations"),
    *("jpeg of a png", "truth of another size", "truth is no tensor", "same names", "no picture"),
)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_clear_line_and_exit_code_2(case, picture, tmp_path, assert_refused):
    inputs = bad_inputs(tmp_path, picture)
    assert set(inputs) == set(CASES)
    arguments, words = inputs[case]
    assert_refused(["invert", *arguments], words, tmp_path / "out")


def test_a_picture_that_only_the_model_can_refuse_does_not_stop_the_others(
    picture, tmp_path, capsys, monkeypatch
):
    from fixpoint.adapters.autoencoders.diffusers_autoencoder import DiffusersAutoencoder

    encode = DiffusersAutoencoder.encode

    def broken(self, pictures):
        return encode(self, pictures) * (torch.nan if float(pictures.mean()) > 0.9 else 1)

    monkeypatch.setattr(DiffusersAutoencoder, "encode", broken)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    report = tmp_path / "report.json"
    arguments = [str(tmp_path / "white.png"), str(picture), "--json", str(report)]
    assert main(["invert", *arguments, "--out", str(tmp_path / "out")]) == 2
    white, other = json.loads(report.read_text())["pictures"]
    assert white["status"] == "REFUSED"
    assert other["latent"].endswith("picture.latent.safetensors")
    assert "white.png: E(x) contains NaN" in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_half_written_file(picture, tmp_path, capsys, monkeypatch):
    from fixpoint.adapters.reports import figures as report

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "inversion_figure", interrupt)
    out = tmp_path / "out"
    assert main(["invert", str(picture), "--out", str(out), "--json", str(tmp_path / "j")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert files_in(out) == ["picture.latent.safetensors", "picture.reconstruction.png"]
    assert json.loads((tmp_path / "j").read_text())["pictures"] == []


def test_a_diverging_inversion_is_called_so_and_exits_1(picture, tmp_path):
    report = tmp_path / "j"
    options = ["--method", "forward-step", "--step-size", "8", "--json", str(report)]
    assert main(["invert", str(picture), "--out", str(tmp_path / "o"), *options]) == 1
    assert json.loads(report.read_text())["pictures"][0]["status"] == "DIVERGED"


def test_names_with_odd_characters_are_no_obstacle(picture, tmp_path):
    odd = tmp_path / "a$_$b {\u732b}.png"
    odd.write_bytes(picture.read_bytes())
    assert main(["invert", str(odd), "--out", str(tmp_path / "o"), "--iterations", "1"]) == 0
    assert len(files_in(tmp_path / "o")) == 3
