"""How videos may be divided into windows. The autoencoder decides:

- `IndependentChunks`: frames that are encoded and decoded one by one (`PerFrame`), and the chunks
  of a temporal decoder, are problems of their own. Each is a row, and windows change nothing.
- `CausalWindows`: E and D look back, never ahead. The past of a window is known once the windows
  before it have been inverted. It is held fixed, as far back as `overlap` says. What lies further
  back is missing, and costs accuracy at the seam.
- `UndividedVideo`: anything else is a single problem. It is inverted whole or not at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.around import Around
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.diffusers_classes import classes_that_look_back
from fixpoint.adapters.autoencoders.parts import Chunks, PastFirst
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.inversion.invert_picture import invert_by_iteration
from fixpoint.adapters.inversion.result import Inversion, nmse_db
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.pictures.videos import check_count

OVERLAP = 4
"""Default number of latent frames before a window that are held fixed."""

ALL_UNITS = 2**62
"""More units than any video has."""


def division_of(autoencoder: Autoencoder, overlap: int | None = None) -> VideoDivision:
    """How the videos of an autoencoder may be divided.

    Args:
        autoencoder: an autoencoder of videos.
        overlap: latent frames before a window that are held fixed; 4 by default.

    Raises:
        ValueError: `overlap` is not a whole number above 0, or E and D do not look back.
    """
    if overlap is not None:
        check_count(overlap, "overlap")
    parts = autoencoder.parts
    if isinstance(parts, PastFirst):
        return CausalWindows(
            autoencoder, parts.group, parts.step, OVERLAP if overlap is None else overlap
        )
    if overlap is not None:
        raise ValueError(
            f"overlap is for autoencoders that look back, {', '.join(classes_that_look_back())}; "
            f"{autoencoder.name} has windows that share nothing, or none"
        )
    if isinstance(parts, Chunks):
        return IndependentChunks(autoencoder, parts.frames)
    return UndividedVideo(autoencoder, parts.reason)


@dataclass(frozen=True)
class WindowSpan:
    """Where a window lies in its video.

    Attributes:
        frames: first frame, and one past the last.
        latents: the same of latent frames.
        context: number of latent frames before the window that are held fixed.
    """

    frames: tuple[int, int]
    latents: tuple[int, int]
    context: int = 0


class VideoDivision(ABC):
    """How the videos of an autoencoder may be divided into windows.

    A unit is what cannot be split. A window holds whole units.

    Attributes:
        unit_frames: frames of a unit.
        default_units: units of a window that is not chosen by the caller.
        least_units: units of the shortest window.
    """

    def __init__(self, autoencoder: Autoencoder, unit_frames: int) -> None:
        self.autoencoder = autoencoder
        self.unit_frames = unit_frames
        self.default_units = ALL_UNITS
        self.least_units = 1

    def units(self, frames: int) -> int:
        """Number of units of a whole video. The last unit may be shorter."""
        return max(1, -(-frames // self.unit_frames))

    def units_within(self, frames: int) -> int:
        """Number of units in a window of so many frames.

        Raises:
            ValueError: the window is shorter than a unit.
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
        """Check that windows may be shorter than the video, and have so many units.

        Raises:
            ValueError: they may not.
        """
        return

    @abstractmethod
    def spans(self, frames: int, units: int) -> list[WindowSpan]:
        """The windows of a video of so many frames, in order."""

    @abstractmethod
    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: WindowSpan,
        observation: Observation,
        options: dict[str, Any],
    ) -> Inversion:
        """Invert one window.

        Args:
            video: the whole video, (1, 3, frames, height, width).
            known: latents of the video, right before the window; None for the first one.
            span: the window.
            observation: of the video.
            options: of `invert`.
        """

    def as_video(self, rows: Tensor) -> Tensor:
        """Join the rows of an inversion, latents or frames, to one video."""
        return rows

    def seam_db(self, latents: Tensor) -> list[Tensor]:
        """The seam of `VideoInversion`, from the latents of a first window: one number or none."""
        return []


class IndependentChunks(VideoDivision):
    """Frames, or chunks of them, that are problems of their own. Each is a row."""

    def __init__(self, autoencoder: Autoencoder, unit_frames: int) -> None:
        super().__init__(autoencoder, unit_frames)
        if isinstance(autoencoder, PerFrame):
            self.default_units = autoencoder.frames_at_once

    def spans(self, frames: int, units: int) -> list[WindowSpan]:
        """The windows. A shorter last chunk has its own, since rows have one length."""
        whole = frames // self.unit_frames * self.unit_frames
        step = units * self.unit_frames
        ends = [(start, min(start + step, whole)) for start in range(0, whole, step)]
        if whole < frames:
            ends.append((whole, frames))
        return [WindowSpan(end, end) for end in ends]

    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: WindowSpan,
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


