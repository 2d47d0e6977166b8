import cmath
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixpoint import (
    ForwardStep,
    InertialKM,
    TheoremWarning,
    as_operator,
    proximal,
    solve,
    subdifferential,
    synthetic,
    theory,
)
from fixpoint.constants.region import Region

alphas = st.floats(0, 0.99)
betas = st.floats(0.05, 20)


@given(rho=st.floats(0.01, 50), beta=betas)
def test_the_descent_is_positive_exactly_inside_theorem_1(rho, beta):
    assert (theory.forward_step_descent(rho, beta) > 0) == (rho < 2 * beta)


@given(alpha=alphas)
def test_the_largest_relaxation_is_where_condition_13_turns(alpha):
    bound = theory.largest_relaxation(alpha)
    assert theory.inertia_margin(alpha, bound * (1 - 1e-9)) > 0
    assert theory.inertia_margin(alpha, bound * (1 + 1e-9)) < 0


def admits(alpha, relaxation):
    """Condition (13) of two floats, in rational numbers."""
    a = Fraction(alpha)
    return (1 - a) ** 2 > Fraction(relaxation) * (1 - a + 2 * a**2)


def neighbours(x, count=4):
    """The floats around one, in order."""
    below, above = [x], [x]
    for _ in range(count):
        below.append(math.nextafter(below[-1], -math.inf))
        above.append(math.nextafter(above[-1], math.inf))
    return [*reversed(below), *above[1:]]


@given(alpha=st.floats(0, 1, exclude_max=True))
@settings(max_examples=300)
def test_condition_13_is_decided_to_the_last_bit(alpha):
    for relaxation in neighbours(theory.largest_relaxation(alpha)):
        if not relaxation > 0:
            continue
        inside = admits(alpha, relaxation)
        assert (theory.inertia_margin(alpha, relaxation) > 0) == inside
        assert (theory.inertial_constants(alpha, relaxation, 1.0).eps > 0) == inside
        if inside:
            InertialKM(inertia=alpha, relaxation=relaxation)
        else:
            with pytest.warns(TheoremWarning, match="theorem 2 does not cover this"):
                InertialKM(inertia=alpha, relaxation=relaxation)


def test_a_pair_beyond_the_bound_by_rounding_alone_is_warned_of():
    with pytest.warns(TheoremWarning, match=r"3\.28e-18 beyond it: theorem 2 does not cover"):
        InertialKM(inertia=0.07812481481121429, relaxation=0.9098277376053459)
    with pytest.raises(ValueError, match="relaxation must be below"):
        InertialKM(inertia=0.07812481481121429, relaxation=0.9098277376053459 + 1e-14)


@pytest.mark.filterwarnings("error::fixpoint.TheoremWarning")
def test_a_run_that_another_pair_covers_is_not_warned_of():
    """lambda 0.1 and beta 1 make the steps of lambda 1/9 and beta 0.9."""
    zero = torch.ones(1, 2, dtype=torch.float64)
    operator = synthetic.Cocoercive(0.9, zero)
    InertialKM(inertia=0.2, relaxation=0.1, cocoercivity=1.0).init(operator, zero)
    operator.cocoercivity = operator.beta = 0.1  # now lambda' is 1
    with pytest.warns(TheoremWarning, match="theorem 2 does not cover this run"):
        InertialKM(inertia=0.2, relaxation=0.1, cocoercivity=1.0).init(operator, zero)


