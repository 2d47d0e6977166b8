"""The calculus of constants at extreme sizes, of constant, conical and hypomonotone operators."""

import math
import sys
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixpoint import IdentityOperator, as_operator, calculus, proximal, splittings, synthetic
from fixpoint.algebra import product
from fixpoint.constants.region import Region
from fixpoint.operator import Constants
from fixpoint.testing.declared_constants import INEQUALITIES, refutation

LARGEST = sys.float_info.max


def multiplication(z, **known):
    """By a complex number, on the plane; its scaled relative graph is {z, conj z}."""
    matrix = torch.tensor([[z.real, -z.imag], [z.imag, z.real]], dtype=torch.float64)
    operator = synthetic.Affine(matrix)
    for name in INEQUALITIES:
        setattr(operator, name, known.get(name))
    return operator


# Extreme sizes. Everything below is exact: rational numbers for z, |z|^2 and their images.

sizes = st.builds(math.ldexp, st.floats(0.5, 1), st.integers(-1060, 1020))
shares = st.sampled_from([Fraction(0), Fraction(1)]) | st.fractions(0, 1, max_denominator=1000)


@st.composite
def extreme_points(draw):
    """Constants of any size, and x, y with x + i y in their region."""
    lipschitz, share = draw(sizes), draw(st.sampled_from([0.0, 1e-300, 1e-9, 0.5, 1.0]))
    mu = draw(st.sampled_from([-1.0, 0.0, 1.0])) * share * lipschitz
    beta = draw(st.sampled_from([None, 0.0, 1e-9, 0.5, 1.0])) if mu >= 0 else None
    beta = beta / lipschitz if beta and math.isfinite(1 / lipschitz) else None
    known = Constants(cocoercivity=beta, lipschitz=lipschitz, strong_monotonicity=mu)
    region = Region.of(known)
    low, high = Fraction(region.strong_monotonicity), Fraction(region.lipschitz)
    x = low + draw(shares) * (high - low)
    square = high * high
    if 0 < region.cocoercivity < math.inf:
        square = min(square, x / Fraction(region.cocoercivity))
    height = max(square - x * x, Fraction(0))
    return known, x, draw(shares) * height  # Re z, (Im z)^2


def close(bound, value, size):
    return bound <= value + Fraction(1, 10**9) * abs(size) + Fraction(math.ulp(0.0)) * 8


def assert_holds(known, x, y2):
    """All stated constants hold at Re z = x, |z|^2 = x^2 + y2."""
    square = x * x + y2
    if known.lipschitz is not None:
        assert math.isfinite(known.lipschitz)
        limit = Fraction(known.lipschitz) * (1 + Fraction(1, 10**9))
        assert square <= limit * limit
    if known.strong_monotonicity is not None:
        mu = Fraction(known.strong_monotonicity)
        assert close(mu, x, max(abs(mu), abs(x)))
    if known.cocoercivity == math.inf:
        assert square == 0
    elif known.cocoercivity is not None:
        left = Fraction(known.cocoercivity) * square
        assert close(left, x, max(left, abs(x)))


@given(drawn=extreme_points(), factor=sizes, sign=st.sampled_from([-1, 1]), identity=sizes)
@settings(max_examples=300, deadline=None)
def test_constants_of_any_size_never_raise_and_hold_for_affine_images(
    drawn, factor, sign, identity
):
    known, x, y2 = drawn
    assert_holds(Region.of(known).constants(), x, y2)
    for shift in (0.0, identity, -identity):
        p, q = Fraction(sign * factor), Fraction(shift)
        found = Region.of(known).affine(shift, sign * factor).constants()
        assert_holds(found, p * x + q, p * p * y2)


