"""The first table: how accurately each method recovers a latent from an 8-bit picture.

    python benchmarks/inversion.py --out docs        # or: make figures

Held-out crops (never trained on) are encoded to z*, decoded, clipped and rounded to 8 bits; every
method gets the same pictures in the same run. Writes `results.md`, `results.json` and
`results.png`. NMSE is the mean over the crops of the value in dB, with a 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pictures import held_out_crops
from torch import Tensor

from fixpoint import ForwardStep, schedules
from fixpoint.adapters import (
    Autoencoder,
    EightBit,
    Identity,
    Inversion,
    invert,
    invert_by_encoder,
    invert_by_gradient,
    invert_by_paper,
    nmse_db,
)
from fixpoint.adapters.measure import PeakMemory
from fixpoint.version import __version__


@dataclass
class Row:
    """One line of the table."""

    model: str
    method: str
    evaluations: float
    nmse_db: float
    interval_db: float  # half the width of the 95 % interval of the mean
    worst_db: float
    psnr_db: float
    milliseconds: float  # a picture
    peak_bytes: int | None  # for one picture
    curve: list[float] = field(default_factory=list)


def ours(evaluations: int) -> dict[str, Any]:
    return {"max_iterations": evaluations - 1}


def methods(quick: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """By name: the function that runs it, and its options."""
    steps = 10 if quick else 100
    return {
        "encoder alone": ("encoder", {}),
        f"gradient, Adam 0.1 scheduled, {steps} steps": ("gradient", {"steps": steps}),
        f"gradient, Adam 0.01, {steps} steps": (
            "gradient",
            {"steps": steps, "schedule": schedules.constant(0.01)},
        ),
        f"the paper's Adam, {steps} evaluations": ("paper", {"steps": steps}),
        "forward step 1, no observation, 20": (
            "invert",
            {
                "observation": Identity(),
                "iterator": ForwardStep(),
                "max_iterations": 19,
                "stop": (),
            },
        ),
        "ours, 5 evaluations": ("invert", ours(5)),
        "ours, 10 evaluations": ("invert", ours(10)),
        "ours, 20 evaluations": ("invert", ours(20)),
        "ours, at most 50": ("invert", ours(50)),
    }


def run(
    autoencoder: Autoencoder,
    kind: str,
    options: dict[str, Any],
    pictures: Tensor,
    watch: Callable[[Tensor, Tensor | None], None] | None = None,
) -> Inversion:
    if kind == "encoder":
        return invert_by_encoder(autoencoder, pictures, value_range=(-1, 1))
    if kind == "gradient":
        callback = None if watch is None else lambda step, z: watch(z, None)
        return invert_by_gradient(
            autoencoder, pictures, value_range=(-1, 1), callback=callback, **options
        )
    callback = None if watch is None else lambda iterate: watch(iterate.state.point, iterate.rows)
    if kind == "paper":
        return invert_by_paper(
            autoencoder, pictures, value_range=(-1, 1), callback=callback, **options
        )
    return invert(autoencoder, pictures, value_range=(-1, 1), callback=callback, **options)


def measure(
    name: str,
    autoencoder: Autoencoder,
    method: str,
    kind: str,
    options: dict[str, Any],
    pictures: Tensor,
    truth: Tensor,
) -> Row:
    curve: list[float] = []
    latest = torch.full((len(truth),), math.nan)

    def watch(z: Tensor, rows: Tensor | None) -> None:
        # Rows that have left keep the accuracy they left with.
        rows = torch.arange(len(truth)) if rows is None else rows
        latest[rows] = nmse_db(z, truth[rows]).float()
        curve.append(float(latest.mean()))

    short = {"steps": 2} if "steps" in options else {"max_iterations": 2} if options else {}
    run(autoencoder, kind, options | short, pictures)  # warms the libraries up
    inversion = run(autoencoder, kind, options, pictures, watch)
    run(autoencoder, kind, options | short, pictures[:1])
    with PeakMemory(autoencoder.device) as memory:
        run(autoencoder, kind, options, pictures[:1])
    errors = inversion.nmse_db(truth)
    return Row(
        model=name,
        method=method,
        evaluations=float(inversion.evaluations.float().mean()),
        nmse_db=float(errors.mean()),
        interval_db=1.96 * float(errors.std()) / math.sqrt(len(errors)),
        worst_db=float(errors.max()),
        psnr_db=float(inversion.psnr_db.mean()),
        milliseconds=1e3 * inversion.seconds / len(truth),
        peak_bytes=memory.added,
        curve=curve,
    )


def draw(path: Path, rows: list[Row]) -> None:
    models = list(dict.fromkeys(row.model for row in rows))
    figure = Figure(figsize=(6.4 * len(models), 4.6), layout="constrained", dpi=110)
    for axis, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        for row in rows:
            if row.model != model or row.method.startswith(("ours, 5", "ours, 10", "ours, 20")):
                continue
            if not row.curve:
                axis.axhline(row.nmse_db, color="#6b7280", ls=":", label=row.method)
                continue
            axis.plot(range(1, len(row.curve) + 1), row.curve, lw=2, label=row.method)
        axis.set_xscale("log")
        axis.set_title(f'embedded("{model}")')
        axis.set_xlabel("evaluations of E(D(z)), or gradient steps")
        axis.set_ylabel("NMSE of the latent (dB), mean over crops")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, frameon=False, loc="center right")
    figure.savefig(path)


def as_markdown(rows: list[Row], psnr: dict[str, float], crops: int, machine: str) -> str:
    lines = [
        "# Results",
        "",
        f"{crops} held-out crops of 64 x 64 pixels (chelsea, coffee, china, never trained on), "
        "encoded to z*, decoded, clipped and rounded to 8 bits. NMSE is the mean over the crops "
        "of the value in dB with its 95 % interval (as if crops were independent; they come from "
        "three photographs and overlap); milliseconds are per picture in a batch of all crops; "
        "peak memory is what one picture adds over the whole run.",
        "",
        f"Regenerate with `make figures`. {machine}",
        "",
    ]
    for model in dict.fromkeys(row.model for row in rows):
        lines += [
            f'## `Autoencoder.embedded("{model}")`',
            "",
            f"Reconstruction of the crops, D(E(crop)): {psnr[model]:.1f} dB PSNR on average.",
            "",
            "| method | NMSE (dB) | worst crop | evaluations | PSNR (dB) | ms | peak MiB |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in rows:
            if row.model == model:
                peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}"
                lines.append(
                    f"| {row.method} | {row.nmse_db:.1f} ± {row.interval_db:.1f} "
                    f"| {row.worst_db:.1f} | {row.evaluations:.0f} | {row.psnr_db:.1f} "
                    f"| {row.milliseconds:.0f} | {peak} |"
                )
        lines.append("")
    lines += ["![NMSE against evaluations](results.png)", ""]
    return "\n".join(lines)


def readme_table(rows: list[Row]) -> str:
    """The README's extract: one line a method, one column a model."""
    shown = (
        ("encoder alone", "encoder alone", "E(x)"),
        ("gradient, Adam 0.01", "gradient descent, the better of the paper's rates", "100 steps"),
        ("the paper's Adam", "the paper's Adam", "100 evaluations"),
        ("ours, 5", "**ours**", "5 evaluations"),
        ("ours, 20", "**ours**", "20 evaluations"),
    )
    models = list(dict.fromkeys(row.model for row in rows))
    found = {
        (row.model, key): row for row in rows for key, *_ in shown if row.method.startswith(key)
    }
    lines = ["| | cost | " + " | ".join(f'`embedded("{model}")`' for model in models) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(models))
    for key, name, cost in shown:
        cells = [found[model, key] for model in models]
        values = " | ".join(f"{row.nmse_db:.1f} ± {row.interval_db:.1f} dB" for row in cells)
        lines.append(f"| {name} | {cost} | {values} |")
    gradient, ours = found[models[0], "gradient, Adam 0.01"], found[models[0], "ours, 20"]
    sentence = (
        f"20 evaluations take {ours.milliseconds / gradient.milliseconds:.2f} of the time of 100 "
        "gradient steps"
    )
    if ours.peak_bytes and gradient.peak_bytes:
        sentence += f" and {ours.peak_bytes / gradient.peak_bytes:.2f} of their memory"
    return "\n".join([*lines, "", f"{sentence} (`{models[0]}`, two CPU cores, one run)."])


