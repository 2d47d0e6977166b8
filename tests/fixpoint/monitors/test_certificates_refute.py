"""What a certificate refutes, at any scale and in any dtype, and what no finite run can."""

import math

import pytest
import torch
from certificates import DTYPES, certificate_of, iterators, monitor_of, words
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import (
    ForwardStep,
    InertialKM,
    Verdict,
    as_operator,
    fixed_point_of,
    synthetic,
    theory,
)
from fixpoint.monitors import ForwardStepTheorem, InertialKMTheorem

drawn = settings(max_examples=15, deadline=None)

# What a finite run cannot refute


def turning(radius=0.995, steps=40):
    t = 2 * math.pi / steps
    matrix = torch.tensor([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]).double()
    return fixed_point_of(lambda z: radius * (z @ matrix.T), lipschitz=radius)


def test_no_piece_of_a_run_around_the_zero_refutes_a_conclusion():
    z0, operator = torch.ones(1, 2, dtype=torch.float64), turning()
    for iterator in (ForwardStep(step_size=1.0), InertialKM(cocoercivity=0.5)):
        for steps in range(0, 45, 4):
            for zero in (None, torch.zeros_like(z0)):
                monitor = monitor_of(iterator, operator, zero)
                certificate = certificate_of(operator, z0, iterator, monitor, steps)
                assert Verdict.REFUTED not in words(certificate, "conclusion")
                assert Verdict.REFUTED not in words(certificate, "hypothesis")


@pytest.mark.parametrize("declared", [1 / 1.9, None])
def test_no_residual_that_rises_refutes_a_conclusion(declared):
    operator = as_operator(lambda z: z * (1 + 0.9 * torch.sin(5 * z)))
    z0 = torch.linspace(-3, 3, 61, dtype=torch.float64).unsqueeze(1)
    zero = torch.zeros_like(z0)
    risen = 0
    for steps in (1, 2, 5):
        monitor = ForwardStepTheorem(step_size=1.04, cocoercivity=declared, zero=zero)
        certificate = certificate_of(operator, z0, ForwardStep(step_size=1.04), monitor, steps)
        assert Verdict.REFUTED not in words(certificate, "conclusion")
        risen += int((certificate["residual"].margin <= 0).sum())
    assert risen > 0 or declared is None


def test_what_the_theorem_forbids_a_finite_run_is_refuted():
    """Distances to a known zero that grow, and a sum beyond its bound."""
    zero = torch.zeros(1, 2, dtype=torch.float64)
    operator = synthetic.Cocoercive(0.5, zero)
    z0 = torch.ones_like(zero)
    monitor = ForwardStepTheorem(step_size=1.2, cocoercivity=0.5, zero=zero)
    certificate = certificate_of(operator, z0, ForwardStep(step_size=1.2), monitor)
    assert certificate["descent"].verdicts == (Verdict.REFUTED,)
    assert certificate["descent"].iteration.tolist() == [1]
    monitor = ForwardStepTheorem(step_size=0.2, cocoercivity=1.0, zero=zero)  # beta is half that
    certificate = certificate_of(operator, z0, ForwardStep(step_size=0.2), monitor, 80)
    assert certificate["summability"].verdicts == (Verdict.REFUTED,)