class CausalWindows(VideoDivision):
    """Windows of E and D that look back only.

    The first frame of a video stands alone. A unit is a group of latent frames beyond it.

    Args:
        autoencoder: an autoencoder of videos that looks back only.
        group: latent frames that go through E and D together.
        step: frames of a latent frame beyond the first.
        overlap: latent frames before a window that are held fixed, at least.
    """

    def __init__(self, autoencoder: Autoencoder, group: int, step: int, overlap: int) -> None:
        super().__init__(autoencoder, group * step)
        self.group = group
        self.step = step
        self.past_units = -(-(overlap - 1) // group)  # beyond the first latent frame of a clip
        self.least_units = self.past_units + 1

    def units(self, frames: int) -> int:
        return (frames - 1) // self.unit_frames

    def units_within(self, frames: int) -> int:
        return (frames - 1) // self.unit_frames

    def first(self, values: Tensor, units: int) -> Tensor:
        return values[:, :, : 1 + units * self.unit_frames]

    def check_parts(self, units: int, options: dict[str, Any]) -> None:
        if units < self.least_units:
            least = 1 + self.least_units * self.unit_frames
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

    def spans(self, frames: int, units: int) -> list[WindowSpan]:
        spans = []
        end = 1 + self.group * self.units(frames)
        start, stop = 0, min(1 + self.group * units, end)
        while True:
            past = 1 + self.group * self.past_units if start else 0
            spans.append(WindowSpan(self._frames(start, stop), (start, stop), past))
            if stop == end:
                return spans
            start, stop = stop, min(stop + self.group * (units - self.past_units), end)

    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: WindowSpan,
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
            autoencoder = WithFixedPast(autoencoder, past, known[:, :, first:start].clone())
        return _inverted(autoencoder, video[:, :, slice(*span.frames)], observation, options)

    @torch.no_grad()
    def seam_db(self, latents: Tensor) -> list[Tensor]:
        kept = 1 + self.group * self.least_units
        if latents.shape[2] <= kept:
            return []
        new = self.unit_frames
        whole = self.autoencoder.decode(latents)[:, :, -new:]
        return [nmse_db(self.autoencoder.decode(latents[:, :, -kept:])[:, :, -new:], whole)]

    def _frames(self, start: int, stop: int) -> tuple[int, int]:
        """The frames of latent frames: the first, and one past the last."""
        return (1 + self.step * (start - 1) if start else 0), 1 + self.step * (stop - 1)


class UndividedVideo(VideoDivision):
    """The whole video is one problem.

    Args:
        autoencoder: an autoencoder of videos.
        reason: why no part can be inverted by itself, to stand after a colon.
    """

    def __init__(self, autoencoder: Autoencoder, reason: str) -> None:
        super().__init__(autoencoder, 1)
        self.reason = reason

    def units(self, frames: int) -> int:
        return frames

    def check_parts(self, units: int, options: dict[str, Any]) -> None:
        raise ValueError(f"{self.autoencoder.name} cannot be inverted in windows: {self.reason}")

    def spans(self, frames: int, units: int) -> list[WindowSpan]:
        return [WindowSpan((0, frames), (0, frames))]  # however many latent frames that makes

    def invert(
        self,
        video: Tensor,
        known: Tensor | None,
        span: WindowSpan,
        observation: Observation,
        options: dict[str, Any],
    ) -> Inversion:
        return _inverted(self.autoencoder, video, observation, options)


class WithFixedPast(Around):
    """An autoencoder of the frames that follow a known past, at which E and D look back.

    Args:
        whole: an autoencoder of videos that looks back only.
        frames: frames of the past.
        latents: their latents.
    """

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

    def copy(
        self, dtype: torch.dtype | None = None, *, channels_last: bool = False
    ) -> WithFixedPast:
        whole = self.inner.copy(dtype, channels_last=channels_last)
        return WithFixedPast(whole, self.frames, self.latents)


def _of_pictures(observation: Observation) -> Observation:
    """The observation of frames that are rows, from that of their video."""
    parts = getattr(observation, "observations", None)
    if parts is not None and len(parts) == 1:
        observation = parts[0]
    return observation.observation if isinstance(observation, EachFrame) else observation


def _inverted(
    autoencoder: Autoencoder, rows: Tensor, observation: Observation, options: dict[str, Any]
) -> Inversion:
    return invert_by_iteration(
        autoencoder, rows, observation=observation, value_range=(-1, 1), **options
    )
