"""Every rule of the calculus of constants is attained by an example, and nothing is invented."""

import cmath
import math

import pytest
import torch
from algebra_cases import (
    BINARY,
    NAMES,
    RESOLVENTS,
    ROWS,
    SIZE,
    STEP,
    UNARY,
    assert_holds,
    assert_inequalities,
    constants,
    normal,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixpoint import as_operator, proximal, synthetic
from fixpoint.algebra import IdentityOperator, product, subdifferential
from fixpoint.calculus import succession, total
from fixpoint.constants.region import Region
from fixpoint.operator import Constants

# Sharpness. The multiplication of the plane by a complex number z has the scaled relative graph
# {z, conj z}: it attains a constant where z is on the boundary of the region.


def multiplication(z, known):
    z = complex(z)
    matrix = torch.tensor([[z.real, -z.imag], [z.imag, z.real]], dtype=torch.float64)
    operator = synthetic.Affine(matrix)
    for name in NAMES:
        setattr(operator, name, getattr(known, name))
    return operator


def measured(operator):
    """(Re z, |z|^2) of the multiplication that the operator is."""
    point = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    value = operator(point) - operator(torch.zeros_like(point))
    return float(value[0, 0]), float(value.square().sum())


def extremes(numbers):
    """The constants that these (Re z, |z|^2) attain."""
    return {
        "lipschitz": max(math.sqrt(s) for _, s in numbers),
        "strong_monotonicity": min(x for x, _ in numbers),
        "cocoercivity": min((x / s for x, s in numbers if s > 1e-18), default=math.inf),
    }


def assert_attained(operator, numbers, rel=1e-9, names=NAMES):
    """Every stated constant is attained by one, and what is not stated is not to be had."""
    found = extremes(numbers)
    for name in names:
        value = getattr(operator, name)
        if name == "averagedness":
            if value is not None:
                assert value == pytest.approx(1 / (2 * operator.cocoercivity), rel=1e-12)
        elif value is not None:
            assert value == pytest.approx(found[name], rel=rel, abs=1e-9), name
        elif name == "cocoercivity":
            assert found[name] <= 1e-9, name
        elif name == "strong_monotonicity":
            assert found[name] < 0, name
    beta = operator.cocoercivity
    assert (operator.averagedness is None) == (beta is None or beta < 0.5 * (1 - 1e-12))


@st.composite
def regions(draw, monotone=None):
    """Constants (beta, L, mu) of which none follows from the others, and the ends and corners."""
    lipschitz = draw(st.floats(0.2, 5))
    if monotone is None and draw(st.integers(0, 4)) == 0:
        return Constants(lipschitz=lipschitz), [-lipschitz, lipschitz, 1j * lipschitz]
    if monotone is None and draw(st.integers(0, 4)) == 0:
        mu = -draw(st.floats(0.05, 0.95)) * lipschitz
        upper = complex(mu, math.sqrt(lipschitz**2 - mu**2))
        return Constants(lipschitz=lipschitz, strong_monotonicity=mu), [mu, lipschitz, upper]
    mu = draw(st.floats(0.05, 0.95) | st.just(0.0)) * lipschitz
    low, high = mu / lipschitz**2, 1 / lipschitz
    beta = low + draw(st.floats(0.02, 0.98)) * (high - low)
    upper = complex(beta * lipschitz**2, lipschitz * math.sqrt(1 - (beta * lipschitz) ** 2))
    lower = complex(mu, math.sqrt(max(mu / beta - mu**2, 0)))
    return Constants(beta, lipschitz, mu), [mu, lipschitz, upper, lower]


@given(region=regions())
@settings(max_examples=50, deadline=None)
def test_scalings_resolvents_and_inverses_attain_their_constants_at_the_corners(region):
    known, corners = region
    operators = [multiplication(z, known) for z in corners]
    rules = {name: make for name, make in UNARY.items() if "b" not in name.split()}
    del rules["translated"]
    del rules["T - (I - T)"]
    least = -known.lipschitz if known.strong_monotonicity is None else known.strong_monotonicity
    if least * STEP > -0.95:
        rules |= RESOLVENTS
        del rules["resolvent of the multiple"]
    if least < 0:
        rules.pop("resolvent of yosida", None)
        rules.pop("resolvent of the resolvent", None)
    for label, make in rules.items():
        made = [make(operator) for operator in operators]
        if label in ("resolvent of yosida", "resolvent of the resolvent"):
            made = [each for each in made if each.lipschitz is not None]
        assert_attained(made[0], [measured(each) for each in made])
    if least > 0:
        made = [operator.inverse() for operator in operators]
        assert_attained(made[0], [measured(each) for each in made])


@given(mu=st.floats(0.05, 3), step=st.floats(0.1, 3))
@settings(max_examples=30, deadline=None)
def test_resolvents_of_unbounded_operators_attain_their_constants(mu, step):
    known = Constants(strong_monotonicity=mu)
    operators = [multiplication(z, known) for z in (mu, complex(mu, 1e9), complex(mu, 2.0))]
    for make in (
        lambda T: T.resolvent(step),
        lambda T: T.reflected_resolvent(step),
        lambda T: T.yosida(step),
        lambda T: T.inverse(),
    ):
        made = [make(operator) for operator in operators]
        assert_attained(made[0], [measured(each) for each in made], rel=1e-8)
    assert made[0].cocoercivity == pytest.approx(mu)


def support_point(known, angle):
    """The point of G that lies farthest in direction `angle`, in [0, pi]."""
    beta, lipschitz, mu = known.cocoercivity, known.lipschitz, known.strong_monotonicity
    direction = cmath.exp(1j * angle)
    candidates = [lipschitz * direction]
    if mu is not None and mu < 0:
        candidates.append(complex(mu, math.sqrt(lipschitz**2 - mu**2)))
        candidates = [z for z in candidates if z.real >= mu - 1e-12]
    elif mu is not None:
        candidates += [
            (1 + direction) / (2 * beta),
            complex(beta * lipschitz**2, lipschitz * math.sqrt(1 - (beta * lipschitz) ** 2)),
            complex(mu, math.sqrt(max(mu / beta - mu**2, 0))),
        ]
        candidates = [
            z
            for z in candidates
            if abs(z) <= lipschitz * (1 + 1e-12)
            and z.real >= mu - 1e-12
            and z.real >= beta * abs(z) ** 2 * (1 - 1e-12) - 1e-12
        ]
    return max(candidates, key=lambda z: (z * direction.conjugate()).real)


def worst_angle(quotient):
    """The argmax of the quotient on [0, pi), found on a grid and by golden sections."""
    grid = [math.pi * (i + 0.5) / 2000 for i in range(2000)]
    best = max(grid, key=quotient)
    low, high = max(best - math.pi / 2000, 0), best + math.pi / 2000
    for _ in range(60):
        third = (high - low) / 3
        if quotient(low + third) < quotient(high - third):
            low += third
        else:
            high -= third
    return (low + high) / 2


@given(first=regions(), second=regions(True))
@settings(max_examples=15, deadline=None)
def test_a_sum_attains_its_constants(first, second):
    (known, ends), (other, others) = first, second

    def pair(angle):
        return support_point(known, angle), support_point(other, angle)

    def quotient(angle):
        projected = sum((z * cmath.exp(-1j * angle)).real for z in pair(angle))
        # where the quotient is level, the smallest angle: z near 0 has no digits
        return projected / (1 + math.cos(angle)) - 1e-9 * angle

    def added(z, w):
        return multiplication(z, known) + multiplication(w, other)

    pairs = [(ends[0], others[0]), (ends[1], others[1])]
    result = added(*pairs[0])
    if result.cocoercivity is not None:
        pairs.append(pair(worst_angle(quotient)))
        separate = known.cocoercivity and other.cocoercivity
        if separate:  # better than 1/beta = 1/beta_1 + 1/beta_2
            assert 1 / result.cocoercivity <= 1 / known.cocoercivity + 1 / other.cocoercivity + 1e-9
    numbers = [measured(added(*each)) for each in pairs]
    names = NAMES if result.cocoercivity is not None else ("lipschitz", "strong_monotonicity")
    if result.strong_monotonicity is None:
        names = ("lipschitz",)
    if result.cocoercivity is not None or "lipschitz" not in names:
        assert_attained(result, numbers, names=names)
    else:
        found = extremes(numbers)
        for name in names:
            assert getattr(result, name) == pytest.approx(found[name], rel=1e-9, abs=1e-9)


def test_the_parallel_sum_rule_and_what_joint_knowledge_adds_to_it():
    zero = normal(ROWS, SIZE)
    total = synthetic.Cocoercive(0.5, zero) + synthetic.Cocoercive(2.0, zero)
    assert total.cocoercivity == pytest.approx(1 / (1 / 0.5 + 1 / 2.0))
    a, b = normal(2, ROWS, SIZE, seed=1)
    change, offset = total(a) - total(b), a - b
    inner, moved = (change * offset).sum(1), (change * change).sum(1)
    torch.testing.assert_close(inner, total.cocoercivity * moved)
    # A quarter turn alone is not cocoercive; with 2 I it is.
    turn = synthetic.rotation(math.pi / 2, size=SIZE)
    turn.strong_monotonicity, turn.cocoercivity = 0.0, None
    joint = 2.0 * IdentityOperator() + turn
    assert joint.cocoercivity == pytest.approx(1 / 3)  # attained where it does not turn
    assert_holds(joint, 3, "2 I + R")


def test_a_difference_of_cocoercive_operators_has_the_larger_lipschitz_constant():
    numbers = []
    first, second = Constants(cocoercivity=0.5), Constants(cocoercivity=0.25)
    for z, w in ((2, 0), (0, 4), (1 + 1j, 2 - 2j)):
        difference = multiplication(z, first) - multiplication(w, second)
        numbers.append(measured(difference))
    # The discs with diameters [0, 2] and [-4, 0]: the sum of their radii and of their distance.
    assert difference.lipschitz == pytest.approx(1 + 2 + 3 - 2)
    assert max(math.sqrt(s) for _, s in numbers) == pytest.approx(difference.lipschitz)
    assert difference.strong_monotonicity is None
    assert difference.cocoercivity is None


@given(first=regions(True), second=regions(True))
@settings(max_examples=60, deadline=None)
def test_a_composition_attains_its_constants_at_the_corners(first, second):
    (known, (_, size, _, corner)), (other, (_, other_size, _, other_corner)) = first, second
    pairs = [(size, other_size), (corner, other_corner)]
    composed = [multiplication(z, known) @ multiplication(w, other) for z, w in pairs]
    numbers = [measured(each) for each in composed]
    result = composed[0]
    assert result.lipschitz == pytest.approx(math.sqrt(numbers[0][1]))
    if result.strong_monotonicity is None:
        assume(known.strong_monotonicity and other.strong_monotonicity)
        assert numbers[1][0] < 1e-9  # the corners turn by more than a quarter
    else:
        assert result.strong_monotonicity == pytest.approx(numbers[1][0], rel=1e-9, abs=1e-9)
        if result.cocoercivity is not None:
            x, s = numbers[1]
            assert result.cocoercivity == pytest.approx(x / s, rel=1e-8)


@given(thetas=st.tuples(st.floats(0.1, 0.95), st.floats(0.1, 0.95)))
@settings(max_examples=60, deadline=None)
def test_successive_averaged_maps_attain_the_rule_of_ogura_and_yamada(thetas):
    first, second = thetas
    expected = (first + second - 2 * first * second) / (1 - first * second)

    def turning(theta, other):
        # 1 - z on the circle |1 - z - (1 - theta)| = theta: nearly the identity
        z = 2 * theta / (1 + 1j / (1e-6 * (1 - other)))
        return multiplication(z, Constants(averagedness=theta))

    both = turning(first, second).after(turning(second, first))
    assert both.averagedness == pytest.approx(expected, rel=1e-9)
    x, s = measured(both)
    assert s / (2 * x) == pytest.approx(expected, rel=1e-9)
    assert both.cocoercivity == pytest.approx(x / s, rel=1e-9)


def test_successive_contractions_attain_the_product_of_their_factors():
    both = (IdentityOperator() / 4).after(IdentityOperator() / 2)  # maps 3/4 I and 1/2 I
    assert both.strong_monotonicity == pytest.approx(1 - 0.75 * 0.5)
    assert measured(both)[0] == pytest.approx(both.strong_monotonicity)
    turned = (1.75 * IdentityOperator()).after(IdentityOperator() / 2)  # -3/4 I and 1/2 I
    assert turned.lipschitz == pytest.approx(1 + 0.75 * 0.5)
    assert turned.cocoercivity == pytest.approx(1 / (1 + 0.75 * 0.5))
    assert math.sqrt(measured(turned)[1]) == pytest.approx(turned.lipschitz)


def test_a_product_attains_the_worst_of_its_blocks():
    first, second = synthetic.diagonal([1.0, 3.0]), synthetic.diagonal([0.5, 2.0])
    both = product(first, second)
    assert (both.lipschitz, both.strong_monotonicity, both.cocoercivity) == (3.0, 0.5, 1 / 3)
    basis = torch.eye(2, dtype=torch.float64)
    assert both((basis, 0 * basis))[0][1].norm() == 3.0
    assert both((0 * basis, basis))[1][0].norm() == 0.5
    assert product(first, as_operator(torch.tanh)).lipschitz is None


# None where nothing is known.


def test_nothing_is_made_of_nothing():
    unknown = as_operator(torch.tanh)
    plain = synthetic.Cocoercive(1.0, normal(ROWS, SIZE))
    for make in UNARY.values():
        assert set(constants(make(unknown)).values()) == {None}
    for make in BINARY.values():
        if make is not BINARY["(T + I) @ (S + I)"]:
            assert set(constants(make(unknown, plain)).values()) == {None}
            assert set(constants(make(plain, unknown)).values()) == {None}
    assert set(constants(unknown @ unknown).values()) == {None}
    nothing = synthetic.Affine(torch.eye(SIZE, dtype=torch.float64))
    for make in RESOLVENTS.values():
        if make is not RESOLVENTS["resolvent of the multiple"]:
            assert set(constants(make(nothing)).values()) == {None}
    assert set(constants(nothing.inverse()).values()) == {None}


def test_a_lipschitz_constant_alone_stays_alone():
    operator = as_operator(torch.sin, lipschitz=1.5)
    for made, size in ((-operator, 1.5), (operator @ operator, 2.25), (operator - operator, 3.0)):
        assert constants(made) == {**dict.fromkeys(NAMES), "lipschitz": size}
    # of the disc of radius 1.5 about 1 more is known than that of radius 2.5 about 0
    known = {"lipschitz": 2.5, "strong_monotonicity": -0.5}
    assert constants(operator.complement) == {**dict.fromkeys(NAMES), **known}
    # but I + T/2 is monotone: the half disc about 1 lies in the right half-plane
    assert (IdentityOperator() + operator / 2).strong_monotonicity == pytest.approx(0.25)


def test_the_constants_are_closed_under_what_they_imply():
    assert Region.of(Constants(cocoercivity=0.5)).constants() == Constants(0.5, 2.0, 0.0, 1.0)
    assert Region.of(Constants(averagedness=0.25)).constants() == Constants(2.0, 0.5, 0.0, 0.25)
    closed = Region.of(Constants(lipschitz=2.0, strong_monotonicity=1.0)).constants()
    assert closed == Constants(0.25, 2.0, 1.0)
    assert Region.of(Constants(strong_monotonicity=0.0)).constants() == Constants(
        strong_monotonicity=0.0
    )
    constant = 1.0 * synthetic.Affine(torch.zeros(2, 2), lipschitz=0.0)
    assert (2 * constant).lipschitz == 0
    with pytest.raises(ValueError, match=r"strong_monotonicity 2 .* lipschitz 1"):
        Region.of(Constants(lipschitz=1.0, strong_monotonicity=2.0))


def test_an_operator_comes_back_from_its_complement_with_its_constants():
    operator = synthetic.Cocoercive(0.3, normal(ROWS, SIZE))
    assert operator.complement.complement is operator
    assert operator.complement.lipschitz == pytest.approx(2 / 0.6 - 1)
    assert (2 * operator.complement).complement.complement.lipschitz == pytest.approx(14 / 3)
    assert operator.resolvent(2.0).inverse().cocoercivity == pytest.approx(
        (IdentityOperator() + 2.0 * operator).cocoercivity
    )


def test_a_subdifferential_knows_more_than_its_four_constants():
    ridge = subdifferential(proximal.GaussianPrior(std=torch.tensor([1.0, 0.5])))  # mu 1, L 4
    assert constants(ridge)["cocoercivity"] == 0.25
    # Its SRG is the disc on [1, 4]: I - T/2.5 contracts with 0.6, not with the lens's 0.94.
    assert (ridge / 2.5).complement.lipschitz == pytest.approx(0.6)
    assert ridge.reflected_resolvent(0.5).lipschitz == pytest.approx(1 / 3)
    z = normal(ROWS, 2)
    assert_inequalities((ridge / 2.5).complement, (ridge / 2.5).complement(z), z)


# Constants that are far apart


SKEW_TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)


