"""Kernels and inversion against the limits of the machine: one command, one page.

    python -m benchmarks.speed --out docs            # or: make speed
    python -m benchmarks.speed --sections            # render what is stored

Each section is measured and stored as `results/SECTION.json` in turn; `benchmarks.md` is rendered
from all that are stored. Without a GPU both say so and do what can be done on the CPU.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.shared.command import command_line, parse
from benchmarks.shared.pages import write_page
from benchmarks.shared.stored import load, store
from benchmarks.speed.page import SECTIONS, page


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "benchmarks.md")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    options = parse(parser, arguments)
    for section in options.sections:
        module = import_module(f"benchmarks.speed.{section}")
        store(options.out, section, module.measure())
        print(module.markdown(load(options.out, section)), flush=True)
    write_page(options.out / "benchmarks.md", page(options.out))


if __name__ == "__main__":
    main()
