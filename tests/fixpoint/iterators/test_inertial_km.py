"""Inertial KM: by hand, and the inequality that it needs."""

import pytest
import torch
from iterated import ones, states
from problems import problem

from fixpoint import ForwardStep, InertialKM, TheoremWarning, as_operator

# Inertial KM


def test_inertial_km_by_hand():
    # alpha 1/2, lambda 1/8, beta 1: rho = 1/4; T z = z.
    # z0 = y0 = 1; z1 = 3/4, y1 = 5/8; z2 = 15/32, y2 = 21/64.
    iterator = InertialKM(inertia=0.5, relaxation=0.125, cocoercivity=1.0)
    run = list(states(iterator, as_operator(lambda z: z), ones(), 2))
    assert [state.z.item() for state in run] == [1, 0.75, 15 / 32]
    assert [state.point.item() for state in run] == [1, 0.625, 21 / 64]
    assert all(torch.equal(state.residual, state.point) for state in run)


def test_inertial_km_without_inertia_is_the_forward_step():
    operator, _, z0 = problem()
    km = InertialKM(inertia=0.0, relaxation=0.4, cocoercivity=1.0)
    for a, b in zip(
        states(km, operator, z0, 8),
        states(ForwardStep(step_size=0.8), operator, z0, 8),
        strict=True,
    ):
        assert torch.equal(a.point, b.point)


def test_inertia_changes_the_iterates():
    operator, _, z0 = problem()
    *_, plain = states(InertialKM(inertia=0.0, relaxation=0.4), operator, z0, 5)
    *_, inertial = states(InertialKM(inertia=0.3, relaxation=0.4), operator, z0, 5)
    assert not torch.allclose(plain.z, inertial.z)


def test_inertial_km_states_the_inequality_it_needs():
    with pytest.raises(ValueError, match=r"\(1 - alpha\)\^2.*below 0\.00581395, got 0\.5"):
        InertialKM(inertia=0.9, relaxation=0.5)
    InertialKM(inertia=0.9, relaxation=0.0058)  # the paper's inertia, just inside


def test_inertial_km_warns_when_it_is_told_more_cocoercivity_than_there_is():
    operator, _, z0 = problem()
    with pytest.warns(TheoremWarning, match="1-cocoercive"):
        InertialKM(cocoercivity=1.5).init(operator, z0)
