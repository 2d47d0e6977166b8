"""The result of inverting videos: the latents, the windows they were found in, the memory plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.adapters.inversion.result import nmse_db
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.solution import Solution
from fixpoint.status import Status
from fixpoint.summary import Summarised


@dataclass(frozen=True)
class VideoWindow(Summarised):
    """Frames of one video that were inverted together.

    Attributes:
        video: row of the video in the batch.
        frames: first frame of the window, and one past the last.
        latents: the same of latent frames.
        context: number of latent frames before the window that were held fixed.
        solution: the solver's account. It has a row for every frame or chunk that is a problem of
            its own, else one row.
        psnr_db: peak signal-to-noise ratio of each decoded frame against the video, (frames,).
        seconds: time for this window.
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
    """How a memory budget became a window. Bytes are those that the call adds to memory.

    A unit is what cannot be split, such as a frame or a chunk. A window of n units adds
    `base + n * unit` bytes.

    Attributes:
        budget: bytes that were allowed.
        fixed: bytes of the video, of its latents and of what libraries keep after their first call.
        base: measured bytes that a window adds whatever its length.
        unit: measured bytes that a window adds for every unit.
        units: number of units of the chosen windows.
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
    """The latents behind a batch of videos. Rows are in the order of the videos.

    Attributes:
        latent: (batch, channels, latent frames, rows, columns), float32, in the pipeline's scaling.
        observation: the assumed change of the decoder's output before it became the video.
        windows: the windows, in the order in which they were inverted.
        seconds: total time, with the measurements of memory.
        plan: how `memory_budget` became a window; None without a budget.
        seam_db: cost of a seam per video, where windows hold the past fixed. The last frames of the
            first window are decoded with `overlap` latent frames of their past, and compared with
            those decoded with all of it: `10 log10` of the squared difference over the squared
            frames. None where windows share nothing, or the first window is too short to tell.
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
            tuple(status for window in self._windows_of(video) for status in _statuses(window))
            for video in range(len(self.latent))
        )

    @property
    def evaluations(self) -> Int[Tensor, "batch frames"]:
        """Number of evaluations of E(D(.)) in which each latent frame took part."""
        return self._by_latent_frame(lambda window: window.solution.evaluations)

    @property
    def residual_norm(self) -> Float[Tensor, "batch frames"]:
        """`||T z||` of the problem that each latent frame belongs to."""
        return self._by_latent_frame(lambda window: window.solution.residual_norm)

    @property
    def psnr_db(self) -> Float[Tensor, "batch frames"]:
        """Peak signal-to-noise ratio of every decoded frame against the video, in dB."""
        return torch.stack(
            [
                torch.cat([window.psnr_db for window in self._windows_of(video)])
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
        """`nmse_db` of every latent frame. It shows what a seam costs."""
        found, known = (each.transpose(1, 2).flatten(0, 1) for each in (self.latent, truth))
        return nmse_db(found, known).reshape(len(truth), -1)

    def _windows_of(self, video: int) -> list[VideoWindow]:
        return [window for window in self.windows if window.video == video]

    def _by_latent_frame(self, values: Callable[[VideoWindow], Tensor]) -> Tensor:
        return torch.stack(
            [
                torch.cat([_repeated(window, values(window)) for window in self._windows_of(video)])
                for video in range(len(self.latent))
            ]
        )


def _statuses(window: VideoWindow) -> list[Status]:
    """The status of every latent frame of a window."""
    solved = window.solution.status
    each = (window.latents[1] - window.latents[0]) // len(solved)
    return [status for status in solved for _ in range(each)]


def _repeated(window: VideoWindow, values: Tensor) -> Tensor:
    """One value for every latent frame, from one for every row of the solution."""
    return values.repeat_interleave((window.latents[1] - window.latents[0]) // len(values))
