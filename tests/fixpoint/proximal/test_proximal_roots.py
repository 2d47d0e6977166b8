"""Proximal points that are roots of equations: to rounding, at every scale, and in fixed bits."""

import math

import pytest
import torch
from proximal_cases import normal

from fixpoint.proximal import (
    Hinge,
    KullbackLeibler,
    Logistic,
    NegativeEntropy,
    SecondOrderCone,
    TotalVariation2D,
)

SIZES = [0.0, 1e-30, 1e-12, 1e-4, 0.3, 1.0, 7.0, 1e3, 1e9, 1e20]
SIGNED = [*SIZES, *(-size for size in SIZES)]
STEPS = [1e-30, 1e-10, 0.01, 1.0, 50.0, 1e7, 1e20]


def grid(dtype):
    """Every pair of a point and a step, as rows of one number."""
    points = torch.tensor(SIGNED, dtype=dtype).repeat_interleave(len(STEPS))
    return points.unsqueeze(1), torch.tensor(STEPS, dtype=dtype).repeat(len(SIGNED))


def exact_entropy(mp, z, s):
    """s W(exp(z/s - 1)/s), in many digits."""
    low, high = mp.mpf(0), mp.mpf(1) + abs(z) + s  # log u - (z - s - u)/s changes its sign
    guess = (z - s) / s
    if guess < -1e6:
        return mp.mpf(0)
    for _ in range(400):
        middle = mp.sqrt(low * high) if low > 0 else high / mp.mpf(2) ** 64
        if middle + s * mp.log(middle) < z - s:
            low = middle
        else:
            high = middle
        if low > 0 and high / low < 1 + mp.mpf(10) ** -25:
            break
    return high


def exact_logistic(mp, z, s):
    low, high = z, z + s
    for _ in range(400):
        middle = (low + high) / 2
        chance = 1 / (1 + mp.exp(middle)) if middle < 1000 else mp.mpf(0)
        low, high = (middle, high) if middle - z < s * chance else (low, middle)
    return low


def exact_divergence(mp, z, s, b):
    d = z - s
    root = mp.sqrt(d * d + 4 * s * b)
    return (d + root) / 2 if d > 0 else 2 * s * b / (root - d) if root > d else mp.mpf(0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["entropy", "logistic", "few counts", "many counts", "no counts"])
def test_a_root_is_exact_to_rounding_at_every_scale(name, dtype):
    """As good as the exact root of a point that is rounded once."""
    mp = pytest.importorskip("mpmath").mp
    mp.dps = 60
    g, exact = {
        "entropy": (NegativeEntropy(), exact_entropy),
        "logistic": (Logistic(), exact_logistic),
        "few counts": (KullbackLeibler(1e-20), lambda *a: exact_divergence(*a, mp.mpf(1e-20))),
        "many counts": (KullbackLeibler(1e20), lambda *a: exact_divergence(*a, mp.mpf(1e20))),
        "no counts": (KullbackLeibler(0.0), lambda *a: exact_divergence(*a, mp.mpf(0))),
    }[name]
    z, step = grid(dtype)
    found = g.prox(z, step)
    eps = torch.finfo(dtype).eps
    for u, point, s in zip(found[:, 0].tolist(), z[:, 0].tolist(), step.tolist(), strict=True):
        expected = exact(mp, mp.mpf(point), mp.mpf(s))
        room = 8 * eps * (abs(point) + min(s, abs(float(expected - point))) + abs(float(expected)))
        assert abs(u - float(expected)) <= room + torch.finfo(dtype).tiny, (point, s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("g", [NegativeEntropy(), KullbackLeibler(0.3), Logistic(), Logistic(-1.0)])
def test_a_root_increases_with_the_point_and_no_faster(g, dtype):
    z = torch.cat((torch.linspace(-120, 120, 4001), normal(4001).float())).sort().values.to(dtype)
    for step in (1e-3, 1.0, 30.0, 1e4):
        u = g.prox(z.unsqueeze(1), step)[:, 0]
        slack = 64 * torch.finfo(dtype).eps * (120 + u.abs().max())
        assert (u.diff() >= -slack).all()
        assert (u.diff() <= z.diff() + slack).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "g",
    [NegativeEntropy(), KullbackLeibler(0.3), Logistic(), Hinge(), SecondOrderCone()],
    ids=lambda g: type(g).__name__,
)
def test_a_root_is_the_same_bits_wherever_it_lies(g, dtype):
    z = 3 * normal(9, 37, seed=5).to(dtype)
    for f in (g, g.conjugate):
        found, values = f.prox(z, 0.7), f(z.abs() + 1e-3)
        for first in range(9):
            rows = torch.arange(first, 9)
            assert torch.equal(f.prox(z[rows], 0.7), found[rows])
            assert torch.equal(f(z[rows].abs() + 1e-3), values[rows])
    if g.smoothness is not None:
        assert torch.equal(g.gradient(z)[5:], g.gradient(z[5:]))


