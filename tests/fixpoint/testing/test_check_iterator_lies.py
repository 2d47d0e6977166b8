"""check_iterator catches iterators that lie about their run."""

from dataclasses import dataclass, replace

import pytest
import torch

from fixpoint import ForwardStep, State
from fixpoint.iterator import Iterator
from fixpoint.testing import BrokenProperty, check_iterator, runaways
from fixpoint.testing.false_success import false_success


@dataclass(frozen=True, kw_only=True)
class Walk(Iterator[State]):
    """Forward steps of length 1, plainly."""

    def init(self, operator, z):
        return State(z=z, point=z, residual=operator(z))

    def step(self, operator, state):
        point = state.z - state.residual
        return State(z=point, point=point, residual=operator(point))


@dataclass(frozen=True, kw_only=True)
class ShowsLessFarAway(Walk):
    """A residual that shrinks where z has run away."""

    def step(self, operator, state):
        state = super().step(operator, replace(state, residual=operator(state.z)))
        far = (state.point.abs().amax(1, keepdim=True) - 60).clamp(min=0)
        return replace(state, residual=state.residual * 0.5**far)


@dataclass(frozen=True, kw_only=True)
class TakesTrialsForIterates(Walk):
    """Refuses every third point, and says that it was accepted."""

    def init(self, operator, z):
        return replace(super().init(operator, z), accepted=torch.ones(len(z), dtype=torch.bool))

    def step(self, operator, state):
        following = super().step(operator, state)
        accepted = torch.ones(len(state.z), dtype=torch.bool)
        smaller = following.residual.norm(dim=1) < 0.5 * state.residual.norm(dim=1)
        z = torch.where(smaller.unsqueeze(1), following.z, state.z)
        return replace(following, z=z, accepted=accepted)


def test_plain_steps_pass():
    check_iterator(Walk(), cocoercivity=1.0)


@pytest.mark.parametrize(
    ("iterator", "name"),
    [
        (ShowsLessFarAway(), "no success without a zero"),
        (TakesTrialsForIterates(), "a refused trial is no iterate"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_planted_lie_is_found(iterator, name):
    with pytest.raises(BrokenProperty) as caught:
        check_iterator(iterator, cocoercivity=1.0)
    assert caught.value.property == name


def test_no_iterator_succeeds_on_a_row_that_runs_away():
    for problem in runaways(torch.float32):
        assert false_success(ForwardStep(step_size=1.0), problem) is None
