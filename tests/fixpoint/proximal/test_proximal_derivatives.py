"""Proximal operators are differentiable by autograd, at kinks and points of norm 0 too."""

import math

import pytest
import torch
from proximal_cases import (
    CONJUGATES,
    ROWS,
    TABLE,
    Case,
    conjugate_of,
    has_values,
    normal,
    over,
    quick,
)

from fixpoint.proximal import (
    L1,
    L2,
    Box,
    GroupL1,
    HalfSpace,
    Hinge,
    KullbackLeibler,
    LInfinity,
    NormBall,
    NuclearNorm,
    PositiveSemidefinite,
    RowParameter,
    SecondOrderCone,
    Simplex,
    TotalVariation1D,
    TotalVariation2D,
)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_derivative_of_the_total_variation_prox_is_that_of_its_pieces(n):
    z = normal(ROWS, 2, n, seed=5).requires_grad_()
    step = torch.tensor([0.2, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.9, 0.3, 0.7], dtype=torch.float64, requires_grad=True)

    def prox(z, step, weight):
        return TotalVariation1D(RowParameter(weight)).prox(z, step)

    def conjugate_prox(z, step, weight):
        return TotalVariation1D(RowParameter(weight)).conjugate.prox(z, step)

    if n == 9:
        pieces = 1 + (prox(z, step, weight).diff(dim=-1) != 0).sum(-1)
        assert pieces.min() == 1
        assert ((pieces > 3) & (pieces < n)).any()  # some joined, some not
    assert torch.autograd.gradcheck(prox, (z, step, weight))
    assert torch.autograd.gradcheck(conjugate_prox, (z, step, weight))


def test_the_derivative_of_a_long_signal_is_as_good_in_float32():
    y, direction = normal(2, 1000, seed=6).cumsum(1), normal(2, 1000, seed=7)
    slopes = []
    for dtype in (torch.float64, torch.float32):
        z = y.to(dtype).requires_grad_()
        u = TotalVariation1D(5.0).prox(z, 1.0)
        slopes.append(torch.autograd.grad((u * direction.to(dtype)).sum(), z)[0].double())
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("g", [L2(0.7), NormBall(2, 0.5, 0.1), GroupL1((2, 1, 3), 0.4)])
def test_scaling_a_norm_leaves_its_derivative(g):
    z = normal(2, 6, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: g.prox(z, 0.8), (z,))
    assert torch.autograd.gradcheck(L2()._value, (z, torch.zeros(2, dtype=torch.float64)))


# Every function, at points where a formula divides by 0 or decides a tie


def awkward_points(shape):
    """Rows of a shape by name: zeros, flat parts, ties, equal eigenvalues, one direction alone."""
    size = math.prod(shape)
    generic = normal(*shape, seed=3)
    ties = torch.arange(size, dtype=torch.float64).reshape(shape) % 3 - 1
    sparse = torch.zeros(size, dtype=torch.float64)
    sparse[0], sparse[-1] = 3.0, -0.5
    low = generic.flatten()[: shape[0]].reshape(-1, *(1,) * (len(shape) - 1)).expand(shape)
    matrix = torch.eye(*shape[-2:], dtype=torch.float64) if len(shape) > 1 else ties.sign()
    return {
        "zeros": torch.zeros(shape, dtype=torch.float64),
        "generic": generic,
        "flat": torch.full(shape, 1.5, dtype=torch.float64),
        "ties": ties,
        "sparse": sparse.reshape(shape),
        "low rank": low.clone(),
        "equal eigenvalues": 2 * matrix.expand(shape),
        "minus": -2 * matrix.expand(shape),
        "whole": (2 * normal(*shape, seed=5)).round(),
        "halves": normal(*shape, seed=6).round() / 2,
    }


def batches(shape):
    """Batches of `ROWS` rows, a generic one in each."""
    points = awkward_points(shape)
    generic = points.pop("generic")
    rest = list(points.values())
    pairs = [*zip(rest[::2], rest[1::2], strict=False), (rest[-1], rest[0])]
    return [torch.stack((one, generic, other)) for one, other in pairs]


def jacobian(g, z, step):
    """By autograd, (rows, outputs, inputs), and the derivative in the step, (rows, outputs)."""
    z, step = z.clone().requires_grad_(), step.clone().requires_grad_()
    u = g.prox(z, step).flatten(1)
    keep = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    slopes = [torch.autograd.grad(v.sum(), (z, step), **keep) for v in u.unbind(1)]
    by_point = torch.stack([slope.flatten(1) for slope, _ in slopes], 1)
    return by_point, torch.stack([slope for _, slope in slopes], 1)


def one_sided_differences(g, z, step, h):
    """Both one-sided differences of the prox in every coordinate and, last, in the step."""
    size = z[0].numel()
    moves = h * torch.eye(size, dtype=z.dtype).reshape(size, 1, *z.shape[1:])
    none = torch.zeros_like(moves[:1])
    here = g.prox(z, step)
    sides = []
    for sign in (1, -1):
        there = [g.prox(z + sign * move, step) for move in moves]
        there.append(g.prox(z + none[0], step + sign * h))
        sides.append(torch.stack([sign * (u - here).flatten(1) / h for u in there], 2))
    return sides


