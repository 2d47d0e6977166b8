"""Theorem 1: what is certified, supported and refuted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monitored_runs import outside, start, watch

from fixpoint import ForwardStep, Status, TheoremWarning, Verdict, as_operator, solve, synthetic
from fixpoint.monitors import Fejer, ForwardStepTheorem

# Theorem 1


@given(beta=st.floats(0.1, 5), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_known_constants_inside_theorem_1_are_certified(beta, fraction, seed):
    for dtype in (torch.float64, torch.float32):
        zero, z0 = start(seed, dtype=dtype)
        operator = synthetic.Cocoercive(beta, zero)
        iterator = ForwardStep(step_size=2 * beta * fraction)
        for known_zero in (zero, None):
            monitor = ForwardStepTheorem.of(iterator, operator, known_zero)
            certificate = watch(operator, z0, iterator, monitor).certificate
            for claim in certificate.claims:
                rests_on_a_zero = claim.part == "conclusion" or claim.name == "zero"
                if known_zero is not None or not rests_on_a_zero:
                    assert set(claim.verdicts) == {Verdict.CERTIFIED}, (claim.name, claim.margin)
                else:
                    assert not {Verdict.CERTIFIED, Verdict.REFUTED} & set(claim.verdicts)


@outside
@given(excess=st.floats(1e-6, 0.5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_nothing_is_certified_just_outside_theorem_1(excess, seed):
    zero, z0 = start(seed)
    operator = synthetic.Cocoercive(0.5, zero)
    iterator = ForwardStep(step_size=1 + excess)
    monitor = ForwardStepTheorem.of(iterator, operator, zero)
    certificate = watch(operator, z0, iterator, monitor).certificate
    assert set(certificate["step size"].verdicts) == {Verdict.REFUTED}
    for claim in certificate.claims:
        if claim.part == "conclusion":
            assert Verdict.CERTIFIED not in claim.verdicts


def test_measured_constants_are_never_certified():
    zero, z0 = start()
    solution = watch(
        synthetic.Cocoercive(0.5, zero),
        z0,
        ForwardStep(step_size=0.5),
        ForwardStepTheorem(step_size=0.5, zero=zero),
    )
    for claim in solution.certificate.claims:
        # That there is a zero, the caller said.
        expected = Verdict.CERTIFIED if claim.name == "zero" else Verdict.SUPPORTED
        assert set(claim.verdicts) == {expected}, claim.name


def test_an_operator_that_declares_twice_its_beta_is_refuted():
    zero, z0 = start()
    liar = synthetic.Cocoercive(0.5, zero)
    liar.cocoercivity = 1.0
    iterator = ForwardStep(step_size=0.5)
    solution = watch(liar, z0, iterator, ForwardStepTheorem.of(iterator, liar, zero))
    claim = solution.certificate["star-cocoercivity"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    torch.testing.assert_close(claim.margin, torch.full((3,), -0.5).double())
    for other in solution.certificate.claims:
        if other.part == "conclusion":
            assert Verdict.CERTIFIED not in other.verdicts


@outside
def test_the_growth_above_two_beta_is_that_of_the_worst_case():
    zero, z0 = start()
    operator = synthetic.diagonal([1.0] * 6, zero)
    with pytest.warns(TheoremWarning):
        solution = watch(operator, z0, ForwardStep(step_size=2.2), Fejer(zero=zero))
    (report,) = solution.monitors
    torch.testing.assert_close(
        report.last_distance / report.first_distance, 1.2 ** torch.full((3,), 25.0).double()
    )


def test_locally_not_cocoercive_yet_converged_can_be_said():
    operator = as_operator(lambda z: z + 0.9 * torch.sin(3 * z))
    z0 = torch.tensor([[1.6], [0.1]], dtype=torch.float64)
    solution = solve(
        operator,
        z0,
        ForwardStep(step_size=0.5),
        monitors=(ForwardStepTheorem(step_size=0.5),),
        rtol=1e-8,
    )
    assert solution.status == (Status.CONVERGED, Status.CONVERGED)
    remarks = solution.certificate.remarks
    assert any(
        "row 0: locally not cocoercive" in text and "yet converged" in text for text in remarks
    )
    assert not any(text.startswith("row 1: locally") for text in remarks)
