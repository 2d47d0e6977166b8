"""Which rows of a run are settled by another method, and by which."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.calibration import calibration_of, photographs_for
from fixpoint.adapters.autoencoders.inverse.learned_inverse import inverse_of
from fixpoint.adapters.inversion import judgement as words
from fixpoint.adapters.inversion.backward_pass import frozen
from fixpoint.adapters.inversion.gradient_plan import GradientPlan, Gradients, plan_of
from fixpoint.adapters.inversion.judgement import LEVEL, InversionOutcome, Judgement
from fixpoint.adapters.inversion.look import Look
from fixpoint.adapters.inversion.most_probable import by_codec, by_codec_step, by_noise, codecs_of
from fixpoint.adapters.inversion.problem import InversionProblem
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import (
    LEAST_FLOOR,
    UNEXPLAINED,
    Task,
    by_calibrated_steps,
    by_gradient,
    by_one_step,
)
from fixpoint.adapters.pictures.composed_observations import each_row
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.solution import Solution
from fixpoint.status import Status

GRADIENTS = ("auto", "never", "always")

_REFUTING = (Status.REFUTED, Status.DIVERGED)

METHOD = "fixed-point iteration"

UNKNOWN_FLOOR = 1.5 * LEVEL

SLOW = 0.1
"""Share of the residual that noise in the picture does not account for: E(D(.)) reaches it. Of rows
with more than this left after the first steps, gradients come nearer to the latent."""

LAST_STEPS, STILL = 4, 0.85
"""A deviation that is left with this share of what it was so many steps before is at rest."""


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
    parts = each_row(observation, batch)
    return torch.tensor([part.pixelwise for part in parts], dtype=torch.bool)


def can_be_settled(autoencoder: Autoencoder, observation: Observation) -> bool:
    """Whether other methods know what to do: RGB pictures of which nothing is hidden, seen with
    noise whose level is known."""
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
    task = task_of(problem, [""] * len(latent))
    decoded = decoded_rows(problem, latent)
    judgements = _of_the_iteration(solution, misfits(task, decoded), task.floor, _at_rest(solution))
    return Rows(latent, evaluations, judgements, decoded)


def by_gradients_alone(
    problem: InversionProblem, memory_budget: int | None, progress: bool
) -> Rows:
    """Every row by gradients, from E(x)."""
    batch = len(problem.values)
    task = task_of(problem, [""] * batch)
    plan = plan_of(task, torch.arange(batch), problem.autoencoder, "always", memory_budget)
    through_codec = _through_codec(task)
    unjudged = [Judgement(InversionOutcome.UNJUDGED, METHOD, "")] * batch
    rows = Rows(task.start.clone(), torch.zeros(batch, dtype=torch.long), unjudged)
    work: list[_Work] = []
    for group in plan.groups:
        coded = through_codec[group]
        work += [
            (group[~coded], plan.method(by_gradient)),
            (group[coded], plan.method(by_codec)),
        ]
    return carried_out(problem, task, work, rows, progress)


def handed_over(
    problem: InversionProblem, gradients: Gradients, memory_budget: int | None
) -> tuple[Bool[Tensor, " batch"], GradientPlan]:
    """The rows of which a codec is known and that gradients can fit to what it left."""
    task = task_of(problem, [""] * len(problem.values))
    rows = _through_codec(task)
    plan = plan_of(task, rows.nonzero()[:, 0], problem.autoencoder, gradients, memory_budget)
    return rows & plan.possible, plan


def _share_left(solution: Solution, row: int) -> float:
    """The least residual of the first steps over the first; 0 where none were made."""
    curve = solution.history.residual_norm[: Look().steps + 1, row]
    return float(curve[1:].min() / curve[0]) if len(curve) > Look().steps else 0.0


def _through_codec(task: Task) -> Bool[Tensor, " batch"]:
    return torch.tensor([codec is not None for codec in task.codecs], dtype=torch.bool)


def settled(
    problem: InversionProblem,
    solution: Solution,
    handed: Bool[Tensor, " batch"],
    handed_plan: GradientPlan,
    gradients: Gradients,
    memory_budget: int | None,
    progress: bool,
) -> Rows:
    """The rows of a default run: as they are where it did what it should, else by another method.

    Args:
        problem: what was inverted.
        solution: the run.
        handed, handed_plan: rows that the run left out, see `handed_over`.
        gradients, memory_budget: see `invert`.
        progress: show a bar of the rows that are settled.
    """
    latent = solution.z.clone()
    decoded = decoded_rows(problem, latent)
    task = task_of(problem, [_reason(solution, row) for row in range(len(latent))])
    misfit, rest = misfits(task, decoded), _at_rest(solution)
    judgements = _of_the_iteration(solution, misfit, task.floor, rest)
    refuted = torch.tensor([status in _REFUTING for status in solution.status], dtype=torch.bool)
    refuted &= misfit.isfinite() & ~handed
    unexplained = rest & ~refuted & ~handed & misfit.isfinite()
    unexplained &= misfit > UNEXPLAINED * task.floor
    unexplained &= _pixelwise(problem.observation, len(misfit))
    # At rest with much of its residual left, a row was stopped by slow convergence, not by noise.
    share = _residual_left(solution)
    resting = unexplained & (share > SLOW)
    refuted, unexplained = refuted | resting, unexplained & ~resting
    for row in resting.nonzero()[:, 0].tolist():
        task.why[row] = words.at_rest(float(share[row]))
    first = torch.tensor([_share_left(solution, row) for row in range(len(latent))])
    slow = (first > SLOW) & ~refuted & ~unexplained & ~handed & misfit.isfinite()
    slow &= _pixelwise(problem.observation, len(misfit))

    def planned(rows: Tensor) -> GradientPlan:
        indices = rows.nonzero()[:, 0]
        return plan_of(task, indices, problem.autoencoder, gradients, memory_budget)

    through_codec = _through_codec(task)
    work: list[_Work] = []
    plan = planned(refuted)
    settle = plan.method(by_gradient) if plan.possible else by_calibrated_steps
    for group in plan.groups:
        coded = through_codec[group]
        work += [(group[~coded], settle), (group[coded], by_codec_step)]
    plan = planned(unexplained)
    step = by_noise if plan.possible else by_one_step
    for group in plan.groups:
        left = latent[group.to(latent.device)]
        work.append((group, plan.method(partial(step, latent=left))))
    # The picture is drawn, and gradients come nearer to what drew it; a model in 16 bits leaves as
    # much of its residual by its own noise.
    if gradients == "auto" and problem.autoencoder.dtype.itemsize >= 4:
        plan = planned(slow)
        for row in slow.nonzero()[:, 0].tolist():
            task.why[row] = words.slow(float(first[row]), Look().steps)
        work += [(group, plan.method(by_gradient)) for group in plan.groups if plan.possible]
    if handed_plan.possible:
        work += [(group, handed_plan.method(by_codec)) for group in handed_plan.groups]
    rows = Rows(latent, solution.evaluations.cpu().clone(), judgements, decoded)
    return carried_out(problem, task, work, rows, progress)


_Work = tuple[Tensor, Callable[[Task], Rows]]
"""Rows, by their indices, and the method that settles them."""


def carried_out(
    problem: InversionProblem, task: Task, work: Sequence[_Work], rows: Rows, progress: bool
) -> Rows:
    """`rows` with those of the work settled; latents, evaluations and decodings are overwritten."""
    judgements = list(rows.judgements)
    work = [(group, method) for group, method in work if len(group)]
    shown = progress and len(work) > 0
    for group, method in tqdm(work, disable=not shown, desc="rows of their own"):
        at = group.to(rows.latent.device)
        with frozen(problem.autoencoder.parameters()):
            found = method(task.select(at))
        rows.latent[at] = found.latent
        rows.evaluations[group] += found.evaluations
        if rows.decoded is not None:
            rows.decoded[at] = decoded_rows(problem, found.latent)
        for row, each in zip(group.tolist(), found.judgements, strict=True):
            judgements[row] = each
    return replace(rows, judgements=judgements)


def task_of(problem: InversionProblem, why: list[str]) -> Task:
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
        codecs=codecs_of(problem.history, len(values)),
        inverse=inverse_of(autoencoder),
    )


@torch.no_grad()
def decoded_rows(problem: InversionProblem, latent: Tensor) -> Tensor:
    return problem.autoencoder.decode(latent)


def misfits(task: Task, decoded: Tensor) -> Float[Tensor, " batch"]:
    """One row after the other: the sums are in float64."""
    rows = [
        task.select(torch.tensor([row], device=decoded.device)).misfit(decoded[row : row + 1])
        for row in range(len(decoded))
    ]
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


def _reason(solution: Solution, row: int) -> str:
    """Why the row left the iteration; empty where it did not."""
    status = solution.status[row]
    if status is Status.DIVERGED:
        return f"condition refuted: {status.message}"
    share = _share_left(solution, row)
    if status is not Status.REFUTED or not share:
        return ""
    return words.refuted(share, Look().steps)


def _of_the_iteration(
    solution: Solution, misfits: Tensor, floors: Tensor, rest: Tensor
) -> list[Judgement]:
    judgements = []
    for row, status in enumerate(solution.status):
        misfit, floor = float(misfits[row]), float(floors[row])
        if not math.isfinite(misfit) or status is Status.NONFINITE:
            judgement = words.failed("E(D(.)) returned NaN or infinity", METHOD)
        elif status is Status.DIVERGED:
            judgement = words.failed(status.message, METHOD)
        elif misfit <= words.EXPLAINED * floor or not bool(rest[row]):
            judgement = words.by_misfit(misfit, floor, METHOD)
        else:
            judgement = words.by_noise(misfit, True, METHOD)
        judgements.append(judgement)
    return judgements
