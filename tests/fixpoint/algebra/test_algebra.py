"""Every rule of the calculus of constants holds on sampled pairs, and an example attains it."""

import cmath
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fixpoint import Anderson, ForwardStep, Operator, as_operator, proximal, solve, synthetic
from fixpoint.algebra import IdentityOperator, product, subdifferential
from fixpoint.calculus import succession, total
from fixpoint.constants.region import Region
from fixpoint.operator import Constants
from fixpoint.testing import KnownOperator, Planes, Separable, check_operator
from fixpoint.testing.declared_constants import INEQUALITIES, refutation

NAMES = tuple(INEQUALITIES)
ROWS, SIZE = 3, 4
STEP = 0.7


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def constants(operator):
    return {name: getattr(operator, name) for name in NAMES}


def forget(operator, names):
    for name in names:
        setattr(operator, name, None)
    return operator


UNARY = {
    "2 T": lambda T: 2.0 * T,
    "T / 3": lambda T: T / 3,
    "-T": lambda T: -T,
    "T + b": lambda T: T + normal(ROWS, SIZE, seed=7),
    "b - T": lambda T: normal(ROWS, SIZE, seed=7) - T,
    "translated": lambda T: T.translated(normal(ROWS, SIZE, seed=8)),
    "complement": lambda T: T.complement,
    "complement of a multiple": lambda T: (0.4 * T).complement,
    "complement of twice the complement": lambda T: (2 * T.complement).complement,
    "relaxed": lambda T: T.relaxed(0.3),
    "T - (I - T)": lambda T: T - T.complement,
}
RESOLVENTS = {
    "resolvent": lambda T: T.resolvent(STEP),
    "reflected": lambda T: T.reflected_resolvent(STEP),
    "yosida": lambda T: T.yosida(STEP),
    "complement of the resolvent": lambda T: T.resolvent(STEP).complement,
    "resolvent of yosida": lambda T: T.yosida(STEP).resolvent(2.0),
    "resolvent of the resolvent": lambda T: T.resolvent(STEP).resolvent(2.0),
    "resolvent of the multiple": lambda T: (3.0 * T + IdentityOperator()).resolvent(STEP),
}
BINARY = {
    "T + S": lambda T, S: T + S,
    "T - S": lambda T, S: T - S,
    "T + S + S": lambda T, S: T + S + S,
    "2 T + (I - S)": lambda T, S: 2.0 * T + S.complement,
    "T @ S": lambda T, S: T @ S,
    "T after S": lambda T, S: T.after(S),
    "(T / 2) after (S / 4)": lambda T, S: (T / 2).after(S / 4),
    "(T + I) @ (S + I)": lambda T, S: (T + IdentityOperator()) @ (S + 2.0 * IdentityOperator()),
}


@st.composite
def known_operators(draw):
    """Of exactly known constants, of which some may be forgotten."""
    if draw(st.booleans()):
        slopes = st.floats(0.1, 1) | st.sampled_from([0.0, 1.0, -0.2])
        spectrum = (1.0, *(draw(slopes) for _ in range(SIZE - 1)))
        shape = draw(st.sampled_from(["linear", "softening", "tanh", "clamp", "dead zone"]))
        form = Separable(spectrum, shape)
    else:
        angle = st.floats(0, 1.5) | st.just(math.pi / 2)
        moduli = st.tuples(*[st.floats(0.05, 1)] * 2)
        form = Planes(draw(st.tuples(angle, angle)), draw(st.none() | moduli))
    seed = draw(st.integers(1, 1000))
    operator = KnownOperator(draw(st.floats(0.2, 5)), normal(ROWS, SIZE, seed=seed), form, seed)
    return forget(operator, draw(st.sets(st.sampled_from(NAMES), max_size=3)))


