"""Drawn operators have the constants that they declare."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint.testing import Planes, operators, starting_points

drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)
UNCOCOERCIVE = ("nearly cocoercive", "not cocoercive")


def products(operator, a, b):
    dz, dt = a - b, operator(a) - operator(b)
    return (dz * dt).sum(1), dt.square().sum(1), dz.square().sum(1)


@given(st.data())
@drawn
def test_no_pair_violates_the_constants_of_a_drawn_operator(data):
    operator = data.draw(operators())
    a, b = data.draw(starting_points(operator)), data.draw(starting_points(operator))
    inner, moved, size = products(operator, a, b)
    slack = 1e-12 / min(operator.beta, 1) * (1 + a.square().sum(1) + b.square().sum(1))
    assert (inner >= operator.cocoercivity * moved - operator.cocoercivity * slack).all()
    assert (moved <= operator.lipschitz**2 * size + slack / operator.beta).all()
    assert (inner >= operator.strong_monotonicity * size - slack).all()
    assert operator.cocoercivity == pytest.approx(operator.beta, rel=1e-9)
    assert torch.count_nonzero(operator(operator.zero)) == 0


@given(st.data())
@drawn
def test_the_cocoercivity_of_a_drawn_operator_is_sharp_at_its_zero(data):
    operator = data.draw(operators(shapes=("linear", "softening", "tanh", "clamp")))
    axis = torch.eye(1, operator.form.size, dtype=torch.float64) @ operator.orthogonal
    a = operator.zero + 1e-6 * axis
    inner, moved, _ = products(operator, a, operator.zero)
    torch.testing.assert_close(inner, operator.beta * moved, rtol=1e-5, atol=0)


@given(st.data())
@drawn
def test_planes_meet_the_cocoercivity_inequality_with_equality_for_every_pair(data):
    operator = data.draw(operators().filter(lambda drawn: isinstance(drawn.form, Planes)))
    a, b = data.draw(starting_points(operator)), data.draw(starting_points(operator))
    inner, moved, size = products(operator, a, b)
    slack = 1e-13 / operator.beta * (size + a.square().sum(1) + b.square().sum(1))
    assert ((inner - operator.beta * moved).abs() <= slack).all()


@given(operator=operators(kinds=UNCOCOERCIVE))
@drawn
def test_operators_that_are_not_cocoercive_declare_nothing_and_have_a_refutation(operator):
    assert operator.cocoercivity is None
    assert operator.averagedness is None
    inner, moved, _ = products(operator, operator.zero + operator.refutation, operator.zero)
    assert (moved > 0).all()
    assert (inner <= 1e-15 * moved).all()  # a quarter turn: 0 up to rounding
    assert (inner < 0).all() or isinstance(operator.form, Planes)


@given(operator=operators())
@drawn
def test_cocoercive_operators_have_no_refutation(operator):
    assert operator.refutation is None


@given(st.data())
@drawn
def test_drawn_operators_are_the_nonexpansive_maps_in_disguise(data):
    operator = data.draw(operators())
    a, b = data.draw(starting_points(operator)), data.draw(starting_points(operator))
    _, _, size = products(operator, a, b)
    moved = (a - b) - 2 * operator.beta * (operator(a) - operator(b))  # N = I - 2 beta T
    assert (moved.norm(dim=1) <= size.sqrt() + 1e-12 * (a.norm(dim=1) + b.norm(dim=1))).all()
