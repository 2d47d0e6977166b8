"""The forward step: by hand, and below and above two beta."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from iterated import ones, states
from problems import problem

from fixpoint import ForwardStep, TheoremWarning, as_operator, synthetic

# Forward step


def test_forward_step_by_hand():
    operator = as_operator(lambda z: 2 * z)
    found = [state.z.item() for state in states(ForwardStep(step_size=0.25), operator, ones(), 3)]
    assert found == [1, 0.5, 0.25, 0.125]


def test_forward_step_is_the_power_of_its_matrix():
    operator, zero, z0 = problem()
    *_, last = states(ForwardStep(step_size=0.7), operator, z0, 10)
    matrix = torch.eye(8, dtype=torch.float64) - 0.7 * operator.matrix
    expected = zero + (z0 - zero) @ torch.linalg.matrix_power(matrix, 10).T
    torch.testing.assert_close(last.z, expected)


@given(beta=st.floats(0.1, 5), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_forward_step_descends_as_theorem_1_says_below_two_beta(beta, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    zero = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    operator = synthetic.Cocoercive(beta, zero)
    rho = fraction * 2 * beta
    run = list(states(ForwardStep(step_size=rho), operator, torch.zeros_like(zero), 20))
    for now, then in itertools.pairwise(run):
        before, after = (now.z - zero).square().sum(1), (then.z - zero).square().sum(1)
        bound = before - rho * (2 * beta - rho) * now.residual.square().sum(1)
        assert (after <= bound + 1e-12 * before).all()


def test_forward_step_grows_at_its_worst_rate_above_two_beta():
    operator = synthetic.diagonal([1.0, 1.0], torch.zeros(1, 2, dtype=torch.float64))
    z0 = torch.ones(1, 2, dtype=torch.float64)
    with pytest.warns(TheoremWarning, match=r"step_size < 2 beta = 2"):
        run = list(states(ForwardStep(step_size=2.2), operator, z0, 5))
    for now, then in itertools.pairwise(run):
        torch.testing.assert_close(then.z.norm() / now.z.norm(), torch.tensor(1.2).double())
