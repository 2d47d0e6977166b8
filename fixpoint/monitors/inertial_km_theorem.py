"""Theorem 2 of the paper, checked along a run of inertial Krasnoselskii-Mann steps.

See `fixpoint.theory` for its statement. Here z^{-1} = z^0, so that the paper's z^1 is our z^0.
Distances are to the known zero, or else, in hindsight, to the last iterate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels, theory
from fixpoint.certificate import Claim, TheoremReport
from fixpoint.iterate import Iterate
from fixpoint.iterators.inertial_km import InertialKM
from fixpoint.monitors.cocoercivity import Cocoercivity
from fixpoint.monitors.forward_step_theorem import (
    noise_in_sum,
    noise_of,
    residual_claim,
    rounding_of,
    star_claim,
)
from fixpoint.monitors.monitor import Monitor
from fixpoint.operator import Operator

THEOREM = "theorem 2 (inertial KM)"


@dataclass(frozen=True, kw_only=True, eq=False)
class InertialKMTheorem(Monitor):
    """Hypotheses and conclusions (A) to (D) of theorem 2.

    Args:
        inertia, relaxation, cocoercivity: alpha, lambda and beta of the iteration.
        known_cocoercivity: of the operator, where it is known; None to go by what is measured.
        zero: (batch, *shape), z* where it is known.
        capacity, precision: see `Cocoercivity`.
    """

    inertia: float
    relaxation: float
    cocoercivity: float
    known_cocoercivity: float | None = None
    zero: Float[Tensor, "batch *shape"] | None = None
    capacity: int = 32
    precision: float | None = None
    pairs: ClassVar = True

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
    def _ratios(self) -> Cocoercivity:
        return Cocoercivity(zero=self.zero, capacity=self.capacity, precision=self.precision)

    def start(self, iterate: Iterate) -> Any:
        norm, z = iterate.residual_norm, iterate.state.z
        ratios = self._ratios.start(iterate)
        nothing = torch.zeros_like(norm)
        distance = self._squared_distance(z, ratios)
        return {
            "ratios": ratios,
            "start": z,
            "z": z,
            "step": torch.zeros_like(z),
            "first": norm,
            "least": norm,
            "residual": norm.square(),
            "residual_sum": norm.square(),
            "step_norm": nothing,
            "longest_step": nothing,
            "step_sum": nothing,
            "bend_sum": nothing,  # of ||z^{k+1} - 2 z^k + z^{k-1}||^2
            "steps": nothing,
            "distance": distance,
            "lyapunov": (1 - self.inertia) * distance,
            "growth": torch.full_like(norm, -torch.inf),  # largest relative growth of C^k
            "growth_at": torch.full_like(norm, -1, dtype=torch.long),
        }

    def watch(self, iterate: Iterate, memory: Any) -> Any:
        norm, z = iterate.residual_norm, iterate.state.z
        ratios = self._ratios.watch(iterate, memory["ratios"])
        step = z - memory["z"]
        step_norm = kernels.row_norm(step)
        bend = kernels.row_norm(step - memory["step"])
        distance = self._squared_distance(z, ratios)
        lyapunov = theory.lyapunov(
            distance, memory["distance"], step_norm.square(), self.inertia, self.relaxation
        )
        scale = memory["distance"].clamp(min=torch.finfo(norm.dtype).tiny)
        growth = (lyapunov - memory["lyapunov"]) / scale
        growth = growth - noise_of(iterate, scale, self.precision)
        larger = growth > memory["growth"]
        return {
            "ratios": ratios,
            "start": memory["start"],
            "z": z,
            "step": step,
            "first": memory["first"],
            "least": torch.minimum(norm, memory["least"]),
            "residual": norm.square(),
            "residual_sum": memory["residual_sum"] + norm.square(),
            "step_norm": step_norm,
            "longest_step": torch.maximum(step_norm, memory["longest_step"]),
            "step_sum": memory["step_sum"] + step_norm.square(),
            "bend_sum": memory["bend_sum"] + bend.square(),
            "steps": memory["steps"] + 1,
            "distance": distance,
            "lyapunov": lyapunov,
            "growth": torch.where(larger, growth, memory["growth"]),
            "growth_at": torch.where(larger, iterate.iteration, memory["growth_at"]),
        }

    def report(self, memory: Any) -> TheoremReport:
        ratios = self._ratios.report(memory["ratios"])
        rounding = rounding_of(memory["start"])
        constants = theory.inertial_constants(self.inertia, self.relaxation, self.cocoercivity)
        never = torch.full_like(memory["growth_at"], -1)
        condition_margin = theory.inertia_margin(self.inertia, self.relaxation)
        condition = self._claim(
            "hypothesis",
            "inertia and relaxation (13)",
            "lambda (1 - alpha + 2 alpha^2) < (1 - alpha)^2",
            f"alpha = {self.inertia:.6g}, lambda = {self.relaxation:.6g}",
            torch.full_like(memory["first"], condition_margin),
            never,
            torch.ones_like(never, dtype=torch.bool),
        )
        if self.known_cocoercivity is None:
            enough = ratios.star - self.cocoercivity
            holds = enough > -rounding * self.cocoercivity
            basis, at = "beta measured: an upper estimate", ratios.star_iteration
        else:
            # Two given numbers are compared as they are: a tolerance would certify too much.
            difference = self.known_cocoercivity - self.cocoercivity
            enough = torch.full_like(memory["first"], difference)
            holds = torch.full_like(condition.holds, difference >= 0)
            basis = f"beta = {self.known_cocoercivity:.6g} known of the operator"
            at = torch.where(holds, never, torch.zeros_like(never))
        known_constant = torch.full_like(condition.holds, self.known_cocoercivity is not None)
        step = self._claim(
            "hypothesis",
            "step size",
            "rho = 2 lambda beta with no more than the operator's beta",
            f"rho = {constants.rho:.6g}, {basis}",
            enough,
            at,
            known_constant,
            holds,
        )
        star = star_claim(
            THEOREM,
            "y^k",
            self.cocoercivity * (1 - 2 * rounding),
            self.known_cocoercivity,
            ratios,
            rounding,
        )
        known = known_constant & condition.holds & step.holds & star.holds

        tiny = torch.finfo(memory["first"].dtype).tiny
        zero = memory["ratios"]["zero"] if self.zero is not None else memory["z"]
        distance = kernels.row_norm(memory["start"] - zero).square().clamp(min=tiny)
        where = "known zero" if self.zero is not None else "last iterate, in hindsight"
        basis = f"measured to the {where}, as the fraction of the bound that is left"

        def fraction_left(spent: Tensor, bound: float) -> Tensor:
            left = 1 - spent / (bound * distance) if math.isfinite(bound) else spent * -math.inf
            return torch.where(spent == 0, 1.0, left)

        start = (1 - self.inertia) / constants.eps if constants.eps > 0 else math.inf
        bend = constants.nu * self.inertia
        sums = torch.minimum(
            fraction_left(memory["step_sum"], start),
            fraction_left(memory["residual_sum"], constants.bound),
        )
        if bend > 0:
            bends = fraction_left(memory["bend_sum"], (1 - self.inertia) / bend)
            sums = torch.minimum(sums, bends)
        least = (memory["steps"] + 1) * memory["least"].square()
        # ||y^k - z^k|| is alpha times the step, and the distance to a limit moves by it at most.
        settled = 1 - memory["step_norm"] / memory["longest_step"].clamp(min=tiny)
        settled = torch.where(memory["steps"] < 2, 1.0, settled)
        if self.zero is None:
            limit, limit_at = settled, never
            limit_basis = "the last step against the longest"
        else:
            limit, limit_at = -memory["growth"], memory["growth_at"]
            limit_basis = (
                "C^k at the known zero does not increase (S18), relative to ||z^k - z*||^2"
            )
        parts: tuple[tuple[str, str, str, Tensor, Tensor], ...] = (
            (
                "(A) summability",
                "sums of ||z^{k+1} - 2 z^k + z^{k-1}||^2, ||z^k - z^{k-1}||^2 and ||T y^k||^2 "
                "converge",
                basis,
                sums,
                never,
            ),
            (
                "(B) rate",
                "min_{k <= n} ||T y^k||^2 <= M ||z^0 - z*||^2 / (n + 1), "
                f"M = {constants.bound:.4g}",
                basis,
                fraction_left(least, constants.bound),
                never,
            ),
            (
                "(C) distance",
                "lim ||z^k - z*|| exists",
                limit_basis,
                limit,
                limit_at,
            ),
            (
                "(D) limit points",
                "(y^k) and (z^k) have the same limit points",
                "||y^k - z^k|| against its largest value",
                settled,
                never,
            ),
        )
        noise = noise_in_sum(
            memory["residual_sum"], memory["steps"], memory["start"], self.precision
        )
        # A step is rho T y plus inertia, a bend the difference of two: noise enters squared.
        shares = [1 / constants.bound, constants.rho**2 / start]
        if bend > 0:
            shares.append(4 * constants.rho**2 * bend / (1 - self.inertia))
        slack = rounding + max(shares) * noise / distance
        conclusions = tuple(
            self._claim("conclusion", name, sentence, basis, margin, at, known, margin > -slack)
            for name, sentence, basis, margin, at in parts
        )
        return TheoremReport(
            claims=(
                condition,
                step,
                star,
                *conclusions,
                residual_claim(THEOREM, "T y^k -> 0", memory, known),
            ),
            cocoercivity=ratios,
        )

    def _claim(
        self,
        part: str,
        name: str,
        sentence: str,
        basis: str,
        margin: Tensor,
        iteration: Tensor,
        known: Tensor,
        holds: Tensor | None = None,
    ) -> Claim:
        return Claim(
            THEOREM,
            part,
            name,
            sentence,
            basis,
            holds=margin > 0 if holds is None else holds,
            known=known,
            margin=margin,
            iteration=iteration,
        )

    def _squared_distance(self, z: Tensor, ratios: dict[str, Any]) -> Tensor:
        if self.zero is None:
            return torch.zeros(len(z), dtype=kernels.accumulation_dtype(z.dtype), device=z.device)
        return kernels.row_norm(z - ratios["zero"]).square()
