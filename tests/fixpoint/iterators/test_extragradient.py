"""Extragradient steps find zeros of monotone operators that forward steps cannot."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import Extragradient, ForwardStep, Status, TheoremWarning, as_operator, solve
from fixpoint.testing import check_iterator

few = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def monotone(seed, rows=2, size=6, symmetric=0.0):
    """T z = (K + symmetric P)(z - zero), K skew and P positive, with L and the zero."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = drawn - drawn.T + symmetric * drawn @ drawn.T
    zero = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    lipschitz = float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-12)
    operator = as_operator(
        lambda z, b: (matrix * (z - b).unsqueeze(1)).sum(2),
        zero,
        lipschitz=lipschitz,
        strong_monotonicity=0.0,
    )
    return operator, zero, lipschitz


def quarter(scale=1.0):
    def turn(z):
        return scale * torch.stack((-z[:, 1], z[:, 0]), 1)

    return as_operator(turn, lipschitz=scale, strong_monotonicity=0.0)


START = torch.tensor([[1.0, 2.0], [-30.0, 0.5]], dtype=torch.float64)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_quarter_turn_is_solved_where_every_forward_step_goes_astray(scale):
    operator = quarter(scale)
    solution = solve(operator, START, Extragradient(step_size=0.7 / scale))
    assert set(solution.status) == {Status.CONVERGED}
    assert (solution.z.norm(dim=1) <= 2e-5 * START.norm(dim=1)).all()
    for step in (0.1, 0.7):
        forward = solve(operator, START, ForwardStep(step_size=step / scale))
        assert not any(status.success for status in forward.status)
        norms = forward.history.residual_norm
        assert (norms[-1] > norms[0]).all()


def test_the_rate_on_a_quarter_turn_is_the_one_of_the_recursion():
    # With t = rho L the step is 1 - t i (1 - t i) = 1 - t^2 - t i.
    for t in (0.2, 0.5, 0.7, 0.9):
        solution = solve(
            quarter(), START, Extragradient(step_size=t), rtol=0.0, atol=0.0, max_iterations=20
        )
        norms = solution.history.residual_norm
        rate = math.sqrt((1 - t * t) ** 2 + t * t)
        torch.testing.assert_close(norms[1:] / norms[:-1], torch.full((20, 2), rate).double())


@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.99), symmetric=st.sampled_from((0, 0.3)))
@few
def test_the_distance_to_the_zero_never_grows_below_one_over_l(seed, share, symmetric):
    operator, zero, lipschitz = monotone(seed, symmetric=symmetric)
    iterator = Extragradient(step_size=share / lipschitz)
    state = iterator.init(operator, torch.zeros_like(zero))
    distance = zero.norm(dim=1)
    for _ in range(40):
        residual = state.residual.norm(dim=1)
        state = iterator.step(operator, state)
        nearer = (state.z - zero).norm(dim=1)
        # ||z+ - z*||^2 <= ||z - z*||^2 - (1 - rho^2 L^2) rho^2 ||T z||^2
        gain = (1 - share**2) * (share / lipschitz * residual).square()
        assert (nearer.square() <= distance.square() - gain + 1e-12).all()
        distance = nearer


@given(seed=st.integers(0, 10**6))
@few
def test_a_strongly_monotone_operator_that_is_mostly_a_rotation_is_solved(seed):
    skew, zero, lipschitz = monotone(seed)
    operator = skew + as_operator(lambda z, b: 0.2 * lipschitz * (z - b), zero)
    iterator = Extragradient(step_size=0.7 / (1.2 * lipschitz))
    solution = solve(operator, torch.zeros_like(zero), iterator, rtol=1e-6)
    assert set(solution.status) == {Status.CONVERGED}
    torch.testing.assert_close(solution.z, zero, rtol=1e-4, atol=1e-4)


def test_a_step_costs_two_evaluations():
    solution = solve(quarter(), START, Extragradient(), rtol=0.0, atol=0.0, max_iterations=7)
    assert solution.evaluations.tolist() == [15, 15]


def test_the_step_size_changes_the_iterates():
    ends = [
        solve(quarter(), START, Extragradient(step_size=step), max_iterations=5).z
        for step in (0.4, 0.5)
    ]
    assert not torch.allclose(*ends)


@pytest.mark.parametrize("share", [1.0, 1.5])
def test_a_step_of_one_over_l_or_more_is_warned_of(share):
    with pytest.warns(TheoremWarning, match=r"step_size < 1/L = 0\.5"):
        Extragradient(step_size=share / 2).init(quarter(2.0), START)


def test_a_step_below_one_over_l_or_an_unknown_l_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Extragradient(step_size=0.499).init(quarter(2.0), START)
        Extragradient(step_size=50.0).init(as_operator(lambda z: z), START)


def test_a_quarter_turn_diverges_above_one_over_l():
    undeclared = as_operator(lambda z: torch.stack((-z[:, 1], z[:, 0]), 1))
    solution = solve(undeclared, START, Extragradient(step_size=1.2))
    assert set(solution.status) == {Status.DIVERGED}


@pytest.mark.parametrize("step_size", [0.0, -1.0, math.inf, math.nan])
def test_a_step_size_out_of_range_is_refused(step_size):
    with pytest.raises(ValueError, match="0 < step_size"):
        Extragradient(step_size=step_size)


def test_extragradient_is_what_every_iterator_must_be():
    # The ladder's operators are 1-cocoercive, so that L <= 1.
    check_iterator(
        Extragradient(step_size=0.7),
        cocoercivity=1.0,
        changes={"step_size": 0.5},
        scale_equivariant=True,
    )
