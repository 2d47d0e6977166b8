"""The latent that draws a picture best, whether or not the decoder made it:

    min_z  ||clip(D(z)) - x||^2 + s^2 <z - E(x), S^-1 (z - E(x))>

by whitened L-BFGS from where the iteration came to rest. S is the covariance that the encoder's
error was measured to have: the second term pulls towards latents as the encoder makes them, which a
diffusion model was trained on. A perceptual distance may stand beside the first.

A picture that is nearly reached is then fitted to the cells that its values were rounded from:

    min_z  || (|clip(D(z)) - x| - half a level)_+ ||^2

which is 0 once D(z) rounds to x bit for bit.

Where D has no gradients, Anderson's method goes on from the iteration's rest with a long memory,
and the point of least deviation is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from fixpoint import kernels
from fixpoint._solve import solve
from fixpoint.adapters.inversion import judgement as words
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.goal import Comparison, beyond_cells, on_the_grid
from fixpoint.adapters.inversion.judgement import Judgement
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import UNEXPLAINED, Task, precision
from fixpoint.adapters.inversion.whitened_lbfgs import Descent, GaussianAround, descend
from fixpoint.iterators import Anderson
from fixpoint.operator import Operator
from fixpoint.stop import Divergence, Stagnation

PULL = 0.005
"""s, on [-1, 1]: as a noise of this root mean square would pull."""

STEPS, LOOK, MEMORY = 184, 23, 50
"""Passes through the decoder and back; how many of them between two looks, as a row whose misfit
falls to no less than 85 % meanwhile is done; and pairs of L-BFGS."""

REDRAWN_STEPS = 96
"""The same where part of the picture was known, and begins right."""

CELL_STEPS, TOLERANCE = 48, 0.9
"""Of the fit to the cells of rounding."""

LONG_MEMORY, EVALUATIONS = 40, 80
"""Of the run without gradients."""


@dataclass(frozen=True)
class Drawing:
    """How rows are drawn.

    Attributes:
        comparison: of decodings with the picture.
        pull: s of the header.
        weights: of the pixels of every row, 1 where the misfit is measured and less where a
            deviation matters less; None where all count alike.
        movable: 1 in cells that are sought, 0 in those that keep their start; None for all.
        progress: show a bar of the steps.
    """

    comparison: Comparison = field(default_factory=Comparison)
    pull: float = PULL
    weights: Float[Tensor, "batch 1 height width"] | None = None
    movable: Float[Tensor, "batch 1 *cells"] | None = None
    progress: bool = False

    @property
    def measured(self) -> Float[Tensor, "batch 1 height width"] | None:
        """1 for the pixels in which the misfit is measured."""
        return None if self.weights is None else (self.weights >= 1).to(self.weights)

    def select(self, rows: Tensor) -> Drawing:
        """That of some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        movable = None if self.movable is None else self.movable[rows]
        return replace(self, weights=weights, movable=movable)


def by_drawing(task: Task, start: Tensor, drawing: Drawing) -> Rows:
    """Rows of one group by gradients, from `start`."""
    latent = start.clone()
    steps = torch.zeros(len(start), dtype=torch.long)
    far = _misfit(task, drawing, start) > words.EXPLAINED * task.floor
    if drawing.weights is not None:  # of the pixels that weigh less nothing is known
        far |= True
    if bool(far.any()):
        at = far.nonzero()[:, 0]
        _improve(task, drawing, latent, steps, at, _fitted)
    near = _misfit(task, drawing, latent) <= UNEXPLAINED * task.floor
    if bool(near.any()) and on_the_grid(task.image):
        at = near.nonzero()[:, 0]
        _improve(task, drawing, latent, steps, at, _fitted_to_cells)
    if drawing.movable is not None:  # whitening and back changes last bits
        latent = torch.where(drawing.movable > 0, latent, start)
    return Rows(latent, steps, _judged(task, drawing, latent, "whitened L-BFGS on the picture"))


def _improve(
    task: Task,
    drawing: Drawing,
    latent: Tensor,
    steps: Tensor,
    rows: Tensor,
    fit: Callable[[Task, Drawing, Tensor], Descent],
) -> None:
    """Overwrite the latents of some rows by what a fit makes of them."""
    at = rows.to(latent.device)
    descent = fit(task.select(at), drawing.select(at), latent[at])
    latent[at] = descent.latent
    steps[rows] += descent.steps


