"""Nothing at all, in the place of pictures, videos or latents: one clear ValueError."""

import numpy as np
import pytest
import torch

from fixpoint.adapters import (
    Autoencoder,
    LatentDiffusion,
    PerFrame,
    as_pictures,
    as_videos,
    invert,
    invert_by_encoder,
    invert_by_gradient,
    invert_by_paper,
    invert_video,
    latent_box,
    latent_prior,
    nmse_db,
    recover_noise,
)
from fixpoint.adapters.diffusion.editing import edit
from fixpoint.adapters.provenance.attribution import Calibration, attribute, calibrate
from fixpoint.adapters.verification.verify import verify

PICTURES = {
    "no rows": torch.zeros(0, 3, 64, 64),
    "no rows, 8 bits": torch.zeros(0, 3, 64, 64, dtype=torch.uint8),
    "no height": torch.zeros(2, 3, 0, 64),
    "no width": torch.zeros(3, 64, 0),
    "array, no rows": np.zeros((0, 64, 64, 3), np.uint8),
    "array, no height": np.zeros((0, 64, 3), np.uint8),
    "array, no width": np.zeros((64, 0, 3), np.float32),
    "list": [],
    "tuple": (),
}
VIDEOS = {
    "no rows": torch.zeros(0, 3, 2, 64, 64),
    "no frames": torch.zeros(1, 3, 0, 64, 64),
    "no frames, one video": torch.zeros(0, 3, 64, 64),
    "array, no frames": np.zeros((0, 64, 64, 3), np.uint8),
    "array, no rows": np.zeros((0, 2, 64, 64, 3), np.uint8),
    "list": [],
    "list of lists": [[]],
}
RANGE = {"value_range": (-1, 1)}
NOTHING = PICTURES["no rows"]


@pytest.fixture(scope="module")
def autoencoder():
    return Autoencoder.embedded()


@pytest.fixture(scope="module")
def model():
    return LatentDiffusion.embedded()


@pytest.mark.parametrize("given", PICTURES)
def test_pictures(given, autoencoder):
    for call in (
        lambda image: as_pictures(image, (-1, 1)),
        lambda image: invert(autoencoder, image, **RANGE),
    ):
        with pytest.raises(ValueError, match=r"(image|picture) is empty"):
            call(PICTURES[given])


@pytest.mark.parametrize(
    "call",
    [
        lambda a: invert_by_encoder(a, NOTHING, **RANGE),
        lambda a: invert_by_gradient(a, NOTHING, **RANGE),
        lambda a: invert_by_paper(a, NOTHING, **RANGE),
        lambda a: latent_box(a, NOTHING),
        lambda a: latent_prior(a, []),
        lambda a: attribute(a, NOTHING, Calibration.embedded(), **RANGE),
        lambda a: calibrate(a, NOTHING),
        lambda a: verify(a, [], []),
    ],
)
def test_whatever_takes_pictures_says_so(call, autoencoder):
    with pytest.raises(ValueError, match="empty"):
        call(autoencoder)


def test_a_calibration_says_that_there_are_no_pictures(autoencoder):
    with pytest.raises(ValueError, match="needs pictures, got none"):
        calibrate(autoencoder, [])


@pytest.mark.parametrize("given", VIDEOS)
def test_videos(given, autoencoder):
    for call in (
        lambda video: as_videos(video, (-1, 1)),
        lambda video: invert_video(PerFrame(autoencoder), video, **RANGE),
    ):
        with pytest.raises(ValueError, match=r"video is empty|at least one frame"):
            call(VIDEOS[given])


def test_diffusion_models(model):
    latent = torch.zeros(0, *model.latent_shape)
    sampling, mask = model.sampling(steps=2), torch.zeros(64, 64, dtype=torch.bool)
    for call in (
        lambda: recover_noise(model, NOTHING, steps=2, **RANGE),
        lambda: recover_noise(model, [], steps=2),
        lambda: recover_noise(model, latent=latent, steps=2),
        lambda: edit(model, NOTHING, mask, new_prompt="", steps=2, **RANGE),
        lambda: sampling.generate(latent),
        lambda: sampling.start(latent),
        lambda: sampling.step(latent, 0),
        lambda: sampling.operator(latent, 0),
        lambda: sampling.invert(latent),
        lambda: sampling.invert(latent, "backward-euler"),
    ):
        with pytest.raises(ValueError, match=r"(latent|noise|image|picture) is empty"):
            call()


def test_what_has_an_empty_result_gives_it(autoencoder):
    latent = autoencoder.encode(NOTHING)
    assert latent.shape[0] == autoencoder.decode(latent).shape[0] == 0
    assert nmse_db(NOTHING, NOTHING).shape == (0,)
    assert Calibration.embedded().p_value(torch.zeros(0)).shape == (0,)
