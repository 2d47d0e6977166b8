"""Conclusions (A) to (D) of theorem 2, from what its monitor remembers of a run.

If the zero and beta are known, a sum beyond its bound, a residual above its rate and a growing C^k
refute a conclusion. Otherwise the last point takes the place of the zero, and a measured beta that
of the known one: they may support a conclusion and refute none.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.monitors.certificate import Claim
from fixpoint.monitors.claims import Conclusions
from fixpoint.monitors.inertial_km_memory import InertialKMMemory, PairRows
from fixpoint.monitors.rounding import eps_of, rounding_of


def inertial_km_conclusions(
    conclusions: Conclusions,
    memory: InertialKMMemory,
    pair: PairRows,
    *,
    zero_known: bool,
    fixed: bool,
    another: Bool[Tensor, " batch"],
) -> tuple[Claim, ...]:
    """The four conclusions.

    Args:
        pair: the constants, row by row.
        zero_known: distances are to the zero that was given.
        fixed: beta is known; else the pair is that of a measured one.
        another: rows that are covered by another pair than that of `memory.growth`.
    """
    path = memory.path
    never = torch.full_like(path.lost_at, -1)
    moved = (path.steps > 0) & path.begun
    sums, rate = _fractions_left(memory, pair, zero_known)
    slack = rounding_of(path.start)
    definite = path.begun & (torch.full_like(moved, zero_known and fixed)) & pair.bounded
    where = "the known zero" if zero_known else "the last iterate, in hindsight"
    basis = f"measured to {where}, as the fraction of the bound that is left"

    def bound_claim(name: str, sentence: str, left: Float[Tensor, " batch"]) -> Claim:
        within = left >= -slack
        violated = definite & left.isfinite() & ~within
        return conclusions.claim(
            name,
            sentence,
            basis,
            margin=torch.where(violated, left, left.clamp(min=0)),
            iteration=never,
            violated=violated,
            shown=moved & pair.bounded & left.isfinite() & within,
        )

    # ||y^k - z^k|| is alpha times the step, and the distance to a limit moves by it at most.
    tiny = torch.finfo(memory.longest_step.dtype).tiny
    settled = (1 - memory.step_norm / memory.longest_step.clamp(min=tiny)).clamp(min=0)
    settling = moved & (memory.step_norm < torch.inf)
    settling = settling & ((settled > 0) | (memory.step_norm == 0))
    growth = memory.growth
    if zero_known:
        distance = conclusions.claim(
            "(C) distance",
            "C^k does not increase (S18), and lim ||z^k - z*|| exists",
            "C^k at the known zero, what it falls by relative to ||z^k - z*||^2",
            margin=growth.margin,
            iteration=growth.iteration,
            violated=growth.failed & path.begun & ~another,
            shown=growth.measured & ~growth.failed & path.begun,
        )
    else:
        distance = conclusions.claim(
            "(C) distance",
            "lim ||z^k - z*|| exists",
            "the last step against the longest; a finite run refutes no limit",
            margin=settled,
            iteration=never,
            violated=torch.zeros_like(moved),
            shown=settling,
        )
    return (
        bound_claim(
            "(A) summability",
            "sums of ||z^{k+1} - 2 z^k + z^{k-1}||^2, ||z^k - z^{k-1}||^2 and ||T y^k||^2 converge",
            sums,
        ),
        bound_claim("(B) rate", "min_{k <= n} ||T y^k||^2 <= M ||z^0 - z*||^2 / (n + 1)", rate),
        distance,
        conclusions.claim(
            "(D) limit points",
            "(y^k) and (z^k) have the same limit points",
            "||y^k - z^k|| against its largest value; a finite run refutes no limit",
            margin=settled,
            iteration=never,
            violated=torch.zeros_like(moved),
            shown=settling,
        ),
    )


def _fractions_left(
    memory: InertialKMMemory, pair: PairRows, zero_known: bool
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The shares of the bounds that the sums of (A) and the rate of (B) leave; 1 for a sum of 0."""
    path = memory.path
    dtype = path.total.dtype
    # Rounding lets the sums grow by what it lets C^k grow by.
    distance = memory.start_distance + memory.allowance / (1 - pair.inertia)
    if not zero_known:
        away = path.start - memory.z
        distance = kernels.row_dot(away, away).to(dtype)

    def left(spent: Tensor, bound: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        allowed = bound * distance + noise
        return torch.where(spent == 0, 1.0, 1 - spent / allowed)

    # rho T y is y - z', each of them rounded.
    error = 8 * eps_of(path.start) * memory.ratios.scale / pair.step_size
    errors = (path.steps + 1) * error.square()
    noise = 2 * (path.total * errors).sqrt() + errors
    sums = torch.minimum(left(memory.step_sum, pair.steps), left(path.total, pair.residuals, noise))
    sums = torch.minimum(sums, left(memory.bend_sum, pair.bends))
    return sums, left((path.steps + 1) * path.least.square(), pair.residuals, noise)
