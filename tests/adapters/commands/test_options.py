import argparse

import pytest
import torch

from fixpoint.adapters.commands.main import parser
from fixpoint.adapters.commands.options import load_autoencoder, load_diffusion
from fixpoint.adapters.diffusion import latent_diffusion


def test_the_model_is_loaded_as_it_is_named(monkeypatch, tmp_path):
    loaded = []
    for source in ("embedded", "from_pretrained"):
        monkeypatch.setattr(
            latent_diffusion.LatentDiffusion,
            source,
            lambda name, source=source, **options: loaded.append((source, name, options)),
        )
    placed = {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    of_the_hub = {"revision": "v2", "local_files_only": False}
    for name in ("diffusion", "flow", str(tmp_path)):
        folder = name == str(tmp_path)
        options = argparse.Namespace(model=name, dtype="bfloat16", device="cpu", quiet=False)
        options.revision, options.download = "v2" if folder else None, folder
        load_diffusion(options)
    assert loaded == [
        ("embedded", "diffusion", placed),
        ("embedded", "flow", placed),
        ("from_pretrained", str(tmp_path), placed | of_the_hub),
    ]


@pytest.mark.parametrize(("quiet", "lines"), [(False, 1), (True, 0)])
def test_a_model_that_nobody_chose_is_named_first(quiet, lines, capsys):
    for arguments, load in (
        (["invert", "p.png"], load_autoencoder),
        (["verify"], load_autoencoder),
    ):
        load(parser().parse_args([*arguments, *["--quiet"] * quiet]))
        shown = capsys.readouterr().out
        assert shown.count("the small demonstration model that comes with fixpoint") == lines
    load_autoencoder(parser().parse_args(["invert", "p.png", "--model", "kl"]))
    assert capsys.readouterr().out == ""


def test_a_model_of_the_other_kind_is_told_where_it_applies():
    with pytest.raises(ValueError, match=r"kl is an autoencoder, .* diffusion or flow"):
        load_diffusion(parser().parse_args(["noise", "p.png", "--model", "kl"]))
    decoder = load_autoencoder(parser().parse_args(["invert", "p.png", "--model", "flow"]))
    assert decoder.name == "AutoencoderKL"


@pytest.mark.parametrize("option", [["--subfolder", "vae"], ["--revision", "v2"], ["--download"]])
def test_where_a_model_comes_from_is_refused_for_one_that_is_there(option):
    for model in ([], ["--model", "flow"], ["--pair", "os:getcwd"]):
        with pytest.raises(ValueError, match=f"{option[0]} does not go with"):
            load_autoencoder(parser().parse_args(["invert", "p.png", *model, *option]))


def test_a_mistyped_model_is_answered_with_the_nearest():
    with pytest.raises(FileNotFoundError, match="did you mean adversarial"):
        load_autoencoder(parser().parse_args(["demo", "--model", "adverserial"]))
    with pytest.raises(FileNotFoundError, match="--download"):
        load_diffusion(parser().parse_args(["noise", "p.png", "--model", "acme/none"]))
