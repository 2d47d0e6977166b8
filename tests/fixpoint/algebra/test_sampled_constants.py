"""Every rule of the calculus of constants holds on sampled pairs."""

import math

import torch
from algebra_cases import (
    BINARY,
    NAMES,
    RESOLVENTS,
    ROWS,
    SIZE,
    UNARY,
    assert_holds,
    assert_inequalities,
    exact,
    normal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint.algebra import product
from fixpoint.testing import KnownOperator, Planes, Separable


def forget(operator, names):
    for name in names:
        setattr(operator, name, None)
    return operator


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
