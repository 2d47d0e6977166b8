"""Figures 2, 4 and S4: does cocoercivity along the path go with convergence and accuracy?

`fixpoint verify` does all the mathematics. Gradient descent (figure S4) is an iterator that replays
its points: the same ratios are measured at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.shared.context import Context
from benchmarks.shared.tables import number, table
from fixpoint import Iterator, Operator, schedules
from fixpoint.adapters import EightBit, invert_by_gradient
from fixpoint.adapters.reports.latent_files import write_whole
from fixpoint.adapters.verification.crops import Crop
from fixpoint.adapters.verification.findings import findings
from fixpoint.adapters.verification.methods import StudiedMethod, methods
from fixpoint.adapters.verification.results import MethodResult, typical
from fixpoint.adapters.verification.verify import verify
from fixpoint.iterator import State

GRADIENT = (50, 300)  # n, and the step that stands in for the limit
SETTINGS = {"paper": "the paper's settings", "practical": "this library's settings"}


@dataclass(frozen=True)
class ReplayState(State):
    rows: Int[Tensor, " batch"]  # of the recorded points
    count: int


@dataclass(frozen=True, eq=False)
class Replay(Iterator[ReplayState]):
    """Visits the points of another run, one in each step.

    Args:
        points: z^1, z^2, ..., each (batch, *shape).
    """

    points: Sequence[Float[Tensor, "batch *shape"]]

    def init(self, operator: Operator, z: Tensor) -> ReplayState:
        rows = torch.arange(len(z), device=z.device)
        return ReplayState(z=z, point=z, residual=operator(z), rows=rows, count=0)

    def step(self, operator: Operator, state: ReplayState) -> ReplayState:
        z = self.points[state.count].index_select(0, state.rows)
        return ReplayState(
            z=z, point=z, residual=operator(z), rows=state.rows, count=state.count + 1
        )


def measure(context: Context) -> dict[str, Any]:
    few = 2 if context.quick else None
    plans = {
        "paper": list(methods(iterations=few, paper=True)),
        # Adam has the same settings in both.
        "practical": [m for m in methods(iterations=few) if m.name != "Adam"],
    }
    models: dict[str, Any] = {}
    for name, autoencoder in context.autoencoders.items():
        models[name] = {}
        for settings, plan in plans.items():
            extra = [_gradient(context, name)] if settings == "paper" else []
            verification = verify(
                autoencoder,
                _crops(context),
                [*plan, *extra],
                seed=context.seed,
                say=lambda line, name=name: print(f"{name:<26}{line}", flush=True),
            )
            models[name][settings] = [_content(result) for result in verification.results]
    return {"crops": len(context.crops), "models": models}


def _crops(context: Context) -> list[Crop]:
    height, width = context.crops.shape[-2:]
    return [
        Crop(f"crop {index}", 0, 0, width, height, values[None], EightBit())
        for index, values in enumerate(context.crops)
    ]


def _gradient(context: Context, name: str) -> StudiedMethod:
    """Gradient descent on the same pictures, recorded."""
    n, limit = (2, 4) if context.quick else GRADIENT
    _, pictures = context.observed(name)
    points: dict[int, Tensor] = {}

    def record(step: int, z: Tensor) -> None:
        if step < n or step + 1 == limit:
            points[step + 1] = z

    print(f"{name:<26}gradient descent: Adam 0.01; {limit} steps", flush=True)
    invert_by_gradient(
        context.autoencoders[name],
        pictures,
        steps=limit,
        schedule=schedules.constant(0.01),
        value_range=(-1, 1),
        callback=record,
    )
    words = f"Adam, rate 0.01, on ||D(z) - x||^2; z^inf after {limit} steps"
    return StudiedMethod("gradient descent", Replay(list(points.values())), n, n + 1, None, words)


def _content(result: MethodResult) -> dict[str, Any]:
    method, outcomes = result.method, result.outcomes
    sentences = findings(result)
    return {
        "name": method.name,
        "settings": method.words,
        "iterations": method.iterations,
        "cocoercivity": [one.cocoercivity for one in outcomes],
        "convergence_db": [one.convergence_db for one in outcomes],
        "nmse_db": [one.nmse_db for one in outcomes],
        "positive": sum(one.cocoercivity > 0 for one in outcomes),
        "typical_nmse_db": typical([one.nmse_db for one in outcomes]),
        "convergence_line": result.convergence_line and asdict(result.convergence_line),
        "accuracy_line": result.accuracy_line and asdict(result.accuracy_line),
        "agreement_line": result.agreement_line and asdict(result.agreement_line),
        "findings": sentences[:2],
    }


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "## Cocoercivity, convergence and accuracy (figures 2, 4 and S4)",
        "",
        "For every crop, the least ratio of equation 14 along the first n iterations, against the "
        "distance of z^n to z^inf (in dB, relative to z^inf) and against the NMSE of z^inf; z^inf "
        "is the point after 300 iterations (after 3 n with this library's settings). Measured as "
        "`fixpoint verify` does, on the paper's operator in float32; figure 4 of the paper is in "
        "16 bits, where the ratios of close points are rounding. The paper reports negative slopes "
        "for forward step, inertial KM and Adam, and none for gradient descent.",
        "",
    ]
    for name, settings in results["models"].items():
        for key, words in SETTINGS.items():
            lines += [f"### {name}, {words}", ""]
            rows = [
                (
                    one["name"],
                    str(one["iterations"]),
                    f"{one['positive']} / {results['crops']}",
                    number(
                        min((v for v in one["cocoercivity"] if v is not None), default=None), ".2f"
                    ),
                    number(one["typical_nmse_db"]),
                    _slope(one["convergence_line"]),
                    _slope(one["accuracy_line"]),
                )
                for one in settings[key]
            ]
            head = (
                "method",
                "n",
                "ratio above 0",
                "least ratio",
                "median NMSE of z^inf (dB)",
                "slope of convergence (dB a unit)",
                "slope of NMSE (dB a unit)",
            )
            lines += [*table(head, rows), ""]
            for one in settings[key]:
                sentences = " ".join(one["findings"])
                lines.append(
                    f"- **{one['name']}** ({one['settings']}): {sentences} {_accuracy(one)}"
                )
            lines += ["", f"![{words}](results/{_file(name, key)})", ""]
    return "\n".join(lines)


def _slope(line: dict[str, Any] | None) -> str:
    if line is None:
        return "–"
    return f"{line['slope']:+.1f} ({line['low']:+.1f} to {line['high']:+.1f})"


def _accuracy(one: dict[str, Any]) -> str:
    """The slope of the NMSE over the ratio, in one sentence."""
    line = one["accuracy_line"]
    if line is None:
        return "No line was fitted to the NMSE."
    if line["high"] < 0:
        return f"The more cocoercive the path, the more accurate its end: {_slope(line)}."
    if line["low"] > 0:
        return f"The more cocoercive the path, the less accurate its end: {_slope(line)}."
    return f"Between cocoercivity and NMSE no slope can be told from zero: {_slope(line)}."


def _file(name: str, settings: str) -> str:
    plain = "".join(c if c.isalnum() else "_" for c in name.strip("`")).strip("_")
    return f"theorems_{plain.removeprefix('embedded__')}_{settings}.png"


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    paths = []
    for name, settings in results["models"].items():
        for key, words in SETTINGS.items():
            path = folder / _file(name, key)
            title = f"{name.strip('`')}, {words}"
            figure = _figure(settings[key], title)
            write_whole(path, figure.savefig)
            paths.append(path)
    return paths


def _figure(shown: list[dict[str, Any]], title: str) -> Figure:
    figure = Figure(figsize=(3.7 * len(shown) + 1, 6.6), layout="constrained", dpi=110)
    panels = figure.subplots(2, len(shown), squeeze=False)
    known = [value for one in shown for value in one["nmse_db"] if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    points = None
    for one, (top, bottom) in zip(shown, panels.T, strict=True):
        points = _scatter(top, one, "convergence_db", "convergence_line", low, high) or points
        _scatter(bottom, one, "nmse_db", "accuracy_line", low, high)
        top.set_title(f"{one['name']}, n = {one['iterations']}")
        bottom.set_xlabel("least ratio (14)")
    panels[0][0].set_ylabel("distance of $z^n$ to $z^\\infty$ (dB)")
    panels[1][0].set_ylabel("NMSE of $z^\\infty$ (dB)")
    if points is not None:
        figure.colorbar(points, ax=panels, label="NMSE of $z^\\infty$ (dB)", shrink=0.8)
    figure.suptitle(title)
    return figure


def _scatter(
    axes: Axes, one: dict[str, Any], ordinate: str, line: str, low: float, high: float
) -> Any:
    rows = [
        row
        for row in zip(one["cocoercivity"], one[ordinate], one["nmse_db"], strict=True)
        if None not in row
    ]
    axes.grid(alpha=0.25)
    if not rows:
        return None
    x, y, colour = zip(*rows, strict=True)
    points = axes.scatter(
        x, y, c=colour, cmap="viridis", vmin=low, vmax=high, s=26, edgecolor="black", lw=0.4
    )
    fitted = one[line]
    if fitted is not None:
        ends = (min(x), max(x))
        axes.plot(ends, [fitted["intercept"] + fitted["slope"] * v for v in ends], "r-", lw=1.8)
        text = f"slope {_slope(fitted)} dB"
        axes.text(0.5, 0.98, text, transform=axes.transAxes, ha="center", va="top", fontsize=8)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top + 0.1 * (top - bottom))
    return points