@given(drawn=extreme_points(), step=sizes)
@settings(max_examples=300, deadline=None)
def test_constants_of_any_size_never_raise_and_hold_for_inverses_and_resolvents(drawn, step):
    known, x, y2 = drawn
    region, s = Region.of(known), Fraction(step)
    square = x * x + y2
    if square > 0:
        assert_holds(region.inverse().constants(), x / square, y2 / square**2)
    below = (1 + s * x) ** 2 + s * s * y2
    if below == 0:
        return
    real, height = (1 + s * x) / below, s * s * y2 / below**2
    assert_holds(calculus.resolvent(known, step), real, height)
    assert_holds(calculus.reflected_resolvent(known, step), 2 * real - 1, 4 * height)


@given(first=extreme_points(), second=extreme_points())
@settings(max_examples=300, deadline=None)
def test_constants_of_any_size_never_raise_and_hold_for_sums_and_compositions(first, second):
    (known, x, y2), (other, u, v2) = first, second
    y, v = (Fraction(math.isqrt(int(n * 10**700))) / 10**350 for n in (y2, v2))
    regions = [Region.of(known), Region.of(other)]
    for turn in (-1, 1):
        assert_holds(calculus.total(regions), x + u, (y + turn * v) ** 2)
        real, imaginary = x * u - turn * y * v, x * turn * v + y * u
        assert_holds(calculus.composition(known, other), real, imaginary**2)
        # z + w - z w, of I - (I - T)(I - S)
        succession = calculus.succession(known, other)
        assert_holds(succession, x + u - real, (y + turn * v - imaginary) ** 2)
    calculus.side_by_side([known, other])


@pytest.mark.parametrize(
    "known",
    [
        {"lipschitz": 1e-300, "strong_monotonicity": 0.0},
        {"lipschitz": 1e200, "strong_monotonicity": 1e-200},
        {"lipschitz": 5e-324, "strong_monotonicity": 5e-324},
        {"lipschitz": LARGEST, "strong_monotonicity": -LARGEST},
        {"cocoercivity": LARGEST},
        {"cocoercivity": 5e-324},
        {"averagedness": 5e-324},
        {"averagedness": LARGEST},
        {"strong_monotonicity": LARGEST},
        {"strong_monotonicity": -LARGEST},
    ],
)
def test_extreme_constants_pass_through_every_operation(known):
    T = as_operator(lambda z: z, **known)
    for factor in (2, 1e-300, 1e300, -1e300):
        made = T * factor
        for other in (T, made, IdentityOperator()):
            for result in (made + other, made @ other, made.after(other), product(made, other)):
                assert result.lipschitz != 0
        for result in (made.complement, made.complement.complement):
            assert result.lipschitz != 0


def test_a_power_of_two_on_an_operator_scales_its_constants_exactly():
    known = Constants(cocoercivity=0.3, lipschitz=1.7, strong_monotonicity=0.9)
    plain = calculus.complement(known)
    for exponent in (-500, 500):
        c = 2.0**exponent
        scaled = calculus.scaled(known, c)
        region = Region.of(scaled).affine(c, -1).constants()
        assert region.lipschitz == plain.lipschitz * c
        assert calculus.scaled(scaled, 1 / c) == calculus.scaled(known, 1.0)


# Constant operators


def test_a_constant_operator_is_cocoercive_with_every_beta():
    T = as_operator(torch.zeros_like, lipschitz=0.0)
    known = Constants(math.inf, 0.0, 0.0, 0.0)
    J = T.resolvent(1.0, tolerance=1e-9)
    for made in (2 * T, -T, T + T, T @ T, T.after(T), product(T, T), J.complement):
        assert {name: getattr(made, name) for name in INEQUALITIES} == vars(known)


@given(drawn=extreme_points())
@settings(max_examples=50, deadline=None)
def test_a_constant_operator_beside_another_leaves_the_constants_of_that(drawn):
    known = drawn[0]
    constant, own = Constants(lipschitz=0.0), Region.of(known).constants()
    for found in (
        calculus.total([Region.of(constant), Region.of(known)]),
        calculus.succession(constant, known),
        calculus.succession(known, constant),
    ):
        for name in ("lipschitz", "strong_monotonicity", "cocoercivity"):
            value, expected = getattr(found, name), getattr(own, name)
            assert value == expected or value == pytest.approx(expected, rel=1e-9), name


