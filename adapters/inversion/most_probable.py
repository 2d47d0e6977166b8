"""The most probable latent of a picture that a codec or something unknown changed:

    min_z  |N(D(z)) - N(x)|^2 + caution^2 <z - c, S^-1 (z - c)>

N: coordinates in which what changed the picture is white with unit variance, see
`noise_coordinates`; c and S: the encoder's guess, and the covariance of its error on pictures of
the pair that are changed alike (Bayes; both terms are Gaussian). JPEG's noise is known exactly, so
c is E(x). Of WebP and of what is unknown the power by frequency is known only, from examples; c is
then half a calibrated step from E(x), which by itself hardly ever errs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders import calibration
from fixpoint.adapters.autoencoders.calibration import apply_map
from fixpoint.adapters.inversion import judgement as words
from fixpoint.adapters.inversion.judgement import InversionOutcome, Judgement
from fixpoint.adapters.inversion.noise_coordinates import NoiseCoordinates, of_jpeg, of_noise
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import SHORTENED, SIMULATED, Task, noise_left, precision
from fixpoint.adapters.inversion.whitened_lbfgs import GaussianAround, descend
from fixpoint.adapters.pictures.composed_observations import each_row
from fixpoint.adapters.pictures.observations import EightBit, Jpeg, Observation
from fixpoint.adapters.pictures.webp import WebP

CODECS = (Jpeg, WebP)

JPEG_STEPS, STEPS = 60, 31
"""Passes through the decoder and back."""

EXACT, MEASURED = 1.0, 1.5
"""Of the encoder's error: how far a noise that was measured on other pictures is trusted."""

PART = 0.5
"""Of the calibrated step."""

REPEATS = 1.5
"""Level of the error in coordinates of noise, up to which the codec explains the picture."""

METHOD = "the most probable latent"


@dataclass(frozen=True)
class _Examples:
    """Pictures of the pair that were changed as the row's: z*, E(x), and what x was changed by."""

    truth: Float[Tensor, "count channels *cells"]
    start: Float[Tensor, "count channels *cells"]
    noise: Float[Tensor, "count 3 rows columns"]


def codecs_of(observation: Observation, batch: int) -> list[Observation | None]:
    """Of every row the codec that it went through, where it is one of `CODECS`."""
    parts = each_row(observation, batch)
    return [part if isinstance(part, CODECS) else None for part in parts]


def by_codec(task: Task) -> Rows:
    """Rows that a codec changed; `task.codecs` says by which."""
    return _row_by_row(task, _of_codec)


def by_noise(task: Task, latent: Tensor) -> Rows:
    """Rows that something unknown changed, which the iteration left at `latent`."""

    def settle(alone: Task, row: int) -> tuple[Tensor, int, Judgement]:
        noise = noise_left(alone, latent[row : row + 1])
        coordinates = of_noise(alone.image, noise.residual / alone.freedom)
        found, steps = _near(alone, coordinates, _Examples(noise.truth, noise.start, noise.noise))
        return found, steps, noise.judgement(METHOD, alone.why[0])

    return _row_by_row(task, settle)


def by_codec_step(task: Task) -> Rows:
    """The same rows without a gradient of D: a calibrated step, where the examples gain by it."""
    return _row_by_row(task, _step_of_codec)


def _row_by_row(task: Task, settle: Callable[[Task, int], tuple[Tensor, int, Judgement]]) -> Rows:
    """Every row alone: each has noise of its own."""
    parts, evaluations, judgements = [task.start[:0]], [], []
    for row in range(len(task.image)):
        alone = task.select(torch.tensor([row], device=task.image.device))
        found, steps, judgement = settle(alone, row)
        parts.append(found)
        evaluations.append(steps)
        judgements.append(judgement)
    return Rows(torch.cat(parts), torch.tensor(evaluations, dtype=torch.long), judgements)


