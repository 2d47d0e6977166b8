"""A round trip inside pipelines of diffusers: known pictures never pass the encoder."""

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image
from pipelines import stable_diffusion

from fixpoint.adapters import Autoencoder, Origin, RoundTrip, as_pictures, to_pil


@pytest.fixture(scope="module")
def parts():
    return stable_diffusion().components


@pytest.fixture(scope="module")
def trip_and_picture(parts):
    trip = RoundTrip(Autoencoder.from_diffusers(parts["vae"]))
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return trip, trip.decode(latent), latent


def image_of(picture):
    return to_pil(picture[0])


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_img2img_begins_at_the_latent_that_is_known(parts, trip_and_picture, monkeypatch):
    trip, picture, latent = trip_and_picture
    pipe = quiet(StableDiffusionImg2ImgPipeline(**parts))
    begun = []
    add_noise = type(pipe.scheduler).add_noise
    monkeypatch.setattr(
        type(pipe.scheduler),
        "add_noise",
        lambda self, z, *rest: begun.append(z.clone()) or add_noise(self, z, *rest),
    )
    options = {"prompt": "x", "image": image_of(picture), "strength": 0.5}
    with trip.inside(pipe):
        made = pipe(**options, num_inference_steps=2).images[0]
    assert torch.allclose(begun[0], latent, atol=1e-6)
    assert trip.encode(made).origin == (Origin.REMEMBERED,)
    pipe(**options, num_inference_steps=2)
    assert not torch.allclose(begun[1], latent, atol=1e-3)


def test_inpainting_keeps_the_latent_of_the_background(parts, trip_and_picture):
    trip, picture, latent = trip_and_picture
    pipe = quiet(StableDiffusionInpaintPipeline(**parts))
    side = picture.shape[-1]
    mask = Image.new("L", (side, side), 0)
    mask.paste(255, (0, 0, side // 2, side))
    options = {"prompt": "x", "image": image_of(picture), "mask_image": mask, "height": side}
    with trip.inside(pipe):
        made = pipe(**options, width=side, num_inference_steps=2).images[0]
    found = trip.encode(made)
    assert found.origin == (Origin.REMEMBERED,)
    half = latent.shape[-1] // 2
    assert torch.allclose(found.latent[..., half:], latent[..., half:], atol=1e-5)
    assert as_pictures(made).values.shape == picture.shape


def test_the_autoencoder_is_left_as_it_was(parts, trip_and_picture):
    trip, *_ = trip_and_picture
    pipe = StableDiffusionImg2ImgPipeline(**parts)
    before = dict(vars(pipe.vae))
    with trip.inside(pipe):
        assert "encode" in vars(pipe.vae)
    with pytest.raises(TypeError), trip.inside(pipe):
        pipe.vae.decode(None)
    assert dict(vars(pipe.vae)) == before


def test_another_pipelines_autoencoder_is_refused(trip_and_picture):
    trip, *_ = trip_and_picture
    other = StableDiffusionImg2ImgPipeline(**stable_diffusion().components)
    with pytest.raises(ValueError, match="another autoencoder"), trip.inside(other):
        pass
    forgetful = RoundTrip.of(other, capacity=0)
    with pytest.raises(ValueError, match="capacity 0"), forgetful.inside(other):
        pass