def test_after_a_multiple_of_the_identity_everything_is_known():
    # I - (I - T)(I - c I) = c I + (1 - c) T
    T, c = Constants(lipschitz=2.0, strong_monotonicity=-0.5), 0.25
    multiple = Constants(cocoercivity=1 / c, lipschitz=c, strong_monotonicity=c)
    expected = Region.of(T).affine(c, 1 - c).constants()
    assert calculus.succession(T, multiple) == calculus.succession(multiple, T) == expected
    assert expected.strong_monotonicity == pytest.approx(0.25 - 0.75 * 0.5)


# Conically averaged maps (Bartz, Dao & Phan 2022)


def disc_point(theta, angle, radius=1.0):
    return theta + radius * theta * complex(math.cos(angle), math.sin(angle))


angles = st.floats(0, 2 * math.pi)


@given(
    first=st.floats(0.01, 20),
    share=st.floats(0.01, 0.99),
    angle=angles,
    other=angles,
    swap=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_conically_averaged_maps_compose_below_product_1_and_the_constant_holds(
    first, share, angle, other, swap
):
    thetas = first, share / first
    if swap:
        thetas = thetas[::-1]
    z, w = (disc_point(theta, at) for theta, at in zip(thetas, (angle, other), strict=True))
    T, S = (multiplication(v, averagedness=t) for v, t in zip((z, w), thetas, strict=True))
    made, p = T.after(S), thetas[0] * thetas[1]
    expected = (1 - p) / (2 * (sum(thetas) - 2 * p))
    assert made.cocoercivity >= expected * (1 - 1e-9)
    value = z + w - z * w
    assert value.real >= made.cocoercivity * abs(value) ** 2 * (1 - 1e-9) - 1e-9


@pytest.mark.parametrize(("first", "second"), [(2.0, 0.4), (0.1, 1.75), (1.0, 0.7), (5.0, 0.1)])
def test_the_constant_of_a_conic_composition_is_attained(first, second):
    p = first * second
    theta = (first + second - 2 * p) / (1 - p)
    found = calculus.succession(Constants(averagedness=first), Constants(averagedness=second))
    assert found.cocoercivity == pytest.approx(1 / (2 * theta))
    grid = [2 * math.pi * i / 400 for i in range(400)]
    points = [(disc_point(first, a), disc_point(second, b)) for a in grid for b in grid]
    values = [z + w - z * w for z, w in points]
    least = min(v.real / abs(v) ** 2 for v in values if abs(v) > 1e-6)
    assert least == pytest.approx(found.cocoercivity, rel=1e-2)


@pytest.mark.parametrize(("first", "second"), [(2.0, 0.5), (2.0, 0.6), (1.5, 1.5), (1.0, 1.2)])
def test_from_product_1_on_a_conic_composition_is_not_known_to_be_monotone(first, second):
    found = calculus.succession(Constants(averagedness=first), Constants(averagedness=second))
    assert found.cocoercivity is None
    grid = [2 * math.pi * i / 300 for i in range(300)]
    points = [(disc_point(first, a), disc_point(second, b)) for a in grid for b in grid]
    values = [z + w - z * w for z, w in points]
    ratios = [v.real / abs(v) ** 2 for v in values if abs(v) > 1e-6]
    assert min(ratios) < 0.02


# Hypomonotone operators


def hypomonotone(lipschitz=2.0, mu=-0.5):
    """T z = -z/2 + 3/2 sin z: its derivative runs from -2 to 1."""
    return as_operator(lambda z: -0.5 * z + 0.5 * z.sin(), lipschitz=1.0, strong_monotonicity=-1.0)


@st.composite
def hypomonotone_operators(draw):
    seed = draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    matrix = matrix * draw(st.floats(0.1, 3)) + draw(st.floats(0, 2)) * torch.eye(4)
    mu = float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[0])
    assume(mu < -1e-3)
    operator = synthetic.Affine(
        matrix,
        lipschitz=draw(
            st.none() | st.just(float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-12))
        ),
        strong_monotonicity=mu * (1 + 1e-12),
    )
    return operator, -mu


