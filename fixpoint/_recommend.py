"""Which iterator and which step for an unknown operator: a few evaluations, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fixpoint import theory
from fixpoint._solve import solve
from fixpoint.iterator import Iterator
from fixpoint.iterators import Anderson, ForwardStep
from fixpoint.monitors import Cocoercivity, Convergence
from fixpoint.operator import Operator
from fixpoint.summary import Summarised

_MEMORY = 20


@dataclass(frozen=True)
class Recommendation(Summarised):
    """An iterator, the reasons for it, and the measurements.

    Attributes:
        iterator: ready for `solve`.
        reasons: sentences, the decisive one first.
        evaluations: spent on probing, per row at most.
        cocoercivity: least pairwise ratio seen in any row, an upper estimate of beta; None where
            no value of T differed from another.
        rate: slowest linear rate of the residual seen in any row; below 1 where all rows fall.
        z: (batch, *shape), the best points of the probe: a better start at no further cost.
    """

    iterator: Iterator[Any]
    reasons: tuple[str, ...]
    evaluations: int
    cocoercivity: float | None
    rate: float
    z: Float[Tensor, "batch *shape"]

    def __str__(self) -> str:
        return "\n".join([repr(self.iterator), *(f"  {reason}" for reason in self.reasons)])


def recommend(
    operator: Operator, z0: Float[Tensor, "batch *shape"], *, evaluations: int = 8
) -> Recommendation:
    """Probe an operator with adaptive forward steps and say which iterator to use, and why.

    Args:
        operator: T. z0: (batch, *shape), a typical start; one row will do.
        evaluations: calls of T to spend, at least 3.

    Raises:
        ValueError: too few evaluations, or an unusable start (see `solve`).
    """
    if not (isinstance(evaluations, int) and evaluations >= 3):
        raise ValueError(f"a probe needs at least 3 evaluations, got {evaluations}")
    probe = solve(
        operator,
        z0,
        ForwardStep.adaptive(fraction=0.5),  # steps of about beta: the best guaranteed descent
        rtol=0.0,
        atol=0.0,
        max_iterations=evaluations - 1,
        monitors=(Cocoercivity(), Convergence(window=evaluations)),
    )
    ratios, convergence = probe.monitors
    measured = ratios.pairwise[ratios.pairwise.isfinite()]
    beta = float(measured.min()) if len(measured) else None
    rate = float((convergence.least_residual / convergence.first_residual).nan_to_num(0).max())
    rate = rate ** (1 / (evaluations - 1))
    iterator, reasons = _choose(operator, beta, rate)
    spent = int(probe.evaluations.max())
    return Recommendation(iterator, reasons, spent, beta, rate, probe.z)


def _choose(
    operator: Operator, beta: float | None, rate: float
) -> tuple[Iterator[Any], tuple[str, ...]]:
    if beta is None:
        step = theory.best_step_size(operator) or 1.0
        reason = "T took the same value at every point probed: nothing could be learnt"
        return ForwardStep(step_size=step), (reason,)
    seen = f"least cocoercivity ratio seen {beta:.4g}, an upper estimate of beta"
    fall = f"forward steps of about beta multiply the residual by {rate:.3g} each"
    known = theory.best_step_size(operator)
    declared = [operator.cocoercivity, operator.averagedness]
    if known is not None and any(declared):
        return Anderson(memory=_MEMORY, mixing=known), (
            f"T is known to be cocoercive: the forward step that Anderson falls back to, of "
            f"{known:.4g}, is covered by theorem 1",
            fall,
        )
    if known is not None:
        return ForwardStep(step_size=known), (
            f"T is known to be strongly monotone and Lipschitz: steps of {known:.4g} contract",
            seen,
            fall,
        )
    if beta <= 0:
        return ForwardStep.adaptive(), (
            f"T is not cocoercive: a ratio of {beta:.4g} was seen, and no theorem covers a fixed "
            "step; adaptive steps at least never raise the residual",
            fall,
        )
    if rate < 0.2:
        return ForwardStep(step_size=beta), (
            f"{fall}: nothing is left to accelerate",
            f"{seen}; the step stays below it",
        )
    return Anderson(memory=_MEMORY, mixing=beta), (
        f"{fall}: acceleration pays, and its safeguard falls back to forward steps",
        f"{seen}; the mixing stays below it",
    )
