"""An inversion is saved and read back, bit for bit."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fixpoint.adapters import Autoencoder, EightBit, Inversion, invert, read_latent
from fixpoint.adapters.pictures.observations import Jpeg, as_observation


@pytest.fixture(scope="module")
def found(photograph):
    return invert(Autoencoder.embedded(), photograph, max_iterations=3)


@pytest.mark.parametrize("observation", [EightBit(), Jpeg(quality=75)])
def test_what_is_read_back_is_what_was_saved(found, observation, tmp_path):
    found = replace(found, observation=observation)
    found.save(tmp_path / "found.safetensors")
    again = Inversion.load(tmp_path / "found.safetensors")
    for name in ("latent", "picture", "reconstruction", "evaluations"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert again.judgements == found.judgements
    assert again.status == found.status
    assert again.observation == found.observation
    assert again.seconds == found.seconds
    assert torch.equal(again.psnr_db, found.psnr_db)
    assert torch.equal(again.solution.history.residual_norm, found.solution.history.residual_norm)


def test_other_programs_find_the_latents_under_their_name(found, tmp_path):
    found.save(tmp_path / "found.safetensors")
    assert torch.equal(read_latent(tmp_path / "found.safetensors"), found.latent)
    assert torch.equal(load_file(tmp_path / "found.safetensors")["latent"], found.latent)


def test_a_function_as_observation_cannot_be_saved_and_leaves_no_file(found, tmp_path):
    found = replace(found, observation=as_observation(lambda pictures: pictures))
    with pytest.raises(TypeError, match=r"observation is a .*CallableObservation"):
        found.save(tmp_path / "found.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused(found, tmp_path):
    path = tmp_path / "found.safetensors"
    with pytest.raises(ValueError, match="no readable safetensors file"):
        Inversion.load(path)
    save_file({"latent": found.latent.contiguous()}, path)
    with pytest.raises(ValueError, match="no checkpoint of this version"):
        Inversion.load(path)
    found.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"no readable safetensors file|is damaged"):
        Inversion.load(path)
