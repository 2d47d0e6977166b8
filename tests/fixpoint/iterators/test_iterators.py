"""Every iterator meets the same claims."""

import dataclasses

import pytest
import torch
from iterated import states
from problems import ITERATORS, problem

from fixpoint import Adam, Anderson, ForwardStep, InertialKM

# All of them


@pytest.mark.parametrize("name", ITERATORS)
def test_a_step_leaves_the_old_state_untouched(name):
    operator, _, z0 = problem()
    iterator = ITERATORS[name]
    *_, state = states(iterator, operator, z0, 6)
    flat, _ = torch.utils._pytree.tree_flatten(dataclasses.asdict(state))
    copies = [leaf.clone() if torch.is_tensor(leaf) else leaf for leaf in flat]
    iterator.step(operator, state)
    for leaf, copy in zip(flat, copies, strict=True):
        assert torch.equal(leaf, copy) if torch.is_tensor(leaf) else leaf == copy


@pytest.mark.parametrize("name", ITERATORS)
def test_select_then_step_is_step_then_select(name):
    operator, _, z0 = problem()
    iterator, rows = ITERATORS[name], torch.tensor([3, 0, 4])
    *_, state = states(iterator, operator, z0, 6)
    first = iterator.step(operator.select(rows), state.select(rows))
    second = iterator.step(operator, state).select(rows)
    for a, b in zip(
        torch.utils._pytree.tree_leaves(dataclasses.asdict(first)),
        torch.utils._pytree.tree_leaves(dataclasses.asdict(second)),
        strict=True,
    ):
        assert torch.equal(a, b) if torch.is_tensor(a) else a == b


@pytest.mark.parametrize("name", ITERATORS)
def test_the_residual_of_a_state_is_that_of_its_point(name):
    operator, _, z0 = problem()
    for state in states(ITERATORS[name], operator, z0, 6):
        assert torch.equal(state.residual, operator(state.point))


@pytest.mark.parametrize("kind", [ForwardStep, InertialKM, Adam, Anderson])
def test_unknown_options_are_refused(kind):
    with pytest.raises(TypeError, match="momentum"):
        kind(momentum=0.9)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ForwardStep, {"step_size": 0.0}),
        (ForwardStep, {"step_size": float("nan")}),
        (InertialKM, {"inertia": 1.0}),
        (InertialKM, {"relaxation": 0.0}),
        (InertialKM, {"cocoercivity": -1.0}),
        (Adam, {"betas": (0.9, 1.0)}),
        (Adam, {"eps": -1.0}),
        (Anderson, {"memory": 0}),
        (Anderson, {"mixing": -1.0}),
        (Anderson, {"regularization": 1.0}),
        (Anderson, {"largest_weight": 0.0}),
    ],
)
def test_options_out_of_range_are_refused_with_their_value(kind, options):
    (value,) = options.values()
    with pytest.raises(ValueError, match=str(value).replace("(", r"\(").replace(")", r"\)")):
        kind(**options)
