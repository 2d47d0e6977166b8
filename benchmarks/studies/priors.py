"""Priors beside the picture: cases of the hard set with each prior against `invert` without one.

    python -m benchmarks.studies.priors --out docs                        # measure, fill in
    python -m benchmarks.studies.priors --out docs --render               # fill in what is stored

The same latents and pictures for every prior, in one run. Priors that are fitted to examples are
fitted to training pictures. The width of the encoder's prior, the floor of the misfit and the
weight of total variation were chosen on training crops and, in part, on cases like these. Stored
as `results/priors.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.command import add_quick, add_render, command_line, parse
from benchmarks.shared.context import Context, make_context
from benchmarks.shared.hard_set import CONTENTS, SEED, Group, group, latents
from benchmarks.shared.machine import machine_name
from benchmarks.shared.pages import renew_table
from benchmarks.shared.pictures import TrainingPictures
from benchmarks.shared.stored import load, store
from benchmarks.shared.tables import mean_and_interval, summary, table
from fixpoint.adapters import Autoencoder, EightBit, WhiteNoise, invert
from fixpoint.adapters.inversion.regularised import (
    EncoderPrior,
    OnPicture,
    latent_box,
    latent_prior,
)
from fixpoint.proximal import RowParameter, TotalVariation2D

EACH = 1  # latents a content
EVALUATIONS = 30
EXAMPLES = 24  # training pictures that priors are fitted to
STRONG = 0.1  # Gaussian noise on [-1, 1]: 13 of 255 levels
GROUPS = ("Gaussian noise", f"Gaussian noise, {STRONG}", "JPEG 75", "JPEG 50", "crop")
SMOOTHING = 0.3  # weight of total variation, in levels of the noise of the picture
CONTROL = "none, its steps"
PRIORS = (CONTROL, "around E(x)", "Gaussian", "box", "total variation")


def measure(context: Context) -> dict[str, Any]:
    each, size = (1, 32) if context.quick else (EACH, 64)
    models: dict[str, Any] = {}
    for name, autoencoder in context.autoencoders.items():
        truth = latents(autoencoder, each, size)
        stream = TrainingPictures(size, 2 if context.quick else EXAMPLES, SEED + 7, procedural=12)
        priors = _priors(autoencoder, next(stream))
        models[name] = {}
        for case in GROUPS:
            cases = _group(autoencoder, case, truth)
            models[name][case] = found = _compared(autoencoder, cases, priors, context.quick)
            shown = {prior: round(line["nmse_db"], 2) for prior, line in found.items()}
            print(name, case, shown, flush=True)
    return {"machine": machine_name(), "latents": len(truth), "models": models}


Make = Callable[[Group], dict[str, Any]]


def _priors(autoencoder: Autoencoder, examples: Tensor) -> dict[str, Make]:
    """Options of `invert` for the cases of a group, by the prior's name."""
    gaussian, box = latent_prior(autoencoder, examples), latent_box(autoencoder, examples)

    def variation(cases: Group) -> OnPicture:
        levels = SMOOTHING * picture_noise(autoencoder, cases)
        return OnPicture(TotalVariation2D(RowParameter(levels), iterations=30))

    return {
        "none": lambda cases: {},
        # The same steps and stop rules, with a prior of almost no weight.
        CONTROL: lambda cases: {"prior": EncoderPrior(), "prior_weight": 1e-12},
        "around E(x)": lambda cases: {"prior": EncoderPrior()},
        "Gaussian": lambda cases: {"prior": gaussian},
        "box": lambda cases: {"prior": box},
        "total variation": lambda cases: {"prior": variation(cases)},
    }


@torch.no_grad()
def picture_noise(autoencoder: Autoencoder, cases: Group) -> Tensor:
    """Root mean square of the change that the observation makes to D(E(x)), (cases,)."""
    if isinstance(cases.observation, WhiteNoise):
        return torch.full((len(cases.pictures),), cases.observation.level)
    seen = EightBit() if cases.name == "crop" else cases.observation
    assert seen is not None
    decoded = autoencoder.decode(autoencoder.encode(cases.pictures)).clamp(-1, 1)
    return (seen(decoded) - decoded).square().flatten(1).mean(1).sqrt()


@torch.no_grad()
def _group(autoencoder: Autoencoder, name: str, truth: Tensor) -> Group:
    if name in ("Gaussian noise", "JPEG 75", "JPEG 50", "crop"):
        return group(autoencoder, name, truth)
    plain = group(autoencoder, "clipped", truth)
    decoded = autoencoder.decode(truth)
    noise = torch.randn(decoded.shape, generator=torch.Generator().manual_seed(SEED))
    return dataclasses.replace(
        plain,
        name=name,
        pictures=(decoded + STRONG * noise.to(decoded.device)).clamp(-1, 1),
        observation=WhiteNoise(level=STRONG),
    )


def _compared(
    autoencoder: Autoencoder, cases: Group, priors: dict[str, Make], quick: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    without: Tensor | None = None
    for name, make in priors.items():
        inversion = invert(
            autoencoder,
            cases.pictures,
            observation=cases.observation,
            max_iterations=2 if quick else EVALUATIONS - 1,
            value_range=(-1, 1),
            **make(cases),
        )
        errors = cases.nmse_db(inversion.latent)
        without = errors if without is None else without
        found[name] = {
            **summary(errors),
            "evaluations": float(inversion.evaluations.float().mean()),
            "difference": summary(errors - without),
            "better": int((errors < without - 0.05).sum()),
            "worse": int((errors > without + 0.05).sum()),
        }
    return found


def markdown(results: dict[str, Any]) -> str:
    """The table of `priors.md`."""
    lines = [
        f"{results['latents']} latents an autoencoder, of {len(CONTENTS)} contents, at most "
        f"{EVALUATIONS} evaluations. NMSE in dB without a prior; then the paired difference to it, "
        "below 0 where the prior helps, ± half its 95 % interval, and in how many cases it is "
        f"better / worse by more than 0.05 dB. *{CONTROL}*: a prior of no weight, to tell what the "
        "prior does from what its other observation, iterator and stop rules do.",
    ]
    for name, groups in results["models"].items():
        rows = []
        for case, found in groups.items():
            cells = [
                f"{_signed(found[each]['difference'])}, {found[each]['better']} / "
                f"{found[each]['worse']}"
                for each in PRIORS
            ]
            rows.append((case, mean_and_interval(found["none"]), *cells))
        lines += ["", f"### {name}", "", *table(("observation", "none", *PRIORS), rows)]
    return "\n".join([*lines, "", results["machine"]])


def _signed(line: dict[str, Any]) -> str:
    interval = line["interval_db"]
    return f"{line['nmse_db']:+.2f} ± " + ("–" if interval is None else f"{interval:.2f}")


def main(arguments: list[str] | None = None) -> None:
    parser = command_line(__spec__.name, __doc__, "priors.md")
    add_render(parser)
    add_quick(parser)
    options = parse(parser, arguments)
    if not options.render:
        store(options.out, "priors", measure(make_context(crops=1, quick=options.quick)))
    renew_table(options.out / "priors.md", markdown(load(options.out, "priors")))


if __name__ == "__main__":
    main()