def test_an_isotropic_picture_is_the_same_bits_wherever_it_lies():
    g, z = TotalVariation2D(0.3, iterations=20), normal(5, 3, 7, seed=5)
    found, values = g.prox(z, 0.7), g(z)
    for first in range(5):
        assert torch.equal(g.prox(z[first:], 0.7), found[first:])
        assert torch.equal(g(z[first:]), values[first:])


@pytest.mark.parametrize("g", [NegativeEntropy(2.0), KullbackLeibler(0.5), Logistic(-1.0, 3.0)])
def test_a_root_has_derivatives_of_both_orders(g):
    z = normal(2, 5, seed=6).requires_grad_()
    step = torch.tensor([0.3, 4.0], dtype=torch.float64, requires_grad=True)
    for f in (g, g.conjugate):
        assert torch.autograd.gradcheck(f.prox, (z, step))
        assert torch.autograd.gradgradcheck(f.prox, (z, step))


def test_a_point_of_no_entropy_has_the_value_0():
    assert NegativeEntropy()(torch.tensor([[0.0, 1.0]])).item() == 0
    assert NegativeEntropy()(torch.tensor([[-1.0, 1.0]])).item() == math.inf
    assert NegativeEntropy()(torch.tensor([[math.e, 0.0]])).item() == pytest.approx(math.e)


def test_the_divergence_is_0_at_the_data_and_infinite_where_counts_have_no_mean():
    b = torch.tensor([0.0, 2.0, 0.5])
    g = KullbackLeibler(b)
    assert g(b[None]).item() == pytest.approx(0, abs=1e-6)
    assert g(torch.tensor([[1.0, 2.0, 0.5]])).item() == pytest.approx(1)
    assert g(torch.tensor([[0.0, 0.0, 0.5]]), tolerance=0.0).item() == math.inf
    assert g(torch.tensor([[-1.0, 2.0, 0.5]])).item() == math.inf


def test_the_divergence_from_a_reference_is_an_entropy_with_a_slope():
    reference = torch.tensor([0.3, 2.0, 1.0], dtype=torch.float64)
    g = NegativeEntropy().plus_linear(-(1 + reference.log()))
    z = torch.tensor([[0.5, 1.0, 3.0]], dtype=torch.float64)
    expected = (z * (z / reference).log() - z).sum(1)
    torch.testing.assert_close(g(z), expected)
    torch.testing.assert_close(g.prox(reference[None], 0.7), reference[None])  # its minimiser


def test_a_loss_grows_with_the_margin_that_is_missed():
    z = torch.tensor([[2.0, -1.0]])
    labels = torch.tensor([1.0, -1.0])
    assert Hinge(labels)(z).item() == 0
    assert Hinge(-labels, 2.0)(z).item() == 2 * (3 + 2)
    assert Hinge(-labels).prox(z, 0.5).tolist() == [[1.5, -0.5]]
    assert Logistic(labels)(1000 * z).item() == 0
    assert Logistic(-labels)(1000 * z).item() == 3000
    torch.testing.assert_close(Logistic()(torch.zeros(1, 1)), torch.tensor([math.log(2)]))


def test_the_cone_has_three_parts():
    inside, polar, outside = [3.0, 4.0, 6.0], [3.0, 4.0, -6.0], [3.0, 4.0, 0.0]
    found = SecondOrderCone().prox(torch.tensor([inside, polar, outside]), 1.0)
    assert found.tolist() == [inside, [0, 0, 0], [1.5, 2.0, 2.5]]
    assert (
        SecondOrderCone()(torch.tensor([inside, polar, outside])).tolist() == [0] + [math.inf] * 2
    )


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e20, 1e38])
def test_the_cone_neither_underflows_nor_overflows(size):
    z = torch.tensor([[3.0, -2.0, 0.5], [1.0, 1.0, -2.0], [0.1, 0.2, 1.0]]) * (size / 3)
    found, exact = SecondOrderCone().prox(z, 1.0), SecondOrderCone().prox(z.double(), 1.0)
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=3e-45)
    assert (SecondOrderCone()(found) == 0).all()
