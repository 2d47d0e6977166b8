import json
import sys

import pipelines
import pytest
import torch

from fixpoint import Status
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
PROMPT = "a cat"


@pytest.fixture(scope="module")
def pipeline():
    return pipelines.stable_diffusion()


@pytest.fixture(scope="module")
def model(pipeline):
    return LatentDiffusion.from_diffusers(pipeline)


def error(found, truth):
    return float((found - truth).norm() / truth.norm())


def test_a_folder_loads_without_the_network_and_draws_the_same(
    pipeline, model, tmp_path, no_network, capfd
):
    pipeline.save_pretrained(tmp_path / "model")
    capfd.readouterr()
    loaded = LatentDiffusion.from_pretrained(tmp_path / "model")
    assert capfd.readouterr().err == ""
    noise = model.noise(1)

    def made(by):
        return by.sampling(PROMPT, steps=2, guidance=2.0).generate(noise)

    assert torch.equal(made(loaded), made(model))
    half = LatentDiffusion.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_a_video_folder_goes_the_same_way(tmp_path, no_network):
    pipelines.text_to_video().save_pretrained(tmp_path)
    model = LatentDiffusion.from_pretrained(tmp_path)
    noise = model.noise(1, frames=2)
    sampling = model.sampling(PROMPT, steps=2)
    latent = sampling.generate(noise)
    video = model.decode(latent)
    assert video.shape == (1, 3, 2, 8, 8)
    assert model.autoencoder.medium == "video"
    assert model.autoencoder.encode(video).shape == latent.shape
    trajectory = sampling.invert(latent, "backward-euler")
    assert trajectory.status == (Status.CONVERGED,)
    assert error(trajectory.noise, noise) < 1e-4


def test_what_a_folder_lacks_is_said_before_anything_is_loaded(pipeline, tmp_path, no_network):
    def refused(kind, words):
        with pytest.raises(kind, match=words):
            LatentDiffusion.from_pretrained(tmp_path / "model")

    refused(FileNotFoundError, "does not exist")
    (tmp_path / "model").mkdir()
    refused(FileNotFoundError, r"model_index\.json")
    (tmp_path / "model" / "model_index.json").write_text("[]")
    refused(ValueError, "names no diffusers pipeline")
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    refused(TypeError, "FluxPipeline is not supported; supported pipelines: LDMPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    refused(FileNotFoundError, "no safetensors weights")
    weights.write_bytes(kept[:100])
    refused(ValueError, "could not be loaded")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModel"]
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    refused(FileNotFoundError, "no folder text_encoder_2")


def test_without_transformers_loading_says_what_to_install(pipeline, tmp_path, monkeypatch):
    pipeline.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"fixpoint\[diffusers\]"):
        LatentDiffusion.from_pretrained(tmp_path)
