"""Certificates: their four words, a zero, the recursion, and rows that show nothing."""

import itertools
import math

import pytest
import torch
from certificates import DTYPES, certificate_of, iterators, monitor_of, words
from problems import ITERATORS, problem

from fixpoint import (
    Anderson,
    ForwardStep,
    InertialKM,
    Status,
    Verdict,
    as_operator,
    solve,
    synthetic,
)
from fixpoint.monitors import ForwardStepTheorem, InertialKMTheorem

# A zero


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [1e-20, 1e-4, 1.0, 1e4])
def test_without_a_zero_no_conclusion_is_certified(dtype, slope):
    operator = as_operator(
        lambda z: slope * (1 + torch.nn.functional.softplus(z)), cocoercivity=1 / slope
    )
    z0 = torch.tensor([[5.0, 1.0], [0.0, 0.0]], dtype=dtype)
    for iterator in iterators(1 / slope):
        for steps in (0, 1, 60):
            monitor = monitor_of(iterator, operator)
            certificate = certificate_of(operator, z0, iterator, monitor, steps)
            assert set(certificate["zero"].verdicts) == {Verdict.NOT_MEASURED}
            assert words(certificate, "conclusion") == {Verdict.NOT_MEASURED}


def test_a_small_constant_is_no_rounding_of_zero():
    operator = as_operator(lambda z: 0 * z + 1e-20, cocoercivity=10.0)
    iterator = ForwardStep(step_size=1.0)
    z0 = torch.ones(1, 2, dtype=torch.float64)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator))
    assert certificate["zero"].verdicts == (Verdict.NOT_MEASURED,)


@pytest.mark.parametrize("at_origin", [True, False])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_residual_that_comes_down_to_rounding_supports_a_zero(at_origin, scale):
    zero = (
        torch.zeros(2, 3, dtype=torch.float64) if at_origin else scale * torch.rand(2, 3).double()
    )
    operator = as_operator(lambda z, c: 1e3 * (z - c), zero, cocoercivity=1e-3)
    for iterator in (ForwardStep(step_size=5e-4), InertialKM(relaxation=0.3, cocoercivity=1e-3)):
        monitor = monitor_of(iterator, operator)
        early, late = (
            certificate_of(operator, zero + scale, iterator, monitor, steps) for steps in (5, 300)
        )
        assert set(early["zero"].verdicts) == {Verdict.NOT_MEASURED}
        assert words(early, "conclusion") == {Verdict.NOT_MEASURED}
        assert set(late["zero"].verdicts) == {Verdict.SUPPORTED}
        assert Verdict.CERTIFIED not in words(late, "conclusion")
        assert set(late["residual"].verdicts) == {Verdict.SUPPORTED}


def test_a_given_zero_at_which_T_does_not_vanish_is_refuted():
    operator = as_operator(lambda z: z - 1.0, cocoercivity=1.0)
    z0 = torch.tensor([[3.0], [4.0]], dtype=torch.float64)
    iterator = ForwardStep(step_size=0.5)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, z0), 3)
    assert set(certificate["zero"].verdicts) == {Verdict.REFUTED}
    assert certificate["zero"].iteration.tolist() == [0, 0]
    assert Verdict.CERTIFIED not in words(certificate, "conclusion")


def test_a_zero_of_NaN_is_not_known_in_that_row():
    zero = torch.tensor([[1.0], [math.nan]], dtype=torch.float64)
    operator = as_operator(lambda z: z - 1.0, cocoercivity=1.0)
    iterator = ForwardStep(step_size=0.5)
    z0 = torch.zeros(2, 1, dtype=torch.float64)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, zero), 3)
    assert certificate["zero"].verdicts == (Verdict.CERTIFIED, Verdict.NOT_MEASURED)
    for claim in certificate.claims:
        if claim.part == "conclusion":
            assert claim.verdicts == (Verdict.CERTIFIED, Verdict.NOT_MEASURED), claim.name


# The recursion


@pytest.mark.parametrize("name", ITERATORS)
@pytest.mark.parametrize("watched", ["forward step", "inertial KM"])
def test_the_run_of_another_iterator_is_told_of(name, watched):
    operator, zero, z0 = problem()
    own, other = ITERATORS[watched], ITERATORS[name]
    certificate = certificate_of(operator, z0, other, monitor_of(own, operator, zero))
    claim = certificate["recursion"]
    if name == watched:
        assert words(certificate, "conclusion") == {Verdict.CERTIFIED}
        return
    assert set(claim.verdicts) == {Verdict.REFUTED}
    assert Verdict.CERTIFIED not in words(certificate, "conclusion")
    state, first = other.init(operator, z0), []
    mine = own.init(operator, z0)
    for _ in range(5):  # the first point at which the two methods differ
        state, mine = other.step(operator, state), own.step(operator, mine)
        first.append((state.point - mine.point).abs().amax(1) > 1e-9)
    at = 1 + torch.stack(first).long().argmax(0)
    assert torch.equal(claim.iteration, at)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_another_step_size_is_refuted_or_not_told_apart_but_never_certified(dtype):
    zero = torch.randn(8, 6, dtype=torch.float64).to(dtype)
    operator = synthetic.Cocoercive(0.5, zero)
    for away in (1e-2, 1.0, 10.0):
        z0 = zero + away * torch.randn(8, 6).to(dtype)
        monitor = ForwardStepTheorem(step_size=0.95, cocoercivity=0.5, zero=zero)
        certificate = certificate_of(operator, z0, ForwardStep(step_size=1.1), monitor, 3)
        assert Verdict.CERTIFIED not in certificate["recursion"].verdicts
        assert Verdict.CERTIFIED not in words(certificate, "conclusion")


