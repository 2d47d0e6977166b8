from importlib import import_module

import pytest
import torch
from video_cases import LEVELS, OfPictures

from fixpoint import ForwardStep
from fixpoint.adapters import Autoencoder, EightBit
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.commands.demonstration import photograph
from fixpoint.adapters.inversion.memory_plan import late_allocations
from fixpoint.adapters.inversion.video_windows import invert_video
from fixpoint.adapters.reports.peak_memory import PeakMemory


@pytest.fixture(scope="module")
def per_frame():
    return PerFrame(Autoencoder.embedded("kl"))


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
    default = late_allocations(EightBit(), autoencoder, options, 2)
    assert (default.latents, default.pictures) == (16, 8)
    short = late_allocations(EightBit(), autoencoder, {"max_iterations": 5}, 2)
    assert (short.latents, short.pictures) == (6, 3)
    plain = late_allocations(EightBit(), autoencoder, options | {"iterator": ForwardStep()}, 2)
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
