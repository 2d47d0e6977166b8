"""Pairs as people bring them: every method on pictures that the pair made, and on changed ones.

    python -m benchmarks.studies.real_pairs --pair module:function --pictures FOLDER
    python -m benchmarks.studies.real_pairs --pair kl --pictures FOLDER --size 128
    python -m benchmarks.studies.real_pairs --pair module:function --pictures FOLDER --inverse FILE
    python -m benchmarks.studies.real_pairs --render --readme README.md   # what is stored

One crop of every picture is encoded to z*, decoded, and seen in 8 bits; the methods are to find z*.
With `--changed` the pictures are changed on their way, without a word to the methods. Stored as
`results/real_pairs.json`, one entry for each pair and size; other entries stay.
"""

from __future__ import annotations

import io
import time
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
from benchmarks.shared.pages import renew_table, replace_between, write_page
from benchmarks.shared.stored import load, results_path, store
from benchmarks.shared.tables import mean_and_interval, mebibytes, number, summary, table
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    EightBit,
    as_pictures,
    invert,
    invert_by_encoder,
    invert_by_gradient,
    invert_by_paper,
    nmse_db,
    to_pil,
)
from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED
from fixpoint.adapters.commands.pairs import load_pair
from fixpoint.adapters.reports.peak_memory import PeakMemory

METHODS: dict[str, Callable[..., Any]] = {
    "encoder": invert_by_encoder,
    "the paper's Adam, 100": partial(invert_by_paper, steps=100),
    "gradient, Adam, 100": partial(invert_by_gradient, steps=100),
    "gradient, L-BFGS clipped, 100": partial(
        invert_by_gradient, steps=100, optimizer="lbfgs", observation=Clip()
    ),
    "gradient, L-BFGS clipped, 400": partial(
        invert_by_gradient, steps=400, optimizer="lbfgs", observation=Clip()
    ),
    "ours, without gradients": partial(invert, gradients="never"),
    "ours": invert,
}
LEARNED = "ours, learned inverse, without gradients"
CHANGES = ("WebP 90", "WebP 75", "JPEG 90 as PNG", "JPEG 80 as PNG", "scaled by 1.01", "noise 0.02")
AT_ONCE = 4


def crops(folder: Path, size: int, seed: int = 0) -> Tensor:
    """A square crop of every picture of a folder: (pictures, 3, size, size) on [-1, 1]."""
    places = np.random.default_rng(seed)
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            continue
        picture = as_pictures(path).values[0]
        top, left = (int(places.integers(0, side - size + 1)) for side in picture.shape[-2:])
        found.append(picture[:, top : top + size, left : left + size])
    if not found:
        raise ValueError(f"{folder} holds no pictures")
    return torch.stack(found)


def changed(pictures: Tensor, change: str) -> Tensor:
    """The pictures after a change, on the 8-bit grid again."""
    seen = EightBit()(pictures)
    if change == "noise 0.02":
        noise = torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
        return EightBit()(seen + 0.04 * noise)
    name, _, rest = change.partition(" ")
    return torch.cat(
        [as_pictures(_altered(image, name, rest)).values for image in map(to_pil, seen)]
    )


def _altered(image: Image.Image, name: str, rest: str) -> Image.Image:
    if name == "scaled":
        width, height = image.size
        larger = [max(side + 1, round(1.01 * side)) for side in image.size]
        scaled = image.resize((larger[0], larger[1]), Image.Resampling.BICUBIC)
        return scaled.crop((0, 0, width, height))
    buffer = io.BytesIO()
    image.save(buffer, name, quality=int(rest.split()[0]))
    with Image.open(io.BytesIO(buffer.getvalue())) as opened:
        return Image.fromarray(np.asarray(opened.convert("RGB")))


def measure(
    autoencoder: Autoencoder, pictures: Tensor, methods: dict[str, Callable[..., Any]]
) -> dict[str, Any]:
    """Every method on 8-bit pictures that the pair made of these."""
    with torch.no_grad():
        truth = torch.cat([autoencoder.encode(part) for part in pictures.split(AT_ONCE)])
        seen = EightBit()(torch.cat([autoencoder.decode(part) for part in truth.split(AT_ONCE)]))
    if any(name.startswith("ours") for name in methods):
        autoencoder.calibrate()  # once a model, apart
    found, encoder = {}, None
    for name, method in methods.items():
        line, errors = _measured(autoencoder, method, seen, truth)
        encoder = errors if encoder is None else encoder
        line["worse"] = int((errors > encoder + 1e-6).sum())
        found[name] = line
        print(f"{name}: {line}", flush=True)
    return found


def with_inverse(file: Path) -> Callable[..., Any]:
    """Without gradients, with the learned inverse of this file."""

    def method(autoencoder: Autoencoder, image: Any, **options: Any) -> Any:
        autoencoder.use_inverse(file)
        try:
            return invert(autoencoder, image, gradients="never", **options)
        finally:
            autoencoder.drop_inverse()

    return method


def _measured(
    autoencoder: Autoencoder, method: Callable[..., Any], seen: Tensor, truth: Tensor
) -> tuple[dict[str, Any], Tensor]:
    errors, evaluations = [], []
    started = time.perf_counter()
    with PeakMemory(autoencoder.device) as memory:
        for part, known in zip(seen.split(AT_ONCE), truth.split(AT_ONCE), strict=True):
            result = method(autoencoder, part, value_range=(-1, 1))
            errors.append(nmse_db(result.latent, known))
            evaluations.append(result.evaluations.double())
    seconds = (time.perf_counter() - started) / len(seen)
    every = torch.cat(errors)
    line = summary(every) | {
        "evaluations": float(torch.cat(evaluations).mean()),
        "seconds": seconds,
        "peak_bytes": memory.added,
    }
    return line, every


