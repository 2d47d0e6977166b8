"""Every function of one table, and its conjugate, meets the same claims."""

import warnings

import pytest
import torch
from proximal_cases import (
    BASIC,
    CONJUGATES,
    SMOOTH,
    STRONGLY_CONVEX,
    TABLE,
    WITH_VALUES,
    draw,
    inner,
    over,
    room,
    squared,
)
from proximal_points import steps, with_points

from fixpoint.proximal import L1, L2, Box, GaussianPrior, Quadratic, Simplex, SquaredL2

# What a proximal point is


@over(WITH_VALUES)
@with_points(**steps)
def test_the_proximal_point_is_the_minimiser(case, seed, scale, step):
    g = case.function
    z, noise = draw(case, seed, scale, 2)
    u = g.prox(z, step)

    def objective(w):
        return g(w, tolerance=1e-9 * (1 + scale)) + squared(w - z) / (2 * step)

    least = objective(u)
    assert least.isfinite().all()
    for size in (1.0, 1e-3):
        other = g.prox(u + size * noise, 1e-3)  # a point of the domain
        assert (objective(other) >= least - room(case, least, squared(z) / step)).all()


@over(WITH_VALUES)
@with_points(**steps)
def test_the_step_to_the_proximal_point_is_a_subgradient(case, seed, scale, step):
    g, tolerance = case.function, 1e-9 * (1 + scale)
    z, noise = draw(case, seed, scale, 2)
    u = g.prox(z, step)
    slope = (z - u) / step
    for w in (g.prox(noise, 0.1), g.prox(u + 0.01 * noise, 1e-3)):
        below = g(u, tolerance) + inner(slope, w - u)
        sizes = g(u, tolerance), slope.flatten(1).norm(dim=1) * (w - u).flatten(1).norm(dim=1)
        forgiven = tolerance * slope.abs().flatten(1).sum(1)
        assert (g(w, tolerance) >= below - room(case, *sizes) - forgiven).all()


@over(TABLE + CONJUGATES)
@with_points(**steps)
def test_prox_is_firmly_nonexpansive(case, seed, scale, step):
    a, b = draw(case, seed, scale, 2)
    moved = case.function.prox(a, step) - case.function.prox(b, step)
    slack = room(case, squared(a), squared(b))
    assert (inner(moved, a - b) >= squared(moved) - slack).all()


@over(STRONGLY_CONVEX)
@with_points(**steps)
def test_prox_of_a_strongly_convex_function_contracts(case, seed, scale, step):
    a, b = draw(case, seed, scale, 2)
    moved = case.function.prox(a, step) - case.function.prox(b, step)
    factor = 1 / (1 + step * case.function.strong_convexity)
    assert (squared(moved) <= factor**2 * squared(a - b) + room(case, squared(a), squared(b))).all()


@pytest.mark.parametrize(
    ("g", "direction"),
    [
        (SquaredL2(0.7), torch.ones(1, 4)),
        (GaussianPrior(0.0, torch.tensor([1.0, 0.5, 2, 1])), torch.eye(4)[2:3]),
        (Quadratic(torch.diag(torch.tensor([3.0, 0.2, 1, 1]))), torch.eye(4)[1:2]),
        (L1().plus_squared(0.3), torch.ones(1, 4)),
        (2 * SquaredL2(0.7).plus_squared(0.1), torch.ones(1, 4)),
    ],
)
def test_the_modulus_of_strong_convexity_is_the_largest(g, direction):
    direction = direction.double()
    far = 10 * direction
    moved = g.prox(far + direction, 0.5) - g.prox(far, 0.5)
    torch.testing.assert_close(moved, direction / (1 + 0.5 * g.strong_convexity))


# An independent solver


@pytest.mark.filterwarnings("ignore")
@over([case for case in BASIC if case.model is not None])
def test_prox_agrees_with_cvxpy(case):
    """To 1e-9 relative to the row, 1e-6 for the inexact total variation of pictures and where the
    solver needs the exponential cone."""
    cp = pytest.importorskip("cvxpy")
    (z,) = draw(case, 11, 2.0, 1)
    u = case.function.prox(z, 0.8)
    for row in (0, 2):
        v = cp.Variable(case.shape)
        value, constraints = case.model(cp, v, case.function, row)
        target = z[row].numpy()
        objective = 0.8 * value + cp.sum_squares(v - target) / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cp.Problem(cp.Minimize(objective), constraints).solve(
                solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
            )
        found = torch.from_numpy(v.value)
        assert (found - u[row]).norm() <= max(case.of_solver, case.accuracy) * (1 + z[row].norm())
        at = case.function.select(torch.tensor([row]))
        expected = value if isinstance(value, int) else value.value
        assert at(found[None], tolerance=1e-6).item() == pytest.approx(expected, abs=1e-5)


# Smooth functions


@over(SMOOTH)
@with_points()
def test_the_gradient_is_that_of_the_value(case, seed, scale):
    g = case.function
    (z,) = draw(case, seed, scale, 1)
    x = z.clone().requires_grad_()
    g.gradient(z)  # without a graph too
    value = g(x, 1e-9)
    slope = torch.zeros_like(x)
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(g.gradient(z), slope, rtol=1e-8, atol=1e-8 * (1 + scale))


@over(SMOOTH)
@with_points()
def test_the_constants_of_the_gradient_hold(case, seed, scale):
    g = case.function
    a, b = draw(case, seed, scale, 2)
    change = g.gradient(a) - g.gradient(b)
    slack = 1e-9 * (1 + squared(a - b) + squared(change))
    assert (squared(change) <= g.smoothness**2 * squared(a - b) + slack).all()
    assert (inner(change, a - b) >= g.strong_convexity * squared(a - b) - slack).all()


@pytest.mark.parametrize("g", [L1(), Box(0.0, 1.0), Simplex(), 2 * L2(), L1().plus_linear(1.0)])
def test_a_function_that_is_not_smooth_says_so(g):
    assert g.smoothness is None
    with pytest.raises(TypeError, match="is not smooth: it has no gradient"):
        g.gradient(torch.ones(1, 3))