# Rounding


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@given(
    size=st.sampled_from([1e-4, 1e-2, 1.0, 1e2]),
    slope=st.sampled_from([1e-2, 1.0, 1e2]),
    place=st.sampled_from(["apart", "zero at the origin", "start at the origin", "at the zero"]),
    seed=st.integers(0, 1000),
    declared=st.booleans(),
    known=st.booleans(),
)
@drawn
def test_rounding_refutes_nothing_at_any_scale(dtype, size, slope, place, seed, declared, known):
    if dtype == torch.float16 and not 1e-3 <= size * slope <= 1e3:
        return
    generator = torch.Generator().manual_seed(seed)
    a, b = size * torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    zero = torch.zeros_like(a) if place == "zero at the origin" else a
    z0 = {"start at the origin": 0 * b, "at the zero": zero}.get(place, zero + b).to(dtype)
    zero = zero.to(dtype)
    quarter = synthetic.Cocoercive(1.0, zero)
    beta = (1 - 2 * torch.finfo(dtype).eps) / slope
    operator = as_operator(
        lambda z, c: slope * synthetic.Cocoercive(1.0, c)(z),
        quarter.zero,
        cocoercivity=beta if declared else None,
    )
    for iterator in iterators(beta):
        monitor = monitor_of(iterator, operator, zero if known else None)
        certificate = certificate_of(operator, z0, iterator, monitor, 40)
        for claim in certificate.claims:
            assert Verdict.REFUTED not in claim.verdicts, (claim.name, claim.margin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_constant_that_is_not_true_is_refuted_at_any_scale(dtype, scale):
    lie = 1.3 if dtype == torch.bfloat16 else 1.01
    zero = (scale * torch.randn(3, 6)).to(dtype)
    z0 = zero + (scale * torch.randn(3, 6)).to(dtype)
    operator = as_operator(
        lambda z, c: synthetic.Cocoercive(1.0, c)(z) / scale, zero, cocoercivity=lie * scale
    )
    for iterator in iterators(scale)[::2]:
        for known in (zero, None):
            certificate = certificate_of(
                operator, z0, iterator, monitor_of(iterator, operator, known), 15
            )
            assert set(certificate["star-cocoercivity"].verdicts) == {Verdict.REFUTED}
            assert Verdict.CERTIFIED not in words(certificate, "conclusion")


# Theorem 2 and its pairs


@given(
    inertia=st.floats(0.01, 0.9),
    part=st.floats(0.05, 0.9),
    believed=st.floats(0.3, 3.0),
    share=st.floats(0.1, 0.97),
    declared=st.booleans(),
)
@drawn
def test_theorem_2_covers_a_step_by_any_pair(inertia, part, believed, share, declared):
    """The iteration believes in a beta that need not be the operator's."""
    largest = theory.largest_relaxation(inertia)
    beta = 1.0
    relaxation = part * largest
    believed = min(believed, share * beta / part)  # the step is at most that of beta
    iterator = InertialKM(inertia=inertia, relaxation=relaxation, cocoercivity=believed)
    assert beta > theory.least_cocoercivity(inertia, relaxation, believed)
    zero = torch.randn(3, 4, dtype=torch.float64)
    operator = as_operator(
        lambda z, c: synthetic.Cocoercive(1.0, c)(z), zero, cocoercivity=beta if declared else None
    )
    monitor = InertialKMTheorem.of(iterator, operator, zero)
    certificate = certificate_of(operator, zero + 1, iterator, monitor, 50)
    assert Verdict.REFUTED not in words(certificate, "hypothesis") | words(
        certificate, "conclusion"
    )
    if declared:
        assert words(certificate, "conclusion") == {Verdict.CERTIFIED}


def test_a_step_beyond_every_pair_is_refuted():
    zero = torch.ones(2, 2, dtype=torch.float64)
    operator = synthetic.Cocoercive(0.5, zero)
    largest = theory.largest_relaxation(0.2)
    iterator = InertialKM(inertia=0.2, relaxation=largest * (1 - 1e-12), cocoercivity=0.5 + 1e-9)
    certificate = certificate_of(operator, zero + 1, iterator, monitor_of(iterator, operator, zero))
    claim = certificate["step size"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    assert float(claim.margin[0]) == pytest.approx(-1e-9, rel=1e-2)


def test_settings_that_theorem_2_cannot_mean_are_refused():
    for settings_ in ({"inertia": 1.0}, {"relaxation": 0.0}, {"cocoercivity": math.inf}):
        options = {"inertia": 0.2, "relaxation": 0.5, "cocoercivity": 1.0} | settings_
        with pytest.raises(ValueError, match=next(iter(settings_))):
            InertialKMTheorem(**options)
