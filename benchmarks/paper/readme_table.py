"""The README's extract of table S1: one line a method, one column a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.paper import methods
from benchmarks.shared.pages import replace_between, write_page
from benchmarks.shared.tables import mean_and_interval, number

PAPER_RATES = (methods.SCHEDULED.family, methods.FIXED.family)
QUASI_NEWTON = (methods.LBFGS.family, methods.ENCODER_TERM.family)
SHOWN = (
    ("encoder alone", "E(x)", (methods.ENCODER.family,), 0),
    ("gradient descent, Adam, the better of the paper's rates", "100 steps", PAPER_RATES, 100),
    ("gradient descent, L-BFGS, clipped, the best setting", "10 to 100 steps", QUASI_NEWTON, None),
    ("the paper's Adam", "100 evaluations", (methods.PAPER.family,), 100),
    ("**ours**", "5 evaluations", (methods.OURS.family,), 5),
    ("**ours**", "20 evaluations", (methods.OURS.family,), 20),
)
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"


def readme_table(results: dict[str, Any]) -> str:
    """The table and its sentence, from the results of table S1."""
    models = results["models"]
    lines = ["| | cost | " + " | ".join(models) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(models))
    for name, cost, families, steps in SHOWN:
        cells = [
            f"{mean_and_interval(_find(model, families, steps))} dB" for model in models.values()
        ]
        lines.append(f"| {name} | {cost} | " + " | ".join(cells) + " |")
    name, model = next(iter(models.items()))
    gradient, quasi_newton = _find(model, PAPER_RATES, 100), _find(model, QUASI_NEWTON, None)
    ours, few = (_find(model, (methods.OURS.family,), steps) for steps in (20, 5))
    ratios = [
        number(row["milliseconds"] / other["milliseconds"], ".2f")
        for row, other in ((ours, gradient), (few, quasi_newton))
    ]
    sentence = (
        f"20 evaluations take {ratios[0]} of the time of 100 of the paper's gradient steps, 5 take "
        f"{ratios[1]} of that of the best L-BFGS, which needs {quasi_newton['steps']} steps"
    )
    peaks = [model["peaks"].get(row["memory"]) for row in (ours, gradient)]
    if all(peaks):
        side = results["memory_side"]
        sentence += (
            f". For a picture of {side} x {side} pixels they take "
            f"{number(peaks[0] / peaks[1], '.2f')} of the memory of gradient steps"
        )
    return "\n".join([*lines, "", f"{sentence} ({name}, one run; {results['crops']} crops)."])


def replace_table(readme: Path, text: str) -> None:
    """Put the table between the README's two markers."""
    write_page(readme, replace_between(readme.read_text(), BEGIN, END, f"{text}\n"))


def _find(model: dict[str, Any], families: tuple[str, ...], steps: int | None) -> dict[str, Any]:
    """The most accurate float32 row of some families at a number of steps; None: at any."""
    rows = [
        row
        for row in model["rows"]
        if row["family"] in families and steps in (None, row["steps"]) and row["dtype"] == "float32"
    ]
    if not rows:
        raise ValueError(f"no row of {' or '.join(families)} at {steps} steps: a quick run?")
    return min(rows, key=lambda row: row["nmse_db"])
