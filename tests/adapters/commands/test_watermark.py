import argparse
import json

import pipelines
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fixpoint.adapters.commands import watermark as watermark_command
from fixpoint.adapters.commands.watermark import embed as embed_command
from fixpoint.adapters.commands.watermark import recovery
from fixpoint.adapters.commands.watermark.named_keys import KEYS
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.noise_recovery import DECODER_INVERSIONS
from fixpoint.adapters.pictures.pictures import as_pictures
from fixpoint.adapters.provenance.tree_ring import TreeRing

pytestmark = pytest.mark.usefixtures("no_network")

SCALE = 0.2  # of noise in the pictures of `Exact`


class Exact:
    """A model whose pictures show their noise, 8-bit rounding apart: 4 x 16 x 16 in 32 x 32."""

    def __init__(self):
        self.autoencoder = argparse.Namespace(factor=2, channels=4)
        self.calls = []

    def noise(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, 4, 16, 16, generator=generator)

    def check_sampling(self, prompt, **options):
        """Everything is taken."""

    def sampling(self, prompt, steps=50, guidance=1.0):
        self.calls.append({"prompt": prompt, "steps": steps, "guidance": guidance})
        return argparse.Namespace(generate=lambda noise, progress: noise)

    def decode(self, latent):
        shown = torch.pixel_shuffle(SCALE * latent, 2)
        return shown.expand(-1, 3, -1, -1).clamp(-1, 1)

    def recover(self, model, image, prompt="", *, progress, **options):
        assert model is self
        self.calls.append({"prompt": prompt} | options)
        grey = as_pictures(image).values.mean(1, keepdim=True)
        return argparse.Namespace(noise=torch.pixel_unshuffle(grey, 2) / SCALE)


def load(monkeypatch, model):
    """Make the commands load this model."""
    for command in (embed_command, recovery):
        monkeypatch.setattr(command, "load_diffusion", lambda options: model)


@pytest.fixture
def model(monkeypatch):
    exact = Exact()
    load(monkeypatch, exact)
    monkeypatch.setattr(recovery, "recover_noise", exact.recover)
    return exact


def run(*arguments):
    parser = argparse.ArgumentParser()
    watermark_command.add_to(parser.add_subparsers())
    options = parser.parse_args(["watermark", *map(str, arguments)])
    return options.run(options)


def embed(folder, key, *options, count=3):
    assert (
        run(
            "embed", "--prompt", "a hill", "--key", key, "--count", count, "--out", folder, *options
        )
        == 0
    )
    return sorted(folder.glob("*.png"))


def report_of(path):
    return json.loads(path.read_text())


def test_embed_writes_pictures_their_noise_and_the_key(model, tmp_path, capsys):
    pictures = embed(tmp_path / "o", "paper-1", "--seed", 3, "--json", tmp_path / "r.json")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "key.safetensors",
        *(f"paper-1-00{n}{end}" for n in range(3) for end in (".noise.safetensors", ".png")),
    ]
    assert Image.open(pictures[0]).size == (32, 32)
    key = TreeRing.load(tmp_path / "o" / "key.safetensors")
    noise = torch.cat(
        [load_file(path.with_suffix(".noise.safetensors"))["latent"] for path in pictures]
    )
    assert torch.equal(noise, key.embed(model.noise(3, seed=3)))
    report = report_of(tmp_path / "r.json")
    assert (report["key"], report["seed"], report["guidance"]) == ("paper-1", 3, 3.0)
    assert [entry["picture"] for entry in report["pictures"]] == [str(path) for path in pictures]
    assert model.calls == [{"prompt": "a hill", "steps": 50, "guidance": 3.0}]
    assert str(pictures[2]) in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--seed", "1"],
        ["--mask", "official"],
        ["--radius", "4"],
        ["--channel", "1"],
        ["--key-seed", "1"],
    ],
    ids=" ".join,
)
def test_every_option_of_embed_changes_the_noise(model, tmp_path, options):
    names = []
    for folder, extra in ((tmp_path / "a", []), (tmp_path / "b", options)):
        (picture,) = embed(folder, "ring", "--quiet", *extra, count=1)
        names.append(picture.with_suffix(".noise.safetensors"))
    a, b = (load_file(name)["latent"] for name in names)
    assert not torch.equal(a, b)


@pytest.mark.parametrize("key", KEYS)
def test_detect_finds_a_key_by_its_file_and_by_its_name_and_not_where_it_is_not(
    model, tmp_path, key
):
    marked = embed(tmp_path / "marked", key)
    other = embed(tmp_path / "other", "rand", "--key-seed", 5)
    for named in (tmp_path / "marked" / "key.safetensors", key):
        report = tmp_path / "r.json"
        assert run("detect", *marked, *other, "--key", named, "--json", report) == 0
        entries = report_of(report)["pictures"]
        assert [entry["found"] for entry in entries] == [True] * 3 + [False] * 3
        assert all(entry["log10_p"] < -10 for entry in entries[:3])
        assert all(entry["p_value"] > 0.01 for entry in entries[3:])
        assert max(e["distance"] for e in entries[:3]) < min(e["distance"] for e in entries[3:])


def test_detect_says_its_verdict_at_the_rate_asked_for(model, tmp_path, capsys):
    pictures = embed(tmp_path / "o", "ring", "--quiet", count=1)
    for rate, words in (("0.01", ": not found, p = "), ("0.999999", ": found, p = ")):
        run("detect", *pictures, "--key", "rand", "--false-positive-rate", rate)
        assert words in capsys.readouterr().out
    run("detect", *pictures, "--key", "ring", "--quiet")
    assert capsys.readouterr() == ("", "")


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


def test_classify_tells_the_papers_keys_apart_and_prints_the_confusion_matrix(
    model, tmp_path, capsys
):
    pictures = [
        path for n in (1, 2, 3) for path in embed(tmp_path / str(n), f"paper-{n}", "--quiet")
    ]
    truth = [path.name[:7] for path in pictures]
    report = tmp_path / "r.json"
    assert run("classify", *pictures, "--truth", *truth, "--json", report) == 0
    content = report_of(report)
    assert content["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert content["accuracy"] == 1
    assert [entry["label"] for entry in content["pictures"]] == truth
    shown = capsys.readouterr().out
    assert "9 of 9 right: 100.0% (95 % interval 66.4% to 100.0%)" in shown
    assert f"{pictures[0]}: paper-1 (distances: paper-1 " in shown


def test_classify_takes_any_keys_and_one_label_for_all_pictures(model, tmp_path):
    pictures = embed(tmp_path / "o", "rand", "--key-seed", 4)
    report, file = tmp_path / "r.json", tmp_path / "o" / "key.safetensors"
    options = ["--keys", "zeros", file, "ring", "--truth", "rand-4", "--json", report]
    assert run("classify", *pictures, *options) == 0
    assert report_of(report)["keys"] == ["zeros", "rand-4", "ring-0"]
    assert report_of(report)["confusion"] == [[0, 0, 0], [0, 3, 0], [0, 0, 0]]


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
