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

from fixpoint import Adam, ForwardStep, schedules
from fixpoint.adapters import (
    Autoencoder,
    EightBit,
    Identity,
    Inversion,
    invert,
    invert_by_encoder,
    invert_by_gradient,
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


def paper_adam(steps: int) -> dict[str, Any]:
    """The paper's setting: Adam on E(D(z)) - E(x), 0.01 with warm-up and cosine."""
    return {
        "observation": Identity(),
        "iterator": Adam(schedule=schedules.warmup_cosine(0.01, steps)),
        "max_iterations": steps - 1,
        "stop": (),
    }


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
        f"the paper's Adam, {steps} evaluations": ("invert", paper_adam(steps)),
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

    inversion = run(autoencoder, kind, options, pictures, watch)
    one = slice(0, 1)
    short = {"steps": 2} if kind == "gradient" else {"max_iterations": 2} if options else {}
    run(autoencoder, kind, options | short, pictures[one])
    with PeakMemory(autoencoder.device) as memory:
        run(autoencoder, kind, options | short, pictures[one])
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


def as_markdown(rows: list[Row], crops: int, machine: str) -> str:
    lines = [
        "# Results",
        "",
        f"{crops} held-out crops of 64 x 64 pixels (chelsea, coffee, china, never trained on), "
        "encoded to z*, decoded, clipped and rounded to 8 bits. NMSE is the mean over the crops "
        "of the value in dB with its 95 % interval; milliseconds are per picture in a batch of "
        "all crops; peak memory is what one picture adds.",
        "",
        f"Regenerate with `make figures`. {machine}",
        "",
    ]
    for model in dict.fromkeys(row.model for row in rows):
        lines += [
            f'## `Autoencoder.embedded("{model}")`',
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
    parser.add_argument("--quick", action="store_true", help="few steps, to try the script")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.models:
        autoencoder = Autoencoder.embedded(name)
        with torch.no_grad():
            truth = autoencoder.encode(held_out_crops(options.crops))
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
    (options.out / "results.md").write_text(as_markdown(rows, options.crops, machine))
    content = {"machine": machine, "crops": options.crops, "rows": [asdict(row) for row in rows]}
    (options.out / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(options.out / "results.png", rows)


if __name__ == "__main__":
    main()