def test_steps_of_another_method_that_are_forward_steps_are_supported():
    zero, z0 = torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    operator = synthetic.dense([1.0, 0.9, 0.8, 0.7], zero)
    constant = ForwardStep.adaptive(fraction=0.5, growth=1.0)  # steps of beta, never refused
    monitor = ForwardStepTheorem.of(ForwardStep(step_size=1.0), operator, zero)
    for iterator, steps in ((constant, 6), (Anderson(mixing=1.0), 1)):
        certificate = certificate_of(operator, z0, iterator, monitor, steps)
        assert set(certificate["recursion"].verdicts) == {Verdict.SUPPORTED}
        assert words(certificate, "conclusion") == {Verdict.SUPPORTED}


# What was not measured


@pytest.mark.parametrize("iterator", iterators(), ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize("known", [True, False])
def test_no_iteration_shows_no_conclusion(iterator, known):
    operator, zero, z0 = problem()
    given = zero if known else None
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, given), 0)
    assert words(certificate, "conclusion") == {Verdict.NOT_MEASURED}
    assert set(certificate["recursion"].verdicts) == {Verdict.NOT_MEASURED}


def test_constants_that_violate_refute_without_a_run():
    operator, _, z0 = problem()
    for monitor in (
        ForwardStepTheorem(step_size=2.0, cocoercivity=1.0),
        ForwardStepTheorem(step_size=-1.0),
        InertialKMTheorem(inertia=0.2, relaxation=0.8, cocoercivity=1.0, known_cocoercivity=1.0),
    ):
        certificate = certificate_of(operator, z0, ForwardStep(), monitor, 0)
        assert set(certificate["step size"].verdicts) == {Verdict.REFUTED}


@pytest.mark.parametrize("iterator", iterators(), ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_from_the_start_shows_nothing(iterator, value):
    b = torch.tensor([[1.0], [value]], dtype=torch.float64)
    for declared, zero in itertools.product((1.0, None), (torch.ones_like(b), None)):
        operator = as_operator(lambda z, b: z - b, b, cocoercivity=declared)
        monitor = monitor_of(iterator, operator, zero)
        certificate = certificate_of(operator, torch.zeros_like(b), iterator, monitor)
        for claim in certificate.claims:
            verdict = claim.verdicts[1]
            assert verdict is Verdict.NOT_MEASURED or (
                verdict is Verdict.CERTIFIED
                and claim.name in ("zero", "step size", "inertia and relaxation (13)")
            ), claim.name


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("inertial", [True, False])
def test_a_row_that_turns_NaN_refutes_star_cocoercivity_where_it_does(known, inertial):
    operator = as_operator(lambda z: torch.where(z < 0.5, torch.nan, z), cocoercivity=1.0)
    iterator = InertialKM(inertia=0.1) if inertial else ForwardStep(step_size=0.4)
    z0 = torch.tensor([[1.0], [16.0]], dtype=torch.float64)
    zero = torch.zeros_like(z0) if known else None
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, zero))
    claim = certificate["star-cocoercivity"]
    assert claim.verdicts == (Verdict.REFUTED, Verdict.REFUTED)
    lost = []
    for row in z0:
        state, count = iterator.init(operator, row[None]), 0
        while bool(state.residual.isfinite().all()):
            state, count = iterator.step(operator, state), count + 1
        lost.append(count)
    assert claim.iteration.tolist() == lost
    assert words(certificate, "conclusion") <= {Verdict.SUPPORTED, Verdict.NOT_MEASURED}


# Words


def test_a_claim_reads_in_a_line():
    operator, zero, z0 = problem()
    iterator = ForwardStep(step_size=0.8)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, zero))
    text = str(certificate["step size"])
    assert text == "step size: certified (5 rows); least margin 1.2 in row 0"
    late = certificate_of(operator, z0, Anderson(), monitor_of(iterator, operator, zero))
    assert "refuted (5 rows); least margin" in str(late["recursion"])
    assert "first failed at iteration 1" in str(late["recursion"])
    unseen = certificate_of(operator, z0, iterator, monitor_of(iterator, operator), 0)
    assert str(unseen["descent"]) == "descent: not measured (5 rows)"
    data = unseen.to_dict()["claims"]
    assert {"not measured"} == set(data[-1]["verdicts"])
    assert data[-1]["margins"] == [None] * 5


def test_a_row_of_NaN_earns_no_remark():
    b = torch.tensor([[1.0], [math.nan]], dtype=torch.float64)
    operator = as_operator(lambda z, b: z - b, b)
    monitor = ForwardStepTheorem(step_size=0.5)
    solution = solve(operator, 0 * b.nan_to_num(), ForwardStep(step_size=0.5), monitors=(monitor,))
    assert solution.status[1] is Status.NONFINITE
    assert not any("row 1" in remark for remark in solution.certificate.remarks)
