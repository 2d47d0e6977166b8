"""What becomes of rows that the fixed-point iteration cannot finish.

A row is *refuted* where E(D(.)) does not contract, and *unexplained* where the iteration came to
rest far above what the observation leaves. Of both the best method that the caller allows is used:

- unexplained rows go to the most probable latent, see `most_probable`; without gradients they take
  one step from E(x) by a map that was fitted to pictures with the row's own noise;
- refuted rows go by gradients: whitened L-BFGS with the encoder's error, as it was measured, for a
  prior; first as if the observation explained the picture, and where the misfit stands still above
  it, with the noise that is left for sigma;
- without gradients refuted rows take the calibrated steps, or the learned ones where the caller has
  trained an inverse of the pair; those that are unexplained, too, keep E(x).

No row is handed back worse than E(x) is expected to be: what is unexplained stays near E(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.autoencoders import calibration
from fixpoint.adapters.autoencoders.calibration import Pair, PairCalibration, apply_map
from fixpoint.adapters.autoencoders.inverse.learned_inverse import LearnedInverse
from fixpoint.adapters.autoencoders.inverse.passes import guarded_passes
from fixpoint.adapters.inversion import judgement as words
from fixpoint.adapters.inversion.judgement import LEVEL, InversionOutcome, Judgement
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.whitened_lbfgs import (
    Descent,
    GaussianAround,
    descend,
    noise_beside,
)
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.trees.rows import expand_rows

SIMULATED = 16
"""Pictures that are made with the noise of a row, to learn what it does to the encoder."""

GRADIENT_STEPS = 150
NOISY_STEPS = 25
"""Passes through the decoder and back: for pictures that it made, and for those with noise."""

LEAST_FLOOR = 0.1 * LEVEL
"""Misfit that is taken for none where the observation has no noise."""

UNEXPLAINED = 2.0
"""Misfit over the observation's noise, from which a row is not explained."""

CAUTION = 6.0
"""Of sigma: what a misfit says of the noise along the directions that D can draw is uncertain."""

AS_ITS_OWN, AS_ANOTHER = 1.4, 1.6
"""Misfit of a mapped row over that of a picture the pair made of the row itself: up to the first it
is taken for the decoder's, from the second on it is not, and in between in part."""

SHORTENED = 0.75
"""Share of mapped steps that is taken: the maps were fitted to other pictures."""


@dataclass(frozen=True)
class Task:
    """Rows that are to be settled.

    Attributes:
        pair: E and D.
        image: x.
        start: E(x).
        observation: Q.
        floor: root mean square that Q's noise leaves in a picture that is explained.
        why: of every row, a sentence on why it left the iteration; empty where it did not.
        calibrated: what was measured of the pair; called when it is needed.
        photographs: for the simulations, on [-1, 1].
        codecs: of every row, what it went through, where its noise is known; see `most_probable`.
        inverse: a network that was trained for the pair, where the caller uses one.
    """

    pair: Pair
    image: Float[Tensor, "batch 3 height width"]
    start: Float[Tensor, "batch channels *cells"]
    observation: Observation
    floor: Float[Tensor, " batch"]
    why: list[str]
    calibrated: Callable[[], PairCalibration]
    photographs: Callable[[], Float[Tensor, "count 3 side side"]]
    codecs: Sequence[Observation | None] = ()
    inverse: LearnedInverse | None = None

    def select(self, rows: Tensor) -> Task:
        """Some of the rows."""
        return replace(
            self,
            image=self.image[rows],
            start=self.start[rows],
            observation=self.observation.select(rows),
            floor=self.floor[rows.cpu()],
            why=[self.why[row] for row in rows.tolist()],
            codecs=[self.codecs[row] for row in rows.tolist()] if self.codecs else (),
        )

    @property
    def freedom(self) -> float:
        """The share of the noise in x that a fitted latent leaves in the misfit."""
        return math.sqrt(max(0.1, 1 - self.start[0].numel() / self.image[0].numel()))

    def misfit(self, decoded: Tensor) -> Float[Tensor, " batch"]:
        """Root mean square of Q(D(z)) before rounding against x, over values not clipped."""
        before = self.observation.observe(decoded, self.image)[1]
        free = (self.image.abs() < 1).double()
        squares = ((before - self.image).double().square() * free).flatten(1).sum(1)
        return (squares / free.flatten(1).sum(1).clamp(min=1)).sqrt().cpu()


