"""Conjugates: Moreau's identity, the Fenchel-Young inequality, constants."""

import math

import torch
from proximal_cases import TABLE, draw, has_values, inner, over, room, squared
from proximal_points import steps, with_points

from fixpoint.proximal import L1, Conjugate, Huber, TotalVariation1D, TotalVariation2D

# Conjugates


def test_a_conjugate_has_the_inverse_constants():
    assert Huber(0.5, 2.0).conjugate.strong_convexity == 0.5
    assert Huber(0.5, 2.0).conjugate.smoothness is None
    elastic_net = L1(0.5).plus_squared(0.4).conjugate
    assert (elastic_net.strong_convexity, elastic_net.smoothness) == (0, 2.5)


def test_a_tolerance_is_in_the_units_of_the_point():
    g = (0.01 * TotalVariation1D()).conjugate  # the sums of y may reach 0.01
    y = torch.tensor([[0.01, -0.01, 0.0]]) * 1.01
    assert g(y).item() == math.inf
    assert g(y, tolerance=1e-6).item() == math.inf
    assert g(y, tolerance=1e-4).item() == 0


@over(TABLE)
@with_points(**steps)
def test_moreaus_identity(case, seed, scale, step):
    g = case.function
    (z,) = draw(case, seed, scale, 1)
    parts = g.prox(z, step) + step * g.conjugate.prox(z / step, 1 / step)
    assert (squared(parts - z) <= room(case) ** 2 * (1 + squared(z))).all()


@over([case for case in TABLE if not isinstance(case.function, TotalVariation2D)])
@with_points(**steps)
def test_the_fenchel_young_inequality_is_an_equality_at_a_proximal_point(case, seed, scale, step):
    g, tolerance = case.function, 1e-9 * (1 + scale) * (1 + 1 / step)
    z, other = draw(case, seed, scale, 2)
    u, w = g.prox(z, step), g.prox(other, step)
    slope = (z - u) / step
    sizes = g(u, tolerance), g.conjugate(slope, tolerance), inner(u, slope)
    size = sum(value.abs() for value in sizes) + squared(u) + squared(slope)
    torch.testing.assert_close(
        (sizes[0] + sizes[1] - sizes[2]) / (1 + size), 0 * size, rtol=0, atol=1e-8
    )
    lacking = g(w, tolerance) + g.conjugate(slope, tolerance) - inner(w, slope)
    assert (lacking >= -1e-8 * (1 + size + squared(w))).all()


@over(TABLE)
def test_the_conjugate_of_the_conjugate_is_the_function(case):
    g = case.function
    (z,) = draw(case, 4, 1.0, 1)
    twice = g.conjugate.conjugate
    torch.testing.assert_close(twice.prox(z, 0.7), g.prox(z, 0.7), rtol=1e-3, atol=1e-3)
    if has_values(case):
        u = g.prox(z, 0.7)
        torch.testing.assert_close(twice(u, 1e-9), g(u, 1e-9))


def test_a_named_conjugate_loses_no_digits():
    z = torch.tensor([[1e9, -1e9, 0.3]])
    assert torch.equal(L1(0.1).conjugate.prox(z, 1.0), torch.tensor([[0.1, -0.1, 0.1]]))
    by_moreau = Conjugate(L1(0.1)).prox(z, 1.0)
    assert not torch.allclose(by_moreau, torch.tensor([[0.1, -0.1, 0.1]]))
