"""Proximal operators are differentiable by autograd, at kinks and points of norm 0 too."""

import pytest
import torch
from proximal_cases import ROWS, normal

from fixpoint.proximal import L2, GroupL1, NormBall, PerRow, TotalVariation1D


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_derivative_of_the_total_variation_prox_is_that_of_its_pieces(n):
    z = normal(ROWS, 2, n, seed=5).requires_grad_()
    step = torch.tensor([0.2, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.9, 0.3, 0.7], dtype=torch.float64, requires_grad=True)

    def prox(z, step, weight):
        return TotalVariation1D(PerRow(weight)).prox(z, step)

    def conjugate_prox(z, step, weight):
        return TotalVariation1D(PerRow(weight)).conjugate.prox(z, step)

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
