"""What every section measures with, and how it writes numbers down."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fixpoint.adapters
from benchmarks.shared.pictures import held_out_crops
from fixpoint.adapters import Autoencoder, EightBit
from fixpoint.adapters.autoencoder import EMBEDDED
from fixpoint.adapters.pictures import check_sides
from fixpoint.adapters.verify_crops import cut
from fixpoint.version import __version__

CROP = 64


@dataclass(frozen=True)
class Context:
    """Autoencoders, pictures and sizes of one run of the benchmarks.

    Attributes:
        folders: of the autoencoders, by the names that tables show.
        autoencoders: loaded in float32, by the same names.
        crops: (crops, 3, height, width) on [-1, 1]; only their encodings are used.
        origin: of the crops, in words.
        overlapping: crops share pixels, so that no interval can be taken at its word.
        quick: few steps, to try the scripts.
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
    """The context of a run: the embedded autoencoders and held-out crops, unless others are given.

    Raises:
        OSError, TypeError, ValueError: a model or a picture is not usable.
    """
    if models:
        folders = {f"`{folder.resolve().name}`": folder.resolve() for folder in models}
        if len(folders) < len(models):
            raise ValueError("model folders need names of their own")
    else:
        embedded = Path(fixpoint.adapters.__file__).parent / "models"
        folders = {f'`embedded("{name}")`': embedded / name for name in EMBEDDED}
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


def machine_name() -> str:
    processor = platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return (
        f"Measured with fixpoint {__version__}, torch {torch.__version__}, "
        f"{threads} thread{'s' * (threads > 1)} of {os.cpu_count()} CPU cores ({processor})."
    )


def summary(errors: Tensor) -> dict[str, float]:
    """Mean, half the 95 % interval of the mean, and the worst, of values in dB."""
    spread = float(errors.std()) if len(errors) > 1 else math.nan
    return {
        "nmse_db": float(errors.mean()),
        "interval_db": 1.96 * spread / math.sqrt(len(errors)),
        "worst_db": float(errors.max()),
    }


def ready_for_json(tree: Any) -> Any:
    """The same tree with None for every number that JSON does not know."""
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: ready_for_json(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [ready_for_json(value) for value in tree]
    return tree


def number(value: float | None, form: str = ".1f") -> str:
    """A number as a table shows it; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else format(value, form)


def mean_and_interval(row: dict[str, Any]) -> str:
    return f"{number(row['nmse_db'])} ± {number(row['interval_db'])}"


def mebibytes(size: float | None, form: str = ".0f") -> str:
    return "–" if size is None else number(size / 2**20, form)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """A Markdown table; all columns but the first `words` are numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
