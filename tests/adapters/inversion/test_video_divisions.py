from types import SimpleNamespace

import pytest
import torch
from autoencoders import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint.adapters import Autoencoder
from fixpoint.adapters.autoencoders.diffusers_classes import classes_that_look_back
from fixpoint.adapters.inversion.video_divisions import CausalWindows, IndependentChunks


@settings(deadline=None, max_examples=50)
@given(
    total=st.integers(0, 20),
    units=st.integers(1, 20),
    overlap=st.integers(1, 9),
    group=st.integers(1, 2),
)
def test_windows_that_look_back_cover_a_video_once(total, units, overlap, group):
    division = CausalWindows(SimpleNamespace(name="a toy"), group=group, step=4, overlap=overlap)
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
    division = IndependentChunks(SimpleNamespace(name="a toy"), chunk)
    spans = division.spans(frames, units)
    assert [n for span in spans for n in range(*span.frames)] == list(range(frames))
    for span in spans:
        length = span.frames[1] - span.frames[0]
        assert length <= units * chunk
        assert length % chunk == 0 or length < chunk


@pytest.mark.parametrize("name", classes_that_look_back())
def test_classes_with_windows_never_look_ahead(name):
    model = tiny(name)
    autoencoder = Autoencoder.from_diffusers(model)
    colours = autoencoder.sample_channels
    parts = autoencoder.parts
    division = CausalWindows(autoencoder, parts.group, parts.step, 1)
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