def exact(matrix, zero=None):
    """The linear operator with its exact constants, of which it may be none of beta and mu."""
    symmetric, squared = (matrix + matrix.T) / 2, matrix.T @ matrix
    mu = float(torch.linalg.eigvalsh(symmetric)[0])
    root = torch.linalg.inv(torch.linalg.cholesky(squared))
    beta = float(torch.linalg.eigvalsh(root @ symmetric @ root.T)[0])
    return synthetic.Affine(
        matrix,
        zero,
        cocoercivity=beta * (1 - 1e-12) if beta > 0 else None,
        lipschitz=float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-12),
        strong_monotonicity=mu - 1e-12 * abs(mu),
    )


@st.composite
def linear_operators(draw, monotone=None):
    seed = draw(st.integers(0, 1000))
    raw, root = normal(2, SIZE, SIZE, seed=seed)
    skew = draw(st.sampled_from([0.0, 0.5, 3.0])) * (raw - raw.T)
    matrix = skew + root @ root.T + draw(st.sampled_from([0.01, 1.0])) * torch.eye(SIZE)
    if not monotone and draw(st.booleans()):
        matrix = raw + 0.3 * torch.eye(SIZE)
    operator = exact(matrix * draw(st.floats(0.1, 2)), normal(ROWS, SIZE, seed=seed + 1))
    return forget(operator, draw(st.sets(st.sampled_from(NAMES), max_size=2)))


def assert_holds(operator, seed, label):
    """No pair, turned towards the worst directions, violates a constant of the operator."""
    a, b, center = normal(3, ROWS, SIZE, seed=seed)
    for name in NAMES:
        found = refutation(operator, name, a, b, center, 1e-11)
        assert found is None, f"{label}: {name}: {found}"


