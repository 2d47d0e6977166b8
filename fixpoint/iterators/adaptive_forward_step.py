"""Forward steps whose size follows the cocoercivity seen along the way, row by row:

    z^{k+1} = z^k - rho_k T z^k

After a trial step the ratio b = <dT, dz> / ||dT||^2 of the two points is known. It is below
rho_k / 2 exactly when the residual rose, and then rho_k < 2 beta is refuted for every beta that
could hold there: the trial is taken back and the step shrinks to a fraction of 2 b. Else the trial
is accepted, and the step grows cautiously, up to that fraction of twice the running estimate of
beta. A step costs one evaluation, refused or not. Residuals of accepted points never rise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State
from fixpoint.operator import Operator
from fixpoint.rows import expand_rows, where_rows


@dataclass(frozen=True)
class AdaptiveForwardStepState(State):
    anchor: Float[Tensor, "batch *shape"]  # last accepted point
    anchor_residual: Float[Tensor, "batch *shape"]  # T at the anchor
    step_size: Float[Tensor, " batch"]  # rho_k of the next trial
    cocoercivity: Float[Tensor, " batch"]  # running estimate of beta
    refused: Int[Tensor, " batch"]  # trials taken back


@dataclass(frozen=True, kw_only=True)
class AdaptiveForwardStep(Iterator[AdaptiveForwardStepState]):
    """Forward steps that choose their size; see `ForwardStep.adaptive`.

    Args:
        first_step: rho_0, where the operator's cocoercivity is not known.
        fraction: of 2 beta that a step may take, in (0, 1).
        growth: factor by which the step and the estimate of beta may grow, at least 1.
    """

    first_step: float = 1.0
    fraction: float = 0.9
    growth: float = 1.2

    def __post_init__(self) -> None:
        if not 0 < self.first_step < float("inf"):
            raise ValueError(f"first_step must be above 0, got {self.first_step}")
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must lie in (0, 1), got {self.fraction}")
        if not 1 <= self.growth < float("inf"):
            raise ValueError(f"growth must be at least 1, got {self.growth}")

    def init(
        self, operator: Operator, z: Float[Tensor, "batch *shape"]
    ) -> AdaptiveForwardStepState:
        residual = operator(z)
        norm = kernels.row_norm(residual)
        beta = operator.cocoercivity
        first = self.first_step if not beta else self.fraction * 2 * beta
        return AdaptiveForwardStepState(
            z=z,
            point=z,
            residual=residual,
            anchor=z,
            anchor_residual=residual,
            step_size=torch.full_like(norm, first),
            cocoercivity=torch.full_like(norm, beta or torch.inf),
            refused=torch.zeros_like(norm, dtype=torch.long),
        )

    def step(self, operator: Operator, state: AdaptiveForwardStepState) -> AdaptiveForwardStepState:
        rho = state.step_size
        point = kernels.forward_step(
            state.anchor, state.anchor_residual, expand_rows(rho.to(state.z.dtype), state.z)
        )
        residual = operator(point)
        ratio, accepted = self._judge(state, point, residual)

        usable = ratio.isfinite() & (ratio > 0)
        estimate = torch.minimum(
            torch.where(usable, ratio, torch.inf), self.growth * state.cocoercivity
        )
        grown = torch.minimum(self.growth * rho, self.fraction * 2 * estimate)
        shrunk = torch.where(usable, torch.minimum(rho / 2, self.fraction * 2 * ratio), rho / 2)
        return AdaptiveForwardStepState(
            z=point,
            point=point,
            residual=residual,
            anchor=where_rows(accepted, point, state.anchor),
            anchor_residual=where_rows(accepted, residual, state.anchor_residual),
            step_size=torch.where(accepted, grown, shrunk),
            cocoercivity=estimate,
            refused=state.refused + ~accepted,
        )

    def statistics(self, state: AdaptiveForwardStepState) -> dict[str, Tensor]:
        return {"refused": state.refused}

    def _judge(
        self, state: AdaptiveForwardStepState, point: Tensor, residual: Tensor
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """The ratio of the trial against the anchor, and whether the trial stands."""
        sums = kernels.row_sums(point, residual, (state.anchor, state.anchor_residual))
        assert sums.pair is not None
        moved = sums.pair.residual
        ratio = torch.where(moved > 0, sums.pair.inner / moved, torch.inf)
        # Judged by the residual, to which the ratio is equivalent but for rounding.
        return ratio, sums.residual.sqrt() <= kernels.row_norm(state.anchor_residual)