@given(relaxation=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_largest_inertia_is_the_last_one_admitted(relaxation):
    alpha = theory.largest_inertia(relaxation)
    assert admits(alpha, relaxation)
    assert not admits(math.nextafter(alpha, 1), relaxation)


@pytest.mark.parametrize("relaxation", [math.nan, math.inf, -1.0, 0.0])
def test_a_relaxation_that_is_no_number_above_0_is_refused(relaxation):
    assert not (relaxation > 0 and theory.inertia_margin(0.2, relaxation) > 0)
    with pytest.raises(ValueError, match="relaxation"):
        InertialKM(relaxation=relaxation)


@given(relaxation=st.floats(0.001, 0.999))
def test_the_largest_inertia_inverts_the_largest_relaxation(relaxation):
    alpha = theory.largest_inertia(relaxation)
    assert 0 < alpha < 1
    assert theory.largest_relaxation(alpha) == pytest.approx(relaxation, rel=1e-9)


@given(alpha=alphas, fraction=st.floats(0.01, 1.5), beta=betas)
def test_eps_and_the_bound_are_finite_exactly_inside_condition_13(alpha, fraction, beta):
    relaxation = fraction * theory.largest_relaxation(alpha)
    constants = theory.inertial_constants(alpha, relaxation, beta)
    if abs(fraction - 1) > 1e-6:
        assert (constants.eps > 0) == (fraction < 1)
        assert math.isfinite(constants.bound) == (fraction < 1)
    assert constants.rho == pytest.approx(2 * relaxation * beta)


def test_the_papers_own_setting_needs_beta_above_0_086():
    # rho = 0.001 and alpha = 0.9: lambda = rho / (2 beta) meets (13) exactly when beta > 0.086.
    smallest = 0.001 / (2 * theory.largest_relaxation(0.9))
    assert smallest == pytest.approx(0.086, abs=5e-4)


def test_the_lyapunov_sequence_by_hand():
    one = torch.tensor([1.0])
    # nu = 1, alpha = 1/4: 4 - 1/4 * 2 + 1 * 3/4 * 3 = 5.75
    assert theory.lyapunov(4 * one, 2 * one, 3 * one, 0.25, 0.5).item() == 5.75


@given(beta=betas, n=st.integers(0, 30))
def test_the_worst_cases_are_ordered(beta, n):
    km = theory.km_residual_bound(1.0, beta, n)
    assert theory.forward_step_residual_bound(1.0, beta, beta, n) >= km * (1 - 1e-12)
    assert theory.halpern_residual_bound(1.0, beta, n) <= km * (1 + 1e-12) or n < 3
    assert theory.km_residual_bound(1.0, beta, 5) ** 2 * beta**2 == pytest.approx(
        (1 / 6) * (5 / 6) ** 5
    )


def test_no_forward_step_is_slower_than_its_worst_case():
    zero = torch.zeros(1, 2, dtype=torch.float64)
    z0 = torch.ones_like(zero)
    for angle in torch.linspace(0.05, 3.1, 40).tolist():
        matrix = synthetic.rotation(angle).matrix
        operator = synthetic.Cocoercive(0.5, zero, lambda z, m=matrix: z @ m.T)
        solution = solve(
            operator, z0, ForwardStep(step_size=0.5), rtol=0.0, atol=0.0, max_iterations=30
        )
        for n, norm in enumerate(solution.history.residual_norm[:, 0].tolist()):
            assert norm <= theory.km_residual_bound(math.sqrt(2), 0.5, n) * (1 + 1e-9)


def test_the_bound_outside_the_interval_is_refused_with_the_inequality():
    with pytest.raises(ValueError, match="0 < step_size < 2 beta = 1, got 1"):
        theory.forward_step_residual_bound(1.0, 1.0, 0.5, 3)
    for call in (theory.largest_relaxation, lambda a: theory.inertial_constants(a, 0.5, 1.0)):
        with pytest.raises(ValueError, match="inertia"):
            call(1.0)
    with pytest.raises(ValueError, match="relaxation"):
        theory.largest_inertia(1.0)


def test_the_best_step_contracts_as_fast_as_it_says():
    operator = synthetic.dense(torch.linspace(0.5, 2, 6), torch.zeros(3, 6, dtype=torch.float64))
    step = theory.best_step_size(operator)
    factor = theory.contraction_factor(operator, step)
    assert step == 0.5
    assert factor < 1
    solution = solve(
        operator,
        torch.randn(3, 6, dtype=torch.float64),
        ForwardStep(step_size=step),
        max_iterations=20,
        monitors=(),
    )
    assert (solution.residual_norm <= solution.history.residual_norm[0]).all()
    skew = as_operator(lambda z: z, strong_monotonicity=0.1, lipschitz=1.0)
    assert theory.best_step_size(skew) == pytest.approx(0.1)
    assert theory.contraction_factor(skew, 0.1) == pytest.approx(math.sqrt(0.99))
    assert theory.best_step_size(as_operator(torch.sin)) is None
    assert theory.contraction_factor(as_operator(torch.sin), 1.0) is None


sizes = st.floats(0.05, 20)


@st.composite
def declared(draw):
    """Constants that do not contradict each other, some of them not declared."""
    lipschitz = draw(sizes)
    mu = lipschitz * draw(st.sampled_from([-0.5, 0.0, 0.3, 1.0]) | st.floats(0, 1))
    known = {"lipschitz": lipschitz, "strong_monotonicity": mu}
    if mu >= 0:
        known["cocoercivity"] = draw(st.floats(0.01, 1)) / lipschitz
        known["averagedness"] = lipschitz / 2 / draw(st.floats(0.01, 1))
    dropped = draw(st.sets(st.sampled_from(sorted(known)), max_size=3))
    return {name: value for name, value in known.items() if name not in dropped}


@given(known=declared(), exponent=st.integers(-400, 400))
def test_no_other_step_has_a_better_guarantee_and_the_best_one_scales(known, exponent):
    operator = as_operator(lambda z: z, **known)
    step = theory.best_step_size(operator)
    scaled = theory.best_step_size(2.0**exponent * operator)
    if step is None:
        assert scaled is None
        factors = [theory.contraction_factor(operator, rho) for rho in (1e-3, 0.1, 1.0)]
        assert all(factor is None or factor >= 1 for factor in factors)
        return
    assert scaled == pytest.approx(step * 2.0**-exponent, rel=1e-12, abs=0)
    least = theory.contraction_factor(operator, step)
    for share in (0.1, 0.5, 0.9, 0.99, 1.01, 1.1, 1.5, 1.9, 3.0):
        assert theory.contraction_factor(operator, share * step) >= least - 1e-12
    beta = max(
        known.get("cocoercivity", 0.0),
        0.5 / known["averagedness"] if "averagedness" in known else 0.0,
        known.get("strong_monotonicity", 0.0) / known.get("lipschitz", math.inf) ** 2,
    )
    assert step == pytest.approx(beta)


def test_every_declared_constant_counts_for_the_best_step():
    exact = as_operator(lambda z: z, cocoercivity=0.01, lipschitz=1.0, strong_monotonicity=1.0)
    assert theory.best_step_size(exact) == 1.0
    assert theory.contraction_factor(exact, 1.0) == 0.0
    averaged = as_operator(lambda z: z / 2, averagedness=0.25)
    assert theory.best_step_size(averaged) == 2.0
    assert theory.contraction_factor(averaged, 2.0) == 1.0
    conical = as_operator(lambda z: 4 * z, averagedness=2.0)
    assert theory.best_step_size(conical) == 0.25
    hypomonotone = as_operator(torch.sin, lipschitz=1.0, strong_monotonicity=-0.5)
    assert theory.best_step_size(hypomonotone) is None
    assert theory.best_step_size(as_operator(torch.zeros_like, lipschitz=0.0)) is None


def test_the_best_gradient_step_is_two_over_the_sum_of_the_extreme_curvatures():
    gradient = subdifferential(proximal.SquaredL2(0.5)) + torch.ones(1, 2)  # 1/2 I
    assert theory.best_step_size(gradient) == pytest.approx(2.0)
    quadratic = proximal.Quadratic(torch.diag(torch.tensor([0.5, 2.0], dtype=torch.float64)))
    step = theory.best_step_size(subdifferential(quadratic))
    assert step == pytest.approx(2 / (0.5 + 2))
    assert theory.contraction_factor(subdifferential(quadratic), step) == pytest.approx(1.5 / 2.5)


@given(known=declared(), angle=st.floats(0, math.pi), share=st.floats(0, 1))
def test_sampled_operators_contract_as_fast_as_the_factor_says(known, angle, share):
    region = Region.of(as_operator(lambda z: z, **known))
    z = share * min(region.lipschitz, 100.0) * cmath.exp(1j * angle)
    assume(z.real >= region.strong_monotonicity)
    assume(z.real >= region.cocoercivity * abs(z) ** 2)
    operator = as_operator(lambda z: z, **known)
    for rho in (0.1, 1.0, theory.best_step_size(operator) or 2.0):
        factor = theory.contraction_factor(operator, rho)
        assert factor is None or abs(1 - rho * z) <= factor * (1 + 1e-9) + 1e-9
