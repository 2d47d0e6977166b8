"""The strategies draw every kind of problem, shrink to the smallest, and draw what converges."""

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from fixpoint import Anderson, ForwardStep, InertialKM, theory
from fixpoint.monitors import Monitor
from fixpoint.testing import Separable, iterators, operators, starting_points
from fixpoint.testing.known_operator import SHAPES

drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)
UNCOCOERCIVE = ("nearly cocoercive", "not cocoercive")


@given(operator=operators(kinds=("nearly cocoercive",)))
@drawn
def test_nearly_cocoercive_operators_fall_short_by_little(operator):
    negative = min(operator.form.spectrum)
    assert -0.05 <= negative <= -1e-4
    assert min(operator.form.spectrum[:-1]) >= 0


@pytest.mark.slow
def test_the_strategies_reach_every_kind_of_problem():
    seen = set()

    @given(operators(kinds=("cocoercive", *UNCOCOERCIVE)))
    @settings(drawn, max_examples=600)
    def look(operator):
        form = operator.form
        seen.add(type(form).__name__)
        seen.add("dense" if operator.basis else "axes")
        seen.add("cocoercive" if operator.cocoercivity else "not cocoercive")
        if isinstance(form, Separable):
            seen.add(form.shape)
            slopes = [slope for slope in form.spectrum if slope > 0]
            seen.add("null directions" if 0.0 in form.spectrum else "no null directions")
            seen.add("ill conditioned" if min(slopes) <= 1e-4 else "well conditioned")
        elif torch.pi / 2 in form.angles:
            seen.add("quarter turn")

    look()
    assert seen >= {*SHAPES, "Separable", "Planes", "dense", "axes", "cocoercive"}
    assert seen >= {"not cocoercive", "null directions", "ill conditioned", "quarter turn"}


def test_examples_shrink_to_the_smallest_operator():
    smallest = find(operators(), lambda operator: True, settings=drawn)
    assert repr(smallest) == (
        "KnownOperator(beta=1, form=Separable(spectrum=(1.0,), shape='linear'), basis=0, rows=1)"
    )
    assert torch.equal(smallest.zero, torch.zeros(1, 1, dtype=torch.float64))


@given(st.data())
@drawn
def test_starting_points_have_the_shape_and_dtype_and_stay_near(data):
    operator = data.draw(operators())
    points = data.draw(starting_points(operator, largest=2.0, dtype=torch.float32))
    assert points.shape == operator.zero.shape
    assert points.dtype == torch.float32
    assert ((points - operator.zero).norm(dim=1) <= 2 + 1e-5).all()


@pytest.mark.parametrize("beta", [0.05, 1.0, 30.0])
def test_drawn_iterators_are_admissible(beta):
    @given(iterators(beta))
    @drawn
    def admissible(iterator):
        if isinstance(iterator, ForwardStep):
            assert theory.forward_step_descent(iterator.step_size, beta) > 0
        if isinstance(iterator, InertialKM):
            assert theory.inertia_margin(iterator.inertia, iterator.relaxation) > 0
            assert iterator.cocoercivity <= beta
        if isinstance(iterator, Anderson):
            assert iterator.mixing < 2 * beta

    admissible()


def test_unknown_kinds_are_refused_by_name():
    with pytest.raises(ValueError, match="strange"):
        find(operators(kinds=("strange",)), lambda operator: True)
    with pytest.raises(ValueError, match="wavy"):
        find(operators(shapes=("wavy",)), lambda operator: True)
    with pytest.raises(ValueError, match="Monitor"):
        iterators(methods=(Monitor,))
