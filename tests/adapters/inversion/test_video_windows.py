"""Videos as tensors, picture autoencoders frame by frame, and inversions in windows of frames."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from autoencoders import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fixpoint import Anderson, ForwardStep
from fixpoint.adapters import Autoencoder, Clip, EightBit, Identity, PerRow, invert
from fixpoint.adapters.autoencoders.diffusers_classes import classes_that_look_back
from fixpoint.adapters.autoencoders.parts import PastFirst
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.autoencoders.sizes import Sizes, any_size, one_more_than_multiples_of
from fixpoint.adapters.commands.demonstration import photograph
from fixpoint.adapters.inversion.video_windows import (
    _Apart,
    _Causal,
    _collected_later,
    invert_video,
)
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.observations import from_levels
from fixpoint.adapters.pictures.videos import as_videos
from fixpoint.adapters.reports.peak_memory import PeakMemory

ROOT = Path(__file__).parents[3]
LEVELS = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
VALUES = from_levels(torch.from_numpy(LEVELS).permute(3, 0, 1, 2).unsqueeze(0).float())


@pytest.fixture(scope="module")
def per_frame():
    return PerFrame(Autoencoder.embedded("kl"))


@pytest.fixture(scope="module")
def moving(per_frame):
    """Six frames of a camera that moves over the photograph, and the latents behind them."""
    wide = photograph(64)
    frames = [wide[:, :, 2 * k : 32 + 2 * k, 4 * k : 32 + 4 * k] for k in range(6)]
    with torch.no_grad():
        truth = per_frame.encode(torch.stack(frames, 2))
        return truth, EightBit()(per_frame.decode(truth))


# Reading


@pytest.mark.parametrize(
    "video",
    [
        [Image.fromarray(frame) for frame in LEVELS],
        list(LEVELS),
        LEVELS,
        LEVELS[None],
        LEVELS.astype(np.float32) / 255,
        list(LEVELS.astype(np.float32) / 255),
        torch.from_numpy(LEVELS).permute(0, 3, 1, 2),
        torch.from_numpy(LEVELS).permute(3, 0, 1, 2).unsqueeze(0),
        VALUES,
        list(VALUES[0].transpose(0, 1)),
    ],
    ids=[
        "pil frames",
        "uint8 frames",
        "uint8 array",
        "batch of arrays",
        "float array",
        "float frames",
        "uint8 tensor",
        "uint8 batch",
        "tensor",
        "tensors",
    ],
)
def test_every_way_to_hold_a_video_gives_the_same_values(video):
    videos = as_videos(video)
    torch.testing.assert_close(videos.values, VALUES, rtol=0, atol=1e-6)
    assert videos.values.dtype == torch.float32
    assert videos.observation == EightBit()


def test_frames_are_read_from_files_in_the_order_given(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, frame in zip(paths, LEVELS, strict=True):
        Image.fromarray(frame).save(path)
    assert torch.equal(as_videos(paths).values, VALUES)
    assert torch.equal(as_videos(paths[::-1]).values, VALUES.flip(2))


def test_several_videos_of_one_size_make_a_batch():
    both = as_videos([LEVELS, [Image.fromarray(frame) for frame in LEVELS[::-1]]])
    assert torch.equal(both.values, torch.cat((VALUES, VALUES.flip(2))))
    mixed = as_videos([VALUES, 0.5 * VALUES])
    assert mixed.observation.observations == (EightBit(), Identity())
    with pytest.raises(ValueError, match="one size"):
        as_videos([LEVELS, LEVELS[:4]])
    with pytest.raises(ValueError, match="one size"):
        as_videos([LEVELS[0], LEVELS[0, :4]])


def test_float_frames_are_judged_together():
    dark_and_bright = [-torch.rand(3, 4, 4), torch.rand(3, 4, 4)]
    assert as_videos(dark_and_bright).observation == Identity()
    free = torch.linspace(-1.2, 1.1, 96).reshape(1, 3, 2, 4, 4)
    assert as_videos(free.clamp(-1, 1)).observation == Clip()
    with pytest.raises(ValueError, match="value_range"):
        as_videos([torch.rand(3, 4, 4)] * 2)


def test_jpeg_frames_bring_the_settings_they_share(tmp_path):
    for number, frame in enumerate(LEVELS):
        Image.fromarray(frame).save(tmp_path / f"{number}.jpg", quality=60)
    paths = sorted(tmp_path.glob("*.jpg"))
    videos = as_videos(paths)
    assert isinstance(videos.observation, EachFrame)
    assert torch.equal(videos.observation(VALUES), videos.values)
    assert videos.observation.free_shares(VALUES).shape == (1,)
    Image.fromarray(LEVELS[0]).save(paths[0], quality=30)
    assert as_videos(paths).observation == EightBit()


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (LEVELS[0], "not the shape of a video"),
        (VALUES.transpose(1, 2), r"transpose\(1, 2\)"),
        (torch.zeros(1, 4, 3, 8, 8), "not the shape of a video"),
        (VALUES[:, :, :0], "empty"),
        ([], "at least one frame"),
        (torch.full((2, 3, 4, 4), torch.nan), "NaN"),
        (5 * VALUES, "not a video on"),
    ],
)
def test_what_is_no_video_is_refused(video, words):
    with pytest.raises(ValueError, match=words):
        as_videos(video)


@pytest.mark.parametrize("video", ["clip.mp4", Image.fromarray(LEVELS[0]), 3, LEVELS.astype(int)])
def test_other_kinds_of_things_are_no_videos(video):
    with pytest.raises(TypeError):
        as_videos(video)


# Frame by frame


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
    with pytest.raises(TypeError, match="from_diffusers"):
        PerFrame(per_frame.module)
    with pytest.raises(ValueError, match="of videos"):
        PerFrame(per_frame)
    with pytest.raises(ValueError, match="frames_at_once"):
        PerFrame(per_frame.pictures, frames_at_once=0)
    with pytest.raises(TypeError, match="PerFrame"):
        invert_video(per_frame.pictures, LEVELS)


# Windows


class Toy(Autoencoder):
    """An autoencoder of a few sums, which computes rows and frames apart to the last bit."""

    name = "Toy"
    dtype = torch.float32
    device = torch.device("cpu")
    parts = PastFirst(group=1, step=4)

    def __init__(self, medium):
        self.medium = medium
        self.sample_channels = 3
        self.channels = 3
        self.factor = 1
        rules = (any_size(), any_size())
        frames = (one_more_than_multiples_of(4),) if medium == "video" else ()
        self.sizes = Sizes(("frames", "height", "width")[-2 - len(frames) :], frames + rules)

    def copy(self, dtype=None, *, channels_last=False):
        raise ValueError("a toy has no weights to copy")


class OfPictures(Toy):
    def __init__(self):
        super().__init__("picture")

    def encode(self, x):
        return x + 0.3 * x.sin()

    def decode(self, latents):
        return latents - 0.2 * latents.cos()


class LookingBack(Toy):
    """A latent frame stands for four frames, the first for one; D looks two latent frames back."""

    def __init__(self):
        super().__init__("video")

    def encode(self, x):
        first, rest = x[:, :, :1], x[:, :, 1:]
        groups = rest.unflatten(2, (-1, 4)).mean(3) if rest.shape[2] else rest
        means = torch.cat((first, groups), 2)
        return means + 0.2 * _earlier(means, 1)

    def decode(self, latents):
        seen = latents + 0.3 * _earlier(latents, 1) + 0.25 * _earlier(latents, 2)
        return torch.cat((seen[:, :, :1], seen[:, :, 1:].repeat_interleave(4, 2)), 2)


def _earlier(latents, steps):
    return torch.cat((torch.zeros_like(latents[:, :, :steps]), latents), 2)[
        :, :, : latents.shape[2]
    ]


EXACT = {"iterator": Anderson(), "rtol": 1e-7, "max_iterations": 60, "stop": (), "keep": "best"}


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


@settings(deadline=None, max_examples=50)
@given(
    total=st.integers(0, 20),
    units=st.integers(1, 20),
    overlap=st.integers(1, 9),
    group=st.integers(1, 2),
)
def test_windows_that_look_back_cover_a_video_once(total, units, overlap, group):
    division = _Causal(SimpleNamespace(name="a toy"), group=group, step=4, overlap=overlap)
    assert 1 + group * division.past_units >= overlap
    if units < total and units <= division.past_units:
        with pytest.raises(ValueError, match="at least"):
            division.check_parts(units, {})
        return
    spans = division.spans(1 + 4 * group * total, units)
    assert [n for span in spans for n in range(*span.latents)] == list(range(1 + group * total))
    assert [n for span in spans for n in range(*span.frames)] == list(range(1 + 4 * group * total))
    for span in spans:
        at_once = span.context + span.latents[1] - span.latents[0]
        assert at_once <= 1 + group * units
        assert (at_once - 1) % group == 0
        assert span.latents[0] - span.context >= 0


@settings(deadline=None, max_examples=50)
@given(frames=st.integers(1, 30), chunk=st.integers(1, 9), units=st.integers(1, 9))
def test_windows_of_chunks_hold_rows_of_one_length(frames, chunk, units):
    division = _Apart(SimpleNamespace(name="a toy"), chunk)
    spans = division.spans(frames, units)
    assert [n for span in spans for n in range(*span.frames)] == list(range(frames))
    for span in spans:
        length = span.frames[1] - span.frames[0]
        assert length <= units * chunk
        assert length % chunk == 0 or length < chunk


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


def test_videos_are_inverted_apart(moving):
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


@pytest.mark.parametrize("name", classes_that_look_back())
def test_classes_with_windows_never_look_ahead(name):
    model = tiny(name)
    autoencoder = Autoencoder.from_diffusers(model)
    colours = autoencoder.sample_channels
    parts = autoencoder.parts
    division = _Causal(autoencoder, parts.group, parts.step, 1)
    frames = 1 + 4 * division.unit_frames
    x = torch.rand(1, colours, frames, 16, 16) * 2 - 1
    with torch.no_grad():
        z = autoencoder.encode(x)
        decoded = autoencoder.decode(z)
        assert z.shape[2] == 1 + 4 * division.group
        spans = division.spans(frames, 2)
        assert spans[-1].frames[1] == frames
        assert spans[-1].latents[1] == z.shape[2]
        start = spans[1].latents[0], spans[1].frames[0]
        x[:, :, start[1] :] += 0.5
        later = z.clone()
        later[:, :, start[0] :] += 0.5
        assert torch.equal(autoencoder.encode(x)[:, :, : start[0]], z[:, :, : start[0]])
        changed = (autoencoder.decode(later) - decoded).abs().amax((0, 1, 3, 4))
    assert not bool(changed[: start[1]].any())
    assert bool(changed[start[1] :].any())


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


# Memory


def test_a_larger_budget_makes_longer_windows_and_a_small_one_is_refused(per_frame):
    wide = photograph(96)
    frames = torch.cat([wide[:, :, k : 64 + k, 2 * k : 64 + 2 * k] for k in range(8)])
    options = {"max_iterations": 0, "value_range": (-1, 1)}
    small, large = (
        invert_video(per_frame, frames, memory_budget=size * 2**20, **options) for size in (40, 90)
    )
    assert small.plan.units < large.plan.units
    for found in (small, large):
        assert found.plan.predicted <= found.plan.budget
        assert max(b - a for a, b in (w.frames for w in found.windows)) == found.plan.units
    with pytest.raises(ValueError, match="needs about"):
        invert_video(per_frame, frames, memory_budget=2**20, **options)


def test_what_the_iterator_collects_is_part_of_the_plan():
    autoencoder = PerFrame(OfPictures())
    options = {"max_iterations": 50}
    default = _collected_later(EightBit(), autoencoder, options, 2)
    assert (default.latents, default.pictures) == (16, 8)
    short = _collected_later(EightBit(), autoencoder, {"max_iterations": 5}, 2)
    assert (short.latents, short.pictures) == (6, 3)
    plain = _collected_later(EightBit(), autoencoder, options | {"iterator": ForwardStep()}, 2)
    assert (plain.latents, plain.pictures) == (0, 0)


def test_where_memory_cannot_be_measured_a_window_is_asked_for(monkeypatch):
    monkeypatch.setattr(PeakMemory, "__exit__", lambda self, *error: None)
    with pytest.raises(ValueError, match="window="):
        invert_video(PerFrame(OfPictures()), LEVELS, memory_budget=2**30)


@pytest.mark.parametrize(("kind", "budget"), [("per frame", 16), ("temporal decoder", 20)])
def test_a_window_by_budget_stays_within_the_budget(kind, budget):
    fresh_process = import_module("benchmarks.shared.fresh_process")
    measured = fresh_process.measure(
        "benchmarks.studies.video:work",
        kind=kind,
        budget=budget,
        frames=8,
        height=48,
        width=48,
        evaluations=1,
    )
    assert measured["failed"] is None
    if measured["peak_bytes"] is None:
        pytest.skip("this system does not tell how much memory a process uses")
    assert measured["peak_bytes"] <= 1.05 * budget * 2**20
    assert measured["found"]["predicted_bytes"] <= budget * 2**20
    assert measured["found"]["windows"] > 1  # all frames at once would not have fitted
