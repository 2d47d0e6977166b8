"""The total variation of signals and pictures."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proximal_cases import normal, squared

from fixpoint.proximal import TotalVariation1D, TotalVariation2D

# Single functions


@pytest.mark.parametrize("n", [1, 2, 3, 50, 257, 1000])
@pytest.mark.parametrize("weight", [0.01, 1.0, 40.0])
def test_the_total_variation_of_a_long_signal_meets_its_optimality_conditions(n, weight):
    # u = y - D' p with |p| <= weight, p = weight sign(D u) where u jumps (Condat 2013).
    y = normal(2, n, seed=n).cumsum(1) + normal(2, n, seed=n + 1)
    u = TotalVariation1D(weight).prox(y, 1.0)
    p = -(y - u).cumsum(1)
    slack = 1e-15 * n * (1 + (y.amax() - y.amin()))
    assert (p[:, -1].abs() <= slack).all()
    assert (p[:, :-1].abs() <= weight + slack).all()
    jump = u.diff(dim=1)
    assert ((p[:, :-1] - weight * jump.sign()).abs()[jump != 0] <= slack).all()
    single = TotalVariation1D(weight).prox(y.float(), 1.0)
    spread = y.amax() - y.amin()
    assert (single - u).abs().max() <= 4 * torch.finfo(torch.float32).eps * (spread + y.abs().max())


@given(seed=st.integers(0, 2**16), weight=st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_ties_in_a_signal_are_no_trouble(seed, weight):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(-3, 4, (4, 12), generator=generator).double()
    u = TotalVariation1D(float(weight)).prox(y, 1.0)
    p, jump = -(y - u).cumsum(1)[:, :-1], u.diff(dim=1)
    assert (p.abs() <= weight + 1e-13).all()
    assert ((p - weight * jump.sign()).abs()[jump.abs() > 1e-13] <= 1e-13).all()


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_distance_to_the_proximal_picture_is_certified(isotropic):
    z, step = normal(3, 2, 8, 9), torch.tensor([0.1, 0.4, 2.0], dtype=torch.float64)
    best = TotalVariation2D(0.8, isotropic, iterations=5000).prox(z, step)
    errors = []
    for iterations in (5, 50, 500):
        g = TotalVariation2D(0.8, isotropic, iterations=iterations)
        u, bound = g.certified_prox(z, step)
        assert torch.equal(u, g.prox(z, step))
        errors.append(squared(u - best).sqrt())
        assert (errors[-1] <= bound + 1e-7).all()
        assert (bound <= 100 * step / iterations).all()
    assert (errors[1] < errors[0] / 3).all()
    assert (errors[2] < 1e-12).all()


def test_restarts_make_the_distance_vanish():
    z = normal(1, 24, 24) + torch.linspace(0, 3, 24, dtype=torch.float64)
    _, bound = TotalVariation2D(0.8, isotropic=False, iterations=1000).certified_prox(z, 1.0)
    assert bound < 1e-5  # without: 8e-3


def test_a_picture_of_one_column_is_a_signal():
    z = normal(2, 9, 1)
    for isotropic in (True, False):
        picture = TotalVariation2D(0.5, isotropic, iterations=2000).prox(z, 1.0)
        signal = TotalVariation1D(0.5).prox(z.squeeze(-1), 1.0)
        torch.testing.assert_close(picture.squeeze(-1), signal)