def assert_no_pair_refutes(operator, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b, center = torch.randn(3, 3, 4, generator=generator, dtype=torch.float64)
    for name in INEQUALITIES:
        assert refutation(operator, name, a, b, center, 1e-10) is None, name


@given(drawn=hypomonotone_operators(), share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_sampled_pairs_never_violate_what_follows_from_hypomonotonicity(drawn, share, seed):
    T, modulus = drawn
    step = share / modulus
    J = T.resolvent(step)
    assert J.cocoercivity == pytest.approx(1 - share)  # Bauschke, Moursi & Wang 2021
    assert J.lipschitz == pytest.approx(1 / (1 - share))
    assert (T + 2 * modulus * IdentityOperator()).strong_monotonicity == pytest.approx(modulus)
    for made in (
        T,
        3 * T,
        -T,
        T + T,
        T - 0.5 * IdentityOperator(),
        T + 2 * modulus * IdentityOperator(),
        T.complement,
        J,
        T.reflected_resolvent(step),
        T.yosida(step),
        T.resolvent(step).complement,
        T @ T,
        T.after(J),
    ):
        assert_no_pair_refutes(made, seed)


def test_a_declared_negative_modulus_is_kept_scaled_and_added():
    T = as_operator(torch.cos, strong_monotonicity=-1.0)
    S = as_operator(torch.sin, cocoercivity=0.25, strong_monotonicity=1.5)
    assert (2 * T).strong_monotonicity == -2.0
    assert (T + S).strong_monotonicity == 0.5
    assert (T + T).strong_monotonicity == -2.0
    assert product(T, S).strong_monotonicity == -1.0
    assert (T @ S).strong_monotonicity is None
    assert (-T).strong_monotonicity is None
    assert T.cocoercivity is None
    assert (T + S).cocoercivity is None  # no Lipschitz constant of T


def test_a_hypomonotone_operator_has_an_iterative_resolvent_below_the_limit_only():
    T = as_operator(lambda z: 1.5 * z.sin() - 0.5 * z, lipschitz=2.0, strong_monotonicity=-2.0)
    z = torch.linspace(-3, 3, 8, dtype=torch.float64).reshape(2, 4)
    u = T.resolvent(0.45, tolerance=1e-10)(z)
    torch.testing.assert_close(u + 0.45 * T(u), z, rtol=1e-8, atol=1e-8)
    stiff = as_operator(lambda z: 5 * z + z.sin(), lipschitz=6.0, strong_monotonicity=-0.5)
    u = stiff.resolvent(1.9, tolerance=1e-10)(z)  # step L is far above 1
    torch.testing.assert_close(u + 1.9 * stiff(u), z, rtol=1e-8, atol=1e-8)
    for step in (2.0, 2.5):
        with pytest.raises(ValueError, match=r"step \|mu\| < 1.*strong_monotonicity -0.5"):
            stiff.resolvent(step, tolerance=1e-10)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_modulus_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="strong_monotonicity must be a finite number"):
        as_operator(torch.sin, strong_monotonicity=value)


def test_a_splitting_states_nothing_for_a_part_that_is_hypomonotone():
    A = synthetic.diagonal([-0.1, 1.0])
    A.cocoercivity, A.strong_monotonicity = None, -0.2  # a lower bound, short of the truth
    with pytest.raises(ValueError, match="must be monotone"):
        splittings.DouglasRachford(A, proximal.L1(1.0), 1.0)
    B = as_operator(lambda z: z, strong_monotonicity=-0.2, lipschitz=1.0)
    bounds = splittings.bounds.operator_bounds("B", B)
    assert not bounds.monotone
    assert bounds.strong == 0