def degenerate():
    """Functions that are 0, sets of one point, and kinks where `batches` has points."""
    rows = [
        *(f(0.0) for f in (L1, L2, LInfinity, TotalVariation1D)),
        *(f(1.0) for f in (L1, L2, LInfinity, TotalVariation1D, Simplex)),
        GroupL1((2, 1, 2), torch.tensor([0.0, 1, 0])),
        GroupL1((5,)).plus_squared(1.0, 1.0),
        *(NormBall(p, r, c) for p in (1, 2, math.inf) for r in (0.0, 1.0) for c in (0.0, 1.0)),
        Box(torch.tensor([0.0, 0, 1, -1, -1]), torch.tensor([0.0, 1, 1, 1, -1])),
        HalfSpace(torch.tensor([1.0, 0, 0, -1, 0])),
        KullbackLeibler(torch.tensor([0.0, 1, 0, 2, 0])),
        Hinge(1.0, 0.0),
        L2().translated(1.0),
        L2().plus_linear(1.0),
    ]
    shapes = [(g, (5,)) for g in rows]
    shapes += [(NuclearNorm(weight), (2, 3)) for weight in (0.0, 1.0)]
    shapes += [(NuclearNorm(1.0), (3, 3)), (PositiveSemidefinite(), (2, 2))]
    shapes += [(SecondOrderCone(), (1,)), (SecondOrderCone(), (3,))]
    shapes += [(TotalVariation2D(0.0, norm, 5), (3, 2)) for norm in (True, False)]
    cases = [Case(f"{g} on {shape}", g, shape) for g, shape in shapes]
    return cases + [conjugate_of(case) for case in cases]


DEGENERATE = degenerate()


@over(TABLE + CONJUGATES + DEGENERATE)
def test_the_derivative_of_a_prox_is_that_of_its_differences(case):
    g, h = quick(case.function), 1e-5
    for z in batches(case.shape):
        steps = torch.tensor([1.0, 0.8, 0.5], dtype=torch.float64)
        right, left = one_sided_differences(g, z, steps, h)
        for dtype, tolerance in ((torch.float64, 1e-4), (torch.float32, 2e-3)):
            by_point, by_step = jacobian(g, z.to(dtype), steps.to(dtype))
            found = torch.cat((by_point, by_step.unsqueeze(2)), 2)
            assert found.isfinite().all()
            size = 1 + right.abs().amax()
            smooth = ((right - left).abs() <= 0.1 * tolerance * size).all(1)  # in this coordinate
            error = (found.double() - (right + left) / 2).abs().amax(1)
            assert (error[smooth] <= tolerance * size).all()


@over([case for case in TABLE + CONJUGATES + DEGENERATE if case.accuracy <= 1e-12])
def test_a_derivative_is_symmetric_between_0_and_1(case):
    """As every element of the Clarke Jacobian of a proximal operator is. The iterates of an inner
    method are not yet proximal points."""
    g = case.function
    for z in batches(case.shape):
        found, _ = jacobian(g, z, torch.ones(ROWS, dtype=torch.float64))
        torch.testing.assert_close(found, found.mT, rtol=1e-9, atol=1e-9)
        values = torch.linalg.eigvalsh(found)
        assert (values >= -1e-9).all()
        assert (values <= 1 + 1e-9).all()


@over(TABLE + CONJUGATES)
@pytest.mark.parametrize("size", [1e-30, 1e20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_derivative_is_finite_at_every_scale(case, size, dtype):
    g = quick(case.function)
    for z in batches(case.shape)[::2]:
        for step in (1.0, size):
            slope, _ = jacobian(g, (size * z).to(dtype), torch.full((ROWS,), step, dtype=dtype))
            assert slope.isfinite().all()


@over(TABLE + CONJUGATES)
def test_an_awkward_row_leaves_the_derivatives_of_the_others(case):
    g = quick(case.function)
    for z in batches(case.shape):
        z[0] = 0
        z[2].view(-1)[0] = math.nan
        step = torch.ones(ROWS, dtype=torch.float64)
        alone = torch.tensor([1])
        found, by_step = jacobian(g, z, step)
        expected, by_step_alone = jacobian(g.select(alone), z[alone], step[alone])
        assert torch.equal(found[alone], expected)
        assert torch.equal(by_step[alone], by_step_alone)


@over([case for case in TABLE + CONJUGATES if has_values(case)])
def test_the_derivative_of_a_value_is_finite(case):
    g = case.function
    for z in batches(case.shape):
        u = z.clone().requires_grad_()
        value = g(u, 1e-9)
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value[value.isfinite()].sum(), u)
            assert slope.isfinite().all()


@pytest.mark.parametrize("name", ["nuclear norm", "positive semidefinite", "total variation"])
def test_derivatives_in_both_modes_and_of_second_order_agree(name):
    """Of the functions that state their derivative themselves."""
    case = next(case for case in TABLE if case.name == name)
    z = normal(2, *case.shape, seed=4).requires_grad_()
    step = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    inputs = (z, step)
    assert torch.autograd.gradcheck(case.function.prox, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(case.function.prox, inputs)
    for point in (z.detach(), torch.zeros_like(z), torch.ones_like(z)):
        back, forward = (
            mode(lambda z: case.function.prox(z, 0.8))(point)
            for mode in (torch.func.jacrev, torch.func.jacfwd)
        )
        assert back.isfinite().all()
        torch.testing.assert_close(back, forward)
