"""What an autoencoder of Stable Diffusion's shape costs: time and memory, not accuracy.

Random weights in the shape of Stable Diffusion 2.1's autoencoder (83.7 million), which InstaFlow
and, frame by frame, LaVie use too. Every measurement runs in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper import methods, published
from benchmarks.paper.methods import Method, run
from benchmarks.shared import fresh_process, stable_diffusion_shape
from benchmarks.shared.context import Context
from benchmarks.shared.tables import mebibytes, number, table

QUICK = 64
IMAGE = 512
FRAMES = 16
KINDS = {
    "gradient-free, float32": methods.OURS,
    "gradient-free, bfloat16": replace(methods.OURS, dtype="bfloat16"),
    "gradient": methods.FIXED,
    "gradient, checkpointed": methods.CHECKPOINTED,
}


def two_steps(
    channels: list[int], shape: list[int], line: dict[str, Any], seed: int
) -> Callable[[], dict[str, float]]:
    """The measured work: two steps of a method; it returns the seconds of the second one."""
    method = replace(Method(**line), steps=2)
    autoencoder = stable_diffusion_shape.build(tuple(channels), getattr(torch, method.dtype), seed)
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(shape, generator=generator) * 2 - 1
    # On the 8-bit grid, as files are.
    pictures = ((pictures + 1) * 127.5).round() / 127.5 - 1
    small = stable_diffusion_shape.SMALL
    run(autoencoder, method, pictures[:1, :, :small, :small])
    weights = stable_diffusion_shape.weights_bytes(autoencoder)

    def work() -> dict[str, float]:
        clock: list[float] = []
        run(autoencoder, method, pictures, lambda z, rows: clock.append(time.perf_counter()))
        return {"seconds": clock[1] - clock[0], "weights_bytes": weights}

    return work


def measure(context: Context) -> dict[str, Any]:
    side = QUICK if context.quick else IMAGE
    height, width = (QUICK, QUICK) if context.quick else context.video_size
    frames = 2 if context.quick else FRAMES
    inputs = {
        f"one picture, {side} x {side}": [1, 3, side, side],
        f"video, {frames} frames of {height} x {width}": [frames, 3, height, width],
    }
    rows = []
    for name, shape in inputs.items():
        for kind, method in KINDS.items():
            found = fresh_process.measure(
                "benchmarks.paper.shapes:two_steps",
                channels=list(stable_diffusion_shape.CHANNELS),
                shape=shape,
                line=asdict(method),
                seed=context.seed,
            )
            measured = found["found"] or {"seconds": None, "weights_bytes": None}
            rows.append(
                {
                    "input": name,
                    "kind": kind,
                    "peak_bytes": found["peak_bytes"],
                    "failed": found["failed"],
                    **measured,
                }
            )
            seconds, peak = number(measured["seconds"], ".2f"), mebibytes(found["peak_bytes"])
            problem = f" ({found['failed']})" if found["failed"] else ""
            print(f"{name:<34}{kind:<26}{seconds:>7} s {peak:>6} MiB{problem}", flush=True)
    return {"channels": list(stable_diffusion_shape.CHANNELS), "rows": rows}


def markdown(results: dict[str, Any]) -> str:
    rows = results["rows"]
    lines = [
        "## In the shape of Stable Diffusion's autoencoder",
        "",
        f"Time and memory of an AutoencoderKL with channels {tuple(results['channels'])} and "
        "random weights: the same work as with trained ones, no accuracy. Seconds are those of one "
        "evaluation of E(D(z)), or of one gradient step. Peak memory is added to the weights, "
        "measured as above but after two steps: ten differences of pictures add 120 bytes a pixel "
        "and frame to ours (30 MiB at 512 x 512). Frames are rows of a batch and all inverted at "
        "once, as in the paper.",
        "",
        *table(
            ("input", "method", "s a step", "peak MiB", "weights MiB", "peak, gradient = 1"),
            [
                (
                    row["input"],
                    row["kind"],
                    number(row["seconds"], ".2f"),
                    mebibytes(row["peak_bytes"]),
                    mebibytes(row["weights_bytes"]),
                    _share_of_gradient(row, rows),
                )
                for row in rows
            ],
            words=2,
        ),
        "",
    ]
    for row in rows:
        if row["failed"]:
            lines += [f"{row['input']}, {row['kind']}: failed with `{row['failed']}`.", ""]
    lines += [
        "### Published",
        "",
        f"{published.SOURCE}, table S1, with weights; seconds a step are those between the "
        "shortest and the longest run. Compare ratios with those above, not numbers: other "
        "machines, and other frames.",
        "",
        *table(
            ("model", "method", "s a step", "GB", "GB, gradient = 1"),
            [
                (
                    model,
                    f"{line.method}, {line.bits} bit",
                    f"{line.seconds_a_step:.3f}",
                    f"{line.gigabytes:g}",
                    f"{line.gigabytes / found[0].gigabytes:.2f}",
                )
                for model, found in published.TABLE_S1.items()
                for line in found
            ],
            words=2,
        ),
        "",
    ]
    return "\n".join(lines)


def _share_of_gradient(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Memory as a share of that of the plain gradient on the same input."""
    for other in rows:
        gradient = (other["input"], other["kind"]) == (row["input"], "gradient")
        if gradient and row["peak_bytes"] and other["peak_bytes"]:
            return f"{row['peak_bytes'] / other['peak_bytes']:.2f}"
    return "–"


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    return []
