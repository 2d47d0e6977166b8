"""Kernels and inversion against the limits of the machine: one command, one page.

    python -m benchmarks.speed --out docs            # or: make speed
    python -m benchmarks.speed --sections            # render what is stored

Each section is measured and stored as `results/SECTION.json` in turn; `benchmarks.md` is rendered
from all that are stored. Without a GPU both say so and do what can be done on the CPU.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from benchmarks.shared.command import command_line, parse
from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load, load_all, store

SECTIONS = ("kernels", "inversion_gpu")
"""Modules with measure() -> results and markdown(results)."""


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "benchmarks.md")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    options = parse(parser, arguments)
    for section in options.sections:
        module = import_module(f"benchmarks.speed.{section}")
        store(options.out, section, module.measure())
        print(module.markdown(load(options.out, section)), flush=True)
    write_page(options.out / "benchmarks.md", page(options.out))


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
    for section, found in load_all(folder, SECTIONS).items():
        lines.append(import_module(f"benchmarks.speed.{section}").markdown(found))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
