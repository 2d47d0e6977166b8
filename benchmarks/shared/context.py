"""Autoencoders and pictures that a run of the benchmarks measures with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fixpoint.adapters
from benchmarks.shared.pictures import held_out_crops
from fixpoint.adapters import Autoencoder, EightBit
from fixpoint.adapters.pictures import check_sides
from fixpoint.adapters.verification.crops import cut

CROP = 64
MATCHED = ("kl", "adversarial")
"""Embedded autoencoders trained as one, as the paper's are; `studies.real_pairs` has others."""


@dataclass(frozen=True)
class Context:
    """Autoencoders, pictures and sizes of one run of the benchmarks.

    Attributes:
        folders: of the autoencoders, by the names that tables show.
        autoencoders: loaded in float32, by the same names.
        crops: (crops, 3, height, width) on [-1, 1]; only their encodings are used.
        origin: of the crops, in words.
        overlapping: crops share pixels, so that intervals are too narrow.
        quick: few steps, to try the programs.
        memory_side: of the picture whose memory is measured, in pixels.
        video_size: height and width of a video's frames, in pixels.
    """

    folders: dict[str, Path]
    autoencoders: dict[str, Autoencoder]
    crops: Tensor
    origin: str
    overlapping: bool = True
    quick: bool = False
    seed: int = 0
    memory_side: int = 512
    video_size: tuple[int, int] = (128, 192)

    def load(self, name: str, dtype: str) -> Autoencoder:
        """The autoencoder in another precision."""
        if dtype == "float32":
            return self.autoencoders[name]
        return Autoencoder.from_pretrained(self.folders[name], dtype=getattr(torch, dtype))

    @torch.no_grad()
    def observed(self, name: str) -> tuple[Tensor, Tensor]:
        """z* of every crop, and the 8-bit pictures decoded from them."""
        autoencoder = self.autoencoders[name]
        truth = autoencoder.encode(self.crops)
        return truth, EightBit()(autoencoder.decode(truth))

    def large_picture(self, height: int, width: int) -> Tensor:
        """The first crop, tiled: (1, 3, height, width)."""
        tile = self.crops[:1]
        down, across = math.ceil(height / tile.shape[2]), math.ceil(width / tile.shape[3])
        return tile.repeat(1, 1, down, across)[..., :height, :width]


def make_context(
    models: Sequence[Path] = (),
    pictures: Sequence[Path] = (),
    *,
    crops: int = 48,
    crop_size: int = CROP,
    quick: bool = False,
    seed: int = 0,
    **sizes: Any,
) -> Context:
    """The context of a run: the `MATCHED` autoencoders and held-out crops, unless others are given.

    Raises:
        OSError, TypeError, ValueError: a model or a picture is not usable.
    """
    if models:
        folders = {f"`{folder.resolve().name}`": folder.resolve() for folder in models}
        if len(folders) < len(models):
            raise ValueError("model folders need names of their own")
    else:
        embedded = Path(fixpoint.adapters.__file__).parent / "models"
        folders = {f'`embedded("{name}")`': embedded / name for name in MATCHED}
    if pictures:
        cuts = cut(pictures, count=crops, size=crop_size, seed=seed)
        values = torch.cat([crop.values for crop in cuts])
        origin = ", ".join(dict.fromkeys(Path(crop.picture).name for crop in cuts))
        overlapping = any(a.overlaps(b) for index, a in enumerate(cuts) for b in cuts[:index])
    else:
        values = held_out_crops(crops, crop_size, seed)
        origin = "chelsea, coffee and china, never trained on"
        overlapping = True
    autoencoders = {name: Autoencoder.from_pretrained(folder) for name, folder in folders.items()}
    for autoencoder in autoencoders.values():
        check_sides(values, autoencoder.factor)
    return Context(folders, autoencoders, values, origin, overlapping, quick, seed, **sizes)
