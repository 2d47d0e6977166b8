"""Table S1: accuracy, evaluations, time and memory of every method.

Every method gets the same pictures in the same run: decoded encodings of the crops, clipped and
rounded to 8 bits. Memory is measured for one large picture, each kind of method in a process of
its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.paper import figure_3, published
from benchmarks.paper.methods import Method, methods, run
from benchmarks.shared import fresh_process
from benchmarks.shared.context import CROP, Context
from benchmarks.shared.tables import mean_and_interval, mebibytes, number, summary, table
from fixpoint.adapters import Autoencoder, EightBit, as_pictures, nmse_db, to_pil

SHORT = {"encoder": 0, "gradient": 2, "paper": 2, "ours": 12}
"""Steps after which memory grows no more: ours keeps up to ten differences."""
TARGET = 0.1
"""The part of the gradient's time in which ours is meant to be as accurate."""


def measure(context: Context) -> dict[str, Any]:
    return {
        "crops": len(context.crops),
        "memory_side": _memory_side(context),
        "models": {name: _model(context, name) for name in context.autoencoders},
    }


def _model(context: Context, name: str) -> dict[str, Any]:
    lines = methods(context.quick)
    truth, pictures = context.observed(name)
    loaded = {dtype: context.load(name, dtype) for dtype in {line.dtype for line in lines}}
    rows = []
    for line in lines:
        started = time.perf_counter()
        rows.append(_row(loaded[line.dtype], line, pictures, truth))
        print(
            f"{name:<26}{line.family:<42}{line.steps:>4} {line.dtype:<9}"
            f"{rows[-1]['nmse_db']:>7.1f} dB ({time.perf_counter() - started:.0f} s)",
            flush=True,
        )
    return {
        "psnr_db": _reconstruction(context, name, truth),
        "rows": rows,
        "peaks": _peaks(context, name, lines),
        "reached": time_to_accuracy(rows),
    }


@torch.no_grad()
def _reconstruction(context: Context, name: str, truth: Tensor) -> float:
    """PSNR of D(E(crop)), the mean over the crops."""
    decoded = context.autoencoders[name].decode(truth).clamp(-1, 1)
    error = (decoded - context.crops).square().flatten(1).mean(1)
    return float((10 * (4 / error).log10()).mean())


def _row(autoencoder: Autoencoder, line: Method, pictures: Tensor, truth: Tensor) -> dict[str, Any]:
    curve: list[float] = []
    clock: list[float] = []
    latest = torch.full((len(truth),), math.nan)

    def watch(z: Tensor, rows: Tensor | None) -> None:
        clock.append(1e3 * (time.perf_counter() - started) / len(truth))
        # Rows that have left keep the accuracy they left with.
        rows = torch.arange(len(truth)) if rows is None else rows
        latest[rows] = nmse_db(z, truth[rows]).float()
        curve.append(float(latest.mean()))

    run(autoencoder, replace(line, steps=min(line.steps, 2)), pictures)  # warms the libraries up
    started = time.perf_counter()
    inversion = run(autoencoder, line, pictures, watch)
    return {
        **asdict(line),
        "memory": line.memory,
        **summary(inversion.nmse_db(truth)),
        "evaluations": float(inversion.evaluations.float().mean()),
        "psnr_db": float(inversion.psnr_db.mean()),
        "milliseconds": 1e3 * inversion.seconds / len(truth),
        "curve": [round(value, 3) for value in curve],
        "clock": [round(value, 3) for value in clock],
    }


def _memory_side(context: Context) -> int:
    return CROP if context.quick else context.memory_side


def _peaks(context: Context, name: str, lines: list[Method]) -> dict[str, Any]:
    """Bytes that one picture adds, by `Method.memory`."""
    side = _memory_side(context)
    autoencoder = context.autoencoders[name]
    with TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "picture.png"
        decoded = autoencoder.decode(autoencoder.encode(context.large_picture(side, side)))
        to_pil(EightBit()(decoded)[0]).save(path)
        peaks = {}
        for line in {line.memory: line for line in lines}.values():
            found = fresh_process.measure(
                "benchmarks.paper.table_s1:one_picture",
                folder=str(context.folders[name]),
                line=asdict(replace(line, steps=SHORT[line.kind])),
                picture=str(path),
            )
            peaks[line.memory] = found["peak_bytes"]
            problem = f" ({found['failed']})" if found["failed"] else ""
            peak = mebibytes(found["peak_bytes"])
            print(f"{name:<26}{line.memory:<42}{peak:>6} MiB{problem}", flush=True)
    return peaks