def measure_changes(
    autoencoder: Autoencoder, pictures: Tensor, methods: dict[str, Callable[..., Any]]
) -> dict[str, Any]:
    """Gain over the encoder where nobody says what happened to the pictures."""
    with torch.no_grad():
        truth = torch.cat([autoencoder.encode(part) for part in pictures.split(AT_ONCE)])
        decoded = torch.cat([autoencoder.decode(part) for part in truth.split(AT_ONCE)])
    found = {}
    for change in CHANGES:
        seen = changed(decoded, change)
        line: dict[str, Any] = {}
        for name, method in methods.items():
            differences = []
            for part, known in zip(seen.split(AT_ONCE), truth.split(AT_ONCE), strict=True):
                start = invert_by_encoder(autoencoder, part, value_range=(-1, 1)).latent
                latent = method(autoencoder, part, value_range=(-1, 1)).latent
                differences.append(nmse_db(latent, known) - nmse_db(start, known))
            gains = torch.cat(differences)
            line[name] = {"median_db": float(gains.median()), "worst_db": float(gains.max())}
        found[change] = line
        print(change, line, flush=True)
    return found


def render(results: dict[str, Any]) -> str:
    """The tables of everything that is stored."""
    parts = []
    for title, entry in results.items():
        rows = [
            [
                name,
                mean_and_interval(line),
                number(line["worst_db"]),
                f"{line['worse']} of {entry['pictures']}",
                number(line["evaluations"], ".0f"),
                number(line["seconds"], ".2f"),
                mebibytes(line["peak_bytes"]),
            ]
            for name, line in entry["methods"].items()
        ]
        head = ["method", "NMSE, dB", "worst", "worse than E(x)", "evaluations", "s", "MiB"]
        parts += [f"**{title}**, {entry['pictures']} pictures.", "", *table(head, rows), ""]
        if "changes" in entry:
            names = list(next(iter(entry["changes"].values())))
            changes = [
                [
                    change,
                    *(
                        f"{line[name]['median_db']:+.2f} ({line[name]['worst_db']:+.2f})"
                        for name in names
                    ),
                ]
                for change, line in entry["changes"].items()
            ]
            head = ["changed without a word", *names]
            parts += [
                "NMSE over that of E(x) in dB, median (worst):",
                "",
                *table(head, changes),
                "",
            ]
        parts += [entry["machine"], ""]
    return "\n".join(parts).strip()


README = "<!-- real pairs -->\n", "<!-- end of real pairs -->"
IN_README = {
    "encoder alone": ("E(x)", "encoder"),
    "gradient descent, L-BFGS, clipped": ("400 steps", "gradient, L-BFGS clipped, 400"),
    '**ours**, `gradients="never"`': ("", "ours, without gradients"),
    "**ours**": ("", "ours"),
}


def readme_table(results: dict[str, Any]) -> str:
    """README's extract: one line a method, one column a pair; the worst picture in brackets."""
    wanted = {method for _, method in IN_README.values()}
    titles = [title for title, entry in results.items() if wanted <= set(entry["methods"])]
    cells = []
    for name, (cost, method) in IN_README.items():
        lines = [results[title]["methods"][method] for title in titles]
        evaluations = " / ".join(number(line["evaluations"], ".0f") for line in lines)
        cells.append(
            [name, cost or evaluations]
            + [f"{mean_and_interval(line)} dB ({number(line['worst_db'])})" for line in lines]
        )
    return "\n".join(table(["", "cost", *titles], cells))


def named_pair(name: str) -> tuple[str, Autoencoder]:
    """An embedded pair, or one of a user's, with the name of its results."""
    if name in EMBEDDED:
        return name, Autoencoder.embedded(name)
    loaded = load_pair(name, torch.float32, torch.device("cpu"))
    return loaded.name, loaded


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "real-pairs.md")
    parser.add_argument("--pair", help="module:function, as of fixpoint --pair, or an embedded one")
    parser.add_argument("--pictures", type=Path, help="folder of photographs")
    parser.add_argument("--size", type=int, default=64, help="side of the crops (default 64)")
    parser.add_argument("--first", type=int, help="use the first pictures only")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--inverse", type=Path, help="of the pair, by fixpoint train-inverse")
    parser.add_argument("--changed", action="store_true", help="measure changed pictures, too")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put an extract there, too")
    add_render(parser)
    options = parse(parser, arguments)
    stored = results_path(options.out, "real_pairs").is_file()
    results = load(options.out, "real_pairs") if stored else {}
    if not options.render:
        if options.pair is None or options.pictures is None:
            parser.error("--pair and --pictures say what is measured")
        name, autoencoder = named_pair(options.pair)
        pictures = crops(options.pictures, options.size)[: options.first]
        methods = {name: METHODS[name] for name in options.methods}
        if options.inverse is not None:
            methods[LEARNED] = with_inverse(options.inverse)
        entry: dict[str, Any] = {
            "pictures": len(pictures),
            "methods": measure(autoencoder, pictures, methods),
            "machine": machine_name(),
        }
        if options.changed:
            ours = {name: each for name, each in methods.items() if name.startswith("ours")}
            entry["changes"] = measure_changes(autoencoder, pictures, ours)
        part = f", the first {options.first}" if options.first is not None else ""
        results[f"{name}, {options.size} px{part}"] = entry
        store(options.out, "real_pairs", results)
    renew_table(options.out / "real-pairs.md", render(results))
    if options.readme is not None:
        page = options.readme.read_text(encoding="utf-8")
        write_page(options.readme, replace_between(page, *README, f"{readme_table(results)}\n"))


if __name__ == "__main__":
    main()
