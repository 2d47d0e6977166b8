import pytest
import torch
from autoencoders import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from video_cases import EXACT, LEVELS, LookingBack, OfPictures, moving_camera

from fixpoint import ForwardStep
from fixpoint.adapters import Autoencoder, EightBit, Identity, PerRow, invert
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.inversion.video_windows import invert_video


@pytest.fixture(scope="module")
def per_frame():
    return PerFrame(Autoencoder.embedded("kl"))


@pytest.fixture(scope="module")
def moving(per_frame):
    return moving_camera(per_frame)


@settings(deadline=None, max_examples=15)
@given(frames=st.integers(1, 9), window=st.integers(1, 9), seed=st.integers(0, 99))
def test_windows_of_frames_change_nothing(frames, window, seed):
    autoencoder = PerFrame(OfPictures())
    truth = torch.randn(1, 3, frames, 2, 2, generator=torch.Generator().manual_seed(seed)) / 3
    video = autoencoder.decode(truth)
    whole = invert_video(autoencoder, video, window=frames, value_range=(-1, 1), **EXACT)
    parts = invert_video(autoencoder, video, window=window, value_range=(-1, 1), **EXACT)
    assert torch.equal(parts.latent, whole.latent)
    assert torch.equal(parts.evaluations, whole.evaluations)
    assert parts.status == whole.status
    assert len(parts.windows) == -(-frames // window)
    torch.testing.assert_close(parts.latent, truth, rtol=0, atol=1e-5)


def test_windows_of_a_trained_autoencoder_agree_to_its_rounding(per_frame, moving):
    truth, video = moving
    options = {"value_range": (-1, 1), "max_iterations": 10}
    whole = invert_video(per_frame, video, window=6, **options)
    parts = invert_video(per_frame, video, window=4, **options)
    assert (len(whole.windows), len(parts.windows)) == (1, 2)
    torch.testing.assert_close(parts.latent, whole.latent, rtol=0, atol=2e-3)
    assert parts.psnr_db.shape == (1, 6)
    assert parts.nmse_db_by_frame(truth).shape == (1, 6)
    assert float(parts.nmse_db(truth)) < -30


@pytest.mark.parametrize(("overlap", "exact"), [(1, False), (2, True), (3, True)])
def test_windows_are_exact_once_the_past_reaches_as_far_as_the_decoder_looks(overlap, exact):
    autoencoder = LookingBack()
    truth = torch.randn(2, 3, 7, 2, 2) / 5
    video = autoencoder.decode(truth)
    found = invert_video(autoencoder, video, window=17, overlap=overlap, **EXACT)
    errors = (found.latent - truth).abs().amax((0, 1, 3, 4))
    assert [window.context for window in found.windows[:2]] == [0, overlap]
    assert bool((errors < 1e-5).all()) == exact
    assert found.seam_db.shape == (2,)
    assert bool((found.seam_db < -100).all()) == exact
    if not exact:  # the first window has no seam
        assert float(errors[:5].max()) < 1e-5 < float(errors[5])


def test_videos_are_inverted_apart():
    autoencoder = LookingBack()
    video = autoencoder.decode(torch.randn(2, 3, 5, 2, 2) / 5)
    options = {"window": 13, "overlap": 2, **EXACT}
    both = invert_video(autoencoder, video, **options)
    for row in range(2):
        alone = invert_video(autoencoder, video[row : row + 1], **options)
        assert torch.equal(both.latent[row : row + 1], alone.latent)
        assert both.status[row] == alone.status[0]
        assert torch.equal(both.evaluations[row], alone.evaluations[0])


def test_an_observation_of_its_own_for_every_video_reaches_its_frames():
    autoencoder = PerFrame(OfPictures())
    video = autoencoder.decode(torch.randn(2, 3, 3, 2, 2) / 5)
    seen = PerRow((Identity(), EightBit()))
    video = seen(video)
    found = invert_video(autoencoder, video, window=2, observation=seen, value_range=(-1, 1))
    for row, observation in enumerate(seen.observations):
        alone = invert_video(
            autoencoder, video[row : row + 1], window=2, observation=observation,
            value_range=(-1, 1),
        )  # fmt: skip
        assert torch.equal(found.latent[row : row + 1], alone.latent)


def test_chunks_of_a_temporal_decoder_are_problems_of_their_own():
    model = tiny("AutoencoderKLTemporalDecoder")
    autoencoder = Autoencoder.from_diffusers(model, decode_chunk_size=3)
    with torch.no_grad():
        video = autoencoder.decode(autoencoder.encode(torch.rand(1, 3, 8, 8, 8) * 2 - 1))
    options = {"max_iterations": 4, "value_range": (-1, 1), "iterator": ForwardStep(step_size=0.5)}
    whole = invert_video(autoencoder, video, **options)
    parts = invert_video(autoencoder, video, window=5, **options)
    assert [window.frames for window in whole.windows] == [(0, 6), (6, 8)]
    assert [window.frames for window in parts.windows] == [(0, 3), (3, 6), (6, 8)]
    torch.testing.assert_close(parts.latent, whole.latent, rtol=1e-3, atol=1e-4)
    for start, stop in ((0, 3), (3, 6), (6, 8)):
        chunk = invert(autoencoder, video[:, :, start:stop], **options)
        found = parts.latent[:, :, start:stop]
        torch.testing.assert_close(found, chunk.latent, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="at least 3 frames"):
        invert_video(autoencoder, video, window=2, **options)
    together = Autoencoder.from_diffusers(model)
    with pytest.raises(ValueError, match="decode_chunk_size"):
        invert_video(together, video, window=4, **options)
    assert len(invert_video(together, video, **options).windows) == 1


def test_other_classes_are_inverted_whole_or_not_at_all():
    autoencoder = Autoencoder.from_diffusers(tiny("AutoencoderKLLTXVideo"))
    video = torch.rand(1, 3, 17, 32, 32) * 2 - 1
    options = {"max_iterations": 1, "value_range": (-1, 1)}
    for limit in ({"window": 9}, {"memory_budget": 2**30}):
        with pytest.raises(ValueError, match="past alone"):
            invert_video(autoencoder, video, **limit, **options)
    assert len(invert_video(autoencoder, video, window=17, **options).windows) == 1


def test_a_video_autoencoder_of_diffusers_goes_window_by_window():
    autoencoder = Autoencoder.from_diffusers(tiny("AutoencoderKLWan"))
    with torch.no_grad():
        truth = autoencoder.encode(torch.rand(1, 3, 17, 16, 16) * 2 - 1)
        video = autoencoder.decode(truth)
    found = invert_video(
        autoencoder, video, window=13, overlap=2, max_iterations=3, value_range=(-1, 1)
    )
    assert [window.latents for window in found.windows] == [(0, 4), (4, 5)]
    assert [window.frames for window in found.windows] == [(0, 13), (13, 17)]
    first = invert(autoencoder, video[:, :, :13], max_iterations=3, value_range=(-1, 1))
    assert torch.equal(found.latent[:, :, :4], first.latent)
    assert found.psnr_db.shape == (1, 17)
    assert found.evaluations.shape == (1, 5)
    assert len(found.status[0]) == 5
    with pytest.raises(ValueError, match="compiled anew"):
        invert_video(autoencoder, video, window=13, overlap=2, compile=True, value_range=(-1, 1))
    with pytest.raises(ValueError, match="at least 17 frames"):
        invert_video(autoencoder, video, window=9, overlap=4, value_range=(-1, 1))


def test_what_was_found_before_an_interruption_was_handed_over():
    autoencoder = PerFrame(OfPictures())
    video = autoencoder.decode(torch.randn(1, 3, 6, 2, 2) / 5)
    saved = []

    def on_window(window, latents):
        saved.append((window, latents))
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert_video(
            autoencoder, video, window=2, on_window=on_window, value_range=(-1, 1), **EXACT
        )
    assert [window.latents for window, _ in saved] == [(0, 2), (2, 4)]
    whole = invert_video(autoencoder, video, value_range=(-1, 1), **EXACT)
    assert torch.equal(torch.cat([part for _, part in saved], 2), whole.latent[:, :, :4])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 2, "memory_budget": 2**30}, "one of them"),
        ({"window": 0}, "window must be"),
        ({"memory_budget": -1}, "memory_budget must be"),
        ({"overlap": 2}, "share nothing"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        invert_video(PerFrame(OfPictures()), LEVELS, **options)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(TypeError, match="windwo"):
        invert_video(PerFrame(OfPictures()), LEVELS, windwo=3)
