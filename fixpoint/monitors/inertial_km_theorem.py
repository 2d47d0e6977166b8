"""Theorem 2 of the paper, checked along a run of inertial Krasnoselskii-Mann steps.

See `fixpoint.theory` for its statement. Here z^{-1} = z^0, so that the paper's z^1 is our z^0.

A run depends on alpha and on the product rho = 2 lambda beta only. The theorem covers it if there
is a pair (lambda', beta') with this product, a beta' that the operator has, and a lambda' inside
(13). A larger beta' gives a smaller lambda', so the largest beta' that is known, or else measured,
decides, and the constants of the conclusions are those of its pair. If that pair lies outside (13),
they are those of the iteration's own lambda and beta.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels, theory
from fixpoint.iterators.inertial_km import InertialKM, InertialKMState
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.certificate import Claim, TheoremReport
from fixpoint.monitors.claims import (
    Conclusions,
    claim,
    recursion_claim,
    star_claim,
    star_in_hindsight,
    star_margin,
    star_slack,
    step_size_claim,
    zero_claim,
)
from fixpoint.monitors.cocoercivity import CocoercivityMemory
from fixpoint.monitors.inertial_km_conclusions import inertial_km_conclusions
from fixpoint.monitors.inertial_km_memory import InertialKMMemory, ParameterPair
from fixpoint.monitors.path import Path
from fixpoint.monitors.rounding import agreement, resolution, rounding_of, step_error, widened
from fixpoint.monitors.theorem_monitor import TheoremMonitor
from fixpoint.monitors.tightest import Tightest
from fixpoint.operator import Operator

THEOREM = "theorem 2 (inertial KM)"
RECURSION = "y^k = z^k + alpha (z^k - z^{k-1}), z^{k+1} = y^k - rho T y^k for every k"


@dataclass(frozen=True, kw_only=True, eq=False)
class InertialKMTheorem(TheoremMonitor):
    """Hypotheses and conclusions (A) to (D) of theorem 2.

    Args:
        inertia, relaxation, cocoercivity: alpha, lambda and beta of the iteration.
        known_cocoercivity: of the operator, where it is known; None to go by what is measured.
        zero: (batch, *shape), z* where it is known; a row of NaN where it is not.
        capacity, precision: see `Cocoercivity`.

    Raises:
        ValueError: alpha is outside [0, 1), or lambda or beta is not above 0 and finite.
    """

    inertia: float
    relaxation: float
    cocoercivity: float
    known_cocoercivity: float | None = None
    zero: Float[Tensor, "batch *shape"] | None = None
    capacity: int = 32
    precision: float | None = None
    theorem: ClassVar = THEOREM

    def __post_init__(self) -> None:
        theory.least_cocoercivity(self.inertia, self.relaxation, self.cocoercivity)

    @classmethod
    def of(
        cls, iterator: InertialKM, operator: Operator, zero: Tensor | None = None
    ) -> InertialKMTheorem:
        """The monitor for this iterator on this operator, with the constants it knows."""
        return cls(
            inertia=iterator.inertia,
            relaxation=iterator.relaxation,
            cocoercivity=iterator.cocoercivity,
            known_cocoercivity=operator.cocoercivity,
            zero=zero,
        )

    @property
    def _step_size(self) -> float:
        return 2 * self.relaxation * self.cocoercivity

    @property
    def _least(self) -> float:
        """Below every beta' that covers this step, up to rounding."""
        return float(theory.least_cocoercivity(self.inertia, self.relaxation, self.cocoercivity))

    @property
    def _spare(self) -> float | None:
        """By how much the known beta exceeds what the step needs; its sign is exact."""
        if self.known_cocoercivity is None:
            return None
        return theory.spare_cocoercivity(
            self.known_cocoercivity, self.inertia, self.relaxation, self.cocoercivity
        )

    @property
    def _pair(self) -> ParameterPair:
        """Of the known beta where it covers the step, else of the iteration."""
        beta = self.cocoercivity
        if self.known_cocoercivity is not None and (self._spare or 0.0) > 0:
            beta = self.known_cocoercivity
        return ParameterPair(self.inertia, self._step_size, beta)

    def start(self, iterate: Iterate) -> InertialKMMemory:
        norm, z, point = iterate.residual_norm, iterate.state.z, iterate.state.point
        ratios = self._ratios.start(iterate)
        wide = widened(z)
        together = agreement(point, wide, wide.abs())  # y^0 = z^0
        path = Path.begin(
            iterate,
            torch.where(together < 0, together, torch.nan),
            isinstance(iterate.state, InertialKMState),
        )
        nothing = torch.zeros_like(norm)
        distance = self._squared_distance(z, ratios)
        memory = InertialKMMemory(
            ratios=ratios,
            path=path,
            star=Tightest.unseen(norm),
            z=z,
            step=torch.zeros_like(z),
            inertia_resolution=torch.full_like(norm, torch.inf),
            step_norm=nothing,
            longest_step=nothing,
            step_sum=nothing,
            bend_sum=nothing,
            start_distance=distance,
            distance=distance,
            lyapunov=(1 - self.inertia) * distance,
            growth=Tightest.unseen(norm),
            allowance=nothing,
        )
        return self._at_zero(iterate, memory)

    def report(self, memory: InertialKMMemory) -> TheoremReport:
        ratios, path, known = memory.ratios, memory.path, self.known_cocoercivity
        star = memory.star
        if self.zero is None:
            star = star_in_hindsight(self._ratios, ratios, self._least, known)
        measured_beta = star.margin + (self._least if known is None else known)
        hypotheses = (
            zero_claim(THEOREM, path, ratios, self.zero, self._step_size, self.precision),
            recursion_claim(THEOREM, RECURSION, path, self._resolved(memory)),
            self._condition_claim(measured_beta, star),
            self._step_size_claim(measured_beta, star),
            star_claim(THEOREM, "y^k", path, star, self._least, known, self.zero is None),
        )
        own, covered = self._pair, torch.zeros_like(path.begun)
        pair = own.rows(torch.full_like(path.first, own.cocoercivity))
        if known is None:  # the pair of the measured beta, where that covers the step
            covered = star.measured & (measured_beta > self._least) & measured_beta.isfinite()
            pair = own.rows(torch.where(covered, measured_beta, self.cocoercivity))

        def conclude(conclusions: Conclusions) -> tuple[Claim, ...]:
            return inertial_km_conclusions(
                conclusions,
                memory,
                pair,
                zero_known=self.zero is not None,
                fixed=known is not None,
                another=covered & (measured_beta < self.cocoercivity),
            )

        return self._reported(memory, hypotheses, conclude, "T y^k -> 0")

    def _following(
        self, iterate: Iterate, memory: InertialKMMemory, ratios: CocoercivityMemory
    ) -> InertialKMMemory:
        """The memory after an accepted point."""
        norm, z, point = iterate.residual_norm, iterate.state.z, iterate.state.point
        before, rho = memory.ratios, self._step_size
        y, value = widened(before.last), widened(before.last_residual)
        size = y.abs() + rho * value.abs()
        forward = agreement(z, y - rho * value, size)
        sharp = self.known_cocoercivity is not None  # else nothing is certified
        pinned = resolution(z, size, value) if sharp else None
        now, previous = widened(z), widened(memory.z)
        step = now - previous
        size = now.abs() + previous.abs() + widened(point).abs()
        ahead = agreement(point, now + self.inertia * step, size)
        path = memory.path.extended(
            iterate,
            torch.where(forward.isnan() | ahead.isnan(), torch.nan, torch.minimum(forward, ahead)),
            pinned,
            isinstance(iterate.state, InertialKMState),
        )
        step_norm = kernels.row_norm(step).to(norm.dtype)
        bend = kernels.row_norm(step - widened(memory.step)).to(norm.dtype)
        memory = replace(
            memory,
            ratios=ratios,
            path=path,
            z=z,
            step=step.to(z.dtype),
            inertia_resolution=torch.fmin(
                memory.inertia_resolution, resolution(point, size, step).to(norm.dtype)
            )
            if sharp
            else memory.inertia_resolution,
            step_norm=step_norm,
            longest_step=torch.fmax(step_norm, memory.longest_step),
            step_sum=memory.step_sum + step_norm.square(),
            bend_sum=memory.bend_sum + bend.square(),
        )
        return memory if self.zero is None else self._lyapunov(iterate, before.norm, memory)

    def _lyapunov(
        self, iterate: Iterate, value_norm: Tensor, memory: InertialKMMemory
    ) -> InertialKMMemory:
        """C^k at the known zero, and by how much rounding may raise it."""
        point, pair, rho = iterate.state.point, self._pair, self._step_size
        distance = self._squared_distance(iterate.state.z, memory.ratios)
        lyapunov = (
            distance
            - self.inertia * memory.distance
            + pair.nu * (1 - self.inertia) * memory.step_norm.square()
        )
        weight = 1 + abs(pair.nu) * (1 - self.inertia)
        reach = rho * value_norm + memory.longest_step
        error = step_error(point, memory.ratios.scale, reach, rho, self.precision)
        away = memory.distance.sqrt() + distance.sqrt() + reach
        tolerance = rounding_of(point) * (memory.distance + weight * memory.step_norm.square())
        tolerance = tolerance + weight * (4 * error * away + error.square())
        left = memory.lyapunov - lyapunov + tolerance
        relative = torch.where(left == 0, 0.0, left / (memory.distance + tolerance))
        return replace(
            memory,
            distance=distance,
            lyapunov=lyapunov,
            growth=memory.growth.seen(relative, iterate.iteration),
            allowance=memory.allowance + tolerance,
        )

    def _at_zero(self, iterate: Iterate, memory: InertialKMMemory) -> InertialKMMemory:
        """The memory with the margin of star-cocoercivity at this point."""
        if self.zero is None:
            return memory
        ratios = memory.ratios
        margin = star_margin(ratios.ratio_at_zero, self._least, self.known_cocoercivity)
        slack = star_slack(iterate.state.point, self.known_cocoercivity)
        distance = self._squared_distance(iterate.state.point, ratios)
        return replace(
            memory,
            star=memory.star.seen(margin, iterate.iteration, slack),
            path=memory.path.with_zero_met(iterate, distance),
        )

    def _resolved(self, memory: InertialKMMemory) -> Tensor:
        """The steps are long enough to exclude every alpha and rho that (13) does not admit."""
        off, inertia_off = memory.path.resolution, memory.inertia_resolution
        beta = self.known_cocoercivity
        if beta is None:
            return torch.zeros_like(memory.path.begun)
        if self.inertia == 0:  # y = z is seen exactly
            inertia_off = torch.zeros_like(inertia_off)
        alpha = self.inertia + inertia_off
        relaxation = (self._step_size + off) / (2 * beta)
        margin = (1 - alpha).square() - relaxation * (1 - alpha + 2 * alpha.square())
        return (margin > 0) & (alpha < 1) & (off < self._step_size)

    def _condition_claim(self, measured_beta: Tensor, star: Tightest) -> Claim:
        """(13) for the iteration's lambda, or for the lambda' of a beta' that covers the step."""
        own = theory.inertia_margin(self.inertia, self.relaxation)
        spare = self._spare
        known = own > 0 or spare is not None
        holds, measured = torch.ones_like(star.failed), star.measured
        if own <= 0:
            holds = ~(measured & ~(measured_beta > self._least))
            if spare is not None:
                holds = torch.full_like(holds, spare > 0)
        of_another = "" if own > 0 else ", or the lambda' of a larger beta' and the same step"
        return claim(
            THEOREM,
            "hypothesis",
            "inertia and relaxation (13)",
            "lambda (1 - alpha + 2 alpha^2) < (1 - alpha)^2",
            f"alpha = {self.inertia:.6g}, lambda = {self.relaxation:.6g}{of_another}",
            margin=torch.full_like(star.margin, own),
            iteration=torch.full_like(star.iteration, -1),
            holds=holds,
            known=torch.full_like(holds, known),
            measured=measured,
        )

    def _step_size_claim(self, measured_beta: Tensor, star: Tightest) -> Claim:
        """Some beta' that the operator has covers the step 2 lambda beta."""
        basis = "beta' measured: an upper estimate"
        if self.known_cocoercivity is not None:
            basis = f"beta' = {self.known_cocoercivity:.6g} known of the operator"
        return step_size_claim(
            THEOREM,
            "rho = 2 lambda' beta' with no more than the operator's beta and lambda' inside (13)",
            f"rho = {self._step_size:.6g}: (13) asks for beta' > {self._least:.6g}; {basis}",
            spare=self._spare,
            measured_spare=measured_beta - self._least,
            star=star,
        )
