"""An editor's loop through an autoencoder: pictures to latents and back, again and again.

Each pass through the encoder loses a little, also where nothing was touched. So it is avoided where
it can be: a picture that was decoded here is recognised by its pixels, and has the latent that made
it; of one that was edited since, only the cells that changed are encoded anew; any other is
inverted, see `invert(goal="picture")`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.digest import digest_of_model
from fixpoint.adapters.inversion.choice import check_gradients
from fixpoint.adapters.inversion.goal import Goal, Perceptual, check_goal, comparison
from fixpoint.adapters.inversion.gradient_plan import Gradients
from fixpoint.adapters.inversion.invert_picture import invert
from fixpoint.adapters.inversion.judgement import InversionOutcome, Judgement
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.pictures.observations import EightBit, Observation, from_levels
from fixpoint.adapters.pictures.pictures import Pictures, as_pictures, read_picture, to_pil
from fixpoint.adapters.round_trips.edited import Fit
from fixpoint.adapters.round_trips.encoded import Encoded, Origin
from fixpoint.adapters.round_trips.in_pipeline import remembering
from fixpoint.adapters.round_trips.memory import (
    Memory,
    Remembered,
    changed_pixels,
    levels_of,
    pixel_hash,
)
from fixpoint.adapters.round_trips.picture_files import (
    STORES,
    Store,
    Stored,
    save_picture,
    stored_with,
)

CAPACITY = 64

RECALLED = Judgement(
    InversionOutcome.UNJUDGED, "memory", "remembered: this picture was made or encoded here"
)


class RoundTrip:
    """Pictures to latents and back without loss, as far as the 8-bit grid allows it.

    Args:
        autoencoder: of RGB pictures.
        goal: of inverting pictures that are not known, see `invert`.
        perceptual, perceptual_weight, gradients, memory_budget: as for `invert`.
        restore: put pixels that an edit did not touch back as they were. The decoder mixes
            neighbours, so that near an edit it cannot draw them exactly.
        capacity: pictures that are remembered in this process; 0 for none.
        progress: show progress bars.

    Raises:
        TypeError, ValueError: the pair is none of RGB pictures, or an option is not usable.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        *,
        goal: Goal = "picture",
        perceptual: Perceptual | str | None = None,
        perceptual_weight: float | None = None,
        gradients: Gradients = "auto",
        memory_budget: int | None = None,
        restore: bool = True,
        capacity: int = CAPACITY,
        progress: bool = False,
    ) -> None:
        if autoencoder.medium != "picture" or autoencoder.sample_channels != 3:
            raise ValueError(f"round trips are made with RGB pictures, not with {autoencoder!r}")
        check_goal(goal)
        check_gradients(gradients, memory_budget)
        self.autoencoder = autoencoder
        self.goal = goal
        self.gradients = gradients
        self.memory_budget = memory_budget
        self.restore = restore
        self.progress = progress
        self.memory = Memory(capacity) if capacity else None
        self._perceptual: dict[str, Any] = {
            "perceptual": perceptual,
            "perceptual_weight": perceptual_weight,
        }
        compared = comparison(perceptual, perceptual_weight)
        self._fit = Fit(autoencoder, compared, gradients, memory_budget, progress)

    def encode(self, image: Any, *, value_range: tuple[float, float] | None = None) -> Encoded:
        """The latents of pictures.

        Args:
            image: one picture or several of one size, as for `invert`. A path is also asked for
                what was stored with it, see `save`.
            value_range: of float input, see `as_pictures`.

        Raises:
            TypeError, ValueError: the pictures are not usable; no model ran.
        """
        opened = [
            (read_picture(each), Path(each)) if isinstance(each, str | Path) else (each, None)
            for each in (image if isinstance(image, list | tuple) else [image])
        ]
        given = [each for each, _ in opened] if isinstance(image, list | tuple) else opened[0][0]
        pictures = readable(self.autoencoder, given, value_range)
        started = time.perf_counter()
        if len(opened) == len(pictures.values):
            for row, (each, path) in enumerate(opened):
                self._learn(stored_with(each, path), pictures.values[row])
        return self._encoded(pictures, started)

    def decode(
        self,
        latent: Float[Tensor, "batch channels rows columns"],
        *,
        settings: Mapping[str, Any] | None = None,
        original: Any = None,
        touched: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch 3 height width"]:
        """The pictures of latents, on the 8-bit grid of [-1, 1]; they are remembered.

        Args:
            latent: in the pipeline's scaling.
            settings: of whatever made the latents, remembered with them.
            original: with `touched`, pictures whose other pixels are to stay as they are. The
                latents are then fitted to them there, and to their own decoding elsewhere.
            touched: True where the latents may draw what they like.

        Raises:
            ValueError: one of `original` and `touched` is given without the other.
        """
        if (original is None) != (touched is None):
            raise ValueError("original and touched go together: what stays, and where it may not")
        latent = latent.detach()
        with torch.no_grad():
            pictures = EightBit()(self.autoencoder.decode(latent))
        if original is not None and touched is not None:
            kept = as_pictures(original, (-1, 1)).values.to(pictures)
            masks = touched.to(pictures.device)
            wanted = torch.where(masks[:, None], pictures, kept)
            parts = (each.split(1) for each in (latent, wanted, pictures, masks))
            latent = torch.cat(
                [
                    self._fit.kept(Pictures(picture, EightBit()), row, drawn, mask).latent
                    for row, picture, drawn, mask in zip(*parts, strict=True)
                ]
            )
            if self.memory is not None:
                untouched = ~masks.cpu()
                for row, levels, firm in zip(latent, levels_of(wanted), untouched, strict=True):
                    self.memory.want(row, levels, firm)
            with torch.no_grad():
                pictures = EightBit()(self.autoencoder.decode(latent))
        if self.restore and self.memory is not None:
            rows = zip(latent, levels_of(pictures), strict=True)
            restored = torch.stack([self.memory.restored(row, levels) for row, levels in rows])
            pictures = from_levels(restored.float()).to(pictures)
        self.remember(latent, pictures, settings)
        return pictures

    def remember(
        self,
        latent: Float[Tensor, "batch channels rows columns"],
        pictures: Float[Tensor, "batch 3 height width"],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Remember latents and the pictures on [-1, 1] that they decode to."""
        if self.memory is None:
            return
        for row, levels in zip(latent.detach().float().cpu(), levels_of(pictures), strict=True):
            wanted = self.memory.wanted(row, levels)
            self.memory.keep(Remembered(row.clone(), levels, wanted, dict(settings or {})))

    def save(
        self,
        path: str | Path,
        picture: Float[Tensor, "3 height width"],
        *,
        store: Store | None = "chunks",
    ) -> None:
        """Write a picture as a PNG, with what made it.

        Args:
            path: ends in .png.
            picture: on [-1, 1].
            store: "chunks": in text chunks of the PNG; "sidecar": in a file beside it; None: not at
                all. A picture that is not remembered is saved alone.

        Raises:
            ValueError: the name is not that of a PNG, or `store` is none of these.
        """
        if store is not None and store not in STORES:
            raise ValueError(f"store must be one of {', '.join(STORES)} or None, got {store!r}")
        (levels,) = levels_of(picture[None])
        known = None if self.memory is None else self.memory.recall(levels, EightBit())
        stored = None
        if known is not None:
            model = digest_of_model(self.autoencoder)
            stored = Stored(known.latent[None], pixel_hash(levels), model, known.settings)
        save_picture(Path(path), to_pil(picture), stored, store)

    @classmethod
    def of(cls, pipeline: Any, **options: Any) -> RoundTrip:
        """A round trip through the autoencoder of a diffusers pipeline.

        Args:
            pipeline: with an autoencoder of the name `vae`.
            options: see the class.
        """
        return cls(Autoencoder.from_diffusers(_vae(pipeline)), **options)

    @contextmanager
    def inside(self, pipeline: Any) -> Iterator[None]:
        """A block in which the pipeline gets known latents, and what it decodes is remembered.

        Args:
            pipeline: of diffusers, whose `vae` this round trip was made with; img2img, inpainting
                or any other.

        Raises:
            TypeError, ValueError: the pipeline has another autoencoder, or nothing is remembered.
        """
        if self.memory is None:
            raise ValueError("a round trip of capacity 0 knows no latents")
        vae = _vae(pipeline)
        if vae is not self.autoencoder.module:
            raise ValueError(
                "this round trip was made with another autoencoder: RoundTrip.of(pipe)"
            )
        with remembering(vae, self.autoencoder, self.memory, self.remember):
            yield

    def _learn(self, stored: Stored | None, picture: Tensor) -> None:
        """Remember what a file says made it, once the decoder has drawn it again."""
        if self.memory is None or stored is None:
            return
        cells = tuple(side // self.autoencoder.factor for side in picture.shape[-2:])
        if stored.latent.shape[1:] != (self.autoencoder.channels, *cells):
            return
        if stored.model != digest_of_model(self.autoencoder):
            return
        latent = stored.latent.to(self.autoencoder.device)
        with torch.no_grad():
            drawn = EightBit()(self.autoencoder.decode(latent))
        self.remember(latent, drawn, stored.settings)

    def _encoded(self, pictures: Pictures, started: float) -> Encoded:
        values = pictures.values
        count, device = len(values), self.autoencoder.device
        levels = levels_of(values)
        on_grid = (from_levels(levels.float()) - values.cpu()).abs().flatten(1).amax(1) < 1e-5
        parts: list[_Row | None] = [
            self._known(levels[row], _of_row(pictures, row)) if bool(on_grid[row]) else None
            for row in range(count)
        ]
        unknown = [row for row, part in enumerate(parts) if part is None]
        if unknown:
            inversion = invert(
                self.autoencoder,
                _of_rows(pictures, unknown),
                goal=self.goal,
                gradients=self.gradients,
                memory_budget=self.memory_budget,
                progress=self.progress,
                **self._perceptual,
            )
            for at, row in enumerate(unknown):
                latent = inversion.latent[at]
                moved = torch.ones(latent.shape[-2:], dtype=torch.bool)
                judgement = inversion.judgements[at]
                parts[row] = _Row(latent, Origin.INVERTED, moved, judgement, {})
                if self.memory is not None and bool(on_grid[row]):
                    nothing = torch.zeros(levels.shape[-2:], dtype=torch.bool)
                    self._found(latent, levels[row], levels[row], nothing, {})
        rows = [part for part in parts if part is not None]
        return Encoded(
            latent=torch.stack([row.latent.to(device) for row in rows]),
            picture=values,
            origin=tuple(row.origin for row in rows),
            moved=torch.stack([row.moved.cpu() for row in rows]),
            judgements=tuple(row.judgement for row in rows),
            settings=tuple(row.settings for row in rows),
            seconds=time.perf_counter() - started,
        )

    def _known(self, levels: Tensor, pictures: Pictures) -> _Row | None:
        """A picture that is remembered, or was edited since; None for any other."""
        if self.memory is None:
            return None
        found = self.memory.recall(levels, pictures.observation)
        if found is not None:
            still = torch.zeros(found.latent.shape[-2:], dtype=torch.bool)
            return _Row(found.latent, Origin.REMEMBERED, still, RECALLED, found.settings)
        if not pictures.observation.pixelwise:
            return None
        before = self.memory.nearest(levels)
        if before is None:
            return None
        changed = changed_pixels(before.levels, levels)
        wanted = torch.where(changed, levels, before.wanted)
        target = Pictures(from_levels(wanted[None].float()), pictures.observation)
        rows, moved = self._fit.edited(target, before.latent[None], before.values, changed[None])
        self._found(rows.latent[0], levels, wanted, ~changed, before.settings)
        (judgement,) = rows.judgements
        return _Row(rows.latent[0], Origin.EDITED, moved[0], judgement, before.settings)

    def _found(
        self,
        latent: Tensor,
        levels: Tensor,
        wanted: Tensor,
        firm: Tensor,
        settings: Mapping[str, Any],
    ) -> None:
        """Remember the latent that was found for a picture."""
        assert self.memory is not None
        self.memory.keep(Remembered(latent.detach().float().cpu(), levels, wanted, settings))
        self.memory.want(latent, wanted, firm)


@dataclass(frozen=True)
class _Row:
    latent: Tensor
    origin: Origin
    moved: Tensor
    judgement: Judgement
    settings: Mapping[str, Any]


def _vae(pipeline: Any) -> Any:
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        raise TypeError(f"{type(pipeline).__name__} has no autoencoder of the name vae")
    return vae


def _of_rows(pictures: Pictures, rows: list[int]) -> Pictures:
    at = torch.tensor(rows)
    return Pictures(pictures.values[at], _selected(pictures.observation, at))


def _of_row(pictures: Pictures, row: int) -> Pictures:
    return _of_rows(pictures, [row])


def _selected(observation: Observation, rows: Tensor) -> Observation:
    selected = observation.select(rows)
    parts = getattr(selected, "observations", None)
    return parts[0] if parts is not None and len(parts) == 1 else selected