def test_a_sum_that_is_not_monotone_is_never_called_cocoercive():
    stiff = Region.of(Constants(lipschitz=1e6, strong_monotonicity=1e-6))
    sum_ = total([stiff, Region.of(Constants(lipschitz=1.5))])
    assert sum_.cocoercivity is None
    assert sum_.strong_monotonicity == pytest.approx(1e-6 - 1.5)
    assert sum_.lipschitz == 1e6 + 1.5


def test_the_cocoercivity_of_a_sum_keeps_its_digits_next_to_a_stiff_operand():
    # At 1e-6 + 1e6 i in one region and -1e-7 in the other the sum is 9e-7 + 1e6 i.
    stiff = Region.of(Constants(lipschitz=1e6, strong_monotonicity=1e-6))
    sum_ = total([stiff, Region.of(Constants(lipschitz=1e-7))])
    assert sum_.cocoercivity == pytest.approx(9e-7 / 1e12, rel=1e-9)
    assert sum_.strong_monotonicity == pytest.approx(9e-7)


def test_a_large_lipschitz_constant_does_not_hide_a_negative_modulus():
    monotone = Region.of(Constants(lipschitz=1e6, strong_monotonicity=0.0))
    assert monotone.affine(-5e-7, 1).constants().strong_monotonicity == -5e-7


