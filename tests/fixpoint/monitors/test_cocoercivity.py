"""The ratios that a run shows of an operator's cocoercivity."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monitored_runs import outside, start, watch
from problems import problem

from fixpoint import ForwardStep, InertialKM, Verdict, as_operator, synthetic
from fixpoint.monitors import Cocoercivity, ForwardStepTheorem, InertialKMTheorem

# Cocoercivity


@given(beta=st.floats(0.1, 5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_on_the_equality_family_every_ratio_is_beta(beta, seed):
    for dtype, rounding in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        zero, z0 = start(seed, dtype=dtype)
        operator = synthetic.Cocoercive(beta, zero)
        solution = watch(
            operator, z0, ForwardStep(step_size=beta), Cocoercivity(zero=zero), max_iterations=8
        )
        (report,) = solution.monitors
        for ratio in (report.pairwise, report.at_zero, report.hindsight):
            torch.testing.assert_close(ratio, torch.full_like(ratio, beta), rtol=rounding, atol=0.0)


@outside
def test_on_a_quarter_rotation_every_ratio_is_0():
    zero, z0 = start()
    operator = synthetic.rotation(math.pi / 2, zero, size=6)
    iterator = ForwardStep(step_size=0.5)
    monitor = ForwardStepTheorem(step_size=0.5, zero=zero)
    solution = watch(operator, z0, iterator, Cocoercivity(zero=zero), monitor)
    report = solution.monitors[0]
    assert report.pairwise.abs().max() < 1e-12
    assert report.at_zero.abs().max() < 1e-12
    claim = solution.certificate["step size"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    torch.testing.assert_close(claim.margin, torch.full((3,), -0.5).double())
    first = watch(operator, z0, iterator, monitor, max_iterations=0)
    assert set(first.certificate["step size"].verdicts) == {Verdict.REFUTED}  # at once


@given(seed=st.integers(0, 1000), spread=st.floats(1, 50))
@settings(max_examples=25, deadline=None)
def test_no_ratio_falls_below_the_true_cocoercivity(seed, spread):
    zero, z0 = start(seed)
    operator = synthetic.dense(torch.linspace(1 / spread, 1, 6), zero, seed=seed)
    monitor = Cocoercivity(zero=zero, capacity=4)
    (report,) = watch(operator, z0, ForwardStep(step_size=1.5), monitor).monitors
    for ratio in (report.pairwise, report.at_zero, report.hindsight):
        assert (ratio >= 1 - 1e-12).all()


def test_the_least_ratio_is_the_one_computed_by_hand():
    zero, z0 = start()
    operator = as_operator(lambda z, c: (z - c) + 0.9 * torch.sin(2 * (z - c)), zero)
    points, values = [], []
    solution = watch(
        operator,
        z0,
        ForwardStep(step_size=0.3),
        Cocoercivity(zero=zero),
        max_iterations=9,
    )
    z = z0
    for _ in range(10):
        points.append(z)
        values.append(operator(z))
        z = z - 0.3 * values[-1]
    p, t = torch.stack(points), torch.stack(values)

    def ratio(dz, dt):
        return (dz * dt).sum(-1) / dt.square().sum(-1)

    (report,) = solution.monitors
    for found, at, expected in (
        (report.pairwise, report.pairwise_iteration - 1, ratio(p[1:] - p[:-1], t[1:] - t[:-1])),
        (report.at_zero, report.at_zero_iteration, ratio(p - zero, t)),
        (report.hindsight, report.hindsight_iteration, ratio(p[-1] - p[:-1], t[-1] - t[:-1])),
    ):
        torch.testing.assert_close(found, expected.min(0).values, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(expected.gather(0, at[None])[0], found, rtol=1e-9, atol=1e-9)


def test_a_long_trajectory_is_thinned_and_still_right():
    operator, _, z0 = problem()
    full = watch(operator, z0, ForwardStep(), Cocoercivity(capacity=200), max_iterations=100)
    thin = watch(operator, z0, ForwardStep(), Cocoercivity(capacity=4), max_iterations=100)
    assert (thin.monitors[0].hindsight >= full.monitors[0].hindsight - 1e-12).all()
    assert thin.monitors[0].hindsight.isfinite().all()


def test_rounding_noise_refutes_nothing():
    """T rounded to bfloat16 behind a float32 iterate: the true operator is 1-cocoercive."""
    operator, _, z0 = problem(dtype=torch.float32)
    rounded = as_operator(lambda z, c: (z - c).bfloat16().float(), operator.zero)
    monitor = ForwardStepTheorem(step_size=1.5, precision=2**-8)
    solution = watch(rounded, z0, ForwardStep(step_size=1.5), monitor, max_iterations=40)
    assert Verdict.REFUTED not in solution.certificate["step size"].verdicts
    assert Verdict.REFUTED not in solution.certificate["star-cocoercivity"].verdicts


def test_rounding_noise_refutes_nothing_in_long_rows():
    zero = torch.randn(3, 2048)
    rounded = as_operator(lambda z, c: (z.bfloat16() - c.bfloat16()).float(), zero)
    for monitor, iterator in (
        (ForwardStepTheorem(step_size=1.0, precision=2**-8), ForwardStep(step_size=1.0)),
        (
            InertialKMTheorem(inertia=0.3, relaxation=0.5, cocoercivity=1.0, precision=2**-8),
            InertialKM(inertia=0.3, relaxation=0.5, cocoercivity=1.0),
        ),
    ):
        solution = watch(rounded, zero + torch.randn(3, 2048), iterator, monitor)
        for claim in solution.certificate.claims:
            assert Verdict.REFUTED not in claim.verdicts, (claim.name, claim.margin)
