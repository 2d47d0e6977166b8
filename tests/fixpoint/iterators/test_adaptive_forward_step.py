import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from fixpoint import (
    AdaptiveForwardStep,
    Anderson,
    ForwardStep,
    as_operator,
    recommend,
    solve,
    synthetic,
)


def wild(rows=4):
    """Not cocoercive everywhere: forward steps of any fixed size can raise the residual."""
    zero = torch.randn(rows, 6, dtype=torch.float64)
    operator = as_operator(lambda z, c: (z - c) + 0.9 * torch.sin(3 * (z - c)), zero)
    return operator, torch.zeros_like(zero)


def run(iterator, operator, z0, steps):
    state = iterator.init(operator, z0)
    states = [state]
    for _ in range(steps):
        states.append(iterator.step(operator, states[-1]))
    return states


def test_the_residual_of_accepted_points_rises_only_where_t_falls_and_at_most_twofold():
    operator, z0 = wild()
    states = run(ForwardStep.adaptive(), operator, z0, 60)
    least = torch.full((4,), torch.inf, dtype=torch.float64)
    for before, after in itertools.pairwise(states):
        norm, last = (each.anchor_residual.norm(dim=1) for each in (after, before))
        least = torch.minimum(least, last)
        moved, change = after.anchor - before.anchor, after.anchor_residual - before.anchor_residual
        falls = before.step_size.sign() * (moved * change).sum(1) < 0
        assert ((norm <= last * (1 + 1e-12)) | falls).all()
        assert (norm <= 2 * torch.maximum(least, last)).all()
    assert int(states[-1].refused.sum()) > 0


def test_a_refused_trial_is_taken_back_with_at_most_half_the_step():
    operator, z0 = wild()
    states = run(ForwardStep.adaptive(), operator, z0, 60)
    for before, after in itertools.pairwise(states):
        refused = after.refused > before.refused
        assert torch.equal(after.anchor[refused], before.anchor[refused])
        assert (after.step_size[refused] <= before.step_size[refused] / 2).all()
        assert torch.equal(after.anchor[~refused], after.point[~refused])


@given(beta=st.floats(0.02, 50), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_it_finds_its_step_whatever_the_scale_of_the_operator(beta, seed):
    zero = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    inner = synthetic.Cocoercive(1.0, zero)
    operator = as_operator(lambda z: inner(z) / beta)
    states = run(ForwardStep.adaptive(fraction=0.8), operator, torch.zeros_like(zero), 60)
    torch.testing.assert_close(
        states[-1].step_size, torch.full((2,), 1.6 * beta).double(), rtol=0.01, atol=0
    )


def test_known_constants_set_the_first_step():
    operator, _, z0 = problem()
    state = ForwardStep.adaptive(fraction=0.5).init(operator, z0)
    assert state.step_size.tolist() == [1.0] * 5
    free = ForwardStep.adaptive(first_step=0.3).init(as_operator(torch.sin), z0)
    assert free.step_size.tolist() == [0.3] * 5


def test_each_option_changes_the_iterates():
    operator, z0 = wild()
    *_, plain = run(AdaptiveForwardStep(), operator, z0, 10)
    for change in ({"first_step": 0.3}, {"fraction": 0.5}, {"growth": 1.0}):
        *_, changed = run(AdaptiveForwardStep(**change), operator, z0, 10)
        assert not torch.allclose(plain.z, changed.z), change


@pytest.mark.parametrize("change", [{"first_step": 0.0}, {"fraction": 1.0}, {"growth": 0.9}])
def test_options_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=str(next(iter(change.values())))):
        AdaptiveForwardStep(**change)


# recommend


def test_known_cocoercivity_is_used_and_named():
    operator, _, z0 = problem()
    found = recommend(operator, z0)
    assert isinstance(found.iterator, Anderson)
    assert found.iterator.mixing == 1.0
    assert "is covered by theorem 1" in str(found)
    assert solve(operator, z0, found.iterator).success


def test_a_fast_operator_gets_plain_forward_steps():
    target = torch.randn(3, 5, dtype=torch.float64)
    operator = as_operator(lambda z, b: 1.02 * (z - b), target)
    found = recommend(operator, torch.zeros_like(target))
    assert isinstance(found.iterator, ForwardStep)
    assert "nothing is left to accelerate" in str(found)


def test_a_slow_operator_gets_acceleration_below_the_seen_cocoercivity():
    slopes = torch.linspace(0.1, 5, 8, dtype=torch.float64)
    operator = as_operator(lambda z: slopes * (z - 1))
    z0 = torch.zeros(2, 8, dtype=torch.float64)
    found = recommend(operator, z0)
    assert isinstance(found.iterator, Anderson)
    assert found.iterator.mixing == found.cocoercivity
    assert found.cocoercivity >= 0.2  # an upper estimate of 1/5
    assert solve(operator, z0, found.iterator).success


def test_an_operator_that_is_not_cocoercive_is_called_so():
    operator, z0 = wild()
    found = recommend(operator, z0)
    assert found.cocoercivity <= 0
    assert isinstance(found.iterator, AdaptiveForwardStep)
    assert "not cocoercive" in str(found)


def test_strong_monotonicity_alone_gives_the_step_that_contracts():
    operator = as_operator(lambda z: z, strong_monotonicity=0.5, lipschitz=2.0)
    assert recommend(operator, torch.ones(1, 2)).iterator == ForwardStep(step_size=0.125)


def test_a_probe_costs_what_it_was_allowed_and_its_points_are_returned():
    operator, _, z0 = problem()
    found = recommend(operator, z0, evaluations=5)
    assert found.evaluations == 5
    assert (operator(found.z).norm(dim=1) < operator(z0).norm(dim=1)).all()
    with pytest.raises(ValueError, match="at least 3"):
        recommend(operator, z0, evaluations=2)


def test_a_constant_operator_teaches_nothing():
    found = recommend(as_operator(torch.ones_like), torch.zeros(1, 3))
    assert "nothing could be learnt" in str(found)
