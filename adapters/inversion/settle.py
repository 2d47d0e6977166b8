"""What becomes of rows that the fixed-point iteration cannot finish.

A row is *refuted* where E(D(.)) does not contract, and *unexplained* where the iteration came to
rest far above what the observation leaves. Of both the best method that the caller allows is used:

- gradients: whitened L-BFGS with the encoder's error, as it was measured, for a prior; refuted rows
  first as if the observation explained the picture, and where the misfit stands still above it, or
  the row was unexplained, with the noise that is left for sigma;
- without: the calibrated step maps for refuted rows, one map that was fitted with the row's own
  noise for unexplained ones, and E(x) where both are true.

No row is handed back worse than E(x) is expected to be: what is unexplained stays near E(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.autoencoders import calibration
from fixpoint.adapters.autoencoders.calibration import Calibration, Pair, apply_map
from fixpoint.adapters.inversion import verdict
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.verdict import LEVEL, Outcome, Verdict
from fixpoint.adapters.inversion.whitened_lbfgs import (
    Descent,
    GaussianAround,
    descend,
    noise_beside,
)
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.trees.rows import expand_rows

GRADIENT_STEPS = 150
NOISY_STEPS = 25
"""Passes through the decoder and back: for pictures that it made, and for those with noise."""

LEAST_FLOOR = 0.1 * LEVEL
"""Misfit that is taken for none where the observation has no noise."""

EXPLAINED, UNEXPLAINED = 1.25, 2.0
"""Misfit over the observation's noise, up to which a row is explained, and from which it is not."""

CAUTION, CAUTION_WHERE_REFUTED = 2.0, 4.0
"""Of sigma: what a misfit says of the noise along the directions that D can draw is uncertain."""

AS_ITS_OWN, AS_ANOTHER = 1.4, 1.6
"""Misfit of a mapped row over that of a picture the pair made of the row itself: up to the first it
is taken for the decoder's, from the second on it is not, and in between in part."""

