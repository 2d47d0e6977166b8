"""Background-preserving editing: how well the background stays, by how the picture was inverted.

    python -m benchmarks.studies.editing --out docs                       # measure, fill in
    python -m benchmarks.studies.editing --out docs --render              # fill in what is stored

Pictures drawn by the embedded diffusion are stored with 8 bits, and a rectangle of each is drawn
anew under another prompt. Only the decoder inversion differs between the rows. Gradient descent
gets the same processor time as ours. Stored as `results/editing.json`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.shared.command import add_quick, add_render, command_line, parse
from benchmarks.shared.equal_time import steps_in_equal_time
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import renew_table
from benchmarks.shared.prompts import PROMPTS
from benchmarks.shared.stored import load, store
from benchmarks.shared.tables import mean_and_interval, number, summary, table
from fixpoint.adapters import EightBit, invert, invert_by_gradient, nmse_db, to_pil
from fixpoint.adapters.diffusion.editing import REFINEMENT, Edit, edit
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.checkpoints.whole_file import write_whole

COUNT, STEPS, GUIDANCE, SEED = 16, 25, 3.0, 41
SHOWN = 4
METHODS = {
    "encoder": "encoder",
    "gradient": "gradient descent",
    "ours": "ours",
    "known": "the latent known",
    "encoder, refined": "encoder, refined",
    "ours, refined": "ours, refined",
}


@dataclass(frozen=True)
class Task:
    """Pictures to be edited, and the truth about them."""

    model: LatentDiffusion
    latent: Tensor
    pictures: Tensor
    masks: Tensor
    prompts: list[str]
    new_prompts: list[str]


def make_task(count: int, steps: int) -> Task:
    model = LatentDiffusion.embedded("diffusion")
    prompts = [PROMPTS[row % len(PROMPTS)] for row in range(count)]
    others = [PROMPTS[(row + 1 + row // 4) % len(PROMPTS)] for row in range(count)]
    others = [
        new if new != old else PROMPTS[(PROMPTS.index(old) + 2) % len(PROMPTS)]
        for old, new in zip(prompts, others, strict=True)
    ]
    sampling = model.sampling(prompts, steps=steps, guidance=GUIDANCE)
    latent = sampling.generate(model.noise(count, seed=SEED))
    pictures = EightBit()(model.decode(latent))
    return Task(model, latent, pictures, _rectangles(count, pictures.shape[-1]), prompts, others)


def _rectangles(count: int, side: int) -> Tensor:
    """Random rectangles, a third to a half of either side, not aligned with the latents."""
    generator = np.random.default_rng(SEED)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    for mask in masks:
        height, width = (int(n) for n in generator.integers(side // 3, side // 2, 2))
        top = int(generator.integers(0, side - height))
        left = int(generator.integers(0, side - width))
        mask[top : top + height, left : left + width] = True
    return masks


def measure(quick: bool, folder: Path) -> dict[str, Any]:
    count, steps = (2, 3) if quick else (COUNT, STEPS)
    task = make_task(count, steps)
    gradient_steps = _gradient_steps(task, few=3)

    def by_gradient(autoencoder: Any, image: Any, **options: Any) -> Any:
        return invert_by_gradient(autoencoder, image, steps=gradient_steps, **options)

    def known(autoencoder: Any, image: Any, **options: Any) -> Tensor:
        return task.latent

    inverters: dict[str, tuple[str | Callable[..., Any], int]] = {
        "encoder": ("encoder", 0),
        "gradient": (by_gradient, 0),
        "ours": ("ours", 0),
        "known": (known, 0),
        "encoder, refined": ("encoder", REFINEMENT),
        "ours, refined": ("ours", REFINEMENT),
    }
    rows: dict[str, Any] = {}
    edits: dict[str, Edit] = {}
    for name, (inverter, refine) in inverters.items():
        started = time.process_time()
        edits[name] = found = edit(
            task.model,
            task.pictures,
            task.masks,
            task.prompts,
            new_prompt=task.new_prompts,
            steps=steps,
            guidance=GUIDANCE,
            decoder_inversion=inverter,
            refine=refine,
            value_range=(-1, 1),
        )
        rows[name] = {
            "background_nmse_db": found.background_nmse_db.tolist(),
            "background_psnr_db": found.background_psnr_db.tolist(),
            "latent_nmse_db": nmse_db(found.recovered.latent, task.latent).tolist(),
            "seconds": (time.process_time() - started) / count,
        }
        print(name, round(float(found.background_nmse_db.mean()), 2), flush=True)
    draw(task, edits, folder / "editing.png")
    return {
        "machine": machine_name(),
        "pictures": count,
        "side": task.pictures.shape[-1],
        "steps": steps,
        "gradient_steps": gradient_steps,
        "masked": float(task.masks.double().mean()),
        "refinement": REFINEMENT,
        "methods": rows,
    }


def _gradient_steps(task: Task, few: int) -> int:
    """Gradient steps in the time of our inversion, measured on the first pictures."""
    autoencoder, pictures = task.model.autoencoder, task.pictures[:4]
    steps, _ = steps_in_equal_time(
        lambda: invert(autoencoder, pictures, value_range=(-1, 1)),
        lambda count: invert_by_gradient(autoencoder, pictures, steps=count, value_range=(-1, 1)),
        few=few,
        rounds=1,
    )
    return steps


def _summary(values: list[float | None]) -> dict[str, float]:
    """Summary of stored values; None stands for a number that is not finite."""
    return summary(torch.tensor([math.nan if value is None else value for value in values]))


def markdown(results: dict[str, Any]) -> str:
    """The table of `editing.md`."""
    rows = []
    for name, found in results["methods"].items():
        latent = _summary(found["latent_nmse_db"])
        rows.append(
            (
                METHODS[name],
                mean_and_interval(_summary(found["background_nmse_db"])),
                number(max(found["background_nmse_db"])),
                mean_and_interval(_summary(found["background_psnr_db"])),
                mean_and_interval(latent) if math.isfinite(latent["nmse_db"]) else "–",
                number(found["seconds"], ".2f"),
            )
        )
    lines = [
        f"{results['pictures']} pictures of {results['side']} x {results['side']} pixels drawn by "
        f'`embedded("diffusion")` in {results["steps"]} steps and stored with 8 bits; a rectangle '
        f"of each, {100 * results['masked']:.0f} % of the pixels, is drawn anew under another "
        f"prompt. Means ± half their 95 % intervals; seconds of the processor a picture, for "
        f"everything. Gradient descent: {results['gradient_steps']} steps, which take as long as "
        f"our decoder inversion. *The latent known*: z_0 as it was drawn. *Refined*: "
        f"{results['refinement']} iterations of the last inversion; the other rows are the paper's "
        "method.",
        "",
        *table(
            (
                "decoder inversion",
                "background NMSE (dB)",
                "worst",
                "background PSNR (dB)",
                "NMSE of z_0 (dB)",
                "seconds",
            ),
            rows,
        ),
        "",
        "![Edits and what they do to the background](results/editing.png)",
        "",
        results["machine"],
    ]
    return "\n".join(lines)


def draw(task: Task, edits: dict[str, Edit], path: Path) -> None:
    """Original, edit, and the error of the background of each method, for the first pictures."""
    from matplotlib.figure import Figure

    shown = min(SHOWN, len(task.pictures))
    maps = [name for name in METHODS if name in edits and name != "encoder, refined"]
    figure = Figure(figsize=(1.75 * (2 + len(maps)), 1.95 * shown), layout="constrained", dpi=110)
    axes = figure.subplots(shown, 2 + len(maps), squeeze=False)
    for row in range(shown):
        picture = axes[row, 0].imshow(to_pil(task.pictures[row]), interpolation="nearest")
        axes[row, 0].contour(task.masks[row].numpy(), levels=[0.5], colors="#facc15")
        axes[row, 1].imshow(to_pil(edits["ours, refined"].picture[row]), interpolation="nearest")
        for column, name in enumerate(maps, start=2):
            found = edits[name]
            error = (found.picture[row] - found.original[row]).abs().amax(0) * 127.5
            picture = axes[row, column].imshow(
                torch.where(found.background[row], error, torch.nan).numpy(),
                cmap="magma",
                vmin=0,
                vmax=16,
                interpolation="nearest",
            )
            axes[row, column].set_xlabel(
                f"{float(found.background_nmse_db[row]):.1f} dB", fontsize=9
            )
    names = ["original, mask", "edited, ours refined", *(METHODS[name] for name in maps)]
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=9)
    for axis in axes.flatten():
        axis.set_xticks([])
        axis.set_yticks([])
    figure.colorbar(picture, ax=axes[:, 2:], fraction=0.02, label="error (8-bit levels)")
    write_whole(path, lambda temporary: _save_small(figure, temporary))


def _save_small(figure: Any, path: Path) -> None:
    """Save a PNG of 128 colours; maps of noise compress badly."""
    figure.savefig(path)
    with Image.open(path) as drawn:
        small = drawn.convert("RGB").quantize(128)
    small.save(path, "PNG", optimize=True)


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "editing.md")
    add_render(parser)
    add_quick(parser)
    options = parse(parser, arguments)
    if not options.render:
        store(options.out, "editing", measure(options.quick, options.out / "results"))
    renew_table(options.out / "editing.md", markdown(load(options.out, "editing")))


if __name__ == "__main__":
    main()