def replace_table(readme: Path, table: str) -> None:
    """Put the table between the README's two markers."""
    before, rest = readme.read_text().split("<!-- results -->\n")
    _, after = rest.split("<!-- end of results -->")
    marked = f"<!-- results -->\n{table}\n<!-- end of results -->"
    readme.write_text(before + marked + after)


def machine_name() -> str:
    processor = platform.processor() or platform.machine()
    return (
        f"Measured with fixpoint {__version__}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} CPU cores ({processor}), float32."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--models", nargs="+", default=["kl", "adversarial"])
    parser.add_argument("--readme", type=Path, help="put the extract into this file")
    parser.add_argument("--quick", action="store_true", help="few steps, to try the script")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    psnr: dict[str, float] = {}
    for name in options.models:
        autoencoder = Autoencoder.embedded(name)
        with torch.no_grad():
            crops = held_out_crops(options.crops)
            truth = autoencoder.encode(crops)
            error = (autoencoder.decode(truth).clamp(-1, 1) - crops).square().flatten(1).mean(1)
            psnr[name] = float((10 * (4 / error).log10()).mean())
            pictures = EightBit()(autoencoder.decode(truth))
        for method, (kind, settings) in methods(options.quick).items():
            started = time.time()
            row = measure(name, autoencoder, method, kind, settings, pictures, truth)
            rows.append(row)
            print(
                f"{name:<12}{method:<44}{row.nmse_db:>7.1f} ± {row.interval_db:.1f} dB "
                f"({time.time() - started:.0f} s)",
                flush=True,
            )
    machine = machine_name()
    (options.out / "results.md").write_text(as_markdown(rows, psnr, options.crops, machine))
    content = {
        "machine": machine,
        "crops": options.crops,
        "psnr_db": psnr,
        "rows": [asdict(row) for row in rows],
    }
    (options.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(options.out / "results.png", rows)
    if options.readme is not None:
        replace_table(options.readme, readme_table(rows))


if __name__ == "__main__":
    main()
