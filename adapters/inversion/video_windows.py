"""Long videos, window by window, so that the memory of an inversion stays within a budget.

What a window may be is a matter of the autoencoder:

- frames that are encoded and decoded one by one (`PerFrame`), and the chunks of a temporal decoder,
  are problems of their own. Windows of them change nothing: each frame, or chunk, is a row.
- E and D that look back only, never ahead: the past of a window is known once the windows before
  it have been inverted. It is held fixed, as far back as `overlap` says; what lies further back is
  missing, and costs accuracy at the seam.
- Anything else is a single problem, and is inverted whole or not at all.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from fixpoint.adapters.autoencoders.around import Around
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.diffusers_classes import classes_that_look_back
from fixpoint.adapters.autoencoders.parts import Chunks, PastFirst
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.inversion.defaults import default_iterator, default_observation
from fixpoint.adapters.inversion.invert_picture import invert
from fixpoint.adapters.inversion.result import Inversion, nmse_db
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.observations import Jpeg, Observation, as_observation
from fixpoint.adapters.pictures.videos import as_videos, check_count
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.solution import Solution
from fixpoint.status import Status
from fixpoint.summary import Summarised

OVERLAP = 4
"""Latent frames before a window that are held fixed, by default."""

PROBE_STEPS = 2
MARGIN = 0.1
"""Share of a budget that is left to what no measurement of a small window foresees."""


@dataclass(frozen=True)
class VideoWindow(Summarised):
    """Frames of one video that were inverted together.

    Attributes:
        video: the row in the batch of videos.
        frames: first and one past the last.
        latents: the same, of latent frames.
        context: latent frames before them that were held fixed at what was found for them.
        solution: the solver's account; a row for every frame or chunk that is a problem of its
            own, else one.
        psnr_db: of the decoded frames against the video, (frames,).
        seconds: that it took.
    """

    video: int
    frames: tuple[int, int]
    latents: tuple[int, int]
    context: int
    solution: Solution
    psnr_db: Float[Tensor, " frames"]
    seconds: float


@dataclass(frozen=True)
class MemoryPlan:
    """How a budget became a window. Bytes are those that the call adds to memory.

    Attributes:
        budget: what was allowed.
        fixed: the video, its latents and what libraries keep after their first call.
        base, unit: measured: a window of n units adds `base + n * unit`; a unit is what cannot be
            split, as a frame or a chunk.
        units: of the windows that were chosen.
        predicted: `fixed + base + units * unit`.
    """

    budget: int
    fixed: int
    base: int
    unit: int
    units: int
    predicted: int


@dataclass(frozen=True)
class VideoInversion(Summarised):
    """The latents behind a batch of videos; rows in the order of the videos.

    Attributes:
        latent: (batch, channels, latent frames, rows, columns), float32, in the pipeline's scaling.
        observation: what was taken to have happened to the decoder's output.
        windows: what was inverted together, in that order.
        seconds: of everything, measurements of memory included.
        plan: how `memory_budget` became a window; None without one.
        seam_db: what a seam costs, per video, where windows hold the past fixed: the last frames
            of the first window, decoded with `overlap` latent frames of their past instead of all
            of it; `10 log10` of the squared difference over the squared frames. None where windows
            share nothing, or the first one is too short to tell.
    """

    latent: Float[Tensor, "batch channels frames rows columns"]
    observation: Observation
    windows: tuple[VideoWindow, ...]
    seconds: float
    plan: MemoryPlan | None = None
    seam_db: Float[Tensor, " batch"] | None = None

    @property
    def status(self) -> tuple[tuple[Status, ...], ...]:
        """Why the iteration ended, for every video and latent frame."""
        return tuple(
            tuple(status for window in self._of(video) for status in _statuses(window))
            for video in range(len(self.latent))
        )

    @property
    def evaluations(self) -> Int[Tensor, "batch frames"]:
        """Of E(D(.)), in which each latent frame took part."""
        return self._by_latent(lambda window: window.solution.evaluations)

    @property
    def residual_norm(self) -> Float[Tensor, "batch frames"]:
        """`||T z||` of the problem that each latent frame belongs to."""
        return self._by_latent(lambda window: window.solution.residual_norm)

    @property
    def psnr_db(self) -> Float[Tensor, "batch frames"]:
        """Peak signal-to-noise ratio of every decoded frame against the video, in dB."""
        return torch.stack(
            [
                torch.cat([window.psnr_db for window in self._of(video)])
                for video in range(len(self.latent))
            ]
        )

    def nmse_db(
        self, truth: Float[Tensor, "batch channels frames rows columns"]
    ) -> Float[Tensor, " batch"]:
        """`10 log10(||latent - truth||^2 / ||truth||^2)` per video, in dB."""
        return nmse_db(self.latent, truth)

    def nmse_db_by_frame(
        self, truth: Float[Tensor, "batch channels frames rows columns"]
    ) -> Float[Tensor, "batch frames"]:
        """The same of every latent frame: it shows what a seam costs."""
        found, known = (each.transpose(1, 2).flatten(0, 1) for each in (self.latent, truth))
        return nmse_db(found, known).reshape(len(truth), -1)

    def _of(self, video: int) -> list[VideoWindow]:
        return [window for window in self.windows if window.video == video]

    def _by_latent(self, values: Callable[[VideoWindow], Tensor]) -> Tensor:
        return torch.stack(
            [
                torch.cat([_repeated(window, values(window)) for window in self._of(video)])
                for video in range(len(self.latent))
            ]
        )


def invert_video(
    autoencoder: Autoencoder,
    video: Any,
    *,
    memory_budget: int | None = None,
    window: int | None = None,
    overlap: int | None = None,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    max_iterations: int = 50,
    value_range: tuple[float, float] | None = None,
    on_window: Callable[[VideoWindow, Tensor], object] | None = None,
    progress: bool = False,
    **options: Any,
) -> VideoInversion:
    """The latents whose decoding is the video, without gradients, in windows of frames.

    Args:
        autoencoder: of videos: `PerFrame(...)`, or one whose `medium` is "video".
        video: one video or several of one size, see `as_videos`. Never resized.
        memory_budget: bytes that the call may add to memory at its peak, on the device of the
            autoencoder (on the CPU: resident memory, on Linux alone). The longest window is chosen
            that fits, by measuring short runs on the first frames; a tenth of the budget is left
            free. The video as float32 and its latents count.
        window: frames that are inverted together, at most, instead; where the past is held fixed,
            it counts. By default `frames_at_once` of `PerFrame`, else all frames.
        overlap: latent frames before a window that are held fixed, where E and D look back; by
            default 4. More cost time and memory, and make the seam better.
        observation: what happened to the decoder's output before it became the video; by default
            what the video shows, see `invert`.
        max_iterations: evaluations of E(D(.)) beyond the first, at most, of every frame, chunk or
            window that is a problem of its own.
        value_range: of float input, see `as_pictures`.
        on_window: called after each window with its account and its latents (1, channels, latent
            frames, rows, columns): to save what is there should the rest be interrupted.
        progress: show a progress bar of the windows.
        options: of `invert`: `iterator`, `rtol`, `stop`, `keep`, `compile`,
            `callback`, `prior`, `prior_weight`.

    Raises:
        TypeError, ValueError: the video or an option is not usable, the autoencoder cannot be
            applied to parts of a video, or not even the smallest part fits into the budget.
    """
    started = time.perf_counter()
    if not isinstance(autoencoder, Autoencoder) or autoencoder.medium != "video":
        found = getattr(autoencoder, "medium", type(autoencoder).__name__)
        raise TypeError(
            f"expected an autoencoder of videos, got {found}; PerFrame(autoencoder) applies one of "
            "pictures frame by frame"
        )
    if memory_budget is not None and window is not None:
        raise ValueError("memory_budget chooses the window: give one of them")
    for name, number in (("memory_budget", memory_budget), ("window", window)):
        if number is not None:
            check_count(number, name)
    options["max_iterations"] = max_iterations
    division = _division(autoencoder, overlap)
    videos = as_videos(video, value_range)
    values = videos.values
    autoencoder.check_shape(values.shape)
    seen = _observation(observation, videos.observation, autoencoder)
    total = division.units(values.shape[2])
    plan = None
    if memory_budget is not None:
        plan = _plan(division, values, seen, options, memory_budget, total)
        units = plan.units
    elif window is None:
        units = min(total, division.default_units)
    else:
        units = min(total, division.units_within(window))
    if units < total:
        division.check_parts(units, options)
    spans = division.spans(values.shape[2], units)
    work = [(row, span) for row in range(len(values)) for span in spans]
    windows: list[VideoWindow] = []
    seams: list[Tensor] = []
    latents: Tensor | None = None
    for row, span in tqdm(work, disable=not progress, desc="windows"):
        begun = time.perf_counter()
        known = None if latents is None else latents[row : row + 1]
        inversion = division.invert(values[row : row + 1], known, span, _row(seen, row), options)
        found = division.as_video(inversion.latent)
        place = span.latents[0], span.latents[0] + found.shape[2]
        if latents is None:
            length = spans[-1].latents[1] if len(spans) > 1 else found.shape[2]
            shape = (len(values), found.shape[1], length, *found.shape[3:])
            latents = found.new_empty(shape)
        latents[row : row + 1, :, slice(*place)] = found
        assert inversion.solution is not None
        windows.append(
            VideoWindow(
                video=row,
                frames=span.frames,
                latents=place,
                context=span.context,
                solution=inversion.solution,
                psnr_db=_psnr_db(division.as_video(inversion.reconstruction), inversion, division),
                seconds=time.perf_counter() - begun,
            )
        )
        if span is spans[0] and len(spans) > 1:
            seams.extend(division.seam_db(found))
        del inversion  # with pictures that the next window should not find in memory
        if on_window is not None:
            on_window(windows[-1], found)
    assert latents is not None
    return VideoInversion(
        latent=latents,
        observation=seen,
        windows=tuple(windows),
        seconds=time.perf_counter() - started,
        plan=plan,
        seam_db=torch.cat(seams) if seams else None,
    )


@dataclass(frozen=True)
class _Span:
    frames: tuple[int, int]
    latents: tuple[int, int]
    context: int = 0


class _Division(ABC):
    """How the videos of an autoencoder may be taken apart.

    `units` count what cannot be split; windows hold whole units.
    """

    def __init__(self, autoencoder: Autoencoder, unit_frames: int) -> None:
        self.autoencoder = autoencoder
        self.unit_frames = unit_frames
        self.default_units = 2**62

    def units(self, frames: int) -> int:
        """Of a whole video; the last one may be shorter."""
        return max(1, -(-frames // self.unit_frames))

    def units_within(self, frames: int) -> int:
        """Of a window of so many frames.

        Raises:
            ValueError: it holds none.
        """
        if frames < self.unit_frames:
            raise ValueError(
                f"window must be at least {self.unit_frames} frames, which "
                f"{self.autoencoder.name} decodes together; got {frames}"
            )
        return frames // self.unit_frames

    def first(self, values: Tensor, units: int) -> Tensor:
        """The frames of the first units of a video, as `invert` takes them."""
        return values[:, :, : units * self.unit_frames]

    def check_parts(self, units: int, options: dict[str, Any]) -> None:
        """Refuse windows shorter than the video where there can be none."""
        return

    @abstractmethod
    def spans(self, frames: int, units: int) -> list[_Span]:
        """The windows of a video of so many frames, in order."""

    @abstractmethod
    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: _Span,
        observation: Observation,
        options: dict[str, Any],
    ) -> Inversion:
        """The inversion of one window, what is before it known."""

    def as_video(self, rows: Tensor) -> Tensor:
        """Rows of an inversion, latents or frames, as one video."""
        return rows

    def seam_db(self, latents: Tensor) -> list[Tensor]:
        """See `VideoInversion`, from the latents of a first window: one number, or none."""
        return []


class _Apart(_Division):
    """Frames, or chunks of them, that are problems of their own: rows."""

    def __init__(self, autoencoder: Autoencoder, unit_frames: int) -> None:
        super().__init__(autoencoder, unit_frames)
        if isinstance(autoencoder, PerFrame):
            self.default_units = autoencoder.frames_at_once

    def spans(self, frames: int, units: int) -> list[_Span]:
        """Rows of a window have one length: a shorter last chunk is a window of its own."""
        whole = frames // self.unit_frames * self.unit_frames
        step = units * self.unit_frames
        ends = [(start, min(start + step, whole)) for start in range(0, whole, step)]
        if whole < frames:
            ends.append((whole, frames))
        return [_Span(end, end) for end in ends]

    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: _Span,
        observation: Observation,
        options: dict[str, Any],
    ) -> Inversion:
        frames = video[:, :, slice(*span.frames)]
        length = min(self.unit_frames, frames.shape[2])
        rows = frames[0].unflatten(1, (-1, length)).transpose(0, 1)
        autoencoder = self.autoencoder
        if isinstance(autoencoder, PerFrame):
            rows, autoencoder = rows.squeeze(2), autoencoder.pictures
            observation = _of_pictures(observation)
        repeated = observation.select(torch.zeros(len(rows), dtype=torch.long))
        return _inverted(autoencoder, rows, repeated, options)

    def as_video(self, rows: Tensor) -> Tensor:
        if isinstance(self.autoencoder, PerFrame):
            rows = rows.unsqueeze(2)
        return rows.transpose(0, 1).flatten(1, 2).unsqueeze(0)


class _Causal(_Division):
    """E and D that look back only. A unit is a group of latent frames beyond the first frame,
    which stands alone."""

    def __init__(self, autoencoder: Autoencoder, group: int, step: int, overlap: int) -> None:
        super().__init__(autoencoder, group * step)
        self.group = group
        self.step = step  # frames of a latent frame
        self.past_units = -(-(overlap - 1) // group)  # beyond the first latent frame of a clip

    def units(self, frames: int) -> int:
        return (frames - 1) // self.unit_frames

    def units_within(self, frames: int) -> int:
        return (frames - 1) // self.unit_frames

    def first(self, values: Tensor, units: int) -> Tensor:
        return values[:, :, : 1 + units * self.unit_frames]

    def check_parts(self, units: int, options: dict[str, Any]) -> None:
        if units <= self.past_units:
            least = 1 + (self.past_units + 1) * self.unit_frames
            raise ValueError(
                f"a window needs at least {least} frames at once, of which the last "
                f"{self.unit_frames} are new; got {1 + units * self.unit_frames}. A smaller "
                "overlap needs fewer"
            )
        if options.get("compile"):
            raise ValueError(
                "compile=True cannot be combined with windows that hold the past fixed: every "
                "window would be compiled anew"
            )

    def spans(self, frames: int, units: int) -> list[_Span]:
        spans = []
        end = 1 + self.group * self.units(frames)
        start, stop = 0, min(1 + self.group * units, end)
        while True:
            past = 1 + self.group * self.past_units if start else 0
            spans.append(_Span(self._frames(start, stop), (start, stop), past))
            if stop == end:
                return spans
            start, stop = stop, min(stop + self.group * (units - self.past_units), end)

    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: _Span,
        observation: Observation,
        options: dict[str, Any],
    ) -> Inversion:
        autoencoder = self.autoencoder
        start = span.latents[0]
        if span.context:
            assert known is not None
            first = start - span.context
            # The first latent frame of a clip stands for a single frame: the last of its own.
            past = video[:, :, self.step * first : span.frames[0]]
            autoencoder = _Continued(autoencoder, past, known[:, :, first:start].clone())
        return _inverted(autoencoder, video[:, :, slice(*span.frames)], observation, options)

    @torch.no_grad()
    def seam_db(self, latents: Tensor) -> list[Tensor]:
        kept = 1 + self.group * (self.past_units + 1)
        if latents.shape[2] <= kept:
            return []
        new = self.unit_frames
        whole = self.autoencoder.decode(latents)[:, :, -new:]
        return [nmse_db(self.autoencoder.decode(latents[:, :, -kept:])[:, :, -new:], whole)]

    def _frames(self, start: int, stop: int) -> tuple[int, int]:
        return (1 + self.step * (start - 1) if start else 0), 1 + self.step * (stop - 1)


class _Whole(_Division):
    """No part of a video is a problem of its own."""

    def __init__(self, autoencoder: Autoencoder, reason: str) -> None:
        super().__init__(autoencoder, 1)
        self.reason = reason

    def units(self, frames: int) -> int:
        return frames

    def check_parts(self, units: int, options: dict[str, Any]) -> None:
        raise ValueError(f"{self.autoencoder.name} cannot be inverted in windows: {self.reason}")

    def spans(self, frames: int, units: int) -> list[_Span]:
        return [_Span((0, frames), (0, frames))]  # however many latent frames that makes

    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: _Span,
        observation: Observation,
        options: dict[str, Any],
    ) -> Inversion:
        return _inverted(self.autoencoder, video, observation, options)


class _Continued(Around):
    """The frames of a clip that follow a known past: E and D look back at it."""

    def __init__(self, whole: Autoencoder, frames: Tensor, latents: Tensor) -> None:
        super().__init__(whole)
        self.frames = frames
        self.latents = latents

    def check_shape(self, shape: torch.Size | tuple[int, ...]) -> None:
        self.inner.check_shape((*shape[:2], shape[2] + self.frames.shape[2], *shape[3:]))

    def encode(self, x: Tensor) -> Tensor:
        clip = torch.cat((self.frames.to(x), x), dim=2)
        return self.inner.encode(clip)[:, :, self.latents.shape[2] :]

    def decode(self, latents: Tensor) -> Tensor:
        clip = torch.cat((self.latents.to(latents), latents), dim=2)
        return self.inner.decode(clip)[:, :, self.frames.shape[2] :]

    def copy(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> _Continued:
        whole = self.inner.copy(dtype, channels_last=channels_last)
        return _Continued(whole, self.frames, self.latents)


def _division(autoencoder: Autoencoder, overlap: int | None) -> _Division:
    if overlap is not None:
        check_count(overlap, "overlap")
    parts = autoencoder.parts
    if isinstance(parts, PastFirst):
        return _Causal(
            autoencoder, parts.group, parts.step, OVERLAP if overlap is None else overlap
        )
    if overlap is not None:
        raise ValueError(
            f"overlap is for autoencoders that look back, {', '.join(classes_that_look_back())}; "
            f"{autoencoder.name} has windows that share nothing, or none"
        )
    if isinstance(parts, Chunks):
        return _Apart(autoencoder, parts.frames)
    return _Whole(autoencoder, parts.reason)


def _observation(
    given: Observation | Callable[[Tensor], Tensor] | None,
    shown: Observation,
    autoencoder: Autoencoder,
) -> Observation:
    seen = default_observation(shown, autoencoder.dtype) if given is None else as_observation(given)
    return EachFrame(seen) if isinstance(seen, Jpeg) else seen


def _row(observation: Observation, row: int) -> Observation:
    return observation.select(torch.tensor([row]))


def _of_pictures(observation: Observation) -> Observation:
    """The same for frames that are rows."""
    parts = getattr(observation, "observations", None)
    if parts is not None and len(parts) == 1:
        observation = parts[0]
    return observation.observation if isinstance(observation, EachFrame) else observation


def _inverted(
    autoencoder: Autoencoder, rows: Tensor, observation: Observation, options: dict[str, Any]
) -> Inversion:
    return invert(autoencoder, rows, observation=observation, value_range=(-1, 1), **options)


def _plan(
    division: _Division,
    values: Tensor,
    observation: Observation,
    options: dict[str, Any],
    budget: int,
    total: int,
) -> MemoryPlan:
    """The longest window that stays within the budget.

    Memory is taken to grow linearly with the units of a window. Two runs of `PROBE_STEPS` steps
    measure it; differences that the iterator would go on to collect are counted.
    """
    first = _row(observation, 0)
    video = values[:1]
    allowed = int(budget * (1 - MARGIN)) - values.nbytes
    held, base, unit, latents = _measured(division, video, first, options, total, allowed)
    fixed = values.nbytes + latents * len(values) + held
    room = int(budget * (1 - MARGIN)) - fixed - base
    units = min(total, room // unit if room > 0 else 0)
    least = _least_units(division)
    if units < min(total, least):
        needed = (fixed + base + min(total, least) * unit) / (1 - MARGIN)
        raise ValueError(
            f"a memory_budget of {_mebibytes(budget)} is too small: the smallest window needs "
            f"about {_mebibytes(needed)}, of which {_mebibytes(fixed)} are there whatever its "
            "length: the video, its latents and what libraries keep"
        )
    return MemoryPlan(budget, fixed, base, unit, units, fixed + base + units * unit)


def _least_units(division: _Division) -> int:
    return division.past_units + 1 if isinstance(division, _Causal) else 1


def _measured(
    division: _Division,
    video: Tensor,
    observation: Observation,
    options: dict[str, Any],
    total: int,
    allowed: int,
) -> tuple[int, int, int, int]:
    """Bytes: that libraries keep after the first run; that a window adds whatever its length, and
    for every unit; of the latents of a video.

    Two units are not tried where they might take more than is `allowed`: then one is all that the
    plan will hold, and the numbers say so.
    """
    if isinstance(division, _Whole):
        division.check_parts(1, options)
    steps = min(PROBE_STEPS, options["max_iterations"])
    short = options | {"max_iterations": steps, "stop": (), "rtol": 0.0}
    short.pop("callback", None)

    def run(units: int) -> tuple[PeakMemory, int]:
        clip = division.first(video, units)
        span = _Span((0, clip.shape[2]), (0, 0))
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
    held = max(0, warm.before - cold.before)
    picture_bytes = division.first(video, 1).nbytes
    unit = warm.added
    if total > 1 and held + 2 * warm.added <= allowed:
        double, _ = run(2)
        assert double.added is not None
        unit = max(double.added - warm.added, picture_bytes)
    base = max(0, warm.added - unit)
    later = _collected_later(observation, division.autoencoder, options, steps)
    unit += later.latents * latent_bytes + later.pictures * picture_bytes
    return held, base, unit, latent_bytes * max(1, total)


@dataclass(frozen=True)
class _Later:
    """Copies of latents, and of pictures, that an iterator collects after the first steps."""

    latents: int
    pictures: int


def _collected_later(
    observation: Observation, autoencoder: Autoencoder, options: dict[str, Any], steps: int
) -> _Later:
    iterator = options.get("iterator")
    if iterator is None and options.get("prior") is None:  # with a prior: forward steps
        iterator = default_iterator(observation, autoencoder.dtype)
    most = min(getattr(iterator, "memory", 0), options["max_iterations"])
    more = max(0, most - steps)
    of_pictures = getattr(iterator, "minimize", "residual") != "residual"
    return _Later(latents=2 * more, pictures=more if of_pictures else 0)


def _psnr_db(decoded: Tensor, inversion: Inversion, division: _Division) -> Tensor:
    """(frames,)"""
    error = (decoded - division.as_video(inversion.picture)).double().square()
    return 10 * (4 / error.mean((0, 1, 3, 4))).log10()


def _statuses(window: VideoWindow) -> list[Status]:
    solved = window.solution.status
    each = (window.latents[1] - window.latents[0]) // len(solved)
    return [status for status in solved for _ in range(each)]


def _repeated(window: VideoWindow, values: Tensor) -> Tensor:
    """A value for every row of the solution as one for every latent frame."""
    return values.repeat_interleave((window.latents[1] - window.latents[0]) // len(values))


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"