def one_picture(folder: str, line: dict[str, Any], picture: str) -> Callable[[], None]:
    """The work whose memory is measured. A corner of the picture has warmed the libraries up."""
    method = Method(**line)
    autoencoder = Autoencoder.from_pretrained(folder, dtype=getattr(torch, method.dtype))
    values = as_pictures(picture).values

    def work(pictures: Tensor = values) -> None:
        if method.kind == "encoder":  # alone, without the reconstruction
            with torch.no_grad():
                autoencoder.encode(pictures)
        else:
            run(autoencoder, method, pictures)

    work(values[..., :CROP, :CROP])
    return work


def time_to_accuracy(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """When each gradient-free method is as accurate as the gradient-based ones ever get.

    The target is the least NMSE that a gradient-based row returns. Times are compared with two: the
    time of that run, and the time after which the first iterate of any gradient setting reaches the
    target. Only someone who knows z* could choose the second one.
    """
    gradient = [row for row in rows if row["kind"] == "gradient"]
    best = min(gradient, key=lambda row: row["nmse_db"])
    target = best["nmse_db"]
    arrivals = [(best["milliseconds"], best["steps"], best["family"])]
    for row in gradient:
        index = _first(row["curve"], target)
        if index is not None:
            arrivals.append((row["clock"][index], index + 1, row["family"]))
    milliseconds, steps, family = min(arrivals)
    reached = []
    free = [row for row in rows if row["kind"] in ("paper", "ours")]
    for name, dtype in dict.fromkeys((row["family"], row["dtype"]) for row in free):
        arrived = []
        for row in free:
            if (row["family"], row["dtype"]) == (name, dtype):
                index = _first(row["curve"], target)
                if index is not None:
                    # A point is returned once it has been evaluated.
                    arrived.append((row["clock"][index], index + 1))
        time_needed, evaluations = min(arrived, default=(math.nan, None))
        reached.append(
            {
                "family": name,
                "dtype": dtype,
                "evaluations": evaluations,
                "milliseconds": time_needed,
                "ratio_to_run": time_needed / best["milliseconds"],
                "ratio": time_needed / milliseconds,
            }
        )
    return {
        "target_db": target,
        "target_of": f"{best['family']}, {best['steps']} steps",
        "run_milliseconds": best["milliseconds"],
        "milliseconds": milliseconds,
        "steps": steps,
        "family": family,
        "methods": reached,
    }


def _first(curve: list[float], target: float) -> int | None:
    return next((index for index, value in enumerate(curve) if value <= target), None)


def markdown(results: dict[str, Any]) -> str:
    side = results["memory_side"]
    lines = [
        "## Accuracy, time and memory (table S1, figure 3)",
        "",
        "Milliseconds are per picture in a batch of all crops. An evaluation is one of E(D(z)); a "
        "gradient step is a pass through the decoder and back, with the encoder term through the "
        "encoder, too. Peak memory is what one picture adds to the loaded model, measured on one "
        f"of {side} x {side} pixels in a fresh process whose allocator returns every block of "
        "64 KiB and more at once (`MALLOC_MMAP_THRESHOLD_=65536`), so that fragmentation does not "
        "count; it is measured once for each kind of method. There are no gradient-based rows in "
        "16 bits: the paper finds them unimplementable, for underflow of the gradients.",
        "",
    ]
    for name, model in results["models"].items():
        lines += [
            f"### {name}",
            "",
            f"Reconstruction of the crops, D(E(crop)): {number(model['psnr_db'])} dB PSNR on "
            "average.",
            "",
            *table(
                (
                    "method",
                    "precision",
                    "NMSE (dB)",
                    "worst crop",
                    "evaluations or steps",
                    "PSNR (dB)",
                    "ms",
                    "peak MiB",
                ),
                [
                    (
                        row["family"],
                        row["dtype"],
                        mean_and_interval(row),
                        number(row["worst_db"]),
                        number(row["evaluations"], ".0f"),
                        number(row["psnr_db"]),
                        number(row["milliseconds"], ".0f"),
                        mebibytes(model["peaks"].get(row["memory"])),
                    )
                    for row in model["rows"]
                ],
                words=2,
            ),
            "",
            *_reached(model["reached"]),
            "",
            _against_the_paper(model["rows"]),
            "",
        ]
    lines += [
        "![NMSE against time and against memory](results/figure_3.png)",
        "",
        "Figure 3: every point is a line of the tables; the grey steps are the Pareto front, what "
        "no other point beats in both.",
        "",
        *_published_beside_ours(results["models"]),
        "",
    ]
    return "\n".join(lines)


def _reached(reached: dict[str, Any]) -> list[str]:
    """Time to accuracy, in a sentence and a table."""
    text = (
        f"**Time to the gradient's accuracy.** The most accurate gradient-based row "
        f"ends at {number(reached['target_db'])} dB in "
        f"{number(reached['run_milliseconds'], '.0f')} ms a picture ({reached['target_of']}). "
        "The first iterate of any gradient setting to be there, which only someone who knows z* "
        f"could have stopped at, takes {number(reached['milliseconds'], '.0f')} ms "
        f"({reached['family']}, step {reached['steps']})."
    )
    for row in reached["methods"]:
        if (row["family"], row["dtype"]) == ("ours", "float32") and row["ratio"] is not None:
            text += (
                f" Ours is there after {row['evaluations']} evaluations and "
                f"{number(row['milliseconds'], '.0f')} ms: {number(row['ratio_to_run'], '.3f')} of "
                f"the time of that run, {number(row['ratio'], '.3f')} of that of the first "
                f"iterate. At most a tenth is a target of this project: it is "
                f"{_met(row['ratio_to_run'])} against the run and {_met(row['ratio'])} against "
                "the first iterate."
            )
    rows = [
        (
            row["family"],
            row["dtype"],
            number(row["evaluations"], ".0f"),
            number(row["milliseconds"], ".0f"),
            number(row["ratio_to_run"], ".3f"),
            number(row["ratio"], ".3f"),
        )
        for row in reached["methods"]
    ]
    head = (
        "method",
        "precision",
        "evaluations",
        "ms",
        "part of the run's time",
        "part of the first iterate's",
    )
    return [text, "", *table(head, rows, words=2), "", "A dash: not reached."]


def _against_the_paper(rows: list[dict[str, Any]]) -> str:
    """Time to accuracy against the gradient descent of the paper: Adam without clipping."""
    as_published = [row for row in rows if row["kind"] != "gradient" or row["optimizer"] == "adam"]
    reached = time_to_accuracy(as_published)
    ours = next(
        row for row in reached["methods"] if (row["family"], row["dtype"]) == ("ours", "float32")
    )
    return (
        f"Against gradient descent as the paper has it, by Adam ({reached['target_of']}, "
        f"{number(reached['target_db'])} dB in {number(reached['run_milliseconds'], '.0f')} ms), "
        f"ours is as accurate after {ours['evaluations']} evaluations, in "
        f"{number(ours['ratio_to_run'], '.3f')} of the time of that run: the target is "
        f"{_met(ours['ratio_to_run'])}."
    )


def _met(ratio: float) -> str:
    return "met" if ratio <= TARGET else "missed"


def _published_beside_ours(models: dict[str, Any]) -> list[str]:
    """The published cells and, where there is one, our cell of the same method and length."""
    lines = [
        "### Published",
        "",
        f"{published.SOURCE}, table S1. {published.CAUTION} Beside its 16 bits stand our bfloat16.",
        "",
    ]
    rows = []
    first = next(iter(published.TABLE_S1.values()))
    for index, line in enumerate(first):
        for point in line.points:
            cells = [line.method, f"{line.bits} bit", str(point.iterations)]
            for one in published.TABLE_S1.values():
                other = one[index].at(point.iterations)
                nmse = published.with_interval(other.nmse_db, other.interval_db)
                cells.append(f"{nmse} dB, {other.seconds:g} s, {one[index].gigabytes:g} GB")
            dtype = "float32" if line.bits == 32 else "bfloat16"
            for model in models.values():
                cells.append(_ours(model, line.method, dtype, point.iterations))
            rows.append(cells)
    head = ["method", "precision", "iterations", *published.TABLE_S1, *models]
    return lines + table(head, rows, words=2)


def _ours(model: dict[str, Any], family: str, dtype: str, steps: int) -> str:
    for row in model["rows"]:
        if (row["family"], row["dtype"], row["steps"]) == (family, dtype, steps):
            peak = mebibytes(model["peaks"].get(row["memory"]))
            return (
                f"{mean_and_interval(row)} dB, {number(row['milliseconds'], '.0f')} ms, {peak} MiB"
            )
    return "–"


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    return [figure_3.draw(results, folder / "figure_3.png")]
