"""Checks for false claims of a monitor that watches a theorem."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from collections.abc import Iterator as Iteration
from functools import partial
from typing import Any

import torch

from fixpoint import theory
from fixpoint.iterator import Iterator, TheoremWarning
from fixpoint.iterators import Adam, Anderson, ForwardStep, Halpern, InertialKM
from fixpoint.monitors import Monitor
from fixpoint.monitors.certificate import Claim, Verdict
from fixpoint.operator import as_operator
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.check import Check
from fixpoint.testing.monitored_run import MonitorOrFactory, iterates, make_monitor, memories
from fixpoint.testing.problems import Problem, ladder
from fixpoint.testing.wrapped import NaNRows, Undeclared

Finding = tuple[str, Problem]  # description of a false claim, and the problem it was made on

PREFIXES = (1, 2, 3, 5, 8, 13, 21, 38)


def claim_checks(monitor: MonitorOrFactory, iterator: Iterator[Any]) -> list[Check]:
    """One check for each kind of false claim. A monitor whose reports hold no claims passes."""
    return [
        Check(name, partial(_search, name, find, monitor, iterator))
        for name, find in (
            ("no certificate without a zero", _certifies_without_a_zero),
            ("no limit is refuted by a prefix", _refutes_a_limit),
            ("no certificate of another iterator", _certifies_another_iterator),
            ("nothing is claimed of NaN rows", _claims_about_nan_rows),
        )
    ]


def _search(
    name: str,
    find: Callable[[MonitorOrFactory, Iterator[Any]], Finding | None],
    monitor: MonitorOrFactory,
    iterator: Iterator[Any],
) -> BrokenProperty | None:
    # A monitor without claims may need a zero; not all problems below have one.
    if not any(claims for _, claims in _claims_after(monitor, ladder(1.0)[0], iterator, (1,))):
        return None
    finding = find(monitor, iterator)
    if finding is None:
        return None
    detail, problem = finding
    return BrokenProperty(name, make_monitor(monitor, problem, iterator), detail, str(problem))


def _certifies_without_a_zero(monitor: MonitorOrFactory, iterator: Iterator[Any]) -> Finding | None:
    """On an operator with T z > 0 everywhere, which is as cocoercive as it declares."""
    slope = 0.7 / _step_size(iterator)
    operator = as_operator(
        lambda z: slope * (1 + torch.nn.functional.softplus(z)), cocoercivity=1 / slope
    )
    start = torch.tensor([[5.0, 1.0], [0.0, 0.0], [-3.0, 2.0]], dtype=torch.float64)
    problem = Problem("no zero: T z > 0", operator, start)
    for steps, claims in _claims_after(monitor, problem, iterator, (0, 1, 38)):
        for claim in _conclusions(claims):
            if Verdict.CERTIFIED in claim.verdicts:
                return f"{claim.name!r} is certified after {steps} steps", problem
    return None


def _refutes_a_limit(monitor: MonitorOrFactory, iterator: Iterator[Any]) -> Finding | None:
    """On runs that the theorem covers, so that its conclusions are true."""
    if not isinstance(iterator, ForwardStep | InertialKM):
        return None
    for problem in _covered(iterator):
        for steps, claims in _claims_after(monitor, problem, iterator, PREFIXES):
            for claim in _conclusions(claims):
                rows = _rows(claim, Verdict.REFUTED)
                if rows:
                    return f"{claim.name!r} is refuted after {steps} steps in rows {rows}", problem
    return None


def _certifies_another_iterator(
    monitor: MonitorOrFactory, iterator: Iterator[Any]
) -> Finding | None:
    problem = ladder(1.0)[2]
    rho = _step_size(iterator)
    own = iterates(problem, iterator, max(PREFIXES[:5]))
    instance = make_monitor(monitor, problem, iterator)
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
        seen = memories(instance, run)
        for steps in PREFIXES[:5]:
            size = own[steps].point_norm + (own[0].state.point - own[1].state.point).norm(dim=1)
            apart = (own[steps].state.point - run[steps].state.point).norm(dim=1) > 1e-6 * size
            for claim in _conclusions(_claims_of(instance.report(seen[steps]))):
                rows = [row for row in _rows(claim, Verdict.CERTIFIED) if bool(apart[row])]
                if rows:
                    return (
                        f"{claim.name!r} is certified on a run of {other!r} after {steps} steps, "
                        f"in rows {rows}",
                        problem,
                    )
    return None


def _claims_about_nan_rows(monitor: MonitorOrFactory, iterator: Iterator[Any]) -> Finding | None:
    """On runs whose row 1 is NaN from its first evaluation on.

    Only inequalities between constants may be certified of that row: they need no run.
    """
    rung = ladder(1.0)[1]
    bad = torch.arange(len(rung.start)) == 1
    for operator in (rung.operator, Undeclared(rung.operator)):
        problem = Problem("diagonal, row 1 NaN", NaNRows(operator, bad), rung.start, rung.zero)
        for steps, claims in _claims_after(monitor, problem, iterator, (0, 1, 5)):
            for claim in claims:
                verdict = claim.verdicts[1]
                allowed = {Verdict.NOT_MEASURED}
                if claim.part == "hypothesis":
                    allowed.add(Verdict.CERTIFIED)
                if verdict not in allowed or math.isnan(float(claim.margin[1])):
                    return (
                        f"{claim.name!r} is {verdict.value}, with a margin of "
                        f"{float(claim.margin[1])}, after {steps} steps of a row of NaN",
                        problem,
                    )
    return None


def _covered(iterator: ForwardStep | InertialKM) -> list[Problem]:
    """Problems just inside the theorem: residuals rise, or the iterates circle the zero."""
    inertia = iterator.inertia if isinstance(iterator, InertialKM) else 0.0
    share = 0.98 * theory.largest_relaxation(inertia)  # rho / (2 beta)
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
    # Cocoercive about its zero, and not everywhere: the theorem asks no more.
    cocoercive = as_operator(wavy, cocoercivity=beta)
    return [
        Problem("residuals rise, constants declared", cocoercive, starts, zeros[0]),
        Problem("residuals rise, nothing declared", as_operator(wavy), starts, zeros[0]),
        Problem("residuals rise, no zero known", as_operator(wavy), starts),
        Problem("around the zero", spiral, around, zeros[1]),
        Problem("around the zero, which is not known", spiral, around),
    ]


def _claims_after(
    monitor: MonitorOrFactory,
    problem: Problem,
    iterator: Iterator[Any],
    steps: tuple[int, ...],
) -> Iteration[tuple[int, tuple[Claim, ...]]]:
    """The claims after each number of steps; none if the monitor's rows are not the problem's."""
    instance = make_monitor(monitor, problem, iterator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TheoremWarning)
        run = iterates(problem, iterator, max(steps))
    try:
        seen = memories(instance, run)
    except (ValueError, RuntimeError):
        if isinstance(monitor, Monitor):  # an instance may hold a zero of another shape
            return
        raise
    for count in steps:
        yield count, _claims_of(instance.report(seen[count]))


def _claims_of(report: Any) -> tuple[Claim, ...]:
    claims = getattr(report, "claims", ())
    return tuple(claim for claim in claims if isinstance(claim, Claim))


def _conclusions(claims: tuple[Claim, ...]) -> list[Claim]:
    return [claim for claim in claims if claim.part == "conclusion"]


def _rows(claim: Claim, verdict: Verdict) -> list[int]:
    return [row for row, given in enumerate(claim.verdicts) if given is verdict]


def _step_size(iterator: Iterator[Any]) -> float:
    """rho; 1 for a method without a step size."""
    return float(getattr(iterator, "step_size", 1.0))
