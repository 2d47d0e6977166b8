"""Whether rows may go by gradients of D, how many of them together, and in how little memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.backward_pass import (
    can_be_checkpointed,
    checkpointed,
    frozen,
)
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.inversion.settle import Task
from fixpoint.adapters.reports.peak_memory import PeakMemory

Gradients = Literal["auto", "never", "always"]

PIXELS_AT_ONCE = 2**18
"""Of the rows that go through a gradient step together, where no memory budget says more: batches
of larger pictures are not faster on a CPU."""


@dataclass(frozen=True)
class GradientPlan:
    """How some rows go through the model.

    Attributes:
        possible: whether by gradients.
        groups: the rows that go together, by their indices.
        autoencoder: the pair.
        checkpoints: whether a step computes activations anew on its way back, to fit the budget.
    """

    possible: bool
    groups: list[Tensor]
    autoencoder: Autoencoder
    checkpoints: bool = False

    def method(self, method: Callable[[Task], Rows]) -> Callable[[Task], Rows]:
        """A method of gradients, in less memory where it has to be."""
        if not self.checkpoints:
            return method

        def saving(task: Task) -> Rows:
            with checkpointed(self.autoencoder):
                return method(task)

        return saving


def plan_of(
    task: Task,
    rows: Tensor,
    autoencoder: Autoencoder,
    gradients: Gradients,
    memory_budget: int | None,
) -> GradientPlan:
    """The plan for some rows of a task. A step whose activations exceed the budget keeps a part of
    them, if the decoder has blocks that allow it, at the price of another pass.

    Raises:
        ValueError: `gradients` is "always", and there are none, or not within the budget.
    """
    at_once = rows_at_once(task)
    without = GradientPlan(False, list(rows.split(at_once)) if len(rows) else [], autoencoder)
    if not len(rows) or gradients == "never":
        return without
    needed = _bytes_of_a_step(task, autoencoder)
    if needed is None:
        if gradients == "always":
            raise ValueError(
                f"{autoencoder!r} has a decoder without gradients: gradients='always' needs one"
            )
        return without
    checkpoints = False
    if memory_budget is not None:
        if needed > memory_budget and can_be_checkpointed(autoencoder):
            needed = _bytes_of_a_step(task, autoencoder, checkpoints=True) or needed
            checkpoints = True
        if needed > memory_budget:
            if gradients == "always":
                raise ValueError(
                    f"a gradient step of one picture adds {needed / 2**20:.0f} MiB, more than the "
                    f"memory_budget of {memory_budget / 2**20:.0f} MiB"
                )
            return without
        at_once = max(1, min(at_once, memory_budget // max(1, needed)))
    return GradientPlan(True, list(rows.split(at_once)), autoencoder, checkpoints)


def rows_at_once(task: Task) -> int:
    """Rows that go through the model together where no budget is given."""
    return max(1, PIXELS_AT_ONCE // max(1, task.image.shape[-1] * task.image.shape[-2]))


def _bytes_of_a_step(
    task: Task, autoencoder: Autoencoder, *, checkpoints: bool = False
) -> int | None:
    """What a pass through the decoder and back adds to memory; None where there is no way back."""
    z = task.start[:1]
    try:
        with (
            frozen(autoencoder.parameters()),
            checkpointed(autoencoder) if checkpoints else nullcontext(),
            PeakMemory(autoencoder.device) as memory,
            torch.enable_grad(),
        ):
            at = z.detach().requires_grad_(True)
            loss = (task.pair[1](at) - task.image[:1]).square().sum()
            (gradient,) = torch.autograd.grad(loss, at)
    except (RuntimeError, NotImplementedError, TypeError):
        return None  # what autograd raises where D leaves its graph, or has no derivative
    return memory.added or 0 if bool((gradient != 0).any()) else None
