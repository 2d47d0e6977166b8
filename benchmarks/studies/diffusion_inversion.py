"""Backward Euler by `solve` against the published step rule and naive DDIM inversion.

    python -m benchmarks.studies.diffusion_inversion --out docs           # measure, fill in
    python -m benchmarks.studies.diffusion_inversion --out docs --render  # fill in what is stored

The embedded `diffusion`, on latents that it drew itself: z_0 is exact and z_T known. The published
rule stops at ||T x||^2 < 1e-3; Anderson is run to the same residual, and to its own default. The
monitors of theorem 1 watch plain forward steps of size 1. Stored as
`results/diffusion_inversion.json`.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.shared.command import add_render, command_line, parse
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import renew_table
from benchmarks.shared.prompts import PROMPTS
from benchmarks.shared.stored import load, store
from benchmarks.shared.tables import number, summary, table
from fixpoint import ForwardStep
from fixpoint.adapters import nmse_db
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.sampling import PAPER_TOLERANCE, Sampling, Trajectory
from fixpoint.monitors import ForwardStepTheorem

SETTINGS = ((50, 1.0), (50, 7.5), (4, 15.0))  # steps and guidance
EQUAL = {"atol": PAPER_TOLERANCE, "rtol": 0.0}
METHODS = {
    "naive": lambda sampling, latent: sampling.invert(latent),
    "naive, at the source": lambda sampling, latent: sampling.invert(latent, at_source=True),
    "the published rule": lambda sampling, latent: sampling.invert_by_paper(latent),
    "Anderson, to the same residual": lambda sampling, latent: sampling.invert(
        latent, "backward-euler", **EQUAL
    ),
    "Anderson, default": lambda sampling, latent: sampling.invert(latent, "backward-euler"),
}


def measure(steps: int, guidance: float, seed: int = 3) -> dict[str, Any]:
    model = LatentDiffusion.embedded("diffusion")
    noise = model.noise(len(PROMPTS), seed=seed)
    sampling = model.sampling(PROMPTS, steps=steps, guidance=guidance)
    latent = sampling.generate(noise)
    rows = {}
    for name, method in METHODS.items():
        found: Trajectory = method(sampling, latent)
        rows[name] = {
            **summary(nmse_db(found.noise, noise)),
            "evaluations": float(found.evaluations.double().mean()),
            "residual": float(sampling.residuals(found).max()),
        }
        print(steps, guidance, name, rows[name], flush=True)
    return {
        "steps": steps,
        "guidance": guidance,
        "methods": rows,
        "theorem": theorem(sampling, latent),
    }


def theorem(sampling: Sampling, latent: torch.Tensor) -> dict[str, Any]:
    """In how many steps and rows forward steps of size 1 refute the hypothesis of theorem 1."""
    watched = sampling.invert(
        latent,
        "backward-euler",
        iterator=ForwardStep(step_size=1.0),
        max_iterations=12,
        monitors=(ForwardStepTheorem(step_size=1.0),),
    )
    claims = [certificate["star-cocoercivity"] for certificate in watched.certificates]
    margins = torch.stack([claim.margin for claim in claims])
    refuted = torch.stack([~claim.holds for claim in claims])
    return {
        "cases": refuted.numel(),
        "refuted": int(refuted.sum()),
        "least_margin": float(margins.min()),
    }


def markdown(results: dict[str, Any]) -> str:
    rows = []
    for case in results["cases"]:
        for name, row in case["methods"].items():
            rows.append(
                (
                    f"{case['steps']}, {case['guidance']:g}",
                    name,
                    f"{number(row['nmse_db'])} ({number(row['worst_db'])})",
                    f"{row['evaluations']:.0f}",
                    f"{row['residual']:.1e}",
                )
            )
    head = ("steps, guidance", "inversion", "z_T, dB (worst)", "evaluations", "largest residual")
    theorems = [
        (
            f"{case['steps']}, {case['guidance']:g}",
            f"{case['theorem']['refuted']} of {case['theorem']['cases']}",
            f"{case['theorem']['least_margin']:.2f}",
        )
        for case in results["cases"]
    ]
    return "\n".join(
        [
            "Four latents, one for each prompt, drawn by the embedded `diffusion`: z_0 is exact. "
            "Mean NMSE of z_T, evaluations of the network per row (two a call with guidance), and "
            "the largest `||Phi(x_s) - x_t||` of all steps and rows.",
            "",
            *table(head, rows, words=2),
            "",
            "The hypothesis of theorem 1 along plain forward steps of size 1, every step and row a "
            "case; below 0 the margin refutes it:",
            "",
            *table(("steps, guidance", "star-cocoercivity refuted", "least margin"), theorems),
            "",
            results["machine"],
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "diffusion-inversion.md")
    add_render(parser)
    options = parse(parser, arguments)
    if not options.render:
        cases = [measure(*setting) for setting in SETTINGS]
        store(options.out, "diffusion_inversion", {"machine": machine_name(), "cases": cases})
    found = load(options.out, "diffusion_inversion")
    renew_table(options.out / "diffusion-inversion.md", markdown(found))


if __name__ == "__main__":
    main()
