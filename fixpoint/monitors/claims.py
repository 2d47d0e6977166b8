"""The claims that both theorems make, and how a conclusion follows from its hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint.monitors.certificate import Claim
from fixpoint.monitors.cocoercivity import Cocoercivity, CocoercivityMemory
from fixpoint.monitors.path import Path
from fixpoint.monitors.rounding import finite_rows, rounding_of, zero_level
from fixpoint.monitors.tightest import Tightest


def claim(
    theorem: str,
    part: str,
    name: str,
    sentence: str,
    basis: str,
    *,
    margin: Float[Tensor, " batch"],
    iteration: Int[Tensor, " batch"],
    holds: Bool[Tensor, " batch"],
    known: Bool[Tensor, " batch"],
    measured: Bool[Tensor, " batch"],
) -> Claim:
    """A claim; where nothing was decided, its margin is infinite and its iteration -1."""
    decided = ~holds | known | measured
    return Claim(
        theorem,
        part,
        name,
        sentence,
        basis,
        holds=holds,
        known=known,
        measured=measured,
        margin=torch.where(decided & ~margin.isnan(), margin, torch.inf),
        iteration=torch.where(decided, iteration, -1),
    )


@dataclass(frozen=True)
class Conclusions:
    """Conclusions of one theorem from its hypotheses.

    A conclusion is certified where all hypotheses are and no measurement contradicts it. Otherwise
    its verdict is at most that on the weakest hypothesis; where a hypothesis is refuted, the
    measurements alone decide.
    """

    theorem: str
    hypotheses: Sequence[Claim]

    def claim(
        self,
        name: str,
        sentence: str,
        basis: str,
        *,
        margin: Float[Tensor, " batch"],
        iteration: Int[Tensor, " batch"],
        violated: Bool[Tensor, " batch"],
        shown: Bool[Tensor, " batch"],
    ) -> Claim:
        """One conclusion.

        Args:
            violated: the run contradicts the conclusion. No finite run contradicts one on a limit.
            shown: it was measured, and agrees with the conclusion.
        """
        hypotheses = self.hypotheses
        refuted = reduce(torch.logical_or, [~one.holds for one in hypotheses])
        certified = reduce(torch.logical_and, [one.holds & one.known for one in hypotheses])
        judged = reduce(torch.logical_and, [one.known | one.measured for one in hypotheses])
        return claim(
            self.theorem,
            "conclusion",
            name,
            sentence,
            basis,
            margin=margin,
            iteration=iteration,
            holds=~violated,
            known=certified,
            measured=shown & (refuted | judged),
        )


def zero_claim(
    theorem: str,
    path: Path,
    ratios: CocoercivityMemory,
    zero: Tensor | None,
    step_size: float,
    precision: float | None,
) -> Claim:
    """A zero exists: it was given, or the residual came down to rounding."""
    level = zero_level(ratios.last, ratios.scale, step_size, precision)
    if zero is not None:
        # At a zero at the origin, and at no other point, there is no scale to compare with.
        met = (path.at_zero >= 0) & (ratios.scale > 0) & path.norm_at_zero.isfinite()
        margin = level - path.norm_at_zero
        return claim(
            theorem,
            "hypothesis",
            "zero",
            "T z* = 0 for some z*",
            "z* was given; T was not evaluated there, unless an iterate was z*",
            margin=torch.where(met, margin, torch.inf),
            iteration=torch.where(met, path.at_zero, -1),
            holds=~(met & (margin < 0)),
            known=finite_rows(ratios.zero),
            measured=met,
        )
    # A constant T that is small beside z looks like rounding as well, but does not fall.
    reached = (path.last == 0) | ((path.last <= level) & (path.last <= path.first / 10))
    return claim(
        theorem,
        "hypothesis",
        "zero",
        "T z* = 0 for some z*",
        "no z* was given; the last residual, against what passes for rounding of 0",
        margin=level - path.last,
        iteration=torch.full_like(path.lost_at, -1),
        holds=torch.ones_like(reached),
        known=torch.zeros_like(reached),
        measured=reached & path.begun,
    )


def recursion_claim(
    theorem: str, sentence: str, path: Path, resolved: Bool[Tensor, " batch"]
) -> Claim:
    """The run moved as the theorem's iteration does, at every step.

    Args:
        resolved: the steps are long enough to exclude the step sizes that the theorem does not
            admit.
    """
    recursion = path.recursion
    measured = recursion.measured & path.begun & ((path.steps > 0) | recursion.failed)
    return claim(
        theorem,
        "hypothesis",
        "recursion",
        sentence,
        "every step, element by element: the relative rounding allowed, less what it is off by",
        margin=recursion.margin,
        iteration=recursion.iteration,
        holds=~(recursion.failed & path.begun),
        known=measured & resolved & path.by_the_method,
        measured=measured,
    )


def step_size_claim(
    theorem: str,
    sentence: str,
    basis: str,
    *,
    spare: float | None,
    measured_spare: Float[Tensor, " batch"],
    star: Tightest,
) -> Claim:
    """The step is short enough for the operator's beta.

    Args:
        spare: by how much the known beta exceeds what the step needs; None where it is not known.
        measured_spare: the same for the measured beta.
        star: where beta was measured.
    """
    if spare is None:
        holds = ~(star.measured & ~(measured_spare > 0))
        margin, iteration = measured_spare, star.iteration
        known, measured = torch.zeros_like(holds), star.measured
    else:
        holds = torch.full_like(star.failed, spare > 0)
        margin = torch.full_like(measured_spare, spare)
        iteration = torch.full_like(star.iteration, -1 if spare > 0 else 0)
        known = measured = torch.ones_like(holds)
    return claim(
        theorem,
        "hypothesis",
        "step size",
        sentence,
        basis,
        margin=margin,
        iteration=iteration,
        holds=holds,
        known=known,
        measured=measured,
    )


def star_claim(
    theorem: str,
    point: str,
    path: Path,
    star: Tightest,
    least: float,
    cocoercivity: float | None,
    in_hindsight: bool,
) -> Claim:
    """Star-cocoercivity at the iterates: with the known beta, else with some beta > `least`."""
    needed = f"some beta > {least:.6g}" if cocoercivity is None else f"beta = {cocoercivity:.6g}"
    if in_hindsight:
        sentence = (
            f"<T {point} - T z*, {point} - z*> >= beta ||T {point} - T z*||^2 for every k, with "
            "the last point for z* (14)"
        )
        where = "the last point, in hindsight"
    else:
        sentence = f"<T {point}, {point} - z*> >= beta ||T {point}||^2 for every k"
        where = "the known zero"
    lost = path.lost_at >= 0
    earlier = star.failed & (~lost | (star.iteration < path.lost_at))
    no_constant = torch.full_like(lost, cocoercivity is not None)
    return claim(
        theorem,
        "hypothesis",
        "star-cocoercivity",
        sentence,
        f"{needed}; least ratio measured at {where}",
        margin=torch.where(lost, -torch.inf, star.margin),
        iteration=torch.where(lost & ~earlier, path.lost_at, star.iteration),
        holds=~(star.failed | lost),
        known=no_constant & path.begun,
        measured=star.measured & path.begun,
    )


def star_margin(
    ratio: Float[Tensor, "..."], least: float, cocoercivity: float | None
) -> Float[Tensor, "..."]:
    """By how much a ratio exceeds what star-cocoercivity requires."""
    asked = least if cocoercivity is None else cocoercivity
    # A ratio is infinite where T does not move: every beta holds there.
    return torch.where(ratio == torch.inf, torch.inf, ratio - asked)


def star_slack(point: Tensor, cocoercivity: float | None) -> float:
    """The slack granted to a known beta; an unknown one must be exceeded strictly."""
    if cocoercivity is None:
        return -torch.finfo(torch.float32).tiny
    return rounding_of(point) * cocoercivity


def star_in_hindsight(
    monitor: Cocoercivity, ratios: CocoercivityMemory, least: float, cocoercivity: float | None
) -> Tightest:
    """The margin of star-cocoercivity at the last iterate, from the kept points in their order."""
    table = star_margin(monitor.hindsight(ratios), least, cocoercivity)
    slack = star_slack(ratios.point, cocoercivity)
    found = Tightest.unseen(ratios.norm)
    for slot in range(table.shape[1]):
        found = found.seen(table[:, slot], ratios.times[:, slot], slack)
    return found


def residual_claim(conclusions: Conclusions, sentence: str, path: Path) -> Claim:
    """The residual tends to 0; a finite run shows only how far it has fallen."""
    fallen = path.fallen
    return conclusions.claim(
        "residual",
        sentence,
        "the part of the first residual that is gone; a finite run refutes no limit",
        margin=fallen,
        iteration=torch.full_like(path.lost_at, -1),
        violated=torch.zeros_like(path.begun),
        shown=(fallen > 0) & (path.steps > 0) & path.begun,
    )
