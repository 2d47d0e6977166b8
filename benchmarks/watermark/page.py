"""The page and the figures of what `python -m benchmarks.watermark` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load_all
from benchmarks.shared.tables import mean_and_interval, mebibytes, number, table
from fixpoint.checkpoints.whole_file import write_whole

CLASSIFIED = ("diffusion", "diffusion_channel_3", "flow")
PARTS = (*CLASSIFIED, "robustness")
PUBLISHED = {
    "diffusion": (
        ("encoder", "186/300", "5.71", "5.66"),
        ("gradient, Adam", "207/300", "11.4", "38.0"),
        ("the paper's gradient-free", "202/300", "6.35", "22.9"),
    ),
    "flow": (
        ("encoder", "149/300", "2.93", "3.55"),
        ("gradient, Adam", "227/300", "8.84", "35.9"),
        ("the paper's gradient-free", "227/300", "3.15", "13.6"),
    ),
}
TITLES = {
    "diffusion": "`diffusion`: {steps} steps, guidance {guidance:g}, naive DDIM inversion",
    "diffusion_channel_3": "The same with the key in channel 3, as the original has it",
    "flow": "`flow`: one step, inverted by `solve` (backward Euler)",
}
MODELS = {"diffusion": "Stable Diffusion 2.1", "flow": "InstaFlow"}
HEAD = (
    "key in",
    "decoder inversion",
    "right",
    "share and 95 % interval",
    "right by angle",
    "z_0, dB",
    "z_T, dB",
    "s a picture (decoder)",
    "peak MiB",
)


def write(out: Path) -> None:
    """Write `watermark-benchmark.md` and its figures from the parts that are stored."""
    stored = load_all(out, [f"watermark_{part}" for part in PARTS])
    found = {name.removeprefix("watermark_"): results for name, results in stored.items()}
    draw(found, out / "results" / "watermark_confusion.png")
    write_page(out / "watermark-benchmark.md", markdown(found))


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "# Watermarks: what decoder inversion brings",
        "",
        "Written by `python -m benchmarks.watermark --out docs`. Which of three tree-ring keys "
        "([how it works](watermarks.md)) is in the noise of a picture? Pictures of 128 x 128 "
        "pixels made by the embedded models, saved with 8 bits; the same pictures for every "
        "method, the same run. *gradient, Adam*: the paper's baseline, 100 steps; *gradient, "
        "L-BFGS*: our strengthened one, 40 evaluations with the clipping in its loss. *exact "
        "noise*: the true z_T, which no inversion can surpass. Time and memory are of one picture "
        "from its pixels to z_T, in brackets of inverting the decoder alone.",
    ]
    for part in CLASSIFIED:
        if part in found:
            lines += ["", *_classification(part, found[part])]
    if any(part in found for part in CLASSIFIED):
        lines += [
            "",
            "![Which key was read, for each that was embedded](results/watermark_confusion.png)",
            "",
            "Rows: the key embedded; columns: the key read; numbers: pictures in a hundred "
            "(figure S1 of the paper).",
        ]
    if "robustness" in found:
        lines += ["", *_robustness(found["robustness"])]
    return "\n".join([*lines, ""])


def _classification(part: str, found: dict[str, Any]) -> list[str]:
    rows = []
    for mask, methods in found["marks"].items():
        for name, row in methods.items():
            cells = [
                mask,
                name,
                f"{row['right']}/{row['pictures']}",
                share(row),
                str(row["right_by_angle"]),
            ]
            if "latent" in row:
                peak = found["peaks"][name]["peak_bytes"]
                cells += [
                    mean_and_interval(row["latent"]),
                    mean_and_interval(row["noise"]),
                    f"{row['seconds']:.2f} ({row['decoder_seconds']:.2f})",
                    mebibytes(peak),
                ]
            rows.append(cells + ["–"] * (len(HEAD) - len(cells)))
    lines = [
        "## " + TITLES[part].format(**found["case"]),
        "",
        *table(HEAD, rows, words=2),
        "",
        found["machine"],
    ]
    if part not in PUBLISHED:
        return lines
    return [
        *lines,
        "",
        f"The paper's own table 2, with {MODELS[part]}, the official mask and a GPU:",
        "",
        *table(("decoder inversion", "right", "peak GB", "s"), PUBLISHED[part]),
    ]


def _robustness(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, methods in found["distortions"].items():
        for method, row in methods.items():
            rows.append(
                [
                    name,
                    method,
                    f"{row['right']}/{row['pictures']}",
                    number(row["auc"], ".3f"),
                    number(100 * row["tpr"], ".0f"),
                    number(100 * row["fpr"], ".0f"),
                    number(row["median_log10_p"]),
                ]
            )
    head = (
        "published as",
        "decoder inversion",
        "right key",
        "AUC",
        "found, % (p ≤ 0.01)",
        "false alarms, %",
        "median log10 p",
    )
    return [
        "## What happens to a published picture",
        "",
        "`diffusion`, the centred mask, the key in channel 3. Ours is told what happened to the "
        "picture, which stands inside its operator. AUC and the shares found are of the key that a "
        "picture carries, against as many pictures without a key.",
        "",
        *table(head, rows, words=2),
        "",
        found["machine"],
    ]


def share(row: dict[str, Any]) -> str:
    low, high = wilson(row["right"], row["pictures"])
    return f"{100 * row['right'] / row['pictures']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 %."""
    z = 1.96
    centre = (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * (right * (count - right) / count + z * z / 4) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def draw(found: dict[str, Any], path: Path) -> None:
    """Confusion matrices, a row of them for each model and mask."""
    import matplotlib.pyplot as plt

    panels = [
        (part, mask, methods)
        for part in CLASSIFIED
        if part in found
        for mask, methods in found[part]["marks"].items()
    ]
    if not panels:
        return
    across = max(len(methods) for *_, methods in panels)
    figure, axes = plt.subplots(
        len(panels), across, figsize=(2.1 * across, 2.4 * len(panels)), squeeze=False
    )
    for line, (part, mask, methods) in zip(axes, panels, strict=True):
        for axis in line:
            axis.set_visible(False)
        for axis, (name, row) in zip(line, methods.items(), strict=False):
            axis.set_visible(True)
            counts = row["confusion"]
            shares = [[100 * value / max(1, sum(each)) for value in each] for each in counts]
            axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
            for at, each in enumerate(shares):
                for across_, value in enumerate(each):
                    colour = "white" if value > 55 else "black"
                    axis.text(across_, at, f"{value:.0f}", ha="center", va="center", color=colour)
            ticks = range(len(counts))
            axis.set_xticks(ticks, [str(tick + 1) for tick in ticks])
            axis.set_yticks(ticks, [str(tick + 1) for tick in ticks])
            axis.set_title(f"{part}, {mask}\n{name}", fontsize=8)
    figure.tight_layout()
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))
    plt.close(figure)
