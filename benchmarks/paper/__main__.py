"""Every table and figure of the paper, on the embedded autoencoders or on any others.

    python -m benchmarks.paper --out docs                        # or: make figures
    python -m benchmarks.paper --model my-autoencoder --pictures a.png b.png --out mine
    python -m benchmarks.paper --sections table_s1               # measure one section again
    python -m benchmarks.paper --sections                        # render what is stored

Each section is measured and stored as `results/SECTION.json` in turn, so that an interrupted run
loses no finished section; `results.md` is rendered from all that are stored.
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.paper.readme_table import readme_table, replace_table
from benchmarks.shared.command import add_quick, command_line, parse
from benchmarks.shared.context import CROP, Context, make_context
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load_all, store

SECTIONS = (
    "table_s1",
    "table_s2",
    "figures_theorems",
    "hard",
    "shapes",
)
"""Modules with measure(context) -> results, markdown(results) and draw(results, folder)."""


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "results.md and results/")
    add = parser.add_argument
    add("--model", type=Path, action="append", default=[], help="folder of an autoencoder; again")
    add("--pictures", type=Path, nargs="+", default=[], help="files instead of held-out crops")
    add("--crops", type=int, default=48)
    add("--crop-size", type=int, default=CROP)
    add("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS), help="to measure")
    add("--memory-side", type=int, default=512, help="of the picture whose memory is measured")
    add("--video-size", type=_size, default=(128, 192), metavar="HEIGHTxWIDTH")
    add("--readme", type=Path, help="put the extract of table S1 into this file")
    add("--seed", type=int, default=0)
    add_quick(parser)
    options = parse(parser, arguments)
    if options.quick and options.readme is not None:
        parser.error("--quick makes no table for the README")
    try:
        if options.sections:
            context = make_context(
                options.model,
                options.pictures,
                crops=options.crops,
                crop_size=options.crop_size,
                quick=options.quick,
                seed=options.seed,
                memory_side=options.memory_side,
                video_size=options.video_size,
            )
    except (OSError, TypeError, ValueError) as error:
        parser.error(str(error))
    for name in options.sections:
        measure(name, context, options.out)
        render(options.out)
    stored = render(options.out)
    if options.readme is not None and "table_s1" in stored:
        replace_table(options.readme, readme_table(stored["table_s1"]["results"]))


def measure(name: str, context: Context, out: Path) -> None:
    """Measure one section and store what was found."""
    started = time.perf_counter()
    results = import_module(f"benchmarks.paper.{name}").measure(context)
    found = setting(context)
    if "pictures" in results:  # a section with pictures of its own
        found |= {"pictures": results["pictures"], "overlapping": False}
    store(out, name, {"setting": found, "results": results})
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


def setting(context: Context) -> dict[str, Any]:
    """What the numbers of a section depend on, in words."""
    height, width = context.crops.shape[-2:]
    return {
        "machine": machine_name(),
        "pictures": f"{len(context.crops)} crops of {height} x {width} pixels ({context.origin})",
        "overlapping": context.overlapping,
        "quick": context.quick,
        "seed": context.seed,
    }


def render(out: Path) -> dict[str, Any]:
    """Write results.md and its figures from what is stored, and return that."""
    stored = load_all(out, SECTIONS)
    lines = header(stored)
    for name, content in stored.items():
        section = import_module(f"benchmarks.paper.{name}")
        section.draw(content["results"], out / "results")
        lines.append(section.markdown(content["results"]))
    write_page(out / "results.md", "\n".join(lines))
    return stored


def header(stored: dict[str, Any]) -> list[str]:
    lines = [
        "# Results",
        "",
        "The tables and figures of Hong et al., Gradient-free Decoder Inversion in Latent "
        "Diffusion Models (NeurIPS 2024), measured on the autoencoders of this library. Crops "
        "are encoded to z*, decoded, clipped and rounded to 8 bits, so that the true latent is "
        "known; NMSE is ||z - z*||^2 / ||z*||^2, the mean over the crops of its value in dB, ± "
        "half the 95 % interval of that mean.",
        "",
        "Measure again with `make figures`, which runs `python -m benchmarks.paper`; it takes any "
        "autoencoder (`--model`) and any pictures (`--pictures`).",
        "",
    ]
    groups: dict[str, list[str]] = {}
    for name, content in stored.items():
        text = f"{content['setting']['pictures']}. {content['setting']['machine']}"
        if content["setting"]["overlapping"]:
            text += (
                " The intervals take crops for independent; they share photographs, and some "
                "overlap."
            )
        if content["setting"]["quick"]:
            text += " **A trial run with few steps: no result.**"
        groups.setdefault(text, []).append(name)
    for text, names in groups.items():
        sections = "" if len(groups) == 1 else f" ({', '.join(names)})"
        lines += [text + sections, ""]
    return lines


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


if __name__ == "__main__":
    main()
