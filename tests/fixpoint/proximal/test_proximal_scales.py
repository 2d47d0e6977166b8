"""Proximal operators of numbers far from 1."""

import math

import pytest
import torch
from proximal_cases import TABLE, draw, normal, over, quick

from fixpoint.proximal import (
    L1,
    L2,
    Box,
    GroupL1,
    HalfSpace,
    Hinge,
    Huber,
    KullbackLeibler,
    LInfinity,
    Logistic,
    NegativeEntropy,
    NormBall,
    NuclearNorm,
    RowParameter,
    Simplex,
    SquaredL2,
    TotalVariation1D,
    TotalVariation2D,
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
        g = HalfSpace(RowParameter(normals), RowParameter(offsets))
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
        HalfSpace(RowParameter(torch.ones(3, 2)), RowParameter(torch.ones(2)))


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
        NegativeEntropy(),
        KullbackLeibler(1.0),
        Logistic(),
        Hinge(),
    ],
    ids=lambda g: type(g).__name__,
)
def test_a_row_of_no_numbers_has_the_value_zero(g):
    for z in (torch.zeros(3, 0), torch.zeros(3, 2, 0)):
        for f in (g, g.conjugate):
            assert f(z).tolist() == [0, 0, 0]
            assert f.prox(z, 1.0).shape == z.shape
    assert Simplex()(torch.zeros(1, 0)).item() == math.inf  # a sum of nothing is not 1


# The scale of a row


SCALES = [1e-30, 1e-12, 1e-3, 1e7, 1e20]
HOMOGENEOUS = [
    case
    for case in TABLE
    if isinstance(
        case.function,
        L1 | L2 | LInfinity | GroupL1 | NuclearNorm | TotalVariation1D | TotalVariation2D,
    )
]


@over(HOMOGENEOUS)
@pytest.mark.parametrize("size", SCALES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_prox_of_a_norm_scales_with_its_point_and_step(case, size, dtype):
    g = quick(case.function)
    (z,) = draw(case, 12, 2.0, 1)
    z, step = z.to(dtype), torch.tensor([0.2, 0.7, 3.0], dtype=dtype)
    found, expected = g.prox(size * z, size * step), size * g.prox(z, step)
    room = 64 * torch.finfo(dtype).eps * size * z.abs().amax()
    assert (found - expected).abs().amax() <= room


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        (1e-30, torch.float32),
        (1e-30, torch.float64),
        (1e-3, torch.float16),
        (1e7, torch.float32),
        (1e20, torch.float32),
        (1e20, torch.float64),
    ],
)
def test_the_distance_to_the_proximal_picture_is_certified_at_every_scale(isotropic, size, dtype):
    z = normal(3, 2, 6, 7, seed=13)
    z[1] += 100  # its size is not its contrast
    z[2, 0] *= 1e-3
    z = (size * z).to(dtype)
    step = size * torch.tensor([0.1, 0.4, 2.0], dtype=torch.float64)
    best = TotalVariation2D(0.8, isotropic, iterations=1500).prox(z.double() / size, step / size)
    for iterations in (3, 30, 500):
        g = TotalVariation2D(0.8, isotropic, iterations=iterations)
        u, bound = g.certified_prox(z, step)
        assert torch.equal(u, g.prox(z, step))
        error = (u.double() / size - best).flatten(1).norm(dim=1)
        bound = bound.double() / size
        assert (error <= bound).all()
    eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    norms = (z.double() / size).flatten(1).norm(dim=1)
    room = math.sqrt(eps) + torch.finfo(dtype).eps
    assert (bound <= 10 * room * norms).all()  # after the last, what rounding leaves


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("size", "step"), [(1e-30, 1e20), (1.0, 1e20), (1e20, 1e-30), (1e20, 1.0)])
def test_a_weight_far_from_the_size_of_a_picture_is_no_trouble(dtype, size, step):
    z = size * normal(1, 6, 7, seed=14).to(dtype)
    for isotropic in (True, False):
        u, bound = TotalVariation2D(1.0, isotropic, iterations=500).certified_prox(z, step)
        expected = z if step < size else z.mean((1, 2), keepdim=True).expand_as(z)
        assert ((u - expected).flatten().norm() <= bound.clamp(min=1e-6 * size)).all()
        assert (bound <= 1e-2 * z.double().norm()).all()
