"""Which rows of a run are drawn (`goal="picture"`, and `"auto"` where the verdict asks for it)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fixpoint.adapters.inversion.choice import (
    carried_out,
    judged,
    task_of,
)
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.drawing import Drawing, by_drawing, by_long_iteration
from fixpoint.adapters.inversion.goal import Comparison, on_the_grid
from fixpoint.adapters.inversion.gradient_plan import Gradients, plan_of
from fixpoint.adapters.inversion.judgement import InversionOutcome
from fixpoint.adapters.inversion.problem import InversionProblem
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import Task
from fixpoint.adapters.pictures.observations import to_levels
from fixpoint.solution import Solution

UNDRAWN = (
    InversionOutcome.FOREIGN,
    InversionOutcome.REFUTED,
    InversionOutcome.UNFINISHED,
    InversionOutcome.FAILED,
)
"""Outcomes of `goal="latent"` after which `goal="auto"` draws the picture: no latent made it, or
none was found that did."""

ASKED = "goal 'picture': the nearest that this decoder draws"
DECIDED = "goal 'auto': no latent was found that made it, so the nearest that this decoder draws"


def drawn(
    problem: InversionProblem,
    solution: Solution,
    comparison: Comparison,
    gradients: Gradients,
    memory_budget: int | None,
    progress: bool,
) -> Rows:
    """The rows of a run, each drawn as well as the decoder can.

    Args:
        problem: what was inverted.
        solution: the run that they begin from.
        comparison: of decodings and pictures.
        gradients, memory_budget: see `invert`.
        progress: show a bar of the rows.
    """
    rows = judged(problem, solution)
    assert rows.decoded is not None
    same = to_levels(rows.decoded) == to_levels(problem.values)
    wanted = ~same.flatten(1).all(1).cpu()
    if not on_the_grid(problem.values):
        wanted |= True
    drawing = Drawing(comparison, progress=progress)
    return _drawn(problem, rows, wanted, drawing, ASKED, gradients, memory_budget)


def drawn_where_no_latent_was_found(
    problem: InversionProblem,
    rows: Rows,
    comparison: Comparison,
    gradients: Gradients,
    memory_budget: int | None,
    progress: bool,
) -> Rows:
    """The rows of `goal="latent"`, those drawn whose verdict is that no latent made them."""
    wanted = torch.tensor([each.outcome in UNDRAWN for each in rows.judgements], dtype=torch.bool)
    drawing = Drawing(comparison, progress=progress)
    return _drawn(problem, rows, wanted, drawing, DECIDED, gradients, memory_budget)


def _drawn(
    problem: InversionProblem,
    rows: Rows,
    wanted: Tensor,
    drawing: Drawing,
    why: str,
    gradients: Gradients,
    memory_budget: int | None,
) -> Rows:
    task = task_of(problem, [why] * len(rows.latent))
    latent = torch.where(rows.latent.isfinite(), rows.latent, task.start)
    begun = replace(rows, latent=latent)
    return redrawn(problem, begun, wanted, task, drawing, gradients, memory_budget)


def redrawn(
    problem: InversionProblem,
    rows: Rows,
    wanted: Tensor,
    task: Task,
    drawing: Drawing,
    gradients: Gradients,
    memory_budget: int | None,
) -> Rows:
    """Some rows drawn from their latents on, by gradients where the caller and the pair allow."""
    plan = plan_of(task, wanted.nonzero()[:, 0], problem.autoencoder, gradients, memory_budget)
    operator = problem.operator
    assert isinstance(operator, DecoderInversion)
    work: list[tuple[Tensor, Callable[[Task], Rows]]] = []
    for group in plan.groups:
        at = group.to(rows.latent.device)
        start, part = rows.latent[at], drawing.select(at)
        method: Callable[[Task], Rows] = (
            partial(by_drawing, start=start, drawing=part)
            if plan.possible
            else partial(by_long_iteration, start=start, drawing=part, operator=operator.select(at))
        )
        work.append((group, plan.method(method)))
    copied = replace(rows, latent=rows.latent.clone())
    return carried_out(problem, task, work, copied, progress=False)  # a bar of its steps is shown
