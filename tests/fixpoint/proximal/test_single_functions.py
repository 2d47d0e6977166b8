"""What single functions owe their users."""

import math

import pytest
import torch
from proximal_cases import ROWS, normal, per_row

from fixpoint import fixed_point_of, solve
from fixpoint.iterators import ForwardStep
from fixpoint.proximal import (
    L1,
    Box,
    Function,
    GaussianPrior,
    GroupL1,
    NormBall,
    Quadratic,
    RowParameter,
    SeparableSum,
    Simplex,
    SquaredL2,
    Zero,
)


def test_channels_are_whole_groups():
    z = torch.stack((torch.full((2, 2), 2.0), torch.full((2, 2), 0.1)))[None]
    found = GroupL1("channels").prox(z, 1.0)  # norms 4 and 0.2, shrunk by 1
    torch.testing.assert_close(found[0, 0], torch.full((2, 2), 1.5))
    assert (found[0, 1] == 0).all()
    along = GroupL1("channels", dim=-1).prox(z.movedim(1, -1), 1.0)
    assert torch.equal(along.movedim(-1, 1), found)


def test_weights_reach_the_coordinates_they_are_meant_for():
    z = torch.full((2, 2), 3.0)
    weight = torch.tensor([1.0, 2.0])
    assert L1(weight).prox(z, 1.0).tolist() == [[2, 1], [2, 1]]
    assert L1(RowParameter(weight)).prox(z, 1.0).tolist() == [[2, 2], [1, 1]]


def test_the_simplex_keeps_its_digits():
    z = torch.tensor([[1e6, 1e6 + 0.25, 0.0]])
    assert Simplex().prox(z, 1.0).tolist() == [[0.375, 0.625, 0.0]]
    z = normal(2, 100_000).abs().float()
    for u in (Simplex(0.1).prox(z, 1.0), NormBall(1, 0.1).prox(-z, 1.0)):
        sums = u.double().abs().sum(1)
        torch.testing.assert_close(sums, torch.full_like(sums, 0.1), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SquaredL2(2.0).translated(0.5), SquaredL2(2.0, 0.5)),
        (3 * L1(0.5), L1(1.5)),
        (Box(0.0, 1.0).translated(2.0), Box(2.0, 3.0)),
        (Zero().plus_squared(2.0, 0.5), SquaredL2(2.0, 0.5)),
        (SquaredL2(1.0).plus_squared(2.0), SquaredL2(3.0)),
        (Zero().plus_linear(1.0).plus_squared(0.5), SquaredL2(0.5).plus_linear(1.0)),
        (GaussianPrior(0.3, 0.5), SquaredL2(4.0, 0.3)),
        (Quadratic(2 * torch.eye(4)), SquaredL2(2.0)),
        (NormBall(math.inf, 0.5, 1.0), Box(0.5, 1.5)),
        (NormBall(2, 0.5).translated(1.0), NormBall(2, 0.5, 1.0)),
    ],
)
def test_two_ways_to_the_same_function(one, other):
    z = 3 * normal(3, 4)
    torch.testing.assert_close(one.prox(z, 0.7), other.prox(z, 0.7))
    torch.testing.assert_close(one(other.prox(z, 0.7)), other(other.prox(z, 0.7)))
    if other.smoothness is not None:
        assert one.smoothness == pytest.approx(other.smoothness)
        torch.testing.assert_close(one.gradient(z), other.gradient(z))
    assert one.strong_convexity == pytest.approx(other.strong_convexity)


def test_a_separable_sum_acts_on_each_part():
    g = SeparableSum((L1(0.5).plus_squared(0.1), SquaredL2(2.0, per_row(2, 2))))
    z = normal(ROWS, 4), normal(ROWS, 2, 2, seed=1)
    u = g.prox(z, 0.3)
    assert torch.equal(u[0], g.functions[0].prox(z[0], 0.3))
    assert torch.equal(u[1], g.functions[1].prox(z[1], 0.3))
    torch.testing.assert_close(g(z), g.functions[0](z[0]) + g.functions[1](z[1]))
    assert (g.strong_convexity, g.smoothness) == (0.1, None)
    dual = g.conjugate.prox(tuple(part / 0.3 for part in z), 1 / 0.3)
    for part, primal, slope in zip(z, u, dual, strict=True):
        torch.testing.assert_close(primal + 0.3 * slope, part)
    rows = torch.tensor([2, 0])
    some = g.select(rows).prox(tuple(part[rows] for part in z), 0.3)
    assert all(torch.equal(a, b[rows]) for a, b in zip(some, u, strict=True))
    moved = (2.0 * g).translated((1.0, -1.0)).plus_squared(0.5).plus_linear((0.1, 0.2))
    parts = [
        (2.0 * f).translated(b).plus_squared(0.5).plus_linear(q)
        for f, b, q in zip(g.functions, (1.0, -1.0), (0.1, 0.2), strict=True)
    ]
    for found, f, part in zip(moved.prox(z, 0.3), parts, z, strict=True):
        assert torch.equal(found, f.prox(part, 0.3))
    smooth = SeparableSum((SquaredL2(), SquaredL2(3.0)))
    assert (smooth.strong_convexity, smooth.smoothness) == (1, 3)
    assert torch.equal(smooth.gradient(z)[1], 3 * z[1])


def test_a_function_of_ones_own_needs_two_methods():
    class Positive(Function):
        """The indicator of z >= floor, with a floor per row."""

        def __init__(self, floor):
            self.floor = RowParameter(floor)

        def _value(self, z, tolerance):
            below = (self.floor.tensor[:, None] - z).amax(1)
            return torch.where(below > tolerance, math.inf, 0.0)

        def _prox(self, z, step):
            return z.maximum(self.floor.tensor[:, None])

    g = Positive(torch.tensor([0.0, 1.0], dtype=torch.float64))
    z = normal(2, 3)
    rows = torch.tensor([1])
    assert torch.equal(g.select(rows).prox(z[rows], 1.0), g.prox(z, 1.0)[rows])
    assert torch.equal((2 * g).translated(1.0).prox(z, 1.0), 1 + g.prox(z - 1, 1.0))
    with pytest.raises(TypeError, match="conjugate of Positive has no values"):
        g.conjugate(z)


def test_a_proximal_gradient_step_solves_a_lasso():
    matrix, target = normal(8, 5, seed=1), normal(ROWS, 8, seed=2)
    weights = torch.tensor([0.1, 1.0, 100.0], dtype=torch.float64)
    step = 1 / float(torch.linalg.matrix_norm(matrix, 2)) ** 2

    def forward_backward(z, target, weights):
        slope = (z @ matrix.T - target) @ matrix
        return L1(RowParameter(weights)).prox(z - step * slope, step)

    operator = fixed_point_of(forward_backward, target, weights)
    z = torch.zeros(ROWS, 5, dtype=torch.float64)
    solution = solve(
        operator, z, ForwardStep(step_size=1.0), rtol=1e-12, atol=1e-12, max_iterations=5000
    )
    slope = (target - solution.z @ matrix.T) @ matrix
    weight = weights[:, None]
    assert (slope.abs() <= weight + 1e-8).all()
    active = solution.z != 0
    torch.testing.assert_close(slope[active], (weight * solution.z.sign())[active])
    assert not active[2].any()
    assert active[0].any()
