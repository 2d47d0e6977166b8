"""Theorem 1 of the paper, checked along a run of forward steps.

See `fixpoint.theory` for its statement. Descent is measured with the known beta; if there is none,
Fejer monotonicity is measured instead, which every beta > rho/2 implies. Summability is measured
with the known beta, or with one halfway between rho/2 and the measured one. Both refer to the known
zero. If there is none, the last point takes its place: it may support a conclusion and refutes
none, since the last point need not be a zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels, theory
from fixpoint.iterators.forward_step import ForwardStep, ForwardStepState
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.certificate import Claim, TheoremReport
from fixpoint.monitors.claims import (
    Conclusions,
    recursion_claim,
    star_claim,
    star_in_hindsight,
    star_margin,
    star_slack,
    step_size_claim,
    zero_claim,
)
from fixpoint.monitors.cocoercivity import CocoercivityMemory
from fixpoint.monitors.path import Path
from fixpoint.monitors.rounding import (
    agreement,
    resolution,
    rounding_of,
    step_error,
    widened,
)
from fixpoint.monitors.theorem_monitor import TheoremMonitor
from fixpoint.monitors.tightest import Tightest
from fixpoint.operator import Operator

THEOREM = "theorem 1 (forward step)"
RECURSION = "z^{k+1} = z^k - rho T z^k for every k"


@dataclass(frozen=True)
class ForwardStepMemory:
    """Of the run so far. Distances are squared, to the known zero; 0 where none is known."""

    ratios: CocoercivityMemory
    path: Path
    star: Tightest  # at the known zero
    start_distance: Float[Tensor, " batch"]
    distance: Float[Tensor, " batch"]
    descent: Tightest  # relative to the squared distance before the step
    allowance: Float[Tensor, " batch"]  # rounding of the squared distances, summed up


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardStepTheorem(TheoremMonitor):
    """Hypotheses and conclusions of theorem 1, for forward steps of a constant size.

    Args:
        step_size: rho.
        cocoercivity: beta, where it is known of the operator; None to go by what is measured.
        zero: (batch, *shape), z* where it is known; a row of NaN where it is not.
        capacity, precision: see `Cocoercivity`.
    """

    step_size: float
    cocoercivity: float | None = None
    zero: Float[Tensor, "batch *shape"] | None = None
    capacity: int = 32
    precision: float | None = None
    theorem: ClassVar = THEOREM

    @classmethod
    def of(
        cls, iterator: ForwardStep, operator: Operator, zero: Tensor | None = None
    ) -> ForwardStepTheorem:
        """The monitor for this iterator on this operator, with the constants it knows."""
        return cls(step_size=iterator.step_size, cocoercivity=operator.cocoercivity, zero=zero)

    @property
    def _promised(self) -> float:
        """rho (2 beta - rho); 0, which is Fejer monotonicity, where that is not above 0."""
        if self.cocoercivity is None:
            return 0.0
        return max(0.0, theory.forward_step_descent(self.step_size, self.cocoercivity))

    def start(self, iterate: Iterate) -> ForwardStepMemory:
        ratios = self._ratios.start(iterate)
        norm = iterate.residual_norm
        unseen = Tightest.unseen(norm)
        native = isinstance(iterate.state, ForwardStepState)
        distance = self._squared_distance(iterate.state.point, ratios)
        memory = ForwardStepMemory(
            ratios=ratios,
            path=Path.begin(iterate, None, native),
            star=unseen,
            start_distance=distance,
            distance=distance,
            descent=unseen,
            allowance=torch.zeros_like(distance),
        )
        return self._at_zero(iterate, memory)

    def report(self, memory: ForwardStepMemory) -> TheoremReport:
        ratios, path, beta = memory.ratios, memory.path, self.cocoercivity
        rho, least = self.step_size, self.step_size / 2
        star = memory.star
        if self.zero is None:
            star = star_in_hindsight(self._ratios, ratios, least, beta)
        measured_beta = star.margin + (least if beta is None else beta)
        room = 0.0 if beta is None else min(rho, 2 * beta - rho)
        hypotheses = (
            zero_claim(THEOREM, path, ratios, self.zero, rho, self.precision),
            recursion_claim(THEOREM, RECURSION, path, path.resolution < room),
            self._step_size_claim(measured_beta, star),
            star_claim(THEOREM, "z^k", path, star, least, beta, self.zero is None),
        )

        def conclude(conclusions: Conclusions) -> tuple[Claim, ...]:
            return (
                self._descent_claim(conclusions, memory),
                self._summability_claim(conclusions, memory, measured_beta),
            )

        return self._reported(memory, hypotheses, conclude, "T z^k -> 0")

    def _following(
        self, iterate: Iterate, memory: ForwardStepMemory, ratios: CocoercivityMemory
    ) -> ForwardStepMemory:
        """The memory after an accepted point."""
        before, path, rho = memory.ratios, memory.path, self.step_size
        point = iterate.state.point
        z, value = widened(before.last), widened(before.last_residual)
        size = z.abs() + abs(rho) * value.abs()
        path = path.extended(
            iterate,
            agreement(point, z - rho * value, size),
            None if self.cocoercivity is None else resolution(point, size, value),
            isinstance(iterate.state, ForwardStepState),
        )
        distance = self._squared_distance(iterate.state.point, ratios)
        descent, allowance = memory.descent, memory.allowance
        if self.zero is not None:
            norm = memory.path.last
            step = abs(rho) * norm
            error = step_error(point, ratios.scale, step, rho, self.precision)
            away = memory.distance.sqrt() + distance.sqrt() + step
            promised = self._promised * norm.square()
            tolerance = rounding_of(point) * (memory.distance + promised)
            tolerance = tolerance + 2 * error * away + error.square()
            left = memory.distance - distance - promised + tolerance
            # A step from z* to z*: 0 / 0.
            relative = torch.where(left == 0, 0.0, left / (memory.distance + tolerance))
            descent = descent.seen(relative, iterate.iteration)
            allowance = allowance + tolerance
        return ForwardStepMemory(
            ratios=ratios,
            path=path,
            star=memory.star,
            start_distance=memory.start_distance,
            distance=distance,
            descent=descent,
            allowance=allowance,
        )

    def _at_zero(self, iterate: Iterate, memory: ForwardStepMemory) -> ForwardStepMemory:
        """The memory with the margin of star-cocoercivity at this point."""
        if self.zero is None:
            return memory
        margin = star_margin(memory.ratios.ratio_at_zero, self.step_size / 2, self.cocoercivity)
        slack = star_slack(iterate.state.point, self.cocoercivity)
        return replace(
            memory,
            star=memory.star.seen(margin, iterate.iteration, slack),
            path=memory.path.with_zero_met(iterate, memory.distance),
        )

    def _step_size_claim(self, measured_beta: Tensor, star: Tightest) -> Claim:
        """0 < rho < 2 beta, with the known beta or the measured star-cocoercivity."""
        rho, beta = self.step_size, self.cocoercivity
        known = "beta measured: an upper estimate"
        if beta is not None:
            known = f"beta = {beta:.6g} known of the operator"
        found = step_size_claim(
            THEOREM,
            "0 < rho < 2 beta",
            f"rho = {rho:.6g}, {known}",
            spare=None if beta is None else 2 * beta - rho,
            measured_spare=2 * measured_beta - rho,
            star=star,
        )
        if rho > 0:
            return found
        return replace(
            found,
            margin=torch.full_like(found.margin, rho),
            iteration=torch.full_like(found.iteration, -1),
            holds=torch.zeros_like(found.holds),
        )

    def _descent_claim(self, conclusions: Conclusions, memory: ForwardStepMemory) -> Claim:
        if self.zero is None:
            descent = hindsight_descent(memory.ratios)
            violated = torch.zeros_like(descent.failed)
            where = "the last point, in hindsight, which need not be a zero"
        else:
            descent = memory.descent
            violated = descent.failed & memory.path.begun
            where = "the known zero"
        if self._promised > 0:
            sentence = "||z^{k+1} - z*||^2 <= ||z^k - z*||^2 - rho (2 beta - rho) ||T z^k||^2"
        else:
            sentence = "||z^{k+1} - z*|| <= ||z^k - z*||: no beta > rho/2 is known to ask for more"
        return conclusions.claim(
            "descent",
            sentence,
            f"measured to {where}, relative to ||z^k - z*||^2",
            margin=descent.margin,
            iteration=descent.iteration,
            violated=violated,
            shown=descent.measured & ~descent.failed & memory.path.begun,
        )

    def _summability_claim(
        self, conclusions: Conclusions, memory: ForwardStepMemory, measured_beta: Tensor
    ) -> Claim:
        path, rho, point = memory.path, self.step_size, memory.ratios.point
        beta = (measured_beta + rho / 2) / 2
        if self.cocoercivity is not None:
            beta = torch.full_like(beta, self.cocoercivity)
        promised = (rho * (2 * beta - rho)).clamp(min=0)
        distance = memory.start_distance + memory.allowance
        slack = rounding_of(point)
        if self.zero is None:
            away = path.start - memory.ratios.last
            distance = kernels.row_dot(away, away).to(path.total.dtype)
        left = torch.where(path.total == 0, 1.0, 1 - promised * path.total / distance)
        bounded = (promised > 0) & left.isfinite() & path.begun
        within = left >= -slack
        violated = bounded & ~within
        if self.zero is None or self.cocoercivity is None:
            # The bound for another beta, or for a zero beyond the last point, may be larger.
            violated = torch.zeros_like(violated)
        where = "the known zero" if self.zero is not None else "the last point, in hindsight"
        return conclusions.claim(
            "summability",
            "sum_k ||T z^k||^2 <= ||z^0 - z*||^2 / (rho (2 beta - rho))",
            f"measured to {where}, as the fraction of the bound that is left",
            margin=torch.where(violated, left, left.clamp(min=0)),
            iteration=torch.full_like(path.lost_at, -1),
            violated=violated,
            shown=bounded & within & (path.steps > 0),
        )


def hindsight_descent(ratios: CocoercivityMemory) -> Tightest:
    """The relative falls of `||z^k - z^n||^2` between kept points, up to the last but one."""
    last, times = ratios.last, ratios.times
    slack = rounding_of(last)
    squared = [kernels.row_dot(each, each) for each in (point - last for point in ratios.points)]
    found = Tightest.unseen(ratios.norm)
    for slot in range(1, len(squared)):
        before, after = squared[slot - 1], squared[slot]
        told = (times[:, slot] >= 0) & (before > 0) & (after > 0)
        fall = torch.where(told, (before - after) / before, torch.nan)
        found = found.seen(fall, times[:, slot], slack)
    return found
