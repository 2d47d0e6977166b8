import json

import pytest
import torch

from fixpoint.adapters import Autoencoder


def test_latents_are_in_the_pipelines_scaling(tiny_vae):
    vae = tiny_vae(scaling_factor=0.37, shift_factor=0.11)
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        raw = vae.encode(x).latent_dist.mode()
        autoencoder = Autoencoder.from_diffusers(vae)
        latent = autoencoder.encode(x)
        torch.testing.assert_close(latent, (raw - 0.11) * 0.37)
        torch.testing.assert_close(autoencoder.raw(latent), raw)
        torch.testing.assert_close(autoencoder.decode(latent), vae.decode(raw).sample)


def test_statistics_per_channel_are_applied(tiny_vae):
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    vae = tiny_vae(scaling_factor=0.5, latents_mean=mean, latents_std=std)
    x = torch.rand(1, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        raw = vae.encode(x).latent_dist.mode()
        expected = (raw - torch.tensor(mean).reshape(1, 4, 1, 1)) * 0.5
        expected = expected / torch.tensor(std).reshape(1, 4, 1, 1)
        torch.testing.assert_close(Autoencoder.from_diffusers(vae).encode(x), expected)


def test_the_mode_is_taken_and_encoding_is_repeatable(autoencoder, photograph):
    with torch.no_grad():
        assert torch.equal(autoencoder.encode(photograph), autoencoder.encode(photograph))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_model_keeps_its_dtype_and_gives_float32(tiny_vae, dtype):
    vae = tiny_vae().to(dtype)
    autoencoder = Autoencoder.from_diffusers(vae)
    with torch.no_grad():
        latent = autoencoder.encode(torch.zeros(1, 3, 8, 8))
        picture = autoencoder.decode(latent)
    assert latent.dtype == picture.dtype == torch.float32
    assert vae.dtype == autoencoder.dtype == dtype
    assert autoencoder.factor == 2


def test_a_folder_and_a_pipeline_folder_are_loaded(tiny_vae, tmp_path, no_network):
    vae = tiny_vae()
    vae.save_pretrained(tmp_path / "alone")
    vae.save_pretrained(tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    x = torch.rand(1, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        expected = Autoencoder.from_diffusers(vae).encode(x)
        for folder in ("alone", "pipeline"):
            autoencoder = Autoencoder.from_pretrained(tmp_path / folder)
            torch.testing.assert_close(autoencoder.encode(x), expected)
    half = Autoencoder.from_pretrained(tmp_path / "alone", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_folders_that_hold_no_model_are_refused_without_the_network(tiny_vae, tmp_path, no_network):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text("not json")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    tiny_vae().save_pretrained(tmp_path / "pickled", safe_serialization=False)
    tiny_vae().save_pretrained(tmp_path / "cut")
    weights = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for name, error, words in (
        ("missing", FileNotFoundError, "does not exist"),
        ("file", FileNotFoundError, "is not a folder"),
        ("empty", FileNotFoundError, "is not a model folder"),
        ("text", ValueError, "names no diffusers class"),
        ("other", TypeError, "UNet2DModel"),
        ("pickled", FileNotFoundError, "no safetensors weights"),
        ("cut", ValueError, "could not be loaded"),
    ):
        with pytest.raises(error, match=words):
            Autoencoder.from_pretrained(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"in_channels": 4}, "in_channels 4"),
        ({"scaling_factor": 0.0}, "scaling_factor.*above 0.*got 0.0"),
        ({"latents_mean": [0.0, 1.0]}, "latents_mean.*4 of them"),
        ({"latents_std": [1.0, -1.0, 1.0, 1.0]}, "latents_std.*above 0"),
        ({"shift_factor": "abc"}, "shift_factor.*'abc'"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(tiny_vae, change, words):
    with pytest.raises(ValueError, match=words):
        Autoencoder.from_diffusers(tiny_vae(**change))


def test_weights_that_do_not_fit_the_configuration_are_refused(tiny_vae, tmp_path, capsys):
    from safetensors.torch import load_file, save_file

    tiny_vae().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file(dict(list(weights.items())[1:]), path)
    with pytest.raises(ValueError, match=r"do not fit.*1 missing keys"):
        Autoencoder.from_pretrained(tmp_path)
    save_file({name: value[..., None] for name, value in weights.items()}, path)
    with pytest.raises(ValueError, match="could not be loaded"):
        Autoencoder.from_pretrained(tmp_path)
    assert capsys.readouterr().err == ""


def test_unknown_classes_and_names_are_refused():
    with pytest.raises(TypeError, match="Linear is not supported"):
        Autoencoder.from_diffusers(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="adversarial"):
        Autoencoder.embedded("large")


@pytest.mark.parametrize(("name", "factor", "psnr"), [("kl", 4, 28), ("adversarial", 8, 22)])
def test_the_embedded_autoencoders_are_small_alive_and_good(name, factor, psnr, no_network):
    from pathlib import Path

    import fixpoint.adapters.autoencoders.autoencoder as module
    from fixpoint.adapters.commands.demonstration import photograph

    folder = Path(module.__file__).parents[1] / "models" / name
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert 1e6 < size <= 8e6
    assert (folder / "README.md").is_file()
    autoencoder = Autoencoder.embedded(name)
    assert autoencoder.factor == factor
    report = json.loads((folder / "training.json").read_text())
    assert report["psnr_db"] >= psnr  # on the 48 held-out crops of the benchmark
    assert min(report["reaction_per_channel"]) > 0.02
    picture = photograph(128)  # held out as well
    crops = (
        picture.unfold(2, 64, 32).unfold(3, 64, 32).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 64, 64)
    )
    with torch.no_grad():
        output = autoencoder.decode(autoencoder.encode(crops)).clamp(-1, 1)
    error = (output - crops).square().flatten(1).mean(1)
    assert float((10 * (4 / error).log10()).mean()) >= psnr


@pytest.mark.parametrize("name", ["kl", "adversarial"])
def test_every_latent_channel_is_alive(name, photograph):
    """Decoding reacts to each channel, and encoding sees the reaction."""
    autoencoder = Autoencoder.embedded(name)
    with torch.no_grad():
        latent = autoencoder.encode(photograph)
        base = autoencoder.decode(latent)
        for channel in range(autoencoder.channels):
            moved = latent.clone()
            step = 0.2 * latent[:, channel].std()
            moved[:, channel] += step
            picture = autoencoder.decode(moved)
            assert float((picture - base).square().mean().sqrt()) > 2e-3
            change = autoencoder.encode(picture) - autoencoder.encode(base)
            assert float(change[:, channel].mean()) > 0.1 * float(step)
