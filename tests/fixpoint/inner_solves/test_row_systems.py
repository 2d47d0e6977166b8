"""Incoming gradients and Jacobians of any size, zero rows, and numbers that are not finite."""

import warnings

import pytest
import torch

from fixpoint import Anderson, ImplicitWarning, as_operator, implicit
from fixpoint.inner_solves.row_scale import row_exponent, row_norm, scaled_rows

METHODS = ["gmres", "neumann", "anderson"]
SIZES = {
    torch.float32: (1e-38, 1e-30, 1e-23, 1e-12, 1.0, 1e12, 1e23, 1e36),
    torch.float64: (1e-300, 1e-170, 1e-100, 1.0, 1e100, 1e170, 1e300),
    torch.bfloat16: (1e-37, 1e-23, 1.0, 1e23, 1e36),
    torch.float16: (1e-4, 1.0, 1e4),
}
DTYPES = sorted(SIZES, key=str)
MATRIX = torch.tensor([[1.0, 0.3, 0.0], [-0.2, 0.8, 0.1], [0.1, 0.0, 1.2]])


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def gradient(g, slope=1.0, method="gmres", seed=0):
    """Of <g, z> in the data, where slope * MATRIX z = data; g has a row of every size."""
    matrix = (MATRIX.double() * slope).to(g.dtype)
    data = numbers(*g.shape, seed=seed).to(g.dtype).requires_grad_()
    operator = as_operator(lambda z, data: z @ matrix.T - data, data)
    z = implicit(operator, torch.zeros_like(g), method=method, max_iterations=400)
    return torch.autograd.grad(z, data, g)[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_is_linear_in_the_incoming_one_at_every_size(dtype, method):
    sizes = torch.tensor(SIZES[dtype], dtype=torch.float64)[:, None]
    direction = numbers(1, 3).clamp(-1.5, 1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplicitWarning)
        found = gradient((sizes * direction).to(dtype), method=method)
    expected = torch.linalg.solve(MATRIX.double().T, direction.T).T.expand(len(sizes), 3)
    error = 1e-3 if dtype in (torch.float32, torch.float64) else 0.1
    # bfloat16 and float32 round away what lies below their smallest normal number
    rounding = torch.finfo(dtype).tiny / sizes
    assert ((found.double() / sizes - expected).abs() <= error + rounding).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_power_of_two_on_a_row_multiplies_its_gradient_bit_for_bit(dtype):
    g = numbers(4, 3, seed=3).to(dtype)
    exponent = torch.tensor([0, -60, 50, 7])
    shifted = gradient(scaled_rows(g, exponent))
    assert torch.equal(shifted, scaled_rows(gradient(g), exponent))


@pytest.mark.parametrize("slope", [1e-30, 1e-20, 1e20, 1e30])
@pytest.mark.parametrize("size", [1e-5, 1.0, 1e5])
def test_a_jacobian_of_any_size_is_solved_for(slope, size):
    direction = numbers(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplicitWarning)
        found = gradient((size * direction).float(), slope)
    expected = torch.linalg.solve(MATRIX.double().T, direction.T).T
    torch.testing.assert_close(found.double() * slope / size, expected, rtol=1e-3, atol=1e-3)


class Counted:
    """z + sin(z) / 2 - data, whose vector-Jacobian products are counted."""

    def __init__(self):
        self.products = 0

    def __call__(self, z, data):
        counter = self

        class Sine(torch.autograd.Function):
            @staticmethod
            def forward(ctx, z):
                ctx.save_for_backward(z)
                return z.sin() / 2 + z

            @staticmethod
            def backward(ctx, g):
                counter.products += 1
                return g * (ctx.saved_tensors[0].cos() / 2 + 1)

        return Sine.apply(z) - data


@pytest.mark.parametrize("method", METHODS)
def test_rows_without_an_incoming_gradient_give_exactly_zero_and_cost_nothing(method):
    data, counted = numbers(3, 4).requires_grad_(), Counted()
    z = implicit(as_operator(counted, data), torch.zeros(3, 4).double(), method=method)
    (found,) = torch.autograd.grad(z, data, torch.zeros(3, 4).double(), retain_graph=True)
    assert torch.equal(found, torch.zeros_like(found))
    assert counted.products == 0
    some = torch.zeros(3, 4).double()
    some[1] = 1.0
    (found,) = torch.autograd.grad(z, data, some)
    assert torch.equal(found[[0, 2]], torch.zeros(2, 4).double())
    torch.testing.assert_close(found[1], torch.full((4,), 2 / 3).double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", [*METHODS, Anderson(memory=2)], ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_jacobian_that_is_not_finite_is_named_and_never_a_zero_gradient(method, bad):
    slope = torch.tensor([[0.7, 0.7], [0.7, bad], [1.5, 1.5]], dtype=torch.float64)
    data = numbers(3, 2).requires_grad_()

    def row_gradients(rows):
        operator = as_operator(lambda z, s, data: s * z - data, slope[rows], data[rows])
        z = implicit(operator, torch.zeros(len(rows), 2).double(), method=method)
        return torch.autograd.grad(z.sum(), data)[0][rows]

    with pytest.warns(ImplicitWarning, match=r"J\^T is not finite in row 1 of 3"):
        found = row_gradients([0, 1, 2])
    assert bool(found[1].isnan().all())
    assert torch.equal(found[[0, 2]], row_gradients([0, 2]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponents_and_norms_hold_over_the_whole_range_of_the_dtype(dtype):
    kind = torch.finfo(dtype)
    unit = numbers(1, 7).to(dtype)
    for size in (kind.tiny, kind.tiny**0.5, 1e-3, 1.0, 1e3, kind.max**0.5, kind.max / 8):
        a = torch.cat([unit * size, unit])
        exponent = row_exponent(a)
        assert (scaled_rows(a, -exponent).abs().amax(1) >= 0.5).all()
        assert (scaled_rows(a, -exponent).abs().amax(1) < 1).all()
        expected = torch.linalg.vector_norm(a.double() / size, dim=1)
        found = row_norm(a).double()
        assert found[0] / size == pytest.approx(float(expected[0]), rel=1e-5)
        assert float(found[1]) == float(row_norm(unit)[0])
    special = torch.tensor([[0.0, 0.0], [torch.nan, 1.0], [torch.inf, 1.0]], dtype=dtype)
    assert row_norm(special)[0] == 0
    assert not row_norm(special)[1:].isfinite().any()
    assert row_exponent(special).tolist()[0] == 0
    assert row_norm(torch.zeros(2, 0, dtype=dtype)).tolist() == [0.0, 0.0]
