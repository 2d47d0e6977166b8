"""Figure 3: NMSE against time and against memory, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmarks.paper import methods
from fixpoint.checkpoints.whole_file import write_whole

STYLES = {
    methods.ENCODER.family: ("#111827", "X"),
    methods.SCHEDULED.family: ("#f59e0b", "s"),
    methods.FIXED.family: ("#dc2626", "D"),
    methods.CHECKPOINTED.family: ("#7f1d1d", "d"),
    methods.LBFGS.family: ("#db2777", "P"),
    methods.ENCODER_TERM.family: ("#7c3aed", "p"),
    methods.PAPER.family: ("#1d4ed8", "o"),
    methods.OURS.family: ("#15803d", "^"),
}
FILL = {"float32": "full", "bfloat16": "left", "float16": "none"}


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no other point beats in both coordinates, in the order of the first one.

    Less is better.
    """
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def draw(results: dict[str, Any], path: Path) -> Path:
    models = results["models"]
    figure = Figure(figsize=(13, 4.6 * len(models)), layout="constrained", dpi=110)
    panels = figure.subplots(len(models), 2, squeeze=False)
    shown: dict[str, Any] = {}
    side = results["memory_side"]
    for (name, model), (left, right) in zip(models.items(), panels, strict=True):
        peaks = model["peaks"]
        rows = [row for row in model["rows"] if row["nmse_db"] is not None]
        _panel(left, rows, [row["milliseconds"] for row in rows], shown)
        sizes = [peaks.get(row["memory"]) for row in rows]
        _panel(right, rows, [size and size / 2**20 for size in sizes], shown)
        left.set_xlabel("time a picture (ms)")
        right.set_xlabel(f"peak memory for one picture of {side} x {side} pixels (MiB)")
        for axes in (left, right):
            axes.set_ylabel("NMSE of the latent (dB)")
            axes.set_title(name.strip("`"))
    figure.legend(shown.values(), shown, loc="outside right center", frameon=False, fontsize=9)
    write_whole(path, figure.savefig)
    return path


def _panel(
    axes: Axes,
    rows: Sequence[dict[str, Any]],
    costs: Sequence[float | None],
    shown: dict[str, Any],
) -> None:
    points = [(cost, row) for cost, row in zip(costs, rows, strict=True) if cost]
    front = pareto_front([(cost, row["nmse_db"]) for cost, row in points])
    axes.set_xscale("log")
    for family, dtype in dict.fromkeys((row["family"], row["dtype"]) for row in rows):
        members = [(c, r) for c, r in points if (r["family"], r["dtype"]) == (family, dtype)]
        colour, marker = STYLES.get(family, ("#6b7280", "v"))
        label = family if dtype == "float32" else f"{family}, {dtype}"
        (line,) = axes.plot(
            [cost for cost, _ in members],
            [row["nmse_db"] for _, row in members],
            color=colour,
            marker=marker,
            markersize=7,
            fillstyle=FILL[dtype],
            lw=1.2,
            ls="-" if dtype == "float32" else ":",
        )
        shown.setdefault(label, line)
    if front:
        # On to the edges: more time or memory buys nothing, fewer dB are not to be had.
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        xs = [front[0][0], *(cost for cost, _ in front), right]
        ys = [top, *(nmse for _, nmse in front), front[-1][1]]
        (line,) = axes.step(xs, ys, where="post", color="#9ca3af", lw=5, alpha=0.45, zorder=0)
        shown.setdefault("Pareto front", line)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
    axes.tick_params(axis="x", which="major", labelsize=8)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
