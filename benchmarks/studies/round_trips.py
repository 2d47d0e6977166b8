"""Round trips: what is left of pictures after 1, 3 and 10 passages through an autoencoder.

    python -m benchmarks.studies.round_trips --pair kl --pictures FOLDER --first 4
    python -m benchmarks.studies.round_trips --pair module:function --pictures FOLDER --once
    python -m benchmarks.studies.round_trips --render                     # what is stored

Crops of photographs, and the pictures that the pair makes of them, go through the pair again and
again: untouched, with another patch pasted before each passage, and compressed between two
passages. `--once` compares one passage of photographs with plain L-BFGS. Stored as
`results/round_trips.json`, one entry for each pair, size and way; other entries stay.
"""

from __future__ import annotations

import io
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.shared.command import add_render, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import renew_table
from benchmarks.shared.stored import load, results_path, store
from benchmarks.shared.tables import mebibytes, number, table
from benchmarks.studies.real_pairs import crops, named_pair
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    EightBit,
    RoundTrip,
    as_pictures,
    invert,
    invert_by_gradient,
    to_pil,
)
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.adapters.round_trips.cycles import Cycle, Edit, by_encoder, by_round_trip, cycles

SHOWN = (1, 3, 10)
SEED = 5
PATCH = 4
"""A patch has this share of a side, inverted."""

WAYS: dict[str, dict[str, Any] | None] = {
    "encoder": None,
    "ours": {},
    "ours, decoder alone": {"restore": False},
    "ours, forgetting": {"capacity": 0},
    "ours, forgetting, without gradients": {"capacity": 0, "gradients": "never"},
}
EDITS = ("none", "patches", "JPEG 90", "WebP 90")
KINDS = ("made by the decoder", "photographs")


def patches(pictures: Tensor) -> Edit:
    """Another patch each time: from another picture of the batch, turned and moved by chance."""
    side = pictures.shape[-1] // PATCH

    def edit(number: int, current: Tensor) -> tuple[Tensor, Tensor]:
        draws = np.random.default_rng((SEED, number))
        top, left, down, right = (
            int(draws.integers(0, length - side + 1)) for length in 2 * current.shape[-2:]
        )
        patch = pictures.roll(1, 0).flip(-1)[..., down : down + side, right : right + side]
        here = torch.zeros_like(current[:, :1], dtype=torch.bool)
        here[..., top : top + side, left : left + side] = True
        edited = current.clone()
        edited[..., top : top + side, left : left + side] = patch
        return edited, here

    return edit


def compressed(picture: Tensor, codec: str) -> Any:
    """A picture as a file of the codec, opened again."""
    name, quality = codec.split()
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, name, quality=int(quality))
    image = Image.open(io.BytesIO(buffer.getvalue()))
    image.load()
    return image


def stepping(autoencoder: Autoencoder, way: str, edit: str) -> Callable[[Tensor], Tensor]:
    """One passage."""
    options = WAYS[way]
    if options is None:
        step = by_encoder(autoencoder)
        if edit in ("none", "patches"):
            return step
        return lambda pictures: step(
            torch.cat([as_pictures(compressed(row, edit)).values for row in pictures])
        )
    trip = RoundTrip(autoencoder, **options)
    if edit in ("none", "patches"):
        return by_round_trip(trip)
    return lambda pictures: trip.decode(
        trip.encode([compressed(row, edit) for row in pictures]).latent
    )


def measure(
    autoencoder: Autoencoder, pictures: Tensor, way: str, edit: str, count: int
) -> dict[str, Any]:
    """One way with one edit: by number of cycles, the worst and the mean of all pictures."""
    step = stepping(autoencoder, way, edit)
    if WAYS[way] is not None and edit == "patches":
        step(pictures)  # opened before it is edited, as in an editor
    started = time.perf_counter()
    with PeakMemory(autoencoder.device) as memory:
        editing = patches(pictures) if edit == "patches" else None
        made = list(cycles(step, pictures, count, editing))
    seconds = (time.perf_counter() - started) / count / len(pictures)
    shown = {str(cycle.number): _summary(cycle) for cycle in made if cycle.number in SHOWN}
    return {"cycles": shown, "seconds": seconds, "peak_bytes": memory.added}


def _summary(cycle: Cycle) -> dict[str, Any]:
    return {
        "psnr_db": cycle.psnr_db.tolist(),
        "touched_psnr_db": cycle.touched_psnr_db.tolist(),
        "ssim": cycle.ssim.tolist(),
    }


def measure_once(autoencoder: Autoencoder, pictures: Tensor) -> dict[str, Any]:
    """Photographs once, one by one: ours, and plain L-BFGS with clipping, 100 steps."""
    autoencoder.calibrate()  # once a model, apart
    plain = partial(invert_by_gradient, steps=100, optimizer="lbfgs", observation=Clip())
    ways: dict[str, Callable[..., Any]] = {
        "L-BFGS, clipped, 100 steps": plain,
        "ours": partial(invert, goal="picture"),
    }
    found: dict[str, Any] = {name: {"psnr_db": [], "seconds": []} for name in ways}
    for picture in pictures.split(1):
        for name, way in ways.items():
            started = time.process_time()
            result = way(autoencoder, picture, value_range=(-1, 1))
            found[name]["seconds"].append(time.process_time() - started)
            found[name]["psnr_db"].append(float(result.psnr_db))
        print({name: (line["psnr_db"][-1], line["seconds"][-1]) for name, line in found.items()})
    return found