@given(operator=known_operators() | linear_operators(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_sampled_pairs_never_violate_a_constant_of_a_scaling_or_a_shift(operator, seed):
    for label, make in UNARY.items():
        assert_holds(make(operator), seed, label)


@given(operator=linear_operators(True), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_sampled_pairs_never_violate_a_constant_of_a_resolvent(operator, seed):
    for label, make in RESOLVENTS.items():
        assert_holds(make(operator), seed, label)


@given(operator=linear_operators(), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_sampled_pairs_never_violate_a_constant_of_an_inverse(operator, seed):
    for label, make in {
        "inverse": lambda T: T.inverse(),
        "inverse of a shifted multiple": lambda T: (2.0 * T + normal(ROWS, SIZE)).inverse(),
        "inverse of a composition": lambda T: (T @ T).inverse(),
    }.items():
        assert_holds(make(operator), seed, label)


either = known_operators() | linear_operators()


@given(outer=either, inner=either, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_sampled_pairs_never_violate_a_constant_of_a_sum_or_a_composition(outer, inner, seed):
    for label, make in BINARY.items():
        assert_holds(make(outer, inner), seed, label)


@given(first=either, second=either, seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_sampled_pairs_never_violate_a_constant_of_a_product(first, second, seed):
    pair = product(first, second)
    a, b = normal(2, 2, ROWS, SIZE, seed=seed)
    for scale in (0.0, 1.0, 1e-3):
        left, right = (a[0], scale * a[1]), (b[0], scale * b[1])
        change = torch.cat([u - v for u, v in zip(pair(left), pair(right), strict=True)], 1)
        offset = torch.cat([u - v for u, v in zip(left, right, strict=True)], 1)
        assert_inequalities(pair, change, offset)


def assert_inequalities(operator, change, offset):
    inner, moved, size = (
        (u * v).sum(1) for u, v in ((change, offset), (change,) * 2, (offset,) * 2)
    )
    slack = 1e-9 * (size + moved)
    if operator.cocoercivity is not None:
        assert (inner >= operator.cocoercivity * moved - slack).all()
    if operator.lipschitz is not None:
        assert (moved <= operator.lipschitz**2 * size + slack).all()
    if operator.strong_monotonicity is not None:
        assert (inner >= operator.strong_monotonicity * size - slack).all()


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


# Values.


BASES = {
    "dense": lambda: synthetic.dense([0.5, 1.0, 2.0, 3.0], normal(ROWS, SIZE, seed=1), seed=3),
    "turning": lambda: synthetic.Cocoercive(0.4, normal(ROWS, SIZE, seed=2)),
    "softening": lambda: KnownOperator(
        0.5, normal(ROWS, SIZE, seed=3), Separable((1.0, 0.5, 0.2, 0.9), "softening"), 5
    ),
    "subdifferential": lambda: subdifferential(
        proximal.L1(0.5).translated(proximal.RowParameter(normal(ROWS, SIZE, seed=4)))
    ),
}


def test_the_operations_have_the_values_of_their_formulas():
    T, S = BASES["softening"](), BASES["turning"]()
    z, b = normal(2, ROWS, SIZE, seed=11)
    for made, value in (
        (2 * T, 2 * T(z)),
        (T * 2.0, 2 * T(z)),
        (-T, -T(z)),
        (T / 4, T(z) / 4),
        (T + b, T(z) + b),
        (b + T, T(z) + b),
        (T - b, T(z) - b),
        (b - T, b - T(z)),
        (T + S, T(z) + S(z)),
        (T - S, T(z) - S(z)),
        (T @ S, T(S(z))),
        (T.translated(b), T(z - b)),
        (T.complement, z - T(z)),
        (T.relaxed(0.3), 0.3 * T(z)),
        (T.after(S).complement, T.complement(S.complement(z))),
    ):
        torch.testing.assert_close(made(z), value, rtol=1e-13, atol=1e-13)


WRAPPINGS = {
    "T": lambda T: T,
    "2 T": lambda T: 2 * T,
    "T + I": lambda T: T.complement.complement * 0.5 + IdentityOperator(),
    "T + b": lambda T: T + normal(ROWS, SIZE, seed=7),
    "translated": lambda T: T.translated(normal(ROWS, SIZE, seed=8)),
    "3 (2 T + b) translated": lambda T: (3 * (2 * T + normal(ROWS, SIZE, seed=7))).translated(
        normal(ROWS, SIZE, seed=8)
    ),
    "yosida": lambda T: T.yosida(0.5, tolerance=1e-12),
    "resolvent": lambda T: T.resolvent(0.5, tolerance=1e-12),
}


@pytest.mark.parametrize("base", ["dense", "turning", "softening"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_resolvent_solves_its_equation(base, wrapping):
    T = WRAPPINGS[wrapping](BASES[base]())
    z = normal(ROWS, SIZE, seed=12)
    J = T.resolvent(STEP, tolerance=1e-12)
    torch.testing.assert_close(J(z) + STEP * T(J(z)), z, rtol=1e-9, atol=1e-9)
    yosida = T.yosida(STEP, tolerance=1e-12)
    torch.testing.assert_close(yosida(z), T(J(z)), rtol=1e-9, atol=1e-9)
    reflected = T.reflected_resolvent(STEP, tolerance=1e-12)
    torch.testing.assert_close(reflected(z), 2 * J(z) - z)
    torch.testing.assert_close(J.inverse()(J(z)), z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("base", ["dense", "turning"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_an_inverse_undoes_its_operator(base, wrapping):
    T = WRAPPINGS[wrapping](BASES[base]())
    z = normal(ROWS, SIZE, seed=12)
    torch.testing.assert_close(T.inverse()(T(z)), z)
    torch.testing.assert_close(T(T.inverse()(z)), z)
    torch.testing.assert_close((T @ T).inverse()(T(T(z))), z)
    back = T.inverse().resolvent(STEP)
    torch.testing.assert_close(back(z) + STEP * T.inverse()(back(z)), z)


def test_the_resolvent_of_a_subdifferential_is_its_proximal_operator():
    g = proximal.L1(0.5)
    T = subdifferential(g)
    z = normal(ROWS, SIZE, seed=13)
    assert torch.equal(T.resolvent(0.7)(z), g.prox(z, 0.7))
    assert torch.equal((2 * T).resolvent(0.7)(z), g.prox(z, 1.4))
    moreau = T.inverse().resolvent(0.7)
    torch.testing.assert_close(moreau(z), z - 0.7 * g.prox(z / 0.7, 1 / 0.7))
    with pytest.raises(TypeError, match="not smooth"):
        T(z)
    yosida = T.yosida(0.7)  # the gradient of the Moreau envelope: a clamp
    torch.testing.assert_close(yosida(z), (z / 0.7).clamp(-0.5, 0.5))
    assert yosida.cocoercivity == pytest.approx(0.7)
    assert torch.equal(subdifferential(proximal.SquaredL2(2.0))(z), 2 * z)
    # (a I + b dg) in closed form, and the resolvent of the Yosida regularisation
    elastic = (2.0 * T.yosida(0.3)).resolvent(0.4)
    u = elastic(z)
    torch.testing.assert_close(u + 0.4 * 2.0 * T.yosida(0.3)(u), z)
    blocks = product(T, subdifferential(proximal.Box(0, 1))).resolvent(0.7)
    assert torch.equal(blocks((z, z))[1], z.clamp(0, 1))


def test_the_zeros_of_a_yosida_regularisation_are_those_of_the_operator():
    T = BASES["subdifferential"]()
    solution = solve(
        T.yosida(0.5), torch.zeros(ROWS, SIZE, dtype=torch.float64), ForwardStep(step_size=0.5)
    )
    assert solution.success
    torch.testing.assert_close(solution.z, normal(ROWS, SIZE, seed=4), rtol=1e-5, atol=1e-5)


def every_operator():
    T, S = BASES["softening"](), BASES["turning"]()
    made = {label: make(T) for label, make in UNARY.items()}
    made |= {label: make(T, S) for label, make in BINARY.items()}
    made |= {label: make(S) for label, make in RESOLVENTS.items()}
    made["solved"] = T.resolvent(0.5, tolerance=1e-9)
    made["inverse"] = (2 * S + normal(ROWS, SIZE)).inverse()
    made["prox"] = BASES["subdifferential"]().resolvent(0.5)
    return made


@pytest.mark.parametrize("label", every_operator())
def test_selecting_rows_commutes_with_the_operations_bit_for_bit(label):
    operator, z = every_operator()[label], normal(ROWS, SIZE, seed=21)
    rows = torch.tensor([2, 0])
    selected = operator.select(rows)
    assert torch.equal(selected(z[rows]), operator(z)[rows])
    assert constants(selected) == constants(operator)


@pytest.mark.parametrize("label", every_operator())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operations_keep_the_dtype(label, dtype):
    operator, z = every_operator()[label], normal(ROWS, SIZE, seed=21)
    if label == "solved" and dtype == torch.float32:
        operator = BASES["softening"]().resolvent(0.5, tolerance=1e-5)
    value = operator(z.to(dtype))
    assert value.dtype == dtype
    torch.testing.assert_close(value.double(), operator(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("label", ["complement", "T + S", "T @ S", "T after S", "yosida"])
def test_what_is_made_passes_the_checks_of_any_operator(label):
    check_operator(every_operator()[label], normal(ROWS, SIZE), rounding=1e-12)


class Measuring(Operator):
    """T z = z, and the largest coordinate of every row."""

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"largest": z.amax(1)}

    def select(self, rows):
        return self


def test_measurements_pass_where_there_is_one_inner_operator():
    z, b = normal(2, ROWS, SIZE)
    T = Measuring()
    for made in (2 * T, T.complement, T + b, T.relaxed(0.5)):
        assert torch.equal(made.evaluate(z)[1]["largest"], z.amax(1))
    assert torch.equal(T.translated(b).evaluate(z)[1]["largest"], (z - b).amax(1))
    assert (T + T).evaluate(z)[1] == {}
    assert (T @ T).evaluate(z)[1] == {}


# The iterative resolvent.


def test_an_iterative_resolvent_keeps_its_tolerance_row_by_row():
    T = BASES["softening"]()
    z = normal(ROWS, SIZE, seed=31) * torch.tensor([[1.0], [100.0], [1e-3]], dtype=torch.float64)
    for tolerance in (1e-2, 1e-6, 1e-10):
        J = T.resolvent(2.0, tolerance=tolerance)
        u, seen = J.evaluate(z)
        residual = (u + 2.0 * T(u) - z).norm(dim=1)
        assert (residual <= tolerance * (1 + u.norm(dim=1)) * (1 + 1e-6)).all()
        torch.testing.assert_close(seen["inner_residual"], residual, rtol=1e-4, atol=1e-12)
        alone = J.select(torch.tensor([1]))(z[1:2])
        assert torch.equal(alone, u[1:2])


def test_rows_that_an_iterative_resolvent_cannot_solve_are_nan_and_alone():
    T = BASES["softening"]()
    z = normal(ROWS, SIZE, seed=32)
    good = T.resolvent(2.0, tolerance=1e-8)(z)
    bad = z.clone()
    bad[1, 0] = math.nan
    value = T.resolvent(2.0, tolerance=1e-8)(bad)
    assert value[1].isnan().all()
    assert torch.equal(value[[0, 2]], good[[0, 2]])
    short = T.resolvent(2.0, tolerance=1e-12, max_iterations=1)(T.zero + torch.eye(ROWS, SIZE))
    assert short.isnan().all()


def test_an_iterative_resolvent_serves_a_monotone_map_that_only_turns():
    turn = as_operator(lambda z: synthetic.quarter_turn(z), lipschitz=1.0, strong_monotonicity=0.0)
    z = normal(ROWS, SIZE, seed=33)
    u = turn.resolvent(5.0, tolerance=1e-10)(z)
    torch.testing.assert_close(u, (z - 5.0 * synthetic.quarter_turn(z)) / 26)
    wild = as_operator(torch.cos, lipschitz=1.0)  # not monotone, but I + step T is
    u = wild.resolvent(0.5, tolerance=1e-10)(z)
    torch.testing.assert_close(u + 0.5 * u.cos(), z)
    assert solve(turn.yosida(1.0, tolerance=1e-10), z, Anderson()).success


def test_an_iterative_resolvent_is_differentiable_in_z_and_in_what_t_depends_on():
    def of(z, slope, data):
        T = as_operator(
            lambda u, data: slope * u + u.sin() / 2 - data,
            data,
            lipschitz=2.5,
            strong_monotonicity=0.2,
        )
        return T.resolvent(0.9, tolerance=1e-13)(z)

    slope = torch.tensor(1.3, dtype=torch.float64)
    arguments = [normal(ROWS, SIZE, seed=34), slope, normal(ROWS, SIZE, seed=35)]
    for asked in ([0], [1], [2], [0, 1, 2]):
        inputs = [a.clone().requires_grad_(i in asked) for i, a in enumerate(arguments)]
        assert torch.autograd.gradcheck(of, inputs, eps=1e-5, atol=1e-7, rtol=1e-6)
    assert not of(*arguments).requires_grad
    z = arguments[0].clone().requires_grad_()
    with torch.no_grad():
        assert not of(z, *arguments[1:]).requires_grad


def test_the_derivative_of_an_iterative_resolvent_leaves_out_rows_it_could_not_solve():
    T, z = BASES["softening"](), normal(ROWS, SIZE, seed=32)
    J = T.resolvent(2.0, tolerance=1e-12)
    good = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(J(good).sum(), good)
    z[1, 0] = math.nan
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(J(z).sum(), z)
    assert torch.equal(gradient[[0, 2]], expected[[0, 2]])
    assert not gradient[1].any()


def test_the_resolvent_of_an_operator_that_hides_its_derivative_refuses_one():
    @torch.no_grad()
    def hidden(z):
        return z + z.sin() / 2

    J = as_operator(hidden, lipschitz=1.5, strong_monotonicity=0.5).resolvent(1.0, tolerance=1e-8)
    z = normal(ROWS, SIZE).requires_grad_()
    with pytest.raises(ValueError, match=r"resolvent of FunctionOperator is not differentiable"):
        J(z)
    assert torch.equal(J(z.detach()), J.select(torch.arange(ROWS))(z.detach()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_iterative_resolvent_asks_for_no_more_than_the_dtype_can_give(dtype):
    T = as_operator(lambda z: z + z.sin() / 2, lipschitz=1.5, strong_monotonicity=0.5)
    size = torch.tensor([[1e-3], [1.0], [1e3]], dtype=dtype)
    z = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).to(dtype) * size
    u = T.resolvent(2.0, tolerance=1e-8)(z)
    exact = T.resolvent(2.0, tolerance=1e-12)(z.double())
    error = (u.double() - exact).norm(dim=1) / exact.norm(dim=1)
    assert (error <= 30 * torch.finfo(dtype).eps).all()


# Errors.


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda T, z: T * None, TypeError, "unsupported"),
        (lambda T, z: T + 1.0, TypeError, "unsupported"),
        (lambda T, z: T * True, TypeError, "unsupported"),
        (lambda T, z: T @ z, TypeError, "unsupported"),
        (lambda T, z: T * math.inf, ValueError, "finite"),
        (lambda T, z: T.relaxed(0.0), ValueError, "relaxation.*0.0"),
        (lambda T, z: T.resolvent(-1.0), ValueError, "step.*-1.0"),
        (lambda T, z: T.resolvent(1.0), TypeError, "KnownOperator.*tolerance"),
        (lambda T, z: T.resolvent(1.0, tolerance=0.0), ValueError, "tolerance.*0.0"),
        (
            lambda T, z: as_operator(torch.exp).resolvent(1.0, tolerance=1e-6),
            ValueError,
            "Lipschitz constant.*None",
        ),
        (
            lambda T, z: as_operator(torch.sin, lipschitz=1.0).resolvent(1.0, tolerance=1e-6),
            ValueError,
            "monotone or step L < 1",
        ),
        (lambda T, z: T.inverse(), TypeError, "KnownOperator is not known"),
        (lambda T, z: (T + T).inverse(), TypeError, "Sum is not known"),
        (
            lambda T, z: synthetic.diagonal([1.0, 0.0]).inverse(),
            ValueError,
            "singular values run from 1 down to 0",
        ),
        (lambda T, z: (T + z[:2])(z), ValueError, r"\(2, 4\) for \(3, 4\)"),
        (lambda T, z: T.translated(z[0])(z), ValueError, r"\(4,\) for \(3, 4\)"),
        (lambda T, z: subdifferential(torch.relu), TypeError, "proximal.Function"),
        (lambda T, z: product(), TypeError, "operators"),
        (lambda T, z: product(T, other=T), TypeError, "not both"),
        (lambda T, z: product(torch.relu), TypeError, "builtin_function"),
        (lambda T, z: product(T, T)((z,)), ValueError, r"tuple of \[0, 1\].*\[0\]"),
        (lambda T, z: product(a=T)((z,)), ValueError, "dict"),
        (lambda T, z: T.after(z), TypeError, "Tensor"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make(BASES["softening"](), normal(ROWS, SIZE))


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


def test_zero_times_an_operator_has_a_resolvent():
    z = normal(ROWS, SIZE)
    assert torch.equal((0.0 * as_operator(torch.sin)).resolvent(STEP)(z), z)


def test_a_shift_that_is_a_tree_has_a_resolvent():
    z = (normal(ROWS, 2), normal(ROWS, 3, seed=1))
    b = (normal(ROWS, 2, seed=2), normal(ROWS, 3, seed=3))
    found = (IdentityOperator() + b).resolvent(1.0)(z)
    moved = IdentityOperator().translated(b).resolvent(1.0)(z)
    for u, v, leaf, shift in zip(found, moved, z, b, strict=True):
        torch.testing.assert_close(u, (leaf - shift) / 2)
        torch.testing.assert_close(v, (leaf + shift) / 2)
