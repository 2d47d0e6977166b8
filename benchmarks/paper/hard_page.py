"""The tables and the figure of the hard set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.paper.hard_study import (
    BY_HAND,
    DECEIVED_DB,
    DISTANCE_DB,
    EVALUATIONS,
    FULL,
    GRADIENT,
    STARTS,
    STRONGEST,
)
from benchmarks.shared.hard_set import CONTENTS, OBSERVATIONS
from benchmarks.shared.tables import mean_and_interval, number, table
from fixpoint.adapters.reports.latent_files import write_whole


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "## The hard set",
        "",
        f"{results['cases']} cases: {results['latents']} latents an autoencoder ("
        + ", ".join(CONTENTS)
        + "; photographs are held out, dead leaves, text and noise are drawn as in training, from "
        "other seeds), each seen through "
        + ", ".join(OBSERVATIONS)
        + f". Gaussian noise has a standard deviation of 0.02 on [-1, 1]; a crop keeps the middle "
        "of the picture, and the error is that of the latents it shows. NMSE in dB, the mean over "
        f"the latents ± half its 95 % interval; ours is `invert` as it is, at most {EVALUATIONS} "
        "evaluations. The *oracle* is the best point on the way of each case. The paper's operator "
        f"runs for {2 * EVALUATIONS} evaluations with its Adam and with forward steps of size 1; "
        f"shown is the better one, at its oracle. Gradient descent: {results['steps']} steps, the "
        f"best of {len(GRADIENT)} settings, for "
        + " and ".join(FULL)
        + f"; elsewhere {STRONGEST}, {results['few_steps']} steps. It is told of clipping and of "
        "the mask of a crop, which have derivatives; of rounding and JPEG it cannot be.",
        "",
    ]
    for name, model in results["models"].items():
        lines += [f"### {name}", "", *_groups_table(model), "", *_tuning_table(model), ""]
        lines += [*_content_table(model), "", *_gradient_table(model), "", *_halves_table(model)]
        lines += ["", *_many_table(model["many"], results["many"]), ""]
        lines += ["", *_starts_text(model["starts"]), "", *_oracle_table(model["oracle"]), ""]
    return "\n".join([*lines, "![The hard set](results/hard.png)", ""])


def _best(lines: dict[str, Any], key: str = "nmse_db") -> tuple[str, dict[str, Any]]:
    return min(lines.items(), key=lambda item: item[1][key])


def _groups_table(model: dict[str, Any]) -> list[str]:
    rows = []
    for name, found in model["groups"].items():
        _, gradient = _best(found["gradient"])
        _, paper = _best(found["paper"], "oracle_db")
        rows.append(
            (
                name,
                number(found["encoder"]["nmse_db"]),
                number(paper["oracle_db"]),
                mean_and_interval(gradient),
                number(found["ours_5"]["nmse_db"]),
                mean_and_interval(found["ours"]),
                number(found["ours"]["worst_db"]),
                number(found["ours"]["evaluations"], ".0f"),
                f"{number(found['ours']['nmse_db'] - found['ours']['oracle_db'], '.2f')} / "
                f"{number(found['ours']['gap_db'])}",
            )
        )
    head = (
        "observation",
        "encoder",
        "paper's operator, oracle",
        "gradient",
        "ours, 5",
        "ours",
        "worst",
        "evaluations",
        "behind its oracle, mean / worst",
    )
    return table(head, rows)


def _tuning_table(model: dict[str, Any]) -> list[str]:
    rows = []
    for name, found in model["groups"].items():
        best = found["by_hand"]
        setting, *per_row = best["setting"].split("; PerRow")
        rows.append(
            (
                name,
                f"`{setting}`" + ("; what each picture shows" if per_row else ""),
                number(best["nmse_db"]),
                number(best["evaluations"], ".0f"),
                number(found["ours"]["nmse_db"] - best["nmse_db"]),
                number(found["ours"]["evaluations"] / best["evaluations"], ".1f"),
            )
        )
    head = (
        "observation",
        "best setting by hand",
        "NMSE (dB)",
        "evaluations",
        "ours behind (dB)",
        "ours, evaluations / its",
    )
    return [
        f"Against {len(BY_HAND)} settings tuned by hand, that is, with z* known: the best one of "
        "each group, ended where its mean is within 0.1 dB of its best.",
        "",
        *table(head, rows, words=2),
    ]


def _content_table(model: dict[str, Any]) -> list[str]:
    found = model["groups"]["8-bit"]
    setting, gradient = _best(found["gradient"])
    rows = [
        (content, number(gradient["by_content"][content]), number(value))
        for content, value in found["by_content"].items()
    ]
    return [
        "8-bit, by content:",
        "",
        *table(("content", f"gradient, {setting}", "ours"), rows),
    ]


def _gradient_table(model: dict[str, Any]) -> list[str]:
    rows = [
        (name, setting, mean_and_interval(line), number(line["oracle_db"]))
        for name in FULL
        for setting, line in model["groups"][name]["gradient"].items()
    ]
    head = ("observation", "gradient", "NMSE (dB)", "oracle")
    return ["Gradient descent, setting by setting:", "", *table(head, rows, words=2)]


def _halves_table(model: dict[str, Any]) -> list[str]:
    rows = [
        (
            line["group"],
            line["dtype"],
            mean_and_interval(line),
            number(line["nmse_db"] - model["groups"][line["group"]]["ours"]["nmse_db"]),
            f"{number(line['nmse_db'] - line['oracle_db'], '.2f')} / {number(line['gap_db'])}",
        )
        for line in model["halves"]
    ]
    head = ("observation", "precision", "NMSE (dB)", "lost to float32", "behind its oracle")
    return ["Ours with the model in 16 bits:", "", *table(head, rows, words=2)]


def _many_table(lines: list[dict[str, Any]], count: int) -> list[str]:
    head = (
        "precision",
        "at most",
        "NMSE (dB)",
        "worst",
        "evaluations",
        "behind its oracle",
        *CONTENTS,
    )
    rows = [
        (
            line["dtype"],
            str(line["limit"]),
            mean_and_interval(line),
            number(line["worst_db"]),
            number(line["evaluations"], ".0f"),
            f"{number(line['nmse_db'] - line['oracle_db'], '.2f')} / {number(line['gap_db'])}",
            *(number(line["by_content"][content]) for content in CONTENTS),
        )
        for line in lines
    ]
    return [f"Ours alone on {count} 8-bit pictures, and by content:", "", *table(head, rows)]


def _starts_text(starts: dict[str, Any]) -> list[str]:
    return [
        f"**Deceptive zeros.** From {starts['runs']} other starting points (8-bit, {STARTS} a "
        f"case, noise of {DISTANCE_DB:.0f} dB around E(x)) {starts['successes']} runs ended with "
        f"success by their own account, {starts['deceived']} of these more than "
        f"{DECEIVED_DB:.0f} dB worse than the run from E(x): deceived. On the mean all of them end "
        f"at {number(starts['nmse_db'])} dB, the runs from E(x) at "
        f"{number(starts['reference_db'])} dB."
    ]


def _oracle_table(lines: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            line["content"],
            number(line["condition"], ".0f"),
            number(100 * line["hidden"], ".0f") + " %",
            number(line["encoder_db"]),
            number(line["hidden_db"]),
            number(line["oracle_db"]),
            number(line["ours_db"]),
        )
        for line in lines
    ]
    head = (
        "content",
        "condition of D'(z*)",
        "hidden directions",
        "E(x)",
        "its error there",
        "better of both",
        "ours",
    )
    return [
        "What the picture alone tells, 8-bit, one latent a content: in the singular directions of "
        "D'(z*) where least squares under the noise of rounding is worse than E(x), the picture "
        "says nothing that E(x) does not (*hidden*). Whoever knew z* and took the better of the "
        "two in every direction would end at the *better of both*. Where ours is beyond that, the "
        "encoder has put right what the picture does not show: it was trained to know which "
        "latents occur.",
        "",
        *table(head, rows),
    ]


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    models = results["models"]
    figure = Figure(figsize=(6.2 * len(models), 4.4), layout="constrained", dpi=110)
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for (name, model), axes in zip(models.items(), panels, strict=True):
        series = {
            "encoder": [found["encoder"]["nmse_db"] for found in model["groups"].values()],
            "paper's operator, oracle": [
                _best(found["paper"], "oracle_db")[1]["oracle_db"]
                for found in model["groups"].values()
            ],
            "gradient, best setting": [
                _best(found["gradient"])[1]["nmse_db"] for found in model["groups"].values()
            ],
            "ours": [found["ours"]["nmse_db"] for found in model["groups"].values()],
        }
        places = torch.arange(len(model["groups"])).double()
        width = 0.8 / len(series)
        for index, (label, values) in enumerate(series.items()):
            shifted = (places + (index - 1.5) * width).tolist()
            axes.bar(shifted, values, width, color=f"C{(7, 1, 3, 0)[index]}", label=label)
        axes.set_xticks(places.tolist(), list(model["groups"]), rotation=30, ha="right")
        axes.set_title(name.strip("`"))
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("NMSE (dB), mean over latents; lower is better")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    path = folder / "hard.png"
    write_whole(path, figure.savefig)
    return [path]
