"""The longest window of a video that stays within a memory budget.

Memory is taken to grow linearly with the units of a window. Short runs on one unit and on two
measure it. What the iterator allocates in later steps is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.defaults import default_iterator
from fixpoint.adapters.inversion.video_divisions import UndividedVideo, VideoDivision, WindowSpan
from fixpoint.adapters.inversion.video_result import MemoryPlan
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.reports.peak_memory import PeakMemory

PROBE_STEPS = 2
"""Steps of a run that measures memory."""

MARGIN = 0.1
"""Share of a budget that is left free for what a small window does not show."""


def plan_window(
    division: VideoDivision,
    values: Tensor,
    observation: Observation,
    options: dict[str, Any],
    budget: int,
    total: int,
) -> MemoryPlan:
    """Choose the longest window that stays within the budget.

    Args:
        division: how the videos may be divided.
        values: the videos, (batch, 3, frames, height, width).
        observation: of the first video.
        options: of `invert`.
        budget: bytes that may be added to memory.
        total: units of a video.

    Raises:
        ValueError: memory cannot be measured here, or the smallest window does not fit.
    """
    allowed = int(budget * (1 - MARGIN)) - values.nbytes
    measured = _measured(division, values[:1], observation, options, total, allowed)
    base, unit = measured.base, measured.unit
    fixed = values.nbytes + measured.latents * len(values) + measured.kept
    room = int(budget * (1 - MARGIN)) - fixed - base
    units = min(total, room // unit if room > 0 else 0)
    least = min(total, division.least_units)
    if units < least:
        needed = (fixed + base + least * unit) / (1 - MARGIN)
        raise ValueError(
            f"a memory_budget of {_mebibytes(budget)} is too small: the smallest window needs "
            f"about {_mebibytes(needed)}, of which {_mebibytes(fixed)} are there whatever its "
            "length: the video, its latents and what libraries keep"
        )
    return MemoryPlan(budget, fixed, base, unit, units, fixed + base + units * unit)


@dataclass(frozen=True)
class LateAllocations:
    """What an iterator allocates after its first steps.

    Attributes:
        latents: number of copies of the latents.
        pictures: number of copies of the pictures.
    """

    latents: int
    pictures: int


def late_allocations(
    observation: Observation, autoencoder: Autoencoder, options: dict[str, Any], steps: int
) -> LateAllocations:
    """What the iterator of a run allocates after so many steps: its remaining differences.

    Args:
        observation: of the video; it chooses the default iterator.
        autoencoder: the autoencoder of the run.
        options: of `invert`, with `max_iterations`.
        steps: steps that have been measured.
    """
    iterator = options.get("iterator")
    if iterator is None and options.get("prior") is None:  # with a prior: forward steps
        iterator = default_iterator(observation, autoencoder.dtype)
    most = min(getattr(iterator, "memory", 0), options["max_iterations"])
    more = max(0, most - steps)
    of_pictures = getattr(iterator, "minimize", "residual") != "residual"
    return LateAllocations(latents=2 * more, pictures=more if of_pictures else 0)


@dataclass(frozen=True)
class _Measured:
    """Bytes of memory.

    Attributes:
        kept: what libraries keep after the first run.
        base: what a window adds whatever its length.
        unit: what a window adds for every unit.
        latents: the latents of a video.
    """

    kept: int
    base: int
    unit: int
    latents: int


def _measured(
    division: VideoDivision,
    video: Tensor,
    observation: Observation,
    options: dict[str, Any],
    total: int,
    allowed: int,
) -> _Measured:
    """Measure the memory of short runs on the first units of a video.

    Two units are not tried where they might take more than `allowed`. One unit is then all that
    the plan will hold, and all memory counts as that of the unit.
    """
    if isinstance(division, UndividedVideo):
        division.check_parts(1, options)
    steps = min(PROBE_STEPS, options["max_iterations"])
    short = options | {"max_iterations": steps, "stop": (), "rtol": 0.0}
    short.pop("callback", None)

    def run(units: int) -> tuple[PeakMemory, int]:
        clip = division.first(video, units)
        span = WindowSpan((0, clip.shape[2]), (0, 0))
        with PeakMemory(division.autoencoder.device) as memory:
            latent = division.invert(clip, None, span, observation, short).latent
        if memory.added is None:
            raise ValueError(
                "memory can be measured on GPUs and on Linux alone: give window= instead of "
                "memory_budget="
            )
        return memory, latent.nbytes

    cold, latent_bytes = run(1)  # libraries set themselves up
    warm, _ = run(1)
    assert cold.before is not None
    assert warm.before is not None
    assert warm.added is not None
    kept = max(0, warm.before - cold.before)
    picture_bytes = division.first(video, 1).nbytes
    unit = warm.added
    if total > 1 and kept + 2 * warm.added <= allowed:
        double, _ = run(2)
        assert double.added is not None
        unit = max(double.added - warm.added, picture_bytes)
    base = max(0, warm.added - unit)
    late = late_allocations(observation, division.autoencoder, options, steps)
    unit += late.latents * latent_bytes + late.pictures * picture_bytes
    return _Measured(kept, base, unit, latent_bytes * max(1, total))


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
