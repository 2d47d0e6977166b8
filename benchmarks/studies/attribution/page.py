"""The tables and the figure of `attribution.md`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.shared.tables import table
from benchmarks.studies.attribution.rates import roc_of
from benchmarks.studies.attribution.scores import METHODS
from benchmarks.studies.attribution.sources import OTHER, OURS, SIDE
from fixpoint.adapters.provenance.calibration import EVALUATIONS
from fixpoint.checkpoints.whole_file import write_whole

COLOURS = {
    "ours": "#2563eb",
    "gradient, our score": "#16a34a",
    "gradient": "#d97706",
    "encoder": "#6b7280",
}


def markdown(results: dict[str, Any]) -> str:
    """The tables of `attribution.md`."""
    counts, clock = results["counts"], results["seconds"]
    positives = " and ".join(f"{counts[kind]} {WORDS[kind]}" for kind in counts if kind in OURS)
    negatives = ", ".join(f"{counts[kind]} {WORDS[kind]}" for kind in counts if kind not in OURS)
    lines = [
        f'`embedded("{results["model"]}")`, pictures of {SIDE} x {SIDE} pixels. Its own: '
        f"{positives}. Others: {negatives}. At most {EVALUATIONS} iterations, "
        f"{clock['ours']:.2f} s of the processor a picture; gradient descent takes "
        f"{results['gradient_steps']} steps in {clock['gradient']:.2f} s. AUC, with its 95 % "
        "interval by resampling pictures "
        "(which cannot widen where none is misplaced), then the share of its own pictures found "
        "at 1 % false positives, with its exact 95 % interval.",
        "",
        *table(
            ("distortion", *METHODS.values()),
            [
                (name, *(_cell(methods[method]) for method in METHODS))
                for name, methods in results["summary"].items()
            ],
        ),
        "",
        "The verdict of `attribute` at a false positive rate of 1 %, 8-bit pictures, with the "
        "embedded calibration ("
        + ", ".join(f"{count} {name}" for name, count in results["calibration"].items())
        + "):",
        "",
        *table(
            ("pictures", "score in dB, lowest / median / highest", "attributed to the model"),
            [
                (
                    WORDS[kind],
                    _spread(results["scores"]["8 bit"]["ours"][kind]),
                    f"{called} of {counts[kind]}",
                )
                for kind, called in results["called_at_1_percent"].items()
            ],
        ),
        "",
        "![ROC curves](results/attribution.png)",
        "",
        results["machine"],
    ]
    return "\n".join(lines)


WORDS = {
    "generated": "drawn by the embedded diffusion",
    "encodings": "decoded from encodings of photographs",
    "photographs": "photographs that it never saw",
    "other model": f'pictures of `embedded("{OTHER}")`',
    "smooth": "flat colours, gradients and waves",
}


def _cell(found: dict[str, Any]) -> str:
    auc = " to ".join(f"{bound:.3f}" for bound in found["auc_interval"])
    tpr = " to ".join(f"{100 * bound:.0f}" for bound in found["tpr_interval"])
    return f"{found['auc']:.3f} ({auc}); {100 * found['tpr']:.0f} % ({tpr})"


def _spread(scores: list[float]) -> str:
    ordered = sorted(scores)
    middle = ordered[len(ordered) // 2]
    return f"{ordered[0]:.1f} / {middle:.1f} / {ordered[-1]:.1f}"


def draw(results: dict[str, Any], path: Path) -> None:
    """The curves of every distortion, one panel each."""
    from matplotlib.figure import Figure

    names = list(results["scores"])
    figure = Figure(figsize=(12, 7.4), layout="constrained", dpi=110)
    axes = figure.subplots(2, math.ceil(len(names) / 2), squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        for method, scores in results["scores"][name].items():
            roc = roc_of(scores)
            axis.step(
                roc.false_positive_rate,
                roc.true_positive_rate,
                where="post",
                color=COLOURS[method],
                lw=2.4 if method == "ours" else 1.8,
                label=f"{METHODS[method]}: AUC {roc.auc:.3f}",
                zorder=3 if method == "ours" else 2,
            )
        axis.plot((0, 1), (0, 1), color="#d1d5db", lw=1, ls="--", zorder=1)
        axis.set(title=name, xlim=(-0.02, 1), ylim=(0, 1.02))
        axis.set_xlabel("false positive rate")
        axis.set_ylabel("true positive rate")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc="lower right")
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    write_whole(path, lambda temporary: figure.savefig(temporary))
