import pytest
import torch
from video_cases import LEVELS, moving_camera

from fixpoint.adapters import Autoencoder, invert, invert_video
from fixpoint.adapters.autoencoders.per_frame import PerFrame


@pytest.fixture(scope="module")
def per_frame():
    return PerFrame(Autoencoder.embedded("kl"))


@pytest.fixture(scope="module")
def moving(per_frame):
    return moving_camera(per_frame)


def test_per_frame_is_the_picture_autoencoder_of_every_frame(per_frame, moving):
    truth, video = moving
    one = per_frame.pictures
    with torch.no_grad():
        latents = torch.stack([one.encode(video[:, :, k]) for k in range(6)], 2)
        decoded = torch.stack([one.decode(truth[:, :, k]) for k in range(6)], 2)
        torch.testing.assert_close(per_frame.encode(video), latents)
        for at_once in (1, 4, 6):
            grouped = PerFrame(one, frames_at_once=at_once)
            torch.testing.assert_close(grouped.decode(truth), decoded)
    assert per_frame.medium == "video"
    assert per_frame.raw(truth).shape == truth.shape


def test_no_more_frames_go_through_the_model_than_allowed(per_frame, moving):
    counts = []
    hook = per_frame.module.decoder.register_forward_hook(
        lambda module, inputs, output: counts.append(len(output))
    )
    try:
        with torch.no_grad():
            PerFrame(per_frame.pictures, frames_at_once=4).decode(moving[0])
    finally:
        hook.remove()
    assert counts == [4, 2]


def test_invert_takes_a_per_frame_autoencoder_of_videos(per_frame, moving):
    truth, video = moving
    inversion = invert(per_frame, video[:, :, :2], max_iterations=8, value_range=(-1, 1))
    assert inversion.latent.shape == truth[:, :, :2].shape
    with torch.no_grad():
        start = per_frame.encode(video[:, :, :2])
    error = inversion.nmse_db(truth[:, :, :2])
    assert float(error) < float(20 * ((start - truth[:, :, :2]).norm() / truth.norm()).log10())


def test_a_copy_of_a_per_frame_autoencoder_has_a_model_of_its_own(per_frame):
    copied = per_frame.copy(torch.bfloat16)
    assert copied.dtype == torch.bfloat16
    assert copied.pictures.model is copied.module
    assert copied.module is not per_frame.module
    assert per_frame.dtype == torch.float32


def test_only_autoencoders_of_pictures_go_frame_by_frame(per_frame):
    assert PerFrame(per_frame.module).factor == per_frame.factor
    with pytest.raises(TypeError, match="from_functions"):
        PerFrame(torch.nn.Identity())
    with pytest.raises(ValueError, match="of videos"):
        PerFrame(per_frame)
    with pytest.raises(ValueError, match="frames_at_once"):
        PerFrame(per_frame.pictures, frames_at_once=0)
    with pytest.raises(TypeError, match="PerFrame"):
        invert_video(per_frame.pictures, LEVELS)
