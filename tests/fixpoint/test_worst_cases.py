"""Worst cases by semidefinite programming (PEPit) as an oracle that knows none of our formulas.

PEPit maximises a performance measure over *all* operators of a class and all starting points; its
bounds are exact (Goujaud et al., PEPit, Mathematical Programming Computation 2024).
"""

import itertools
import math

import PEPit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PEPit.operators import CocoerciveOperator

from fixpoint import ForwardStep, InertialKM, TheoremWarning, theory
from fixpoint.testing import KnownOperator, Planes, Separable, operators, starting_points

drawn = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def worst_case(beta, run, measure):
    """The largest measure of a run from ||z^0 - z*|| <= 1 over all beta-cocoercive operators."""
    problem = PEPit.PEP()
    operator = problem.declare_function(CocoerciveOperator, beta=beta)
    zero = operator.stationary_point()
    start = problem.set_initial_point()
    problem.set_initial_condition((start - zero) ** 2 <= 1)
    problem.set_performance_metric(measure(operator, zero, run(operator.gradient, start)))
    return problem.solve(wrapper="cvxpy", solver="CLARABEL", verbose=0)


def residual(operator, zero, z):
    return operator.gradient(z) ** 2


def distance(operator, zero, z):
    return (z - zero) ** 2


def forward_steps(step_size, count):
    def run(evaluate, z):
        for _ in range(count):
            z = z - step_size * evaluate(z)
        return z

    return run


def halpern(beta, count):
    def run(evaluate, start):
        z = start
        for k in range(count):
            image = z - 2 * beta * evaluate(z)
            z = 1 / (k + 2) * start + (k + 1) / (k + 2) * image
        return z

    return run


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_km_bound_is_the_exact_worst_case(beta, steps):
    squared = worst_case(beta, forward_steps(beta, steps), residual)
    assert theory.km_residual_bound(1.0, beta, steps) ** 2 == pytest.approx(squared, rel=1e-4)


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_halpern_bound_is_the_exact_worst_case(beta, steps):
    squared = worst_case(beta, halpern(beta, steps), residual)
    assert theory.halpern_residual_bound(1.0, beta, steps) ** 2 == pytest.approx(squared, rel=1e-4)


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
def test_the_bound_of_theorem_1_is_not_below_the_worst_case(fraction):
    beta, steps = 0.7, 3
    step_size = fraction * 2 * beta
    squared = worst_case(beta, forward_steps(step_size, steps), residual)
    bound = theory.forward_step_residual_bound(1.0, step_size, beta, steps)
    assert bound**2 >= squared * (1 - 1e-6)


@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_a_forward_step_of_2_2_beta_grows_by_1_2_in_the_worst_case_and_here(beta):
    steps = 4
    squared = worst_case(beta, forward_steps(2.2 * beta, steps), distance)
    assert math.sqrt(squared) == pytest.approx(1.2**steps, rel=1e-4)
    operator = KnownOperator(beta, torch.zeros(1, 1, dtype=torch.float64), Separable((1.0,)))
    z = torch.ones(1, 1, dtype=torch.float64)
    iterator = ForwardStep(step_size=2.2 * beta)
    with pytest.warns(TheoremWarning, match="step_size < 2 beta"):
        state = iterator.init(operator, z)
    for _ in range(steps):
        following = iterator.step(operator, state)
        assert float(following.z.norm() / state.z.norm()) == pytest.approx(1.2)
        state = following


@pytest.mark.parametrize("step_size", [0.5, 1.0, 1.6, 1.99])
def test_steps_below_two_beta_never_grow_in_the_worst_case(step_size):
    squared = worst_case(1.0, forward_steps(step_size, 1), distance)
    assert squared <= 1 + 1e-6


def test_the_km_worst_case_is_a_plane_that_turns():
    """The bound is attained: by the plane whose eigenvalue has the squared modulus 1/(n+1)."""
    for steps in (1, 3, 10):
        cosine = math.sqrt(1 / (steps + 1))
        operator = KnownOperator(
            1.0, torch.zeros(1, 2, dtype=torch.float64), Planes((math.acos(cosine),))
        )
        *_, last = states(ForwardStep(step_size=1.0), operator, unit_row(), steps)
        bound = theory.km_residual_bound(1.0, 1.0, steps)
        assert float(last.residual.norm()) == pytest.approx(bound, rel=1e-12)


def test_inertia_has_the_worse_worst_case():
    """Do not advertise a rate for it: alpha 0.2, lambda 1/2, six steps."""

    def inertial(inertia):
        def run(evaluate, z):
            previous = z
            for _ in range(6):
                point = z + inertia * (z - previous)
                previous, z = z, point - evaluate(point)
            return z

        return run

    plain, inert = (worst_case(1.0, inertial(alpha), residual) for alpha in (0.0, 0.2))
    assert plain == pytest.approx(0.0567, abs=1e-4)
    assert inert == pytest.approx(0.0652, abs=1e-4)


@given(st.data())
@drawn
def test_no_drawn_problem_exceeds_the_km_worst_case(data):
    operator = data.draw(operators())
    start = data.draw(starting_points(operator))
    away = (start - operator.zero).norm(dim=1)
    run = states(ForwardStep(step_size=operator.beta), operator, start, 20)
    for steps, state in enumerate(run):
        bound = away * theory.km_residual_bound(1.0, operator.beta, steps)
        rounding = 1e-13 * (start.norm(dim=1) + operator.zero.norm(dim=1)) / operator.beta
        assert (state.residual.norm(dim=1) <= bound * (1 + 1e-9) + rounding).all()


@given(st.data())
@drawn
def test_no_drawn_problem_exceeds_the_halpern_worst_case(data):
    operator = data.draw(operators())
    start = data.draw(starting_points(operator))
    away = (start - operator.zero).norm(dim=1)
    for steps in (1, 2, 5, 15):
        z = halpern(operator.beta, steps)(operator, start)
        bound = away * theory.halpern_residual_bound(1.0, operator.beta, steps)
        rounding = 1e-13 * (start.norm(dim=1) + operator.zero.norm(dim=1)) / operator.beta
        assert (operator(z).norm(dim=1) <= bound * (1 + 1e-9) + rounding).all()


@given(data=st.data(), inertia=st.floats(0.01, 0.9), part=st.floats(0.05, 0.99))
@drawn
def test_no_drawn_problem_exceeds_the_bound_of_theorem_2(data, inertia, part):
    operator = data.draw(operators())
    start = data.draw(starting_points(operator))
    relaxation = part * theory.largest_relaxation(inertia)
    iterator = InertialKM(inertia=inertia, relaxation=relaxation, cocoercivity=operator.beta)
    constants = theory.inertial_constants(inertia, relaxation, operator.beta)
    away = (start - operator.zero).square().sum(1)
    rounding = 1e-26 * (start.square() + operator.zero.square()).sum(1) / operator.beta**2
    least = torch.full_like(away, torch.inf)
    for number, state in enumerate(states(iterator, operator, start, 30)):
        least = torch.minimum(least, state.residual.square().sum(1))
        bound = constants.bound * away / (number + 1)
        assert (least <= bound * (1 + 1e-9) + rounding).all()


def states(iterator, operator, z, steps):
    operator.cocoercivity = None  # exact up to rounding: no warning about the last bit
    state = iterator.init(operator, z)
    yield state
    for _ in itertools.repeat(None, steps):
        state = iterator.step(operator, state)
        yield state


def unit_row():
    return torch.tensor([[1.0, 0.0]], dtype=torch.float64)