def _of_codec(task: Task, row: int) -> tuple[Tensor, int, Judgement]:
    codec = task.codecs[0]
    assert isinstance(codec, CODECS)
    examples = _examples(task, codec)
    if isinstance(codec, Jpeg):
        coordinates = of_jpeg(task.image, codec)
        found, steps = _descended(
            task, coordinates, task.start, examples.start - examples.truth, EXACT, JPEG_STEPS
        )
    else:
        coordinates = of_noise(task.image, examples.noise)
        found, steps = _near(task, coordinates, examples)
    with torch.no_grad():
        decoded = task.pair[1](found).clamp(-1, 1)
    level, misfit = float(coordinates.level(decoded)), float(task.misfit(decoded))
    if not level < float("inf"):
        judgement = words.failed("D returned NaN or infinity", METHOD)
    elif level <= REPEATS:
        judgement = Judgement(InversionOutcome.EXPLAINED, METHOD, words.explained_by(codec, level))
    else:
        judgement = words.by_noise(misfit, True, METHOD)
    return found, steps, judgement


@torch.no_grad()
def _step_of_codec(task: Task, row: int) -> tuple[Tensor, int, Judgement]:
    codec = task.codecs[0]
    assert isinstance(codec, CODECS)
    examples = _examples(task, codec)
    encode, decode = task.pair

    def residual(start: Tensor) -> Tensor:
        return encode(codec(decode(start))) - start

    of_examples, error = residual(examples.start), examples.start - examples.truth
    fitted, held_out = slice(None, None, 2), slice(1, None, 2)
    matrix = SHORTENED * calibration.least_squares(of_examples[fitted], error[fitted])
    left = error[held_out] - apply_map(matrix, of_examples[held_out])
    gains = 10 * (_power(error[held_out]) / _power(left)).log10()
    gain, why = float(gains.median()), task.why[0]
    if not float(gains.quantile(0.1)) > 0:
        sentence = f"{why}; the encoder's latent is kept: no step is expected to help"
        return task.start, 0, Judgement(InversionOutcome.REFUTED, "encoder", sentence)
    matrix = SHORTENED * calibration.least_squares(of_examples, error)
    sentence = f"{why}; the encoder's latent improved by about {gain:.1f} dB"
    found = task.start - apply_map(matrix, residual(task.start))
    return found, 1, Judgement(InversionOutcome.REFUTED, "one calibrated step", sentence)


def _power(error: Tensor) -> Tensor:
    return error.double().square().flatten(1).sum(1).clamp(min=1e-300)


@torch.no_grad()
def _examples(task: Task, codec: Observation) -> _Examples:
    encode, decode = task.pair
    truth = encode(task.photographs()[:SIMULATED])
    before = EightBit()(decode(truth))
    after = codec(before)
    return _Examples(truth, encode(after), after - before)


def _near(task: Task, coordinates: NoiseCoordinates, examples: _Examples) -> tuple[Tensor, int]:
    """From part of a calibrated step, with noise that was measured."""
    encode, decode = task.pair

    def residual(start: Tensor) -> Tensor:
        with torch.no_grad():
            return encode(EightBit()(decode(start))) - start

    of_examples = residual(examples.start)
    matrix = PART * calibration.least_squares(of_examples, examples.start - examples.truth)
    error = examples.start - apply_map(matrix, of_examples) - examples.truth
    center = task.start - apply_map(matrix, residual(task.start))
    return _descended(task, coordinates, center, error, MEASURED, STEPS)


def _descended(
    task: Task,
    coordinates: NoiseCoordinates,
    center: Tensor,
    error: Tensor,
    caution: float,
    steps: int,
) -> tuple[Tensor, int]:
    sigma = torch.full((len(center),), caution, device=center.device)
    prior = GaussianAround(center, precision(calibration.covariance(error)), sigma)
    descent = descend(
        task.pair[1],
        task.image,
        center,
        task.calibrated().curvature,
        steps=steps,
        prior=prior,
        coordinates=coordinates,
    )
    return descent.latent, int(descent.steps[0])