def render(results: dict[str, Any]) -> str:
    """The tables of everything that is stored."""
    parts = []
    for title, entry in results.items():
        parts += [f"**{title}**", ""]
        if "once" in entry:
            parts += [*_once(entry["once"]), ""]
        rows = [
            [kind, edit, way, *_cells(line)]
            for kind, edits in entry.get("kinds", {}).items()
            for edit, ways in edits.items()
            for way, line in ways.items()
        ]
        if rows:
            head = ["pictures", "edit", "way", *(f"after {n}" for n in SHOWN), "SSIM", "s", "MiB"]
            count = f"The worst of {entry['pictures']} pictures; seconds and MiB a cycle."
            parts += [*table(head, rows, words=3), "", count, ""]
        parts += [entry["machine"], ""]
    return "\n".join(parts).strip()


def _cells(line: dict[str, Any]) -> list[str]:
    """Worst PSNR of untouched pixels by cycle, worst SSIM at the end, seconds and memory."""
    last = list(line["cycles"].values())[-1]
    worst = [
        _worst(line["cycles"][str(n)]["psnr_db"]) if str(n) in line["cycles"] else "–"
        for n in SHOWN
    ]
    return [
        *worst,
        number(min(last["ssim"]), ".4f"),
        number(line["seconds"], ".1f"),
        mebibytes(line["peak_bytes"]),
    ]


def _worst(values: Sequence[float | None]) -> str:
    """The least number; where all are infinite, which JSON does not have, nothing was lost."""
    known = [value for value in values if value is not None]
    return number(min(known)) if known else "no loss"


def _once(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, line in found.items():
        psnr = line["psnr_db"]
        seconds = sum(line["seconds"]) / len(psnr)
        rows.append(
            [name, number(sum(psnr) / len(psnr)), number(min(psnr)), number(seconds, ".2f")]
        )
    plain, ours = found["L-BFGS, clipped, 100 steps"], found["ours"]
    gains = [b - a for a, b in zip(plain["psnr_db"], ours["psnr_db"], strict=True)]
    shares = [b / a for a, b in zip(plain["seconds"], ours["seconds"], strict=True)]
    return [
        *table([f"{len(gains)} photographs, once", "PSNR, dB", "worst", "s"], rows),
        "",
        f"Ours over plain L-BFGS, picture by picture: {min(gains):+.2f} to {max(gains):+.2f} dB in "
        f"{min(shares):.2f} to {max(shares):.2f} of its processor time.",
    ]


def _kinds(autoencoder: Autoencoder, photographs: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        made = [autoencoder.decode(autoencoder.encode(row)) for row in photographs.split(1)]
    return dict(zip(KINDS, (EightBit()(torch.cat(made)), photographs), strict=True))


def _measured(options: Namespace, entry: dict[str, Any], save: Callable[[], None]) -> None:
    _, autoencoder = named_pair(options.pair)
    photographs = crops(options.pictures, options.size)[: options.first]
    entry |= {"pictures": len(photographs), "machine": machine_name()}
    if options.once:
        entry["once"] = measure_once(autoencoder, photographs)
        save()
        return
    autoencoder.calibrate()
    for kind, pictures in _kinds(autoencoder, photographs).items():
        if kind not in options.kinds:
            continue
        for edit in options.edits:
            for way in options.ways:
                line = measure(autoencoder, pictures, way, edit, options.cycles)
                ways = entry.setdefault("kinds", {}).setdefault(kind, {}).setdefault(edit, {})
                ways[way] = line
                print(f"{kind}, {edit}, {way}: {_cells(line)}", flush=True)
                save()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "round-trips.md")
    parser.add_argument("--pair", help="module:function, as of fixpoint --pair, or an embedded one")
    parser.add_argument("--pictures", type=Path, help="folder of photographs")
    parser.add_argument("--size", type=int, default=64, help="side of the crops (default 64)")
    parser.add_argument("--first", type=int, help="use the first pictures only")
    parser.add_argument("--cycles", type=int, default=max(SHOWN))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--edits", nargs="+", choices=EDITS, default=list(EDITS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--once", action="store_true", help="photographs once, against L-BFGS")
    add_render(parser)
    options = parse(parser, arguments)
    is_stored = results_path(options.out, "round_trips").is_file()
    results = load(options.out, "round_trips") if is_stored else {}
    if not options.render:
        if options.pair is None or options.pictures is None:
            parser.error("--pair and --pictures say what is measured")
        name = named_pair(options.pair)[0]
        entry = results.setdefault(f"{name}, {options.size} px", {})
        _measured(options, entry, lambda: store(options.out, "round_trips", results))
        results = load(options.out, "round_trips")
    renew_table(options.out / "round-trips.md", render(results))


if __name__ == "__main__":
    main()
