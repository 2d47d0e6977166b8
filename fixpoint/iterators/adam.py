"""Adam with T z in the gradient's place (the paper, section 4; Kingma & Ba, ICLR 2015):

    m' = b1 m + (1 - b1) T z,    v' = b2 v + (1 - b2) (T z)^2
    z' = z - rate_k * (m' / (1 - b1^k)) / (sqrt(v' / (1 - b2^k)) + eps)

No theorem covers it. Unlike the forward step, its step does not scale with the latent: rates are
in the units of z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels, schedules
from fixpoint.iterator import Iterator, State
from fixpoint.operator import Operator


@dataclass(frozen=True)
class AdamState(State):
    following: Float[Tensor, "batch *shape"]  # z^{k+1}
    first_moment: Float[Tensor, "batch *shape"]  # m, with T z^k in it
    second_moment: Float[Tensor, "batch *shape"]  # v, with T z^k in it
    steps: int  # k, steps taken


@dataclass(frozen=True, kw_only=True)
class Adam(Iterator[AdamState]):
    """Adam's recursion, bias-corrected.

    Args:
        schedule: step size by step number; the paper uses
            `schedules.warmup_cosine(0.01, steps)` on scaled latents.
        betas: decay of the first and of the second moment, each in [0, 1).
        eps: added to the root of the second moment; None for the paper's 1e-8, or 1e-4 where
            z is in 16 bits.
    """

    schedule: schedules.Schedule = schedules.Constant(0.01)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.schedule):
            raise TypeError(
                "schedule must be a function of the step number, as schedules.constant(0.01); "
                f"got {self.schedule!r}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if self.eps is not None and not self.eps > 0:
            raise ValueError(f"eps must be above 0, got {self.eps}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> AdamState:
        zeros = torch.zeros_like(z, dtype=kernels.accumulation_dtype(z.dtype))
        return self._at(z, operator(z), zeros, zeros, steps=0)

    def step(self, operator: Operator, state: AdamState) -> AdamState:
        z, steps = state.following, state.steps + 1
        moments = state.first_moment, state.second_moment
        residual = operator(z)
        if state.request is not None and state.request.last:  # a schedule may end with the run
            return AdamState(z, z, residual, z, *moments, steps)
        return self._at(z, residual, *moments, steps, **state.asked())

    def _at(
        self,
        z: Tensor,
        residual: Tensor,
        first_moment: Tensor,
        second_moment: Tensor,
        steps: int,
        **asked: Any,
    ) -> AdamState:
        eps = self.eps
        if eps is None:
            eps = 1e-8 if z.element_size() >= 4 else 1e-4
        following, first_moment, second_moment, sums = kernels.adam_with_sums(
            z,
            residual,
            first_moment,
            second_moment,
            count=steps + 1,
            rate=self.schedule(steps),
            betas=self.betas,
            eps=eps,
            **asked,
        )
        return AdamState(
            z=z,
            point=z,
            residual=residual,
            following=following,
            first_moment=first_moment,
            second_moment=second_moment,
            steps=steps,
            sums=sums,
        )
