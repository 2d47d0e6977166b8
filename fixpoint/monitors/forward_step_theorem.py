"""Theorem 1 of the paper, checked along a run of forward steps.

See `fixpoint.theory` for its statement. Descent and summability are taken with the known beta,
or else with one halfway between rho/2 and the measured one; distances are to the known zero, or
else, in hindsight, to the last point.
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
from fixpoint.iterators.forward_step import ForwardStep
from fixpoint.monitors.cocoercivity import Cocoercivity, CocoercivityReport
from fixpoint.monitors.monitor import Monitor
from fixpoint.operator import Operator

THEOREM = "theorem 1 (forward step)"


@dataclass(frozen=True, kw_only=True, eq=False)
class ForwardStepTheorem(Monitor):
    """Hypotheses and conclusions of theorem 1, for forward steps of a constant size.

    Args:
        step_size: rho.
        cocoercivity: beta, where it is known of the operator; None to go by what is measured.
        zero: (batch, *shape), z* where it is known.
        capacity, precision: see `Cocoercivity`.
    """

    step_size: float
    cocoercivity: float | None = None
    zero: Float[Tensor, "batch *shape"] | None = None
    capacity: int = 32
    precision: float | None = None
    pairs: ClassVar = True

    @classmethod
    def of(
        cls, iterator: ForwardStep, operator: Operator, zero: Tensor | None = None
    ) -> ForwardStepTheorem:
        """The monitor for this iterator on this operator, with the constants it knows."""
        return cls(step_size=iterator.step_size, cocoercivity=operator.cocoercivity, zero=zero)

    @property
    def _ratios(self) -> Cocoercivity:
        return Cocoercivity(zero=self.zero, capacity=self.capacity, precision=self.precision)

    def start(self, iterate: Iterate) -> Any:
        norm = iterate.residual_norm
        ratios = self._ratios.start(iterate)
        return {
            "ratios": ratios,
            "start": iterate.state.point,
            "first": norm,
            "steps": torch.zeros_like(norm),
            "sum": norm.square(),
            "distance": self._squared_distance(iterate, ratios),
            "residual": norm.square(),
            "descent": torch.full_like(norm, torch.inf),
            "descent_at": torch.full_like(norm, -1, dtype=torch.long),
        }

    def watch(self, iterate: Iterate, memory: Any) -> Any:
        norm = iterate.residual_norm
        ratios = self._ratios.watch(iterate, memory["ratios"])
        distance = self._squared_distance(iterate, ratios)
        # What one step left of the promised descent; with no descent to promise, of Fejer
        # monotonicity. A distance far below ||z|| is known only to the rounding of z.
        promised = 0.0
        if self.cocoercivity is not None:
            promised = max(0.0, theory.forward_step_descent(self.step_size, self.cocoercivity))
        before = memory["distance"].clamp(min=torch.finfo(norm.dtype).tiny)
        slack = (memory["distance"] - distance - promised * memory["residual"]) / before
        slack = slack + noise_of(iterate, before, self.precision)
        tighter = slack < memory["descent"]
        return {
            "ratios": ratios,
            "start": memory["start"],
            "first": memory["first"],
            "steps": memory["steps"] + 1,
            "sum": memory["sum"] + norm.square(),
            "distance": distance,
            "residual": norm.square(),
            "descent": torch.where(tighter, slack, memory["descent"]),
            "descent_at": torch.where(tighter, iterate.iteration, memory["descent_at"]),
        }

    def report(self, memory: Any) -> TheoremReport:
        ratios = self._ratios.report(memory["ratios"])
        rounding = rounding_of(memory["start"])
        step = step_size_claim(self.step_size, self.cocoercivity, ratios)
        star = star_claim(THEOREM, "z^k", self.step_size / 2, self.cocoercivity, ratios, rounding)
        known = step.known & step.holds & star.known & star.holds

        # The theorem holds with any smaller beta above rho/2; halfway, an upper estimate is safe.
        beta = (ratios.star + self.step_size / 2) / 2
        if self.cocoercivity is not None:
            beta = torch.full_like(beta, self.cocoercivity)
        promised = (self.step_size * (2 * beta - self.step_size)).clamp(min=0)
        zero = memory["ratios"]["zero"] if self.zero is not None else memory["ratios"]["point"]
        start_distance = kernels.row_norm(memory["start"] - zero).square()
        if self.zero is None:
            descent, descent_at = hindsight_descent(memory["ratios"])
        else:
            descent, descent_at = memory["descent"], memory["descent_at"]
        tiny = torch.finfo(promised.dtype).tiny
        spent = promised * memory["sum"] / start_distance.clamp(min=tiny)
        # Where there is no bound, or no zero to measure it from, the terms must at least fall.
        fallen = 1 - memory["residual"].sqrt() / memory["first"].clamp(min=tiny)
        bounded = promised > 0
        if self.zero is None:
            bounded = bounded & (fallen > 0.99)
        left = torch.where(bounded, 1 - spent, fallen)
        noise = noise_in_sum(memory["sum"], memory["steps"], memory["start"], self.precision)
        slack = rounding + promised * noise / start_distance.clamp(min=tiny)
        if self.zero is None:  # the last point is a zero only up to its residual
            slack = slack + 4 * (memory["residual"] / start_distance.clamp(min=tiny)).sqrt()
        never = torch.full_like(memory["descent_at"], -1)
        where = "known zero" if self.zero is not None else "last point, in hindsight"
        return TheoremReport(
            claims=(
                step,
                star,
                Claim(
                    THEOREM,
                    "conclusion",
                    "descent",
                    "||z^{k+1} - z*||^2 <= ||z^k - z*||^2 - rho (2 beta - rho) ||T z^k||^2",
                    f"measured to the {where}, relative to ||z^k - z*||^2",
                    holds=descent >= -rounding,
                    known=known,
                    margin=descent,
                    iteration=descent_at,
                ),
                Claim(
                    THEOREM,
                    "conclusion",
                    "summability",
                    "sum_k ||T z^k||^2 <= ||z^0 - z*||^2 / (rho (2 beta - rho))",
                    f"measured to the {where}, as the fraction of the bound that is left",
                    holds=(left >= -slack) | (memory["sum"] == 0),
                    known=known,
                    margin=left,
                    iteration=never,
                ),
                residual_claim(THEOREM, "T z^k -> 0", memory, known),
            ),
            cocoercivity=ratios,
        )

    def _squared_distance(self, iterate: Iterate, ratios: dict[str, Any]) -> Tensor:
        if self.zero is None:
            return torch.zeros_like(iterate.residual_norm)
        return kernels.row_norm(iterate.state.point - ratios["zero"]).square()


def rounding_of(point: Float[Tensor, "batch *shape"]) -> float:
    """The relative error that passes for rounding in a comparison of sums over a row."""
    eps = torch.finfo(point.dtype).eps
    return 16 * eps * math.sqrt(max(1, math.prod(point.shape[1:])))


def noise_of(
    iterate: Iterate, squared_distance: Float[Tensor, " batch"], precision: float | None
) -> Float[Tensor, " batch"]:
    """The error of a squared distance, relative to it, that the rounding of T and z brings.

    T's values carry an error of `precision ||z||`, which a step adds to the distance.
    """
    eps = torch.finfo(iterate.residual_norm.dtype).eps
    unit = eps if precision is None else max(eps, precision)
    tiny = torch.finfo(squared_distance.dtype).tiny
    return 8 * unit * iterate.point_norm / squared_distance.clamp(min=tiny).sqrt()


def noise_in_sum(
    total: Float[Tensor, " batch"],
    steps: Float[Tensor, " batch"],
    start: Float[Tensor, "batch *shape"],
    precision: float | None,
) -> Float[Tensor, " batch"]:
    """By how much errors of `precision ||z||` in T can raise `total`, the sum of `||T z^k||^2`.

    `sum ||t + e||^2 - sum ||t||^2 <= 2 sqrt(sum ||t||^2 sum ||e||^2) + sum ||e||^2`.
    """
    errors = (steps + 1) * ((precision or 0.0) * kernels.row_norm(start)).square()
    return 2 * (total * errors).sqrt() + errors


def step_size_claim(
    step_size: float, cocoercivity: float | None, ratios: CocoercivityReport
) -> Claim:
    """0 < rho < 2 beta, with the known beta or the measured star-cocoercivity."""
    if cocoercivity is None:
        margin, basis = 2 * ratios.star - step_size, "beta measured: an upper estimate"
        iteration = ratios.star_iteration
    else:
        margin = torch.full_like(ratios.pairwise, 2 * cocoercivity - step_size)
        basis = f"beta = {cocoercivity:.6g} known of the operator"
        iteration = torch.where(margin > 0, -1, torch.zeros_like(ratios.pairwise_iteration))
    return Claim(
        THEOREM,
        "hypothesis",
        "step size",
        "0 < rho < 2 beta",
        f"rho = {step_size:.6g}, {basis}",
        holds=margin > 0,
        known=torch.full_like(margin, cocoercivity is not None, dtype=torch.bool),
        margin=margin,
        iteration=iteration,
    )


def star_claim(
    theorem: str,
    point: str,
    least: float,
    cocoercivity: float | None,
    ratios: CocoercivityReport,
    rounding: float,
) -> Claim:
    """Star-cocoercivity at the iterates: with the known beta, else with some beta > `least`."""
    beta = least if cocoercivity is None else cocoercivity
    margin = ratios.star - beta
    needed = f"some beta > {least:.6g}" if cocoercivity is None else f"beta = {beta:.6g}"
    where = "the last point, in hindsight (14)" if ratios.at_zero is None else "the known zero"
    slack = rounding * beta
    return Claim(
        theorem,
        "hypothesis",
        "star-cocoercivity",
        f"<T {point}, {point} - z*> >= beta ||T {point}||^2 for every k",
        f"{needed}; least ratio measured at {where}",
        holds=margin > -slack if cocoercivity is not None else margin > slack,
        known=torch.full_like(margin, cocoercivity is not None, dtype=torch.bool),
        margin=margin,
        iteration=ratios.star_iteration,
    )


def residual_claim(theorem: str, sentence: str, memory: dict[str, Any], known: Tensor) -> Claim:
    """The residual's limit, of which a finite run shows only how far it has fallen."""
    first = memory["first"].clamp(min=torch.finfo(memory["first"].dtype).tiny)
    margin = 1 - memory["residual"].sqrt() / first
    return Claim(
        theorem,
        "conclusion",
        "residual",
        sentence,
        "the part of the first residual that is gone; a finite run can only fail to show a limit",
        # A residual that is 0, or a run without a step, has nowhere to fall.
        holds=(margin > 0) | (memory["residual"] == 0) | (memory["steps"] == 0),
        known=known,
        margin=margin,
        iteration=torch.full_like(margin, -1, dtype=torch.long),
    )


def hindsight_descent(ratios: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The least relative fall of `||z^k - z^inf||^2` between kept points, and where it was."""
    times, last = ratios["times"], ratios["point"]
    distances = [torch.nan_to_num(point - last) for point in ratios["points"]]
    squared = torch.stack([kernels.row_dot(each, each) for each in distances], 1)
    before, after = squared[:, :-1], squared[:, 1:]
    fall = (before - after) / before.clamp(min=torch.finfo(before.dtype).tiny)
    fall = torch.where((times[:, 1:] >= 0) & (before > 0), fall, torch.inf)
    least, slot = fall.min(1)
    at = times[:, 1:].gather(1, slot.unsqueeze(1)).squeeze(1)
    return least, torch.where(least.isfinite(), at, -1)
