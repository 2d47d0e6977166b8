"""The page of all sections that are stored."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from benchmarks.shared.stored import load_all

SECTIONS = ("kernels", "inversion_gpu")
"""Modules with measure() -> results and markdown(results)."""


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