def by_gradient(task: Task) -> Rows:
    """Rows of one group by whitened L-BFGS, from E(x)."""
    descent = _fitted(task)
    found, evaluations = descent.latent.clone(), descent.steps.clone()
    high = descent.misfit.cpu() > UNEXPLAINED * task.floor
    noisy = descent.stands.cpu() & high
    judgements = [
        words.by_misfit(float(misfit), float(floor), "whitened L-BFGS", why)
        if bool(misfit.isfinite())
        else words.failed("D returned NaN or infinity", "whitened L-BFGS", why)
        for misfit, floor, why in zip(descent.misfit, task.floor, task.why, strict=True)
    ]
    for row in noisy.nonzero()[:, 0].tolist():  # alone: each has noise of its own
        at = torch.tensor([row], device=found.device)
        alone = task.select(at)
        noise = noise_left(alone, found[at])
        near = _near_encoder(alone, found[at], noise)
        found[at] = near.latent
        evaluations[row] += near.steps[0]
        method = "whitened L-BFGS near the encoder's latent"
        judgements[row] = noise.judgement(method, task.why[row])
    return Rows(found, evaluations, judgements)


def by_calibrated_steps(task: Task) -> Rows:
    """Refuted rows without a gradient, by the learned steps where there is an inverse."""
    latent, taken, kept = _stepped(task)
    gain, made_by = _gain_db(task), "calibrated steps" if task.inverse is None else "learned steps"
    judgements = []
    for why, keep in zip(task.why, kept.tolist(), strict=True):
        if keep:
            method = made_by
            sentence = f"{why}; the encoder's latent improved by about {gain:.1f} dB"
        else:
            method = "encoder"
            sentence = f"{why}; the encoder's latent is kept: no step is expected to help"
        judgements.append(Judgement(InversionOutcome.REFUTED, method, sentence))
    return Rows(latent, torch.full((len(latent),), taken), judgements)


def by_one_step(task: Task, latent: Tensor) -> Rows:
    """Unexplained rows, which the iteration left at `latent`."""
    parts, judgements = [latent[:0]], []
    for row in range(len(latent)):  # alone: each has noise of its own
        at = torch.tensor([row], device=latent.device)
        alone = task.select(at)
        noise = noise_left(alone, latent[at])
        parts.append(_one_step(alone, noise))
        judgements.append(noise.judgement("one calibrated step", task.why[row]))
    return Rows(torch.cat(parts), torch.ones(len(latent), dtype=torch.long), judgements)


def _fitted(task: Task) -> Descent:
    """As if the observation explained the picture."""
    calibrated = task.calibrated()
    prior = GaussianAround(
        task.start, precision(calibrated.spread), task.floor.to(task.start.device)
    )
    return descend(
        task.pair[1],
        task.image,
        task.start,
        calibrated.curvature,
        steps=GRADIENT_STEPS,
        floor=task.floor * task.freedom,
        prior=prior,
    )


@dataclass(frozen=True)
class NoiseLeft:
    """What a fit leaves of one row's picture, and what noise like it does to the encoder.

    Attributes:
        residual: x - D(z), (1, 3, height, width).
        sigma: the root mean square of the noise, from the residual.
        truth, start: z* and E(x) of pictures that the pair made, with noise like it in x.
        noise: what was added to them.
    """

    residual: Tensor
    sigma: Tensor
    truth: Tensor
    start: Tensor
    noise: Tensor

    def judgement(self, method: str, why: str) -> Judgement:
        textured = bool(_has_texture(self.residual))
        return words.by_noise(float(self.sigma), textured, method, why)


@torch.no_grad()
def noise_left(task: Task, latent: Tensor) -> NoiseLeft:
    """Of one row, whose fit is `latent`."""
    residual = task.image - task.pair[1](latent).clamp(-1, 1)
    sigma = residual.flatten(1).square().mean(1).sqrt().cpu() / task.freedom
    photographs = task.photographs()[:SIMULATED]
    noise = _resampled(residual, photographs) / task.freedom
    pairs = calibration.known_pairs(task.pair, photographs, noise)
    return NoiseLeft(residual, sigma, *pairs, noise)


def _near_encoder(task: Task, latent: Tensor, noise: NoiseLeft) -> Descent:
    """Descent with the noise that is left at `latent`."""
    decode, curvature = task.pair[1], task.calibrated().curvature
    louder = noise_beside(decode, latent, noise.residual, curvature)
    prior = GaussianAround(
        task.start,
        precision(calibration.covariance(noise.start - noise.truth)),
        (CAUTION * louder * noise.sigma).to(latent.device),
    )
    return descend(decode, task.image, task.start, curvature, steps=NOISY_STEPS, prior=prior)


