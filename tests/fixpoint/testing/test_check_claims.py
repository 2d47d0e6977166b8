"""The kit catches the lies that a certificate can tell, each by its name."""

from dataclasses import dataclass, replace

import pytest
import torch

from fixpoint import ForwardStep, InertialKM
from fixpoint.monitors import ForwardStepTheorem, InertialKMTheorem
from fixpoint.testing import BrokenProperty, check_monitor, monitor_checks

THEOREMS = {
    ForwardStep(step_size=1.0): ForwardStepTheorem,
    InertialKM(): InertialKMTheorem,
}


def lying(theorem, change):
    """The monitor of a theorem whose claims are changed before they are reported."""

    @dataclass(frozen=True, kw_only=True, eq=False)
    class Lie(theorem):
        def report(self, memory):
            report = super().report(memory)
            return replace(report, claims=change(report.claims, memory))

    return Lie


def ignoring(*names):
    """Conclusions are certified where all other hypotheses are."""

    def change(claims, memory):
        hypotheses = [claim for claim in claims if claim.part == "hypothesis"]
        rest = [claim for claim in hypotheses if claim.name not in names]
        known = torch.stack([claim.holds & claim.known for claim in rest]).all(0)
        return tuple(
            replace(claim, known=known) if claim.part == "conclusion" else claim for claim in claims
        )

    return change


def refuting_what_rises(claims, memory):
    risen = memory.path.last > memory.path.first
    return tuple(
        replace(claim, holds=~risen) if claim.name == "residual" else claim for claim in claims
    )


def supporting_everything(claims, memory):
    return tuple(
        replace(claim, measured=torch.ones_like(claim.measured))
        if claim.name == "residual"
        else claim
        for claim in claims
    )


def with_nan_margins(claims, memory):
    return tuple(
        replace(claim, margin=torch.where(memory.path.begun, claim.margin, torch.nan))
        for claim in claims
    )


@pytest.mark.parametrize("iterator", THEOREMS, ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (ignoring("zero"), "no certificate without a zero"),
        (refuting_what_rises, "no limit is refuted by a prefix"),
        (ignoring("recursion"), "no certificate of another iterator"),
        (supporting_everything, "nothing is claimed of NaN rows"),
        (with_nan_margins, "nothing is claimed of NaN rows"),
    ],
    ids=["no zero", "rises", "another iterator", "NaN supported", "NaN margin"],
)
def test_a_certificate_that_lies_is_caught(iterator, change, broken):
    lie = lying(THEOREMS[iterator], change)

    def make(problem, watched):
        return lie.of(watched, problem.operator, problem.zero)

    checks = {check.property: check for check in monitor_checks(make, iterator=iterator)}
    with pytest.raises(BrokenProperty, match=f"^{broken}: broken by .*Lie"):
        checks[broken]()


def test_an_instance_is_checked_too():
    lie = lying(ForwardStepTheorem, refuting_what_rises)(step_size=1.0)
    with pytest.raises(BrokenProperty, match=r"^no limit is refuted by a prefix"):
        check_monitor(lie)
    check_monitor(ForwardStepTheorem(step_size=1.0))