def _fitted(task: Task, drawing: Drawing, start: Tensor) -> Descent:
    calibrated = task.calibrated()
    steps = STEPS if drawing.weights is None else REDRAWN_STEPS
    bar = tqdm(total=steps, disable=not drawing.progress, desc="drawing")
    pull = torch.full_like(task.floor, drawing.pull).to(start.device)
    return descend(
        task.pair[1],
        task.image,
        start,
        calibrated.curvature,
        steps=steps,
        look=LOOK,
        memory=MEMORY,
        floor=task.floor * task.freedom,
        prior=GaussianAround(task.start, precision(calibrated.spread), pull),
        distance=drawing.comparison.distance(task.image, drawing.weights),
        weights=drawing.measured,
        movable=drawing.movable,
        callback=lambda step: bar.update(),
    )


def _fitted_to_cells(task: Task, drawing: Drawing, start: Tensor) -> Descent:
    calibrated = task.calibrated()
    return descend(
        task.pair[1],
        task.image,
        start,
        calibrated.curvature,
        steps=CELL_STEPS,
        memory=MEMORY,
        prior=GaussianAround(
            start, precision(calibrated.spread), torch.zeros_like(task.floor).to(start.device)
        ),
        distance=beyond_cells(task.image, TOLERANCE, drawing.weights),
        movable=drawing.movable,
    )


def by_long_iteration(
    task: Task, start: Tensor, drawing: Drawing, operator: DecoderInversion
) -> Rows:
    """Rows of one group without gradients, from `start`."""
    solution = solve(
        operator if drawing.weights is None else Redrawing(operator, drawing),
        start,
        Anderson(memory=LONG_MEMORY, minimize="deviation", largest_rise=1.0, regularization=1e-6),
        rtol=0.0,
        max_iterations=EVALUATIONS,
        progress=drawing.progress,
        stop=(
            Divergence(factor=1e3),
            Stagnation(window=12, improvement=0.01, quantity="deviation_level"),
        ),
        keep="deviation_level",
    )
    method = "Anderson's method on the picture"
    judgements = _judged(task, drawing, solution.z, method)
    return Rows(solution.z, solution.evaluations.cpu(), judgements)


class Redrawing(Operator):
    """T z of a decoder inversion in the cells that may move, and its deviation weighed."""

    def __init__(self, operator: DecoderInversion, drawing: Drawing) -> None:
        self.operator, self.drawing = operator, drawing

    def __call__(self, z: Tensor) -> Tensor:
        return self.evaluate(z)[0]

    def evaluate(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        residual, measured = self.operator.evaluate(z)
        drawing, values = self.drawing, self.operator.image[0].numel()
        if drawing.movable is not None:
            residual = residual * drawing.movable
        deviation = measured["deviation"]
        if drawing.weights is not None:
            deviation = deviation * drawing.weights.sqrt()
        level = kernels.row_norm(deviation) / math.sqrt(values)
        return residual, measured | {"deviation": deviation, "deviation_level": level}

    def select(self, rows: Tensor) -> Redrawing:
        return Redrawing(self.operator.select(rows), self.drawing.select(rows))


def _judged(task: Task, drawing: Drawing, latent: Tensor, method: str) -> list[Judgement]:
    misfits = _misfit(task, drawing, latent).tolist()
    judgements = []
    for misfit, floor, why in zip(misfits, task.floor.tolist(), task.why, strict=True):
        if misfit <= words.EXPLAINED * floor:
            judgements.append(words.by_misfit(misfit, floor, method, why))
        else:
            judgements.append(words.by_noise(misfit, True, method, why))
    return judgements


@torch.no_grad()
def _misfit(task: Task, drawing: Drawing, latent: Tensor) -> Float[Tensor, " batch"]:
    decoded = task.pair[1](latent)
    if drawing.measured is None:
        return task.misfit(decoded)
    free = (task.image.abs() < 1) * drawing.measured.double()
    squares = ((decoded.clamp(-1, 1) - task.image).double().square() * free).flatten(1).sum(1)
    return (squares / free.flatten(1).sum(1).clamp(min=1)).sqrt().cpu()
