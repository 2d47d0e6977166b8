"""`implicit` inside of torch.func and in forward mode, against finite differences."""

import warnings

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from fixpoint import Anderson, ForwardStep, ImplicitWarning, as_operator, implicit, solve

ROWS, SIZE = 2, 3
TIGHT = {"rtol": 1e-12, "max_iterations": 500}


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


MATRIX = 0.3 * numbers(SIZE, SIZE, seed=9)


def curved(b):
    return as_operator(lambda z, b: 2 * z + 0.3 * (z @ MATRIX.T).sin() - b * b, b)


def resolved(b):
    T = as_operator(
        lambda z, b: z + 0.5 * z.sin() - b.sin(), b, lipschitz=1.5, strong_monotonicity=0.5
    )
    return T.yosida(0.7, tolerance=1e-13)


def zero(b, make=curved, method="gmres"):
    T = make(b)
    start = torch.zeros(ROWS, SIZE, dtype=torch.float64)
    solution = solve(T, start, Anderson(), rtol=1e-13, atol=1e-13)
    return implicit(T, solution, method=method, **TIGHT)


def differences(function, b, step=1e-6):
    """The Jacobian, by central differences."""
    columns = []
    for unit in torch.eye(b.numel(), dtype=b.dtype).reshape(-1, *b.shape):
        change = function(b + step * unit) - function(b - step * unit)
        columns.append(change / (2 * step))
    return torch.stack(columns, -1).reshape(*change.shape, *b.shape)


def loss(b):
    return (zero(b).sin() * numbers(ROWS, SIZE, seed=5)).sum()


B, V = numbers(ROWS, SIZE, seed=1), numbers(ROWS, SIZE, seed=2)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["gmres", "neumann", "anderson", Anderson(memory=3)], ids=str)
def test_every_transform_agrees_with_finite_differences(method):
    def mapped(b):
        # 0.4 T has the zeros of T, and I - 0.4 T contracts
        return zero(b, lambda b: 0.4 * curved(b), method)

    jacobian = differences(mapped, B)
    close(jacrev(mapped)(B), jacobian)
    close(jacfwd(mapped)(B), jacobian)
    close(jvp(mapped, (B,), (V,))[1], (jacobian * V).sum((2, 3)))
    close(vjp(mapped, B)[1](V)[0], (jacobian * V[..., None, None]).sum((0, 1)))
    close(grad(lambda b: mapped(b).sin().sum())(B), differences(lambda b: mapped(b).sin().sum(), B))


def test_plain_forward_mode_agrees_with_finite_differences():
    expected = (differences(zero, B) * V).sum((2, 3))
    with forward_ad.dual_level():
        close(forward_ad.unpack_dual(zero(forward_ad.make_dual(B, V))).tangent, expected)
        with torch.no_grad():  # which is no business of forward mode
            close(forward_ad.unpack_dual(zero(forward_ad.make_dual(B, V))).tangent, expected)


def test_the_run_may_stand_outside_of_the_transform():
    T = curved(B)
    solution = solve(T, torch.zeros_like(B), Anderson(), rtol=1e-13, atol=1e-13)

    def outside(b):
        return implicit(curved(b), solution, **TIGHT)

    close(jacfwd(outside)(B), differences(zero, B))
    close(jacrev(outside)(B), differences(zero, B))


def test_transforms_agree_with_plain_autograd_bit_for_bit():
    b = B.clone().requires_grad_()
    (plain,) = torch.autograd.grad(loss(b), b)
    assert torch.equal(grad(loss)(B), plain)


def test_trees_parameters_and_failed_rows_are_transformed_as_well():
    slope = torch.tensor([[1.0], [1e-3]], dtype=torch.float64)

    def tree(theta, b):
        T = as_operator(
            lambda z, s, b: {"a": s * z["a"] - theta * b, "b": s * z["b"] - z["a"]}, slope, b
        )
        start = {"a": torch.zeros_like(B), "b": torch.zeros_like(B)}
        solution = solve(T, start, ForwardStep(), max_iterations=30)
        return implicit(T, solution, **TIGHT)["b"]

    theta = torch.tensor(0.7, dtype=torch.float64)
    with pytest.warns(ImplicitWarning, match="row 1 of 2 did not converge"):
        reverse = jacrev(tree, (0, 1))(theta, B)
    with pytest.warns(ImplicitWarning, match="row 1 of 2 did not converge"):
        forward = jacfwd(tree, (0, 1))(theta, B)
    for backwards, forwards in zip(reverse, forward, strict=True):
        close(backwards, forwards)
        assert not backwards[1].any()
    close(reverse[0][0], B[0])


def test_resolvents_are_differentiated_under_transforms():
    def of(b):
        T = as_operator(
            lambda z, b: z + 0.5 * z.sin() - b.sin(), b, lipschitz=1.5, strong_monotonicity=0.5
        )
        return T.resolvent(0.7, tolerance=1e-13)(b)

    jacobian = differences(of, B)
    close(jacrev(of)(B), jacobian)
    close(jacfwd(of)(B), jacobian)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(of(forward_ad.make_dual(B, V))).tangent
    close(tangent, (jacobian * V).sum((2, 3)))
    close(jacrev(lambda b: zero(b, resolved))(B), differences(lambda b: zero(b, resolved), B))


def in_forward_mode(function):
    b = B.clone().requires_grad_()
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(b, V))).tangent
        return torch.autograd.grad(tangent, b)


@pytest.mark.parametrize(
    "second",
    [
        lambda: hessian(loss)(B),
        lambda: grad(lambda b: grad(loss)(b).sum())(B),
        lambda: grad(lambda b: jvp(loss, (b,), (V,))[1])(B),
        lambda: grad(lambda v: jvp(loss, (B,), (v,))[1])(V),
        lambda: jvp(lambda b: jvp(loss, (b,), (V,))[1], (B,), (V,)),
        lambda: jvp(lambda b: zero(b, resolved), (B,), (V,)),
        lambda: in_forward_mode(loss),
    ],
)
def test_what_would_need_a_second_derivative_is_refused_not_wrong(second):
    with pytest.raises(RuntimeError, match="first derivatives only"):
        second()


def test_vmap_itself_is_refused_with_what_to_do():
    solution = solve(curved(B), torch.zeros_like(B), Anderson())
    with pytest.raises(NotImplementedError, match="rows of its batch"):
        vmap(lambda b: implicit(curved(b), solution.z))(torch.stack([B, B]))


@pytest.mark.parametrize("transform", [grad, lambda f: lambda b: jvp(f, (b,), (V,))])
def test_an_operator_that_hides_its_derivative_is_refused_under_transforms(transform):
    def hidden(b):
        with torch.no_grad():
            values = b * 2

        def T(z, b):
            with torch.no_grad():
                return z - values

        return implicit(as_operator(T, b), torch.zeros_like(B)).sum()

    with pytest.raises(ValueError, match="not differentiable"):
        transform(hidden)(B)


@pytest.mark.parametrize("size", [1e-170, 1e170])
def test_tangents_and_cotangents_of_any_size(size):
    solution = solve(curved(B), torch.zeros_like(B), Anderson(), rtol=1e-13, atol=1e-13)

    def of(b):
        return implicit(curved(b), solution.z, **TIGHT)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ImplicitWarning)
        close(jvp(of, (B,), (size * V,))[1] / size, jvp(of, (B,), (V,))[1])
        close(vjp(of, B)[1](size * V)[0] / size, vjp(of, B)[1](V)[0])
