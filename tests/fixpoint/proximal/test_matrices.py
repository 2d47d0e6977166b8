"""Eigenvalues and equations near rounding."""

import math

import pytest
import torch
from proximal_cases import normal

from fixpoint.proximal import AffineSet, Quadratic, RowParameter

# Eigenvalues and equations near rounding


def test_a_small_eigenvalue_counts():
    diagonal = torch.ones(100)
    diagonal[0] = 5e-5
    g = Quadratic(torch.diag(diagonal))
    u = g.prox(torch.ones(1, 100), 1e6)
    assert u[0, 0].item() == pytest.approx(1 / 51, rel=1e-5)
    torch.testing.assert_close((1 - u) / 1e6, g.gradient(u), rtol=1e-5, atol=0)
    assert g.strong_convexity == pytest.approx(5e-5)
    assert g.conjugate(5e-5 * torch.ones(1, 100)).item() == pytest.approx(
        (5e-5 + 99 * 5e-5**2) / 2, rel=1e-5
    )


def test_rounding_is_judged_row_by_row():
    one = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    g = Quadratic(RowParameter(torch.stack((1e-20 * one, 1e20 * one))))
    alone = Quadratic(1e-20 * one)
    z = normal(2, 2)
    assert torch.equal(g.prox(z, 1e20)[:1], alone.prox(z[:1], 1e20))
    assert g.strong_convexity == pytest.approx(alone.strong_convexity)
    for bad in (-one, torch.tensor([[2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)):
        with pytest.raises(ValueError, match="need"):
            Quadratic(RowParameter(torch.stack((1e-20 * bad, 1e20 * one))))


def test_rounding_below_zero_is_zero_and_more_is_refused():
    factor = normal(50, 3).float()
    g = Quadratic(factor @ factor.T)  # of rank 3, but for rounding
    assert torch.linalg.eigvalsh(g.matrix.double()).min() < 0
    assert g.values.min() == 0
    diagonal = torch.ones(100)
    diagonal[0] = -5e-5
    with pytest.raises(ValueError, match="the least is -5e-05"):
        Quadratic(torch.diag(diagonal))


def test_a_matrix_of_integers_is_taken_as_float64():
    ones = torch.ones(7, 7, dtype=torch.int64)
    z = normal(2, 7)
    assert torch.equal(Quadratic(ones).prox(z, 0.5), Quadratic(ones.double()).prox(z, 0.5))
    assert Quadratic(ones).strong_convexity == 0
    assert Quadratic(ones).conjugate(z).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("owned", [False, True])
def test_equations_that_depend_on_each_other_up_to_float32_are_dependent(owned):
    matrix = normal(2, 20, seed=4).float()
    third = matrix[:1] / 3 - 0.7 * matrix[1:]
    dependent = torch.cat((matrix, third))
    target = dependent @ normal(20, seed=5).float()
    g = (
        AffineSet(RowParameter(dependent[None]), RowParameter(target[None]))
        if owned
        else AffineSet(dependent, target)
    )
    z = 3 * normal(1, 20, seed=6).float()
    expected = AffineSet(matrix.double(), target[:2].double()).prox(z.double(), 1.0)
    torch.testing.assert_close(g.prox(z, 1.0).double(), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="need target in the range of matrix"):
        AffineSet(dependent, target + torch.tensor([0.0, 0.0, 1e-3]))
