"""How a run converges: residuals, steps, rate, sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.accepted import accepted_rows
from fixpoint.monitors.monitor import Monitor
from fixpoint.summary import Summarised
from fixpoint.trees.rows import where_rows


@dataclass(frozen=True)
class ConvergenceReport(Summarised):
    """Per row; `||T z||` is the undamped residual, a step is `||z^k - z^{k-1}||`."""

    first_residual: Float[Tensor, " batch"]
    least_residual: Float[Tensor, " batch"]
    last_residual: Float[Tensor, " batch"]
    last_step: Float[Tensor, " batch"]
    residual_sum: Float[Tensor, " batch"]  # sum of ||T z^k||^2
    step_sum: Float[Tensor, " batch"]  # sum of ||z^k - z^{k-1}||^2
    rate: Float[Tensor, " batch"]  # observed linear rate of the residual over the window

    @property
    def distance_to_limit(self) -> Float[Tensor, " batch"]:
        """`||z^k - z^inf||` extrapolated from the last step at the observed rate q: step q/(1-q);
        infinite where the residual does not fall."""
        falling = self.rate < 1
        extrapolated = self.last_step * self.rate / (1 - self.rate)
        return torch.where(falling, extrapolated, torch.inf)


@dataclass(frozen=True)
class ConvergenceMemory:
    """Of the accepted iterates so far."""

    z: Float[Tensor, "batch *shape"]
    first: Float[Tensor, " batch"]  # ||T z^0||
    least: Float[Tensor, " batch"]
    recent: Float[Tensor, "batch window"]  # the last residuals, oldest first
    steps: Float[Tensor, " batch"]  # how many were made
    last_step: Float[Tensor, " batch"]
    residual_sum: Float[Tensor, " batch"]
    step_sum: Float[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class Convergence(Monitor):
    """Residuals, steps and their sums, and the linear rate over the last iterations.

    Trials that a safeguard refused do not count.

    Args:
        window: iterations over which the rate is observed.
    """

    window: int = 8
    pairs: ClassVar = True

    def __post_init__(self) -> None:
        if not (isinstance(self.window, int) and self.window >= 1):
            raise ValueError(f"window must be a whole number, at least 1, got {self.window}")

    def start(self, iterate: Iterate) -> ConvergenceMemory:
        norm = iterate.residual_norm
        nothing = torch.zeros_like(norm)
        return ConvergenceMemory(
            z=iterate.state.z,
            first=norm,
            least=norm,
            recent=norm.unsqueeze(1).expand(-1, self.window + 1),
            steps=nothing,
            last_step=nothing,
            residual_sum=norm.square(),
            step_sum=nothing,
        )

    def watch(self, iterate: Iterate, memory: ConvergenceMemory) -> ConvergenceMemory:
        norm = iterate.residual_norm
        accepted = accepted_rows(iterate)
        if accepted is None:
            squared_step = iterate.squared_step(memory.z)
        else:  # sums of the update may be those of a step from a refused trial
            step = iterate.state.z - memory.z
            squared_step = kernels.row_dot(step, step)
        following = ConvergenceMemory(
            z=iterate.state.z,
            first=memory.first,
            least=torch.minimum(norm, memory.least),
            recent=torch.cat((memory.recent[:, 1:], norm.unsqueeze(1)), 1),
            steps=memory.steps + 1,
            last_step=squared_step.sqrt(),
            residual_sum=memory.residual_sum + norm.square(),
            step_sum=memory.step_sum + squared_step,
        )
        return following if accepted is None else where_rows(accepted, following, memory)

    def report(self, memory: ConvergenceMemory) -> ConvergenceReport:
        recent = memory.recent
        span = memory.steps.clamp(max=self.window)
        rate = (recent[:, -1] / recent[:, 0]).pow(1 / span.clamp(min=1))
        return ConvergenceReport(
            first_residual=memory.first,
            least_residual=memory.least,
            last_residual=recent[:, -1],
            last_step=memory.last_step,
            residual_sum=memory.residual_sum,
            step_sum=memory.step_sum,
            rate=torch.where(span > 0, rate, torch.nan),
        )
