"""Forward steps whose size follows the measured cocoercivity, row by row:

    z^{k+1} = z^k - rho_k T z^k

After a trial step the ratio b = <dT, dz> / ||dT||^2 of the two points is known. It is below
rho_k / 2 exactly when the residual rose. Then rho_k < 2 beta is refuted for every beta that could
hold there: the trial is taken back and the step shrinks, by a half, an eighth, 1/128, ... as trials
are refused one after the other, but not below a fraction of 2 b. Otherwise the trial is accepted
and the step grows by `growth`, or fourfold if b shows that it is far too short, up to that fraction
of twice the running estimate of beta. Every step costs one evaluation. Residuals of accepted points
never rise, except by T's rounding, about eps ||dT|| / ||dz|| ||z||.

If the operator's cocoercivity beta is known, no step below 2 beta is refused. If T falls along a
step, b < 0, no forward step lowers the residual. There steps are accepted up to twice the least
residual; after that the row turns, and makes forward steps of -T, whose zeros are those of T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator
from fixpoint.iterators.anchor import AnchoredState
from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows, where_rows

_RISE = 2.0  # residual over the least, at most, where T falls along the steps
_FAR = 4.0  # a step may grow by that where it is shorter than its bound by more


@dataclass(frozen=True)
class AdaptiveForwardStepState(AnchoredState):
    step_size: Float[Tensor, " batch"]  # rho_k of the next trial; below 0 where the row has turned
    cocoercivity: Float[Tensor, " batch"]  # running estimate of beta
    known: Float[Tensor, " batch"]  # beta where it is known; else 0
    failures: Int[Tensor, " batch"]  # trials taken back one after the other
    refused: Int[Tensor, " batch"]  # trials taken back
    turned: Int[Tensor, " batch"]  # changes of the sign of the step

    counters: ClassVar = ("refused", "turned")


@dataclass(frozen=True, kw_only=True)
class AdaptiveForwardStep(Iterator[AdaptiveForwardStepState]):
    """Forward steps with an adaptive size; see `ForwardStep.adaptive`.

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
        norm = kernels.row_norm(residual).double()
        beta = operator.cocoercivity
        known = beta if beta is not None and 0 < beta < math.inf else 0.0
        return AdaptiveForwardStepState.first(
            z,
            residual,
            norm,
            step_size=torch.full_like(norm, self.fraction * 2 * known or self.first_step),
            cocoercivity=torch.full_like(norm, known or torch.inf),
            known=torch.full_like(norm, known),
            failures=torch.zeros_like(norm, dtype=torch.long),
        )

    def step(self, operator: Operator, state: AdaptiveForwardStepState) -> AdaptiveForwardStepState:
        point = kernels.forward_step(
            state.anchor, state.anchor_residual, expand_rows(state.step_size, state.z)
        )
        residual = operator(point)
        sign, rho = state.step_size.sign(), state.step_size.abs()
        ratio, accepted, sums = self._judge(state, point, residual)
        norm = sums.residual.sqrt()
        ratio = sign * ratio
        risen = ~accepted & (ratio < 0) & (norm <= _RISE * state.least_norm)
        accepted = accepted | risen

        usable = ratio.isfinite() & (ratio > 0)
        seen = torch.where(usable, ratio, torch.inf)
        far = seen * self.fraction * 2 > _FAR * rho
        growth = torch.where(far, max(_FAR, self.growth), self.growth)
        estimate = torch.minimum(seen, growth * state.cocoercivity).maximum(state.known)
        grown = torch.minimum(growth * rho, self.fraction * 2 * estimate)
        failures = torch.where(accepted, 0, state.failures + 1)
        shrunk = rho * 2.0 ** -(2.0 ** (failures - 1).clamp(0, 6).double()).clamp(max=60)
        shrunk = torch.where(
            usable, torch.minimum(rho / 2, shrunk.maximum(self.fraction * 2 * ratio)), shrunk
        )
        turns = ~accepted & (ratio < 0) & (state.known == 0)
        # The change of T over the last step limits the length of the step back.
        back = torch.where(ratio.isfinite(), torch.minimum(rho, self.fraction * -ratio), rho)
        step_size = torch.where(accepted, grown, torch.where(turns, -back, shrunk))
        step_size = torch.where(risen, rho, step_size)
        estimate = torch.where(accepted, estimate, state.cocoercivity)
        anchor = where_rows(accepted, point, state.anchor)
        return AdaptiveForwardStepState(
            z=anchor,
            point=point,
            residual=residual,
            accepted=accepted,
            anchor=anchor,
            anchor_residual=where_rows(accepted, residual, state.anchor_residual),
            anchor_norm=torch.where(
                accepted, kernels.row_norm(residual).double(), state.anchor_norm
            ),
            step_size=sign * step_size,
            cocoercivity=torch.where(turns, back, estimate),
            known=state.known,
            least_norm=torch.where(accepted, norm.minimum(state.least_norm), state.least_norm),
            failures=torch.where(turns, 0, failures),
            refused=state.refused + ~accepted,
            turned=state.turned + turns,
            sums=sums,
        )

    def statistics(self, state: AdaptiveForwardStepState) -> dict[str, Tensor]:
        return state.statistics()

    def _judge(
        self, state: AdaptiveForwardStepState, point: Tensor, residual: Tensor
    ) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"], kernels.RowSums]:
        """The ratio of the trial against the anchor, whether the trial stands, and its sums."""
        sums = kernels.row_sums(point, residual, (state.anchor, state.anchor_residual))
        assert sums.pair is not None
        moved = sums.pair.residual
        ratio = torch.where(moved > 0, sums.pair.inner / moved, torch.inf)
        # Judged by the residual, to which the ratio is equivalent but for rounding.
        gain = torch.where(sums.pair.point > 0, (moved / sums.pair.point).sqrt(), 0.0)
        rounding = 4 * torch.finfo(point.dtype).eps * gain * sums.point.sqrt()
        norm = sums.residual.sqrt()
        safe = state.step_size.abs() < 2 * state.known
        accepted = norm.isfinite() & (safe | (norm <= state.anchor_norm + rounding))
        return ratio, accepted, sums._replace(pair=None)
