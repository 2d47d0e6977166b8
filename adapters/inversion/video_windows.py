"""Long videos, window by window, so that the memory of an inversion stays within a budget.

`video_divisions` says what a window may be, `memory_plan` chooses its length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.inversion.memory_plan import plan_window
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.adapters.inversion.video_divisions import VideoDivision, division_of
from fixpoint.adapters.inversion.video_result import MemoryPlan, VideoInversion, VideoWindow
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.observations import Jpeg, Observation, as_observation
from fixpoint.adapters.pictures.videos import as_videos, check_count


@takes_models
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
        autoencoder: an autoencoder of videos: `PerFrame(...)`, or one whose `medium` is "video".
        video: one video or several of one size, see `as_videos`. It is never resized.
        memory_budget: bytes that the call may add to memory at its peak, on the device of the
            autoencoder. On the CPU this is resident memory, measured on Linux alone. Short runs on
            the first frames are measured, and the longest window that fits is chosen. A tenth of
            the budget is left free. The video as float32 and its latents count.
        window: the largest number of frames that are inverted together, in the place of
            `memory_budget`. A past that is held fixed counts. By default `frames_at_once` of
            `PerFrame`, else all frames.
        overlap: latent frames before a window that are held fixed, where E and D look back; by
            default 4. More of them cost time and memory, and make the seam better.
        observation: what happened to the decoder's output before it became the video; by default
            what the video shows, see `invert`.
        max_iterations: the largest number of evaluations of E(D(.)) beyond the first, of every
            frame, chunk or window that is a problem of its own.
        value_range: range of float input, see `as_pictures`.
        on_window: a function that is called after each window with its account and its latents
            (1, channels, latent frames, rows, columns). It may save them, should the rest be
            interrupted.
        progress: show a progress bar of the windows.
        options: options of `invert`: `iterator`, `rtol`, `stop`, `keep`, `compile`, `callback`,
            `prior`, `prior_weight`.

    Raises:
        TypeError, ValueError: the video or an option is not usable, the autoencoder cannot be
            applied to parts of a video, or not even the smallest part fits into the budget.
    """
    started = time.perf_counter()
    if autoencoder.medium != "video":
        raise TypeError(
            f"expected an autoencoder of videos, got one of {autoencoder.medium}s; "
            "PerFrame(autoencoder) applies one of pictures frame by frame"
        )
    if memory_budget is not None and window is not None:
        raise ValueError("memory_budget chooses the window: give one of them")
    for name, number in (("memory_budget", memory_budget), ("window", window)):
        if number is not None:
            check_count(number, name)
    options["max_iterations"] = max_iterations
    division = division_of(autoencoder, overlap)
    videos = as_videos(video, value_range)
    values = videos.values
    autoencoder.check_shape(values.shape)
    seen = _observation(observation, videos.observation, autoencoder)
    total = division.units(values.shape[2])
    plan: MemoryPlan | None = None
    if memory_budget is not None:
        first = _row(seen, 0)
        plan = plan_window(division, values, first, options, memory_budget, total)
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


def _observation(
    given: Observation | Callable[[Tensor], Tensor] | None,
    shown: Observation,
    autoencoder: Autoencoder,
) -> Observation:
    seen = default_observation(shown, autoencoder.dtype) if given is None else as_observation(given)
    return EachFrame(seen) if isinstance(seen, Jpeg) else seen


def _row(observation: Observation, row: int) -> Observation:
    return observation.select(torch.tensor([row]))


def _psnr_db(decoded: Tensor, inversion: Inversion, division: VideoDivision) -> Tensor:
    """Peak signal-to-noise ratio of every decoded frame against the video, (frames,)."""
    error = (decoded - division.as_video(inversion.picture)).double().square()
    return 10 * (4 / error.mean((0, 1, 3, 4))).log10()
