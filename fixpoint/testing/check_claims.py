"""What the claims of a theorem's monitor must not say: the lies that a certificate can tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from collections.abc import Iterator as Iteration
from functools import partial
from typing import Any

import torch

from fixpoint import theory
from fixpoint.certificate import Claim, Verdict
from fixpoint.iterator import Iterator, TheoremWarning
from fixpoint.iterators import Adam, Anderson, ForwardStep, Halpern, InertialKM
from fixpoint.monitors import Monitor
from fixpoint.operator import as_operator
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.check import Check
from fixpoint.testing.problems import Problem, ladder
from fixpoint.testing.watched import Make, iterates, made, memories
from fixpoint.testing.wrapped import NaNRows, Undeclared

Finding = tuple[str, Problem]  # what is wrong, and where

PREFIXES = (1, 2, 3, 5, 8, 13, 21, 38)


def claim_checks(monitor: Monitor | Make, iterator: Iterator[Any]) -> list[Check]:
    """Checks of claims, one a lie. A monitor whose reports hold no claims passes."""
    return [
        Check(name, partial(_search, name, finds, monitor, iterator))
        for name, finds in (
            ("no certificate without a zero", _certifies_without_a_zero),
            ("no limit is refuted by a prefix", _refutes_a_limit),
            ("no certificate of another iterator", _certifies_another_iterator),
            ("nothing is claimed of NaN rows", _speaks_of_nan_rows),
        )
    ]


def _search(
    name: str,
    finds: Callable[[Monitor | Make, Iterator[Any]], Finding | None],
    monitor: Monitor | Make,
    iterator: Iterator[Any],
) -> BrokenProperty | None:
    # A monitor without claims may need a zero, which the problems of a lie do not have.
    if not any(claims for _, claims in _claims(monitor, ladder(1.0)[0], iterator, (1,))):
        return None
    finding = finds(monitor, iterator)
    if finding is None:
        return None
    detail, problem = finding
    return BrokenProperty(name, made(monitor, problem, iterator), detail, str(problem))


def _certifies_without_a_zero(monitor: Monitor | Make, iterator: Iterator[Any]) -> Finding | None:
    """T z > 0 everywhere, and T is as cocoercive as it declares."""
    slope = 0.7 / _step_size(iterator)
    operator = as_operator(
        lambda z: slope * (1 + torch.nn.functional.softplus(z)), cocoercivity=1 / slope
    )
    start = torch.tensor([[5.0, 1.0], [0.0, 0.0], [-3.0, 2.0]], dtype=torch.float64)
    problem = Problem("no zero: T z > 0", operator, start)
    for steps, claims in _claims(monitor, problem, iterator, (0, 1, 38)):
        for claim in _conclusions(claims):
            if Verdict.CERTIFIED in claim.verdicts:
                return f"{claim.name!r} is certified after {steps} steps", problem
    return None


def _refutes_a_limit(monitor: Monitor | Make, iterator: Iterator[Any]) -> Finding | None:
    """The theorem covers these runs, so that its conclusions are true."""
    if not isinstance(iterator, ForwardStep | InertialKM):
        return None
    for problem in _covered(iterator):
        for steps, claims in _claims(monitor, problem, iterator, PREFIXES):
            for claim in _conclusions(claims):
                rows = _rows(claim, Verdict.REFUTED)
                if rows:
                    return f"{claim.name!r} is refuted after {steps} steps in rows {rows}", problem
    return None


def _certifies_another_iterator(monitor: Monitor | Make, iterator: Iterator[Any]) -> Finding | None:
    problem = ladder(1.0)[2]
    rho = _step_size(iterator)
    own = iterates(problem, iterator, max(PREFIXES[:5]))
    watching = made(monitor, problem, iterator)
    others: list[Iterator[Any]] = [
        Anderson(memory=3, mixing=min(1.0, rho)),
        Halpern(cocoercivity=1.0),
        ForwardStep.adaptive(first_step=rho),
        Adam(),
        ForwardStep(step_size=0.9 * rho),
        InertialKM(inertia=0.1, relaxation=0.3, cocoercivity=1.0),
    ]
    for other in others:
        run = iterates(problem, other, max(PREFIXES[:5]))
        seen = memories(watching, run)
        for steps in PREFIXES[:5]:
            size = own[steps].point_norm + (own[0].state.point - own[1].state.point).norm(dim=1)
            apart = (own[steps].state.point - run[steps].state.point).norm(dim=1) > 1e-6 * size
            for claim in _conclusions(_claims_of(watching.report(seen[steps]))):
                rows = [row for row in _rows(claim, Verdict.CERTIFIED) if bool(apart[row])]
                if rows:
                    return (
                        f"{claim.name!r} is certified on a run of {other!r} after {steps} steps, "
                        f"in rows {rows}",
                        problem,
                    )
    return None


def _speaks_of_nan_rows(monitor: Monitor | Make, iterator: Iterator[Any]) -> Finding | None:
    """Row 1 is NaN from its first evaluation on. Inequalities between constants may be certified
    without a run, nothing else."""
    rung = ladder(1.0)[1]
    bad = torch.arange(len(rung.start)) == 1
    for operator in (rung.operator, Undeclared(rung.operator)):
        problem = Problem("diagonal, row 1 NaN", NaNRows(operator, bad), rung.start, rung.zero)
        for steps, claims in _claims(monitor, problem, iterator, (0, 1, 5)):
            for claim in claims:
                word = claim.verdicts[1]
                allowed = {Verdict.NOT_MEASURED}
                if claim.part == "hypothesis":
                    allowed.add(Verdict.CERTIFIED)
                if word not in allowed or math.isnan(float(claim.margin[1])):
                    return (
                        f"{claim.name!r} is {word.value}, with a margin of "
                        f"{float(claim.margin[1])}, after {steps} steps of a row of NaN",
                        problem,
                    )
    return None


def _covered(iterator: ForwardStep | InertialKM) -> list[Problem]:
    """Problems just inside the theorem, on which residuals rise or the run goes around its zero."""
    inertia = iterator.inertia if isinstance(iterator, InertialKM) else 0.0
    share = 0.98 * theory.largest_relaxation(inertia)  # rho is that part of 2 beta
    beta = _step_size(iterator) / (2 * share)
    slope = 1 / (1.9 * beta)

    def wavy(z: torch.Tensor) -> torch.Tensor:
        return slope * z * (1 + 0.9 * torch.sin(5 * z))

    angle, radius = 2 * math.pi / 40, 0.995
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    turn = torch.tensor([[1 - cos, sin], [-sin, 1 - cos]], dtype=torch.float64)
    turn = turn / (beta * (1 + radius))
    spiral = as_operator(lambda z: z @ turn.T, cocoercivity=beta)
    starts = torch.linspace(-3, 3, 24, dtype=torch.float64).unsqueeze(1)
    around = torch.tensor([[1.0, 1.0], [10.0, 0.0]], dtype=torch.float64)
    zeros = torch.zeros_like(starts), torch.zeros_like(around)
    declared = as_operator(wavy, cocoercivity=beta)  # at its zero, which is what the theorem asks
    return [
        Problem("residuals rise, constants declared", declared, starts, zeros[0]),
        Problem("residuals rise, nothing declared", as_operator(wavy), starts, zeros[0]),
        Problem("residuals rise, no zero known", as_operator(wavy), starts),
        Problem("around the zero", spiral, around, zeros[1]),
        Problem("around the zero, which is not known", spiral, around),
    ]


def _claims(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any], steps: tuple[int, ...]
) -> Iteration[tuple[int, tuple[Claim, ...]]]:
    """The claims after so many steps each; none of a monitor that is made for other rows."""
    watching = made(monitor, problem, iterator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TheoremWarning)
        run = iterates(problem, iterator, max(steps))
    try:
        seen = memories(watching, run)
    except (ValueError, RuntimeError):
        if isinstance(monitor, Monitor):  # its zero has another shape
            return
        raise
    for count in steps:
        yield count, _claims_of(watching.report(seen[count]))


def _claims_of(report: Any) -> tuple[Claim, ...]:
    claims = getattr(report, "claims", ())
    return tuple(claim for claim in claims if isinstance(claim, Claim))


def _conclusions(claims: tuple[Claim, ...]) -> list[Claim]:
    return [claim for claim in claims if claim.part == "conclusion"]


def _rows(claim: Claim, verdict: Verdict) -> list[int]:
    return [row for row, word in enumerate(claim.verdicts) if word is verdict]


def _step_size(iterator: Iterator[Any]) -> float:
    """rho, or 1 of a method that has none."""
    return float(getattr(iterator, "step_size", 1.0))