SHORTENED = 0.75
"""Share of the mapped steps that is taken: the maps were fitted to other pictures."""


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
    """

    pair: Pair
    image: Float[Tensor, "batch 3 height width"]
    start: Float[Tensor, "batch channels *cells"]
    observation: Observation
    floor: Float[Tensor, " batch"]
    why: list[str]
    calibrated: Callable[[], Calibration]
    photographs: Callable[[], Float[Tensor, "count 3 side side"]]

    def select(self, rows: Tensor) -> Task:
        """Some of the rows."""
        return replace(
            self,
            image=self.image[rows],
            start=self.start[rows],
            observation=self.observation.select(rows),
            floor=self.floor[rows.cpu()],
            why=[self.why[row] for row in rows.tolist()],
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


def by_gradient(task: Task, refuted: Bool[Tensor, " batch"], latent: Tensor) -> Rows:
    """Rows of one group by whitened L-BFGS.

    Args:
        task: the rows.
        refuted: which left because of the condition; the others are unexplained.
        latent: where the iteration left them.
    """
    found, evaluations = latent.clone(), torch.zeros(len(latent), dtype=torch.long)
    verdicts: list[Verdict | None] = [None] * len(latent)
    noisy = ~refuted
    if bool(refuted.any()):
        rows = refuted.nonzero()[:, 0].to(latent.device)
        part = task.select(rows)
        descent = _fitted(part)
        found[rows] = descent.latent
        evaluations[rows.cpu()] += descent.steps
        for row, misfit, stands, why in zip(
            rows.tolist(), descent.misfit.tolist(), descent.stands.tolist(), part.why, strict=True
        ):
            high = misfit > UNEXPLAINED * float(task.floor[row])
            if stands and high:
                noisy[row] = True
            else:
                verdicts[row] = _judged(misfit, float(task.floor[row]), "whitened L-BFGS", why)
    if bool(noisy.any()):
        rows = noisy.nonzero()[:, 0].to(latent.device)
        part = task.select(rows)
        descent, sigma = _near_encoder(part, found[rows], refuted[rows.cpu()])
        found[rows] = descent.latent
        evaluations[rows.cpu()] += descent.steps
        for row, level, why in zip(rows.tolist(), sigma.tolist(), part.why, strict=True):
            verdicts[row] = _noisy(level, "whitened L-BFGS near the encoder's latent", why)
    assert all(each is not None for each in verdicts)
    return Rows(found, evaluations, [each for each in verdicts if each is not None])


def without_gradients(task: Task, refuted: Bool[Tensor, " batch"], latent: Tensor) -> Rows:
    """The same without a gradient."""
    found, evaluations = latent.clone(), torch.zeros(len(latent), dtype=torch.long)
    verdicts: list[Verdict | None] = [None] * len(latent)
    if bool(refuted.any()):
        rows = refuted.nonzero()[:, 0].to(latent.device)
        part = task.select(rows)
        mapped, taken, kept = _mapped(part)
        found[rows] = mapped
        evaluations[rows.cpu()] += taken
        gain = part.calibrated().encoder_db - part.calibrated().mapped_db
        for row, why, keep in zip(rows.tolist(), part.why, kept.tolist(), strict=True):
            if keep:
                sentence = f"{why}; the encoder's latent improved by about {gain:.1f} dB"
                verdicts[row] = Verdict(Outcome.REFUTED, "calibrated steps", sentence)
            else:
                sentence = (
                    f"{why}; the encoder's latent is kept: no step was expected to improve it"
                )
                verdicts[row] = Verdict(Outcome.REFUTED, "encoder", sentence)
    if bool((~refuted).any()):
        rows = (~refuted).nonzero()[:, 0].to(latent.device)
        part = task.select(rows)
        found[rows], sigma = _one_step(part, found[rows])
        evaluations[rows.cpu()] += 1
        for row, level, why in zip(rows.tolist(), sigma.tolist(), part.why, strict=True):
            verdicts[row] = _noisy(level, "one calibrated step", why)
    assert all(each is not None for each in verdicts)
    return Rows(found, evaluations, [each for each in verdicts if each is not None])


def _fitted(task: Task) -> Descent:
    """As if the observation explained the picture."""
    calibrated = task.calibrated()
    prior = GaussianAround(
        task.start, _precision(calibrated.spread), task.floor.to(task.start.device)
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


def _near_encoder(task: Task, latent: Tensor, refuted: Tensor) -> tuple[Descent, Tensor]:
    """With the noise that is left at `latent`; the descent, and the noise of every row."""
    decode = task.pair[1]
    with torch.no_grad():
        residual = task.image - decode(latent).clamp(-1, 1)
    sigma = residual.flatten(1).square().mean(1).sqrt().cpu() / task.freedom
    curvature = task.calibrated().curvature
    louder = noise_beside(decode, latent, residual, curvature)
    caution = torch.where(refuted.cpu(), CAUTION_WHERE_REFUTED, CAUTION)
    truth, start = calibration.known_pairs(
        task.pair, task.photographs(), _resampled(residual, task.photographs()) / task.freedom
    )
    prior = GaussianAround(
        task.start,
        _precision(calibration.covariance(start - truth)),
        (caution * louder * sigma).to(latent.device),
    )
    descent = descend(
        decode,
        task.image,
        task.start,
        curvature,
        steps=NOISY_STEPS,
        prior=prior,
    )
    return descent, sigma


@torch.no_grad()
def _mapped(task: Task) -> tuple[Tensor, int, Tensor]:
    """Calibrated steps; the evaluations they took; and for which rows they are kept.

    They were fitted to pictures without noise, so a row keeps them where D(z) comes as near to x as
    it does, after the same steps, to a picture that the pair made of the row itself.
    """
    encode, decode = task.pair
    maps = task.calibrated().maps
    own = task.observation(decode(task.start))
    batch = len(task.image)
    image, start = torch.cat((task.image, own)), torch.cat((task.start, encode(own)))
    twice = task.observation.select(torch.arange(batch).repeat(2))
    z = start
    for matrix in maps:
        seen = twice.observe(decode(z), image)[0]
        z = z - apply_map(matrix, encode(seen) - start)
    misfit = (decode(z).clamp(-1, 1) - image).flatten(1).double().square().mean(1).sqrt()
    ratio = misfit[:batch] / misfit[batch:].clamp(min=torch.finfo(misfit.dtype).tiny)
    trust = ((AS_ANOTHER - ratio) / (AS_ANOTHER - AS_ITS_OWN)).clamp(0, 1)
    if task.calibrated().mapped_db >= task.calibrated().encoder_db:
        trust = torch.zeros_like(trust)
    share = expand_rows((SHORTENED * trust).to(z.dtype), task.start)
    latent = task.start + share * (z[:batch] - task.start)
    return latent, 2 * len(maps) + 2, (trust > 0).cpu()


@torch.no_grad()
def _one_step(task: Task, latent: Tensor) -> tuple[Tensor, Tensor]:
    """E(x) - M T E(x), M fitted to pictures with the noise that is left at `latent`."""
    encode, decode = task.pair
    residual = task.image - decode(latent).clamp(-1, 1)
    sigma = residual.flatten(1).square().mean(1).sqrt().cpu() / task.freedom
    noise = _resampled(residual, task.photographs()) / task.freedom
    truth, start = calibration.known_pairs(task.pair, task.photographs(), noise)
    matrix = calibration.first_map(task.pair, truth, start)
    seen = task.observation.observe(decode(task.start), task.image)[0]
    return task.start - apply_map(matrix, encode(seen) - task.start), sigma


def _judged(misfit: float, floor: float, method: str, why: str) -> Verdict:
    """A row whose misfit fell to the observation's, nearly, or is still falling."""
    because = f" ({why})" if why else ""
    if misfit <= EXPLAINED * floor:
        return Verdict(Outcome.EXPLAINED, method, verdict.explained(misfit) + because)
    return Verdict(Outcome.UNFINISHED, method, verdict.unfinished(misfit) + because)


def _noisy(level: float, method: str, why: str) -> Verdict:
    because = f" ({why})" if why else ""
    if verdict.is_foreign(level):
        return Verdict(Outcome.FOREIGN, method, verdict.foreign(level) + because)
    return Verdict(Outcome.NOISE, method, verdict.noise(level) + because)


def _precision(spread: Tensor) -> Tensor:
    """The inverse of a covariance, with a little added along directions that hardly occur."""
    wide = spread.double()
    eye = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    return torch.linalg.inv(wide + 1e-3 * wide.diagonal().mean() * eye).to(spread.dtype)


def _resampled(residual: Tensor, photographs: Tensor) -> Tensor:
    """Noise for pictures of another size, from what is left of the rows: rows, places and signs are
    drawn anew, so that nothing of the rows' own content stands where it stood."""
    draws = torch.Generator().manual_seed(0)
    count, side = len(photographs), photographs.shape[-1]
    height, width = residual.shape[-2:]
    repeats = (1, -(-side // height), -(-side // width))
    parts = []
    for _ in range(count):
        row = int(torch.randint(0, len(residual), (), generator=draws))
        down = 8 * int(torch.randint(0, max(1, height // 8), (), generator=draws))
        right = 8 * int(torch.randint(0, max(1, width // 8), (), generator=draws))
        sign = 1 - 2 * int(torch.randint(0, 2, (), generator=draws))
        moved = residual[row].roll((down, right), (-2, -1)).repeat(*repeats)
        parts.append(sign * moved[:, :side, :side])
    return torch.stack(parts).to(photographs)