@pytest.mark.parametrize("size", [5e-7, 1e-9])
def test_a_small_skew_operator_after_itself_is_not_cocoercive(size):
    T = synthetic.Affine(size * SKEW_TURN, lipschitz=size, strong_monotonicity=0.0)
    after = T.after(T)
    # (I - T)^2 = (1 - size^2) I - 2 T, so that I - (I - T)^2 = size^2 I + 2 T: no 1/2.
    assert after.cocoercivity is None
    assert after.averagedness is None
    firm = Constants(cocoercivity=0.5)
    assert succession(firm, firm).cocoercivity == 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda T: 0.0 * T,
        lambda T: -0.0 * T,
        lambda T: 0.0 * subdifferential(proximal.L1(1.0)),
        lambda T: (0.0 * T) @ T,
        lambda T: 0.0 * T.resolvent(1.0, tolerance=1e-8),
    ],
)
def test_zero_times_an_operator_has_the_constants_of_zero(make):
    T = make(as_operator(torch.sin, lipschitz=0.5))
    assert constants(T) == {**dict.fromkeys(NAMES, 0.0), "cocoercivity": math.inf}
    S = as_operator(torch.sin, cocoercivity=0.4)
    for beside in (T + S, product(T, S)):
        assert beside.cocoercivity == pytest.approx(0.4)
    assert (T + IdentityOperator()).averagedness == 0.5
