"""Kernels and inversion against the limits of the machine: one command, one page.

    python -m benchmarks.speed --out docs            # or: make speed
    python -m benchmarks.speed --sections            # render what is stored

Each section is measured and stored as `results/SECTION.json` in turn; `benchmarks.md` is rendered
from all that are stored. Without a GPU both say so and do what can be done on the CPU.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

from benchmarks.shared.context import ready_for_json
from fixpoint.adapters.files import check_folder, write_json
from fixpoint.whole_file import write_whole

SECTIONS = ("kernels", "inversion_gpu")
"""Modules with measure() -> results and markdown(results)."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of benchmarks.md")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    options = parser.parse_args(arguments)
    try:
        check_folder(options.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    for section in options.sections:
        found = ready_for_json(import_module(f"benchmarks.speed.{section}").measure())
        write_json(options.out / "results" / f"{section}.json", found)
        print(import_module(f"benchmarks.speed.{section}").markdown(found), flush=True)
    text = page(options.out)
    write_whole(options.out / "benchmarks.md", lambda temporary: temporary.write_text(text))


def page(folder: Path) -> str:
    """The page of all sections stored under `folder`."""
    lines = [
        "# Benchmarks",
        "",
        "What the kernels and an inversion cost, against what the machine could do. Kernel figures "
        "and end-to-end figures stand apart: against an SD-sized autoencoder the update is nothing."
        " Measure again with `make speed` (`python -m benchmarks.speed`), which runs on a GPU where"
        " there is one; accuracy is in [Results](results.md).",
        "",
    ]
    for section in SECTIONS:
        stored = folder / "results" / f"{section}.json"
        if stored.is_file():
            lines.append(
                import_module(f"benchmarks.speed.{section}").markdown(
                    json.loads(stored.read_text())
                )
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
