import pipelines
import pytest
import torch
from PIL import Image
from watermark_cases import embed, load, report_of, run

from fixpoint.adapters.commands.watermark import recovery
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.noise_recovery import DECODER_INVERSIONS

pytestmark = pytest.mark.usefixtures("no_network")


def test_without_a_prompt_there_is_no_guidance(model, tmp_path):
    pictures = embed(tmp_path / "o", "ring", count=1)
    told = {"decoder_inversion": "ours", "steps": 50, "method": "naive"}
    run("detect", *pictures, "--key", "ring")
    assert model.calls[-1] == {"prompt": "", "guidance": 1.0} | told
    run("detect", *pictures, "--key", "ring", "--prompt", "a hill")
    assert model.calls[-1] == {"prompt": "a hill", "guidance": 3.0} | told
    options = ["--guidance", 7.5, "--steps", 20, "--method", "encoder"]
    options += ["--sampling-inversion", "backward-euler"]
    run("classify", *pictures, "--prompt", "a hill", *options)
    assert model.calls[-1] == {
        "prompt": "a hill",
        "guidance": 7.5,
        "steps": 20,
        "decoder_inversion": "encoder",
        "method": "backward-euler",
    }


def test_a_picture_whose_noise_is_not_finite_does_not_harm_the_others(
    model, tmp_path, monkeypatch, capsys
):
    pictures = embed(tmp_path / "o", "paper-2", count=2)
    recover = model.recover

    def fail_once(*arguments, **options):
        found = recover(*arguments, **options)
        if len(model.calls) == 2:  # the first was to embed
            found.noise[0, 1, 0, 0] = torch.nan
        return found

    monkeypatch.setattr(recovery, "recover_noise", fail_once)
    report = tmp_path / "r.json"
    options = ["--truth", "paper-2", "--json", report]
    assert run("classify", *pictures, *options) == 1
    content = report_of(report)
    assert [entry["status"] for entry in content["pictures"]] == ["NONFINITE", "DONE"]
    assert content["confusion"] == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert "NONFINITE" in capsys.readouterr().out


def test_an_interrupted_run_reports_what_was_done(model, tmp_path, monkeypatch):
    pictures = embed(tmp_path / "o", "ring", count=2)
    recover = model.recover

    def interrupt(*arguments, **options):
        if len(model.calls) == 2:
            raise KeyboardInterrupt
        return recover(*arguments, **options)

    monkeypatch.setattr(recovery, "recover_noise", interrupt)
    report = tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt):
        run("detect", *pictures, "--key", "ring", "--json", report)
    assert [entry["picture"] for entry in report_of(report)["pictures"]] == [str(pictures[0])]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["embed", "--key", "ring", "--prompt", "x", "--count", "0"], "--count"),
        (["embed", "--key", "ring", "--prompt", "x", "--steps", "0"], "--steps"),
        (["embed", "--key", "ring", "--prompt", "x", "--guidance", "nan"], "--guidance"),
        (["embed", "--key", "ring", "--prompt", "x", "--radius", "8"], "below half"),
        (["embed", "--key", "ring", "--prompt", "x", "--channel", "4"], "4 channels"),
        (["embed", "--key", "zeros", "--prompt", "x", "--key-seed", "1"], "--key-seed"),
        (["detect", "PICTURE", "--key", "missing"], "neither a file nor one of"),
        (["detect", "PICTURE", "--key", "PICTURE"], "not a readable safetensors file"),
        (["detect", "PICTURE", "--key", "KEY", "--radius", "4"], "--radius belongs"),
        (["detect", "PICTURE", "--key", "ring", "--guidance", "2"], "--guidance belongs"),
        (["detect", "PICTURE", "--key", "ring", "--false-positive-rate", "1"], "positive-rate"),
        (["detect", "missing.png", "--key", "ring"], "does not exist"),
        (["detect", "ODD", "--key", "ring"], "multiples of 2"),
        (["detect", "SMALL", "--key", "KEY"], "SMALL.*the noise has"),
        (["detect", "SMALL", "--key", "ring"], "does not fit a latent of 4 x 4"),
        (["classify", "PICTURE", "--keys", "zeros", "zeros"], "two keys are called"),
        (["classify", "PICTURE", "--truth", "ring"], "--truth ring: the keys are paper-1"),
        (["classify", "PICTURE", "--truth", "paper-1", "paper-2"], "2 for 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_before_any_model_runs(model, tmp_path, arguments, words):
    (picture,) = embed(tmp_path / "good", "ring", count=1)
    names = {"PICTURE": picture, "KEY": tmp_path / "good" / "key.safetensors"}
    for name, side in (("ODD", 33), ("SMALL", 8)):
        names[name] = tmp_path / f"{name}.png"
        Image.new("RGB", (side, side)).save(names[name])
    model.calls.clear()
    if arguments[0] == "embed":
        arguments = [*arguments, "--out", tmp_path / "o"]
    with pytest.raises(ValueError, match=words):
        run(*(names.get(argument, argument) for argument in arguments))
    assert model.calls == []
    assert not (tmp_path / "o").exists()


def test_the_commands_run_a_pipeline_of_diffusers(tmp_path, monkeypatch):
    """Its weights are random: what it does to the key says nothing, that it runs does."""
    tiny = LatentDiffusion.from_diffusers(pipelines.stable_diffusion())
    load(monkeypatch, tiny)
    sampling = ["--steps", 2, "--radius", 3]
    pictures = embed(tmp_path / "o", "paper-1", *sampling, count=1)
    report = tmp_path / "r.json"
    for method in DECODER_INVERSIONS:
        options = ["--key", "paper-1", "--method", method, "--json", report]
        assert run("detect", *pictures, *sampling, *options) == 0
        assert report_of(report)["pictures"][0]["status"] == "DONE"
    assert run("classify", *pictures, *sampling, "--prompt", "a hill") == 0


def test_options_that_only_the_model_can_refuse_are_refused_before_any_picture(
    tmp_path, monkeypatch
):
    tiny = LatentDiffusion.from_diffusers(pipelines.stable_diffusion())
    load(monkeypatch, tiny)
    Image.new("RGB", (16, 16)).save(tmp_path / "picture.png")
    detect = ["detect", tmp_path / "picture.png", "--key", "ring", "--radius", 3]
    for options, words in (
        (["--steps", 2000], "from 1 to 1000"),
        (["--prompt", "a hill", "--guidance", 0.5], "guidance must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            run(*detect, *options)