@torch.no_grad()
def _stepped(task: Task) -> tuple[Tensor, int, Tensor]:
    """Calibrated or learned steps; the evaluations they took; and for which rows they are kept.

    They were fitted to pictures without noise, so a row keeps them where D(z) comes as near to x as
    it does, after the same steps, to a picture that the pair made of the row itself.
    """
    encode, decode = task.pair
    own = task.observation(decode(task.start))
    batch = len(task.image)
    image, start = torch.cat((task.image, own)), torch.cat((task.start, encode(own)))
    twice = task.observation.select(torch.arange(batch).repeat(2))
    if task.inverse is None:
        z, steps = _mapped(task, image, start, twice), len(task.calibrated().maps)
        length = SHORTENED
    else:
        correction, steps, length = task.inverse.correction, task.inverse.card.passes, 1.0
        z = guarded_passes(correction, task.pair, image, start, twice.observe, steps)[-1]
    misfit = (decode(z).clamp(-1, 1) - image).flatten(1).double().square().mean(1).sqrt()
    ratio = misfit[:batch] / misfit[batch:].clamp(min=torch.finfo(misfit.dtype).tiny)
    trust = ((AS_ANOTHER - ratio) / (AS_ANOTHER - AS_ITS_OWN)).clamp(0, 1)
    if _gain_db(task) <= 0:
        trust = torch.zeros_like(trust)
    share = expand_rows((length * trust).to(z.dtype), task.start)
    latent = task.start + share * (z[:batch] - task.start)
    return latent, 2 * steps + 2, (trust > 0).cpu()


def _mapped(task: Task, image: Tensor, start: Tensor, observation: Observation) -> Tensor:
    encode, decode = task.pair
    z = start
    for matrix in task.calibrated().maps:
        seen = observation.observe(decode(z), image)[0]
        z = z - apply_map(matrix, encode(seen) - start)
    return z


def _gain_db(task: Task) -> float:
    """What the steps brought on pictures that they were not fitted to."""
    if task.inverse is not None:
        return task.inverse.card.gain_db
    return task.calibrated().encoder_db - task.calibrated().mapped_db


@torch.no_grad()
def _one_step(task: Task, noise: NoiseLeft) -> Tensor:
    """E(x) - M T E(x), M fitted to pictures with the noise that is left of the row."""
    encode, decode = task.pair
    matrix = calibration.first_map(task.pair, noise.truth, noise.start)
    seen = task.observation.observe(decode(task.start), task.image)[0]
    return task.start - SHORTENED * apply_map(matrix, encode(seen) - task.start)


def _has_texture(residual: Tensor) -> Bool[Tensor, " batch"]:
    """Whether neighbouring values of what is left are alike, as no sensor's noise makes them."""
    left, right = residual[..., :-1].flatten(1).double(), residual[..., 1:].flatten(1).double()
    power = residual.double().square().flatten(1).mean(1).clamp(min=1e-30)
    return ((left * right).mean(1) / power > 0.2).cpu()


def precision(spread: Tensor) -> Tensor:
    """The inverse of a covariance, with a little added along directions that hardly occur."""
    wide = spread.double()
    eye = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    return torch.linalg.inv(wide + 1e-3 * wide.diagonal().mean() * eye).to(spread.dtype)


def _resampled(residual: Tensor, photographs: Tensor) -> Tensor:
    """Noise for pictures of another size, from what is left of rows: rows, places and signs are
    drawn anew, so that nothing of the rows' own content stands where it stood."""
    draws = torch.Generator().manual_seed(0)
    count, (rows, columns) = len(photographs), photographs.shape[-2:]
    height, width = residual.shape[-2:]
    repeats = (1, -(-rows // height), -(-columns // width))
    parts = []
    for _ in range(count):
        row = int(torch.randint(0, len(residual), (), generator=draws))
        down = 8 * int(torch.randint(0, max(1, height // 8), (), generator=draws))
        right = 8 * int(torch.randint(0, max(1, width // 8), (), generator=draws))
        sign = 1 - 2 * int(torch.randint(0, 2, (), generator=draws))
        moved = residual[row].roll((down, right), (-2, -1)).repeat(*repeats)
        parts.append(sign * moved[:, :rows, :columns])
    return torch.stack(parts).to(photographs)
