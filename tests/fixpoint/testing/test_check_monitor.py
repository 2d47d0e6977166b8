"""check_monitor passes what is right, and catches what is wrong by name."""

from dataclasses import dataclass

import pytest
import torch

from fixpoint import ForwardStep, InertialKM, solve
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    Fejer,
    ForwardStepTheorem,
    InertialKMTheorem,
    Monitor,
)
from fixpoint.testing import check_monitor, ladder

THEOREMS = {
    ForwardStep(step_size=1.0): ForwardStepTheorem,
    InertialKM(): InertialKMTheorem,
}
MONITORS = {
    "convergence": Convergence(),
    "cocoercivity": Cocoercivity(),
    "cocoercivity at a zero": lambda problem, iterator: Cocoercivity(zero=problem.zero),
    "Fejer": lambda problem, iterator: Fejer(zero=problem.zero),
}


@pytest.mark.parametrize("name", MONITORS)
def test_every_monitor_of_the_library_passes(name):
    check_monitor(MONITORS[name])


def certified(report):
    """All hypotheses but that there is a zero, which nothing but the caller can know."""
    hypotheses = [
        claim for claim in report.claims if claim.part == "hypothesis" and claim.name != "zero"
    ]
    return torch.stack([claim.holds & claim.known for claim in hypotheses]).all(0)


@pytest.mark.parametrize("iterator", THEOREMS, ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize("zero_known", [True, False])
def test_the_theorems_pass_and_certify_nothing_outside(iterator, zero_known):
    def make(problem, watched):
        zero = problem.zero if zero_known else None
        return THEOREMS[iterator].of(watched, problem.operator, zero)

    check_monitor(make, iterator=iterator, certified=certified)
    inside = ladder(1.0)[2]  # and within the theorem they do
    monitor = make(inside, iterator)
    solution = solve(inside.operator, inside.start, iterator, monitors=(monitor,))
    assert certified(solution.monitors[0]).all()


# Monitors that lie


class Watchful(Monitor):
    """Sums the residuals; each lie overrides a part of it."""

    def start(self, iterate):
        return {"sum": iterate.residual_norm, "seen": torch.ones_like(iterate.rows)}

    def watch(self, iterate, memory):
        return {"sum": memory["sum"] + iterate.residual_norm, "seen": memory["seen"] + 1}


class MixesRowsOfItsMemory(Watchful):
    def watch(self, iterate, memory):
        following = super().watch(iterate, memory)
        return following | {"sum": following["sum"].maximum(iterate.residual_norm.max() * 1e-3)}


class StartsFromTheBatchMean(Watchful):
    def start(self, iterate):
        memory = super().start(iterate)
        return memory | {"sum": memory["sum"] - memory["sum"].mean()}


class WritesIntoStates(Watchful):
    def watch(self, iterate, memory):
        iterate.state.z.mul_(1.0001)
        return super().watch(iterate, memory)


class WritesIntoItsMemory(Watchful):
    def watch(self, iterate, memory):
        memory["seen"].add_(1)
        return {"sum": memory["sum"] + iterate.residual_norm, "seen": memory["seen"]}


class KeepsOneNumber(Watchful):
    def start(self, iterate):
        return super().start(iterate) | {"largest": iterate.residual_norm.max()}

    def watch(self, iterate, memory):
        return super().watch(iterate, memory) | {"largest": iterate.residual_norm.max()}


class CountsByPosition(Watchful):
    def watch(self, iterate, memory):
        following = super().watch(iterate, memory)
        position = torch.arange(len(iterate.rows))
        return following | {"sum": following["sum"] + position}


class SortsItsReport(Watchful):
    def report(self, memory):
        return memory["sum"].sort().values


class Evaluates(Watchful):
    def __init__(self, operator):
        self.operator = operator

    def watch(self, iterate, memory):
        self.operator(iterate.state.point)
        return super().watch(iterate, memory)


def test_a_monitor_that_tells_the_truth_passes():
    check_monitor(Watchful())


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (MixesRowsOfItsMemory, "rows are independent"),
        (StartsFromTheBatchMean, "rows are independent"),
        (WritesIntoStates, "states are not modified"),
        (WritesIntoItsMemory, "old memory is untouched"),
        (KeepsOneNumber, "memory has the batch first"),
        (CountsByPosition, "select and watch commute"),
        (SortsItsReport, "report keeps the rows in order"),
    ],
)
def test_a_monitor_that_lies_is_caught(lie, broken):
    with pytest.raises(AssertionError, match=f"^{broken}: broken by .*{lie.__name__}"):
        check_monitor(lie())


def test_a_monitor_that_evaluates_the_operator_is_caught():
    with pytest.raises(AssertionError, match=r"^no evaluation is added: "):
        check_monitor(lambda problem, iterator: Evaluates(problem.operator))


@dataclass(frozen=True)
class GenerousTheorem(Monitor):
    """Certifies forward steps from the least pairwise ratio, with a tolerance."""

    step_size: float
    tolerance: float

    def start(self, iterate):
        state = iterate.state
        least = torch.full_like(iterate.residual_norm, torch.inf)
        return {"point": state.point, "residual": state.residual, "least": least}

    def watch(self, iterate, memory):
        point, residual = iterate.state.point, iterate.state.residual
        dz, dt = point - memory["point"], residual - memory["residual"]
        ratio = (dz * dt).sum(1) / dt.square().sum(1)
        return {
            "point": point,
            "residual": residual,
            "least": torch.fmin(memory["least"], ratio),
        }

    def report(self, memory):
        return self.step_size < 2 * memory["least"] * (1 + self.tolerance)


@pytest.mark.parametrize("tolerance", [0.2, 1e-2, 1e-5, 0.0])
def test_a_monitor_that_certifies_an_operator_just_outside_is_caught(tolerance):
    """Without a tolerance too: a ratio measured along a path certifies nothing."""

    def make(problem, iterator):
        return GenerousTheorem(iterator.step_size, tolerance)

    with pytest.raises(AssertionError, match=r"^no false certificate: broken by GenerousTheorem"):
        check_monitor(make, certified=lambda report: report)
    check_monitor(make)  # nothing else is wrong with it


def test_what_is_no_monitor_is_refused():
    with pytest.raises(TypeError, match="Monitor instance"):
        check_monitor(3)
