"""Scores of every method for every picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.equal_time import steps_in_equal_time
from benchmarks.shared.machine import machine_name
from benchmarks.studies.attribution.rates import RATE, roc_of
from benchmarks.studies.attribution.sources import COUNTS, MODEL, OURS, SEED, SOURCES
from fixpoint.adapters import Autoencoder, Clip, Inversion, Masked, invert_by_gradient
from fixpoint.adapters.inversion import invert_by_encoder, invert_by_iteration
from fixpoint.adapters.pictures.distortions import (
    CentreCrop,
    Distortion,
    GaussianBlur,
    GaussianNoise,
    JpegFile,
    Png,
)
from fixpoint.adapters.pictures.observations import EightBit
from fixpoint.adapters.provenance.attribution_score import attribution_score
from fixpoint.adapters.provenance.calibration import EVALUATIONS, Calibration
from fixpoint.adapters.provenance.observed_pictures import observation_of

BATCH = 17
DISTORTIONS: dict[str, Distortion] = {
    "8 bit": Png(),
    "JPEG 95": JpegFile(95),
    "JPEG 75": JpegFile(75),
    "noise 0.02": GaussianNoise(0.02),
    "blur 1": GaussianBlur(1.0),
    "crop 0.75": CentreCrop(0.75),
}
METHODS = {
    "ours": "ours",
    "gradient, our score": "gradient descent, our score",
    "gradient": "gradient descent, error",
    "encoder": "encoder, error",
}


def measure(kinds: Sequence[str], quick: bool = False) -> dict[str, Any]:
    """Scores of every method on every kind of picture behind every distortion."""
    torch.manual_seed(SEED)
    autoencoder = Autoencoder.embedded(MODEL)
    counts = {kind: 2 if quick else COUNTS[kind] for kind in kinds}
    with torch.no_grad():
        pictures = {kind: SOURCES[kind](autoencoder, count) for kind, count in counts.items()}
    steps, clock = _steps_in_the_same_time(autoencoder, pictures["encodings"])
    found: dict[str, Any] = {}
    for name in list(DISTORTIONS)[: 2 if quick else None]:
        found[name] = {method: {} for method in METHODS}
        for kind, values in pictures.items():
            scores = _scores(autoencoder, DISTORTIONS[name], values, steps)
            for method, score in scores.items():
                found[name][method][kind] = [round(value, 3) for value in score.tolist()]
        print(name, _auc_by_method(found[name], kinds), flush=True)
    reference = Calibration.embedded(MODEL)
    verdicts = {}
    for kind in kinds:
        score = torch.tensor(found["8 bit"]["ours"][kind], dtype=torch.float64)
        verdicts[kind] = int((reference.p_value(score) <= RATE).sum())
    return {
        "machine": machine_name(),
        "model": MODEL,
        "counts": counts,
        "gradient_steps": steps,
        "seconds": clock,
        "scores": found,
        "called_at_1_percent": verdicts,
        "calibration": {name: len(scores) for name, scores in reference.groups.items()},
    }


def _steps_in_the_same_time(
    autoencoder: Autoencoder, pictures: Tensor
) -> tuple[int, dict[str, float]]:
    """Gradient steps that take the processor as long as ours, and the seconds a picture."""
    batch = EightBit()(pictures[:BATCH])
    steps, seconds = steps_in_equal_time(
        lambda: invert_by_iteration(
            autoencoder, batch, max_iterations=EVALUATIONS, value_range=(-1, 1)
        ),
        lambda count: invert_by_gradient(autoencoder, batch, steps=count, value_range=(-1, 1)),
        few=4,
        rounds=3,
    )
    return steps, {name: value / len(batch) for name, value in seconds.items()}


def _scores(
    autoencoder: Autoencoder, distortion: Distortion, values: Tensor, steps: int
) -> dict[str, Tensor]:
    """Scores of shape (pictures,) by method; a higher score speaks for this model."""
    observation = observation_of(
        EightBit(), autoencoder.dtype, distortion.observation(*values.shape[-2:])
    )
    known = observation.known if isinstance(observation, Masked) else None
    found: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    for start in range(0, len(values), BATCH):
        seen = distortion(values[start : start + BATCH], seed=SEED + start)
        ours = invert_by_iteration(
            autoencoder,
            seen,
            observation=observation,
            max_iterations=EVALUATIONS,
            value_range=(-1, 1),
        )
        gradient = invert_by_gradient(
            autoencoder,
            seen,
            steps=steps,
            observation=None if known is None else Masked(known, Clip()),
            value_range=(-1, 1),
        )
        encoder = invert_by_encoder(autoencoder, seen, value_range=(-1, 1))
        found["ours"].append(attribution_score(ours))
        found["gradient, our score"].append(
            attribution_score(dataclasses.replace(gradient, observation=observation))
        )
        found["gradient"].append(_error(gradient, known))
        found["encoder"].append(_error(encoder, known))
    return {method: torch.cat(scores) for method, scores in found.items()}


def _error(inversion: Inversion, known: Tensor | None) -> Tensor:
    """The score of reconstruction attacks: PSNR in dB, over the known pixels."""
    error = (inversion.reconstruction - inversion.picture).double().square()
    share = 1.0 if known is None else float(known.double().mean())
    if known is not None:
        error = error * known
    return (10 * (4 * share / error.flatten(1).mean(1)).log10()).clamp(max=100)


def _auc_by_method(methods: dict[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    both = any(kind in OURS for kind in kinds)
    return {name: round(roc_of(scores).auc, 4) for name, scores in methods.items() if both}
