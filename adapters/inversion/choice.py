"""Which rows of a run are settled by another method, and by which."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.calibration import calibration_of, photographs_for
from fixpoint.adapters.inversion import verdict
from fixpoint.adapters.inversion.backward_pass import frozen
from fixpoint.adapters.inversion.look import Look
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import (
    EXPLAINED,
    LEAST_FLOOR,
    UNEXPLAINED,
    Task,
    by_gradient,
    without_gradients,
)
from fixpoint.adapters.inversion.verdict import Outcome, Verdict
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.solution import Solution
from fixpoint.status import Status

Gradients = Literal["auto", "never", "always"]
GRADIENTS = ("auto", "never", "always")

METHOD = "fixed-point iteration"

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
    """The misfit that the noise of the observation leaves; infinite where that is unknown."""
    return observation.noise_levels(batch).double().clamp(min=LEAST_FLOOR)


def can_be_settled(autoencoder: Autoencoder, observation: Observation) -> bool:
    """Whether other methods know what to do: RGB pictures of which nothing is hidden, in a model of
    32 bits, or of 16 whose rounding stays below the first steps."""
    return (
        autoencoder.medium == "picture"
        and autoencoder.sample_channels == 3
        and not observation.hides
        and bool(observation.noise_levels(1).isfinite().all())
    )


def judged(
    autoencoder: Autoencoder,
    values: Tensor,
    latent: Tensor,
    observation: Observation,
    shown: Observation,
    solution: Solution,
) -> Rows:
    """The rows of a run that the caller designed: as they are, with what they came to."""
    evaluations = solution.evaluations.cpu()
    if not can_be_settled(autoencoder, observation):
        verdicts = [
            Verdict(Outcome.UNJUDGED, METHOD, f"not judged; the iteration ended: {status.message}")
            for status in solution.status
        ]
        return Rows(latent, evaluations, verdicts)
    floor = torch.maximum(floors(observation, len(values)), floors(shown, len(values)))
    task = _task(autoencoder, values, latent, observation, floor, [""] * len(values))
    with torch.no_grad():
        misfit = torch.cat([_misfit(task, latent, row) for row in range(len(values))])
    verdicts = [
        _of_the_iteration(status, float(size), float(level))
        for status, size, level in zip(solution.status, misfit, floor, strict=True)
    ]
    return Rows(latent, evaluations, verdicts)


def by_gradients_alone(
    autoencoder: Autoencoder,
    values: Tensor,
    start: Tensor,
    observation: Observation,
    shown: Observation,
    memory_budget: int | None,
    progress: bool,
) -> Rows:
    """Every row by gradients, from E(x)."""
    batch = len(values)
    floor = torch.maximum(floors(observation, batch), floors(shown, batch))
    task = _task(autoencoder, values, start, observation, floor, [""] * batch)
    groups = _groups(task, torch.arange(batch), autoencoder, "always", memory_budget)[1]
    parts = []
    for group in tqdm(groups, disable=not progress, desc="gradient steps"):
        part = task.select(group.to(values.device))
        with frozen(autoencoder.parameters()):
            everything = torch.ones(len(group), dtype=torch.bool)
            parts.append(by_gradient(part, everything, part.start))
    return Rows(
        torch.cat([start[:0], *(each.latent for each in parts)]),
        torch.cat([torch.zeros(0, dtype=torch.long), *(each.evaluations for each in parts)]),
        [verdict for each in parts for verdict in each.verdicts],
    )


def _task(
    autoencoder: Autoencoder,
    values: Tensor,
    start: Tensor,
    observation: Observation,
    floor: Tensor,
    why: list[str],
) -> Task:
    return Task(
        pair=(autoencoder.encode, autoencoder.decode),
        image=values,
        start=start,
        observation=observation,
        floor=floor,
        why=why,
        calibrated=lambda: calibration_of(autoencoder, values),
        photographs=lambda: photographs_for(autoencoder, values),
    )


def settled(
    autoencoder: Autoencoder,
    values: Tensor,
    start: Tensor,
    observation: Observation,
    shown: Observation,
    solution: Solution,
    gradients: Gradients,
    memory_budget: int | None,
    progress: bool,
) -> Rows:
    """The rows of a default run: as they are where it did what it should, else by another method.

    Args:
        autoencoder: the pair.
        values: x.
        start: E(x).
        observation: Q inside the operator.
        shown: what the pictures show, whose noise is the floor.
        solution: the run.
        gradients, memory_budget: see `invert`.
        progress: show a bar of the rows that are settled.
    """
    batch = len(values)
    latent = solution.z.clone()
    evaluations = solution.evaluations.cpu().clone()
    floor = torch.maximum(floors(observation, batch), floors(shown, batch))
    task = _task(autoencoder, values, start, observation, floor, _reasons(solution))
    with torch.no_grad():
        misfit = torch.cat([_misfit(task, latent, row) for row in range(batch)])
    refuted = torch.tensor([status is Status.REFUTED for status in solution.status])
    failed = torch.tensor([status is Status.NONFINITE for status in solution.status])
    failed |= ~misfit.isfinite()
    unexplained = ~refuted & ~failed & (misfit > UNEXPLAINED * floor)
    verdicts = [
        _of_the_iteration(status, float(size), float(level))
        for status, size, level in zip(solution.status, misfit, floor, strict=True)
    ]
    rest = ((refuted & ~failed) | unexplained).nonzero()[:, 0]
    if len(rest):
        allowed, groups = _groups(task, rest, autoencoder, gradients, memory_budget)
        settle = by_gradient if allowed else without_gradients
        for group in tqdm(groups, disable=not progress, desc="rows of their own"):
            part, at = task.select(group.to(values.device)), group.to(latent.device)
            with frozen(autoencoder.parameters()):
                rows = settle(part, refuted[group], latent[at])
            latent[at] = rows.latent
            evaluations[group] += rows.evaluations
            for row, each in zip(group.tolist(), rows.verdicts, strict=True):
                verdicts[row] = each
    return Rows(latent, evaluations, verdicts)


def _misfit(task: Task, latent: Tensor, row: int) -> Tensor:
    at = torch.tensor([row], device=latent.device)
    return task.select(at).misfit(task.pair[1](latent[at]))


def _reasons(solution: Solution) -> list[str]:
    look = Look()
    residuals = solution.history.residual_norm
    reasons = []
    for row, status in enumerate(solution.status):
        if status is not Status.REFUTED:
            reasons.append("")
            continue
        of_row = residuals[: look.steps + 1, row]
        reasons.append(verdict.refuted(float(of_row[1:].min() / of_row[0]), look.steps))
    return reasons


def _of_the_iteration(status: Status, misfit: float, floor: float) -> Verdict:
    if not math.isfinite(misfit) or status is Status.NONFINITE:
        return Verdict(Outcome.FAILED, METHOD, "failed: E(D(.)) returned NaN or infinity")
    if not math.isfinite(floor) or misfit <= EXPLAINED * floor:
        return Verdict(Outcome.EXPLAINED, METHOD, verdict.explained(misfit))
    return Verdict(Outcome.UNFINISHED, METHOD, verdict.unfinished(misfit))


def _groups(
    task: Task,
    rows: Tensor,
    autoencoder: Autoencoder,
    gradients: Gradients,
    memory_budget: int | None,
) -> tuple[bool, list[Tensor]]:
    """Whether gradients are used, and the rows that go through the model together."""
    pixels = task.image[0, 0].numel()
    at_once = max(1, PIXELS_AT_ONCE // pixels)
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
