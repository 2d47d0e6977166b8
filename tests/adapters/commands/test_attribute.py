import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fixpoint.adapters import to_pil
from fixpoint.adapters.commands import attribute as attribute_command
from fixpoint.adapters.commands import main as main_command
from fixpoint.adapters.commands.options import one_line
from fixpoint.adapters.provenance.attribution import Calibration

pytestmark = [pytest.mark.usefixtures("no_network"), pytest.mark.slow]  # inverts many pictures


def run(*arguments):
    """`fixpoint attribute`, as the command line runs it."""
    options = main_command.parser().parse_args(["attribute", *map(str, arguments)])
    return main_command.execute(options)


@pytest.fixture
def pictures(generated, photograph, tmp_path):
    """A picture that the model made, and a photograph."""
    to_pil(generated[1][0]).save(tmp_path / "own.png")
    to_pil(photograph[0]).save(tmp_path / "real.png")
    return tmp_path / "own.png", tmp_path / "real.png"


@pytest.fixture
def reals(photograph, tmp_path):
    """Four crops of 32 x 32 as files, which the model did not make."""
    paths = []
    for index in range(4):
        top, left = 32 * (index // 2), 32 * (index % 2)
        paths.append(tmp_path / f"crop-{index}.png")
        to_pil(photograph[0, :, top : top + 32, left : left + 32]).save(paths[-1])
    return paths


@pytest.mark.parametrize("model", ["kl", "diffusion"])
def test_an_embedded_model_needs_no_real_pictures(model, pictures, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run(*pictures, "--model", model, "--json", report) == 0
    own, real = json.loads(report.read_text())["pictures"]
    assert own["made_by_model"]
    assert own["p_value"] <= 0.01
    assert own["score_db"] > 20
    assert not real["made_by_model"]
    assert real["score_db"] < 10
    shown = capsys.readouterr()
    assert f"{pictures[0]}: made by this model, p = 0.01" in shown.out
    assert f"{pictures[1]}: not attributed to this model" in shown.out
    assert shown.err == ""


def test_real_pictures_calibrate_and_are_kept(pictures, reals, tmp_path, capsys):
    kept, report = tmp_path / "kept.json", tmp_path / "report.json"
    rate = ("--false-positive-rate", "0.2", "--json", report)
    assert run(*pictures, *rate, "--real", *reals, "--save-calibration", kept) == 0
    first = json.loads(report.read_text())["pictures"]
    assert [entry["made_by_model"] for entry in first] == [True, False]
    assert len(Calibration.load(kept).groups["real"]) == 4
    assert run(*pictures, *rate, "--calibration", kept, "--quiet") == 0
    again = json.loads(report.read_text())["pictures"]
    for before, after in zip(first, again, strict=True):
        assert before["p_value"] == after["p_value"]
        assert before["score_db"] == pytest.approx(after["score_db"], abs=1e-6)


def test_jpeg_files_are_calibrated_with_their_own_settings(
    generated, photograph, reals, tmp_path, capsys
):
    to_pil(generated[1][0]).save(tmp_path / "own.jpg", quality=95)
    to_pil(photograph[0]).save(tmp_path / "real.jpg", quality=80)
    rate, report = ("--false-positive-rate", "0.2"), tmp_path / "report.json"
    files = tmp_path / "own.jpg", tmp_path / "real.jpg"
    assert run(*files, *rate, "--real", *reals, "--json", report) == 0
    own, real = json.loads(report.read_text())["pictures"]
    assert own["made_by_model"]
    assert not real["made_by_model"]
    assert capsys.readouterr().out.count("calibrating on 4 pictures: Jpeg") == 2


def test_quiet_prints_nothing(pictures, capsys):
    assert run(*pictures, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def bad_inputs(folder, pictures, reals):
    own = pictures[0]
    Image.new("RGB", (63, 64)).save(folder / "odd.png")
    Image.new("RGB", (64, 64)).save(folder / "picture.jpg")
    (folder / "text.json").write_text("x")
    save_file({"latent": torch.zeros(1)}, folder / "file.safetensors")
    few = ["--real", *reals]
    rate = ["--false-positive-rate", "0.2"]
    return {
        "missing": ([folder / "no.png"], "does not exist"),
        "odd sides": ([folder / "odd.png"], "odd.png: picture sides must be multiples of 4"),
        "odd real": ([own, *rate, *few, folder / "odd.png"], "odd.png: picture sides"),
        "jpeg": ([folder / "picture.jpg"], "picture.jpg: the calibration holds for"),
        "too few": ([own, *few], "needs 99 pictures in --real, got 4"),
        "rate of a file": ([own, "--false-positive-rate", "0.001"], "at least 999 pictures"),
        "no rate": ([own, "--false-positive-rate", "1"], "between 0 and 1"),
        "nothing": ([own, "--model", folder], "nothing to compare"),
        "no calibration": ([own, "--calibration", folder / "text.json"], "not a calibration"),
        "nothing to keep": ([own, "--save-calibration", folder / "k.json"], "give --real"),
        "several to keep": (
            [own, folder / "picture.jpg", *rate, *few, "--save-calibration", folder / "k.json"],
            "need several",
        ),
        "noise": ([own, "--noise-level", "0"], "level of the noise must be above 0"),
        "noise of the embedded": ([own, "--noise-level", "0.1"], "WhiteNoise"),
        "device": ([own, "--device", "abacus"], "abacus"),
        "json is a folder": ([own, "--json", folder], "is a folder"),
    }


def test_bad_input_is_refused_in_one_line_before_a_model_is_loaded(
    pictures, reals, tmp_path, monkeypatch
):
    cases = bad_inputs(tmp_path, pictures, reals)
    loads = ("odd sides", "odd real")  # the factor is the model's

    def load(options):
        pytest.fail("a model was loaded")

    for name, (arguments, words) in cases.items():
        with monkeypatch.context() as patch:
            if name not in loads:
                patch.setattr(attribute_command, "load_autoencoder", load)
            with pytest.raises((ValueError, OSError), match=words) as caught:
                run(*arguments, "--quiet")
        assert "\n" not in one_line(caught.value)


def test_the_calibration_of_another_model_is_refused(pictures, tmp_path):
    Calibration.embedded("adversarial").save(tmp_path / "other.json")
    with pytest.raises(ValueError, match="another model"):
        run(pictures[0], "--calibration", tmp_path / "other.json", "--quiet")


def test_an_interrupted_run_reports_what_was_done(pictures, tmp_path, monkeypatch):
    once, report = [], tmp_path / "report.json"
    plain = attribute_command.attribute

    def interrupted(*arguments, **options):
        if once:
            raise KeyboardInterrupt
        once.append(1)
        return plain(*arguments, **options)

    monkeypatch.setattr(attribute_command, "attribute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*pictures, "--json", report, "--quiet")
    assert len(json.loads(report.read_text())["pictures"]) == 1
