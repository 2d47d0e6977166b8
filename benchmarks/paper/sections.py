"""The sections of `results.md`, measured one by one and rendered from what is stored."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.shared.context import Context
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
