"""Which rows of a run are settled by another method, and by which."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.calibration import calibration_of, photographs_for
from fixpoint.adapters.inversion import judgement as words
from fixpoint.adapters.inversion.backward_pass import frozen
from fixpoint.adapters.inversion.judgement import LEVEL, InversionOutcome, Judgement
from fixpoint.adapters.inversion.look import Look
from fixpoint.adapters.inversion.problem import InversionProblem
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import (
    EXPLAINED,
    LEAST_FLOOR,
    UNEXPLAINED,
    Task,
    by_calibrated_steps,
    by_gradient,
    by_one_step,
)
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.solution import Solution
from fixpoint.status import Status

Gradients = Literal["auto", "never", "always"]
GRADIENTS = ("auto", "never", "always")

_REFUTING = (Status.REFUTED, Status.DIVERGED)

METHOD = "fixed-point iteration"

UNKNOWN_FLOOR = 1.5 * LEVEL

SLOW = 0.1
"""Share of the residual that noise in the picture does not account for: E(D(.)) reaches it."""

LAST_STEPS, STILL = 4, 0.85
"""A deviation that is left with this share of what it was so many steps before is at rest."""

PIXELS_AT_ONCE = 2**18
"""Of the rows that go through a gradient step together, where no memory budget says more: batches
of larger pictures are not faster on a CPU."""


def check_gradients(gradients: str, memory_budget: int | None) -> None:
    """Refuse what is no choice.

    Raises:
        ValueError: with the choices.
    """
    if gradients not in GRADIENTS:
        raise ValueError(f"gradients must be one of {', '.join(GRADIENTS)}; got {gradients!r}")
    if memory_budget is not None and (
        isinstance(memory_budget, bool) or not isinstance(memory_budget, int) or memory_budget < 1
    ):
        raise ValueError(f"memory_budget must be a whole number of bytes, got {memory_budget!r}")


def floors(observation: Observation, batch: int) -> Float[Tensor, " batch"]:
    """The misfit that the noise of the observation leaves; `UNKNOWN_FLOOR` where Q mixes pixels, as
    JPEG does: what repeating it leaves is not known."""
    known = observation.noise_levels(batch).double().clamp(min=LEAST_FLOOR)
    return torch.where(_pixelwise(observation, batch), known, UNKNOWN_FLOOR)


def _pixelwise(observation: Observation, batch: int) -> Bool[Tensor, " batch"]:
    parts = observation.observations if isinstance(observation, PerRow) else [observation] * batch
    return torch.tensor([part.pixelwise for part in parts], dtype=torch.bool)


def can_be_settled(autoencoder: Autoencoder, observation: Observation) -> bool:
    """Whether other methods know what to do: RGB pictures of which nothing is hidden, in a model of
    32 bits, or of 16 whose rounding stays below the first steps."""
    return (
        autoencoder.medium == "picture"
        and autoencoder.sample_channels == 3
        and not observation.hides
        and bool(observation.noise_levels(1).isfinite().all())
    )


def judged(problem: InversionProblem, solution: Solution) -> Rows:
    """The rows of a run as they are, with what they came to."""
    latent, evaluations = problem.latent(solution.z), solution.evaluations.cpu()
    if not can_be_settled(problem.autoencoder, problem.observation):
        judgements = [
            Judgement(
                InversionOutcome.UNJUDGED,
                METHOD,
                f"not judged; the iteration ended: {status.message}",
            )
            for status in solution.status
        ]
        return Rows(latent, evaluations, judgements)
    task = _task(problem, [""] * len(latent))
    misfit = _misfits(task, latent)
    return Rows(latent, evaluations, _of_the_iteration(solution, misfit, task.floor))


def by_gradients_alone(
    problem: InversionProblem, memory_budget: int | None, progress: bool
) -> Rows:
    """Every row by gradients, from E(x)."""
    batch = len(problem.values)
    task = _task(problem, [""] * batch)
    groups = _groups(task, torch.arange(batch), problem.autoencoder, "always", memory_budget)[1]
    parts = []
    for group in tqdm(groups, disable=not progress, desc="gradient steps"):
        part = task.select(group.to(task.start.device))
        with frozen(problem.autoencoder.parameters()):
            parts.append(by_gradient(part))
    return Rows(
        torch.cat([task.start[:0], *(each.latent for each in parts)]),
        torch.cat([torch.zeros(0, dtype=torch.long), *(each.evaluations for each in parts)]),
        [judgement for each in parts for judgement in each.judgements],
    )


def settled(
    problem: InversionProblem,
    solution: Solution,
    gradients: Gradients,
    memory_budget: int | None,
    progress: bool,
) -> Rows:
    """The rows of a default run: as they are where it did what it should, else by another method.

    Args:
        problem: what was inverted.
        solution: the run.
        gradients, memory_budget: see `invert`.
        progress: show a bar of the rows that are settled.
    """
    latent = solution.z.clone()
    evaluations = solution.evaluations.cpu().clone()
    task = _task(problem, _reasons(solution))
    misfit = _misfits(task, latent)
    judgements = _of_the_iteration(solution, misfit, task.floor)
    failed = ~misfit.isfinite()
    refuted = torch.tensor([status in _REFUTING for status in solution.status], dtype=torch.bool)
    refuted &= misfit.isfinite()
    unexplained = _at_rest(solution) & ~refuted & ~failed & (misfit > UNEXPLAINED * task.floor)
    unexplained &= _pixelwise(problem.observation, len(misfit))
    # At rest with much of its residual left, a row was stopped by slow convergence, not by noise.
    share = _residual_left(solution)
    slow = unexplained & (share > SLOW)
    refuted, unexplained = refuted | slow, unexplained & ~slow
    for row in slow.nonzero()[:, 0].tolist():
        task.why[row] = words.at_rest(float(share[row]))
    by_gradients, groups = _groups(
        task, refuted.nonzero()[:, 0], problem.autoencoder, gradients, memory_budget
    )
    settle = by_gradient if by_gradients else by_calibrated_steps
    work: list[tuple[Tensor, Callable[[Task], Rows]]] = [(group, settle) for group in groups]
    for group in unexplained.nonzero()[:, 0].split(_rows_at_once(task)):
        if len(group):
            left = latent[group.to(latent.device)]
            work.append((group, partial(by_one_step, latent=left)))
    for group, method in tqdm(work, disable=not progress or not work, desc="rows of their own"):
        at = group.to(latent.device)
        with frozen(problem.autoencoder.parameters()):
            rows = method(task.select(at))
        latent[at] = rows.latent
        evaluations[group] += rows.evaluations
        for row, each in zip(group.tolist(), rows.judgements, strict=True):
            judgements[row] = each
    return Rows(latent, evaluations, judgements)


def _task(problem: InversionProblem, why: list[str]) -> Task:
    autoencoder, values = problem.autoencoder, problem.values
    floor = torch.maximum(
        floors(problem.observation, len(values)), floors(problem.pictures.observation, len(values))
    )
    return Task(
        pair=(autoencoder.encode, autoencoder.decode),
        image=values,
        start=problem.operator.start,
        observation=problem.observation,
        floor=floor,
        why=why,
        calibrated=lambda: calibration_of(autoencoder, values),
        photographs=lambda: photographs_for(autoencoder, values),
    )


@torch.no_grad()
def _misfits(task: Task, latent: Tensor) -> Float[Tensor, " batch"]:
    """One row at a time, as memory allows one."""
    rows = [_misfit(task, latent, row) for row in range(len(latent))]
    return torch.cat(rows) if rows else torch.zeros(0, dtype=torch.float64)


def _residual_left(solution: Solution) -> Float[Tensor, " batch"]:
    """The least residual over the first one."""
    curve = solution.history.residual_norm.double()
    least = curve.nan_to_num(nan=torch.inf).amin(0)
    return (least / curve[0].clamp(min=torch.finfo(torch.float64).tiny)).cpu()


def _at_rest(solution: Solution) -> Bool[Tensor, " batch"]:
    """Rows that would not come nearer: those that a rule has ended, and those whose deviation has
    fallen by little in the last steps."""
    deviation = solution.history.measured["deviation_level"]
    rest = []
    for row, status in enumerate(solution.status):
        curve = deviation[:, row]
        curve = curve[curve.isfinite()]
        still = len(curve) > LAST_STEPS + 1 and bool(
            curve[-1] > STILL * curve[-1 - LAST_STEPS : -1].max()
        )
        rest.append(status is not Status.MAX_ITERATIONS or still)
    return torch.tensor(rest, dtype=torch.bool)


def _misfit(task: Task, latent: Tensor, row: int) -> Tensor:
    at = torch.tensor([row], device=latent.device)
    return task.select(at).misfit(task.pair[1](latent[at]))


def _reasons(solution: Solution) -> list[str]:
    look = Look()
    residuals = solution.history.residual_norm
    reasons = []
    for row, status in enumerate(solution.status):
        if status is Status.DIVERGED:
            reasons.append(f"condition refuted: {status.message}")
        if status is not Status.REFUTED:
            reasons += [""] * (row + 1 - len(reasons))
            continue
        of_row = residuals[: look.steps + 1, row]
        reasons.append(words.refuted(float(of_row[1:].min() / of_row[0]), look.steps))
    return reasons


def _of_the_iteration(solution: Solution, misfits: Tensor, floors: Tensor) -> list[Judgement]:
    judgements = []
    rest = _at_rest(solution)
    for row, status in enumerate(solution.status):
        misfit, floor = float(misfits[row]), float(floors[row])
        if not math.isfinite(misfit) or status is Status.NONFINITE:
            outcome, sentence = InversionOutcome.FAILED, "failed: E(D(.)) returned NaN or infinity"
        elif status is Status.DIVERGED:
            outcome, sentence = InversionOutcome.FAILED, f"failed: {status.message}"
        elif misfit <= EXPLAINED * floor:
            outcome, sentence = InversionOutcome.EXPLAINED, words.explained(misfit)
        elif not bool(rest[row]):
            outcome, sentence = InversionOutcome.UNFINISHED, words.unfinished(misfit)
        elif words.is_foreign(misfit):
            outcome, sentence = InversionOutcome.FOREIGN, words.foreign(misfit)
        else:
            outcome, sentence = InversionOutcome.NOISE, words.noise(misfit)
        judgements.append(Judgement(outcome, METHOD, sentence))
    return judgements


def _groups(
    task: Task,
    rows: Tensor,
    autoencoder: Autoencoder,
    gradients: Gradients,
    memory_budget: int | None,
) -> tuple[bool, list[Tensor]]:
    """Whether gradients are used, and the rows that go through the model together."""
    at_once = _rows_at_once(task)
    if not len(rows):
        return False, []
    if gradients == "never":
        return False, list(rows.split(at_once))
    needed = _bytes_of_a_step(task, autoencoder)
    if needed is None:
        if gradients == "always":
            raise ValueError(
                f"{autoencoder!r} has a decoder without gradients: gradients='always' needs one"
            )
        return False, list(rows.split(at_once))
    if memory_budget is not None:
        if needed > memory_budget:
            if gradients == "always":
                raise ValueError(
                    f"a gradient step of one picture adds {needed / 2**20:.0f} MiB, more than the "
                    f"memory_budget of {memory_budget / 2**20:.0f} MiB"
                )
            return False, list(rows.split(at_once))
        at_once = max(1, min(at_once, memory_budget // max(1, needed)))
    return True, list(rows.split(at_once))


def _rows_at_once(task: Task) -> int:
    return max(1, PIXELS_AT_ONCE // max(1, task.image.shape[-1] * task.image.shape[-2]))


def _bytes_of_a_step(task: Task, autoencoder: Autoencoder) -> int | None:
    """What a pass through the decoder and back adds to memory; None where there is no way back."""
    z = task.start[:1]
    try:
        with (
            frozen(autoencoder.parameters()),
            PeakMemory(autoencoder.device) as memory,
            torch.enable_grad(),
        ):
            at = z.detach().requires_grad_(True)
            loss = (task.pair[1](at) - task.image[:1]).square().sum()
            (gradient,) = torch.autograd.grad(loss, at)
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    return memory.added or 0 if bool((gradient != 0).any()) else None
