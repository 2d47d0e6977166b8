"""Proximal operators of numbers far from 1."""

import math

import pytest
import torch

from fixpoint.proximal import (
    L1,
    L2,
    Box,
    GroupL1,
    HalfSpace,
    Huber,
    LInfinity,
    NormBall,
    PerRow,
    Simplex,
    SquaredL2,
    TotalVariation1D,
)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-25, 1e20, 3e38])
def test_norms_of_tiny_and_huge_rows_neither_underflow_nor_overflow(size):
    z = torch.tensor([[3.0, -2.0, 0.5], [1.0, 1.0, 1.0]]) * (size / 3)
    room = {"rtol": 1e-6, "atol": 3e-45}  # twice the smallest number
    exact = z.double()
    for make in (
        lambda w: L2(w),
        lambda w: GroupL1((1, 2), w),
        lambda w: GroupL1((3,), w),
        lambda w: NormBall(2, w),
    ):
        g = make(0.1 * size)
        torch.testing.assert_close(g.prox(z, 1.0).double(), g.prox(exact, 1.0), **room)
        g = make(0.1 * size).conjugate
        torch.testing.assert_close(g.prox(z, 1.0).double(), g.prox(exact, 1.0), **room)
    if size < 1e38:  # else the norm itself is no number of float32
        for g in (L2(1.0), GroupL1((1, 2)), GroupL1((3,))):
            torch.testing.assert_close(g(z).double(), g(exact), **room)


def test_the_ball_takes_a_huge_row_to_its_boundary():
    third = torch.full((1, 3), 3**-0.5)
    torch.testing.assert_close(NormBall(2).prox(torch.full((1, 3), 1e20), 1.0), third)
    found = L2(1e-30).prox(torch.full((1, 3), 1e-25), 1.0)
    torch.testing.assert_close(found, torch.full((1, 3), 1e-25), rtol=1e-4, atol=0)


@pytest.mark.parametrize("size", [1e-42, 1e-25, 1e25])
@pytest.mark.parametrize("owned", [False, True])
def test_a_half_space_does_not_depend_on_the_size_of_its_normal(size, owned):
    normals = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]]) * size
    offsets = torch.tensor([0.5, -1.0]) * size
    z = torch.tensor([[3.0, -1.0, 2.0], [1.0, 2.0, -5.0]])
    if owned:
        g = HalfSpace(PerRow(normals), PerRow(offsets))
        a, b = normals.double(), offsets.double()
    else:
        g = HalfSpace(normals[0], offsets[0])
        a, b = normals[:1].double(), offsets[:1].double()
    excess = ((a * z).sum(1) - b).clamp(min=0) / (a * a).sum(1)
    expected = z - excess[:, None] * a
    found = g.prox(z, 1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    assert (g(found) == 0).all()
    assert g(z)[0] == math.inf


def test_a_half_space_takes_one_offset_for_each_normal():
    with pytest.raises(ValueError, match="offset, normal do not fit each other"):
        HalfSpace(PerRow(torch.ones(3, 2)), PerRow(torch.ones(2)))


@pytest.mark.parametrize(
    "g",
    [
        L1(),
        L2(),
        LInfinity(),
        NormBall(1),
        NormBall(2),
        NormBall(math.inf),
        Box(0.0, 1.0),
        Huber(),
        SquaredL2(),
        TotalVariation1D(),
    ],
    ids=lambda g: type(g).__name__,
)
def test_a_row_of_no_numbers_has_the_value_zero(g):
    for z in (torch.zeros(3, 0), torch.zeros(3, 2, 0)):
        for f in (g, g.conjugate):
            assert f(z).tolist() == [0, 0, 0]
            assert f.prox(z, 1.0).shape == z.shape
    assert Simplex()(torch.zeros(1, 0)).item() == math.inf  # a sum of nothing is not 1
