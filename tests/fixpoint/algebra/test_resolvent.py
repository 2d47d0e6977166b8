"""Resolvents and inverses: in closed form, and by iteration where there is none."""

import math

import pytest
import torch
from algebra_cases import BASES, ROWS, SIZE, STEP, normal

from fixpoint import Anderson, ForwardStep, as_operator, proximal, solve, synthetic
from fixpoint.algebra import IdentityOperator, product, subdifferential

WRAPPINGS = {
    "T": lambda T: T,
    "2 T": lambda T: 2 * T,
    "T + I": lambda T: T.complement.complement * 0.5 + IdentityOperator(),
    "T + b": lambda T: T + normal(ROWS, SIZE, seed=7),
    "translated": lambda T: T.translated(normal(ROWS, SIZE, seed=8)),
    "3 (2 T + b) translated": lambda T: (3 * (2 * T + normal(ROWS, SIZE, seed=7))).translated(
        normal(ROWS, SIZE, seed=8)
    ),
    "yosida": lambda T: T.yosida(0.5, tolerance=1e-12),
    "resolvent": lambda T: T.resolvent(0.5, tolerance=1e-12),
}


@pytest.mark.parametrize("base", ["dense", "turning", "softening"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_resolvent_solves_its_equation(base, wrapping):
    T = WRAPPINGS[wrapping](BASES[base]())
    z = normal(ROWS, SIZE, seed=12)
    J = T.resolvent(STEP, tolerance=1e-12)
    torch.testing.assert_close(J(z) + STEP * T(J(z)), z, rtol=1e-9, atol=1e-9)
    yosida = T.yosida(STEP, tolerance=1e-12)
    torch.testing.assert_close(yosida(z), T(J(z)), rtol=1e-9, atol=1e-9)
    reflected = T.reflected_resolvent(STEP, tolerance=1e-12)
    torch.testing.assert_close(reflected(z), 2 * J(z) - z)
    torch.testing.assert_close(J.inverse()(J(z)), z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("base", ["dense", "turning"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_an_inverse_undoes_its_operator(base, wrapping):
    T = WRAPPINGS[wrapping](BASES[base]())
    z = normal(ROWS, SIZE, seed=12)
    torch.testing.assert_close(T.inverse()(T(z)), z)
    torch.testing.assert_close(T(T.inverse()(z)), z)
    torch.testing.assert_close((T @ T).inverse()(T(T(z))), z)
    back = T.inverse().resolvent(STEP)
    torch.testing.assert_close(back(z) + STEP * T.inverse()(back(z)), z)


def test_the_resolvent_of_a_subdifferential_is_its_proximal_operator():
    g = proximal.L1(0.5)
    T = subdifferential(g)
    z = normal(ROWS, SIZE, seed=13)
    assert torch.equal(T.resolvent(0.7)(z), g.prox(z, 0.7))
    assert torch.equal((2 * T).resolvent(0.7)(z), g.prox(z, 1.4))
    moreau = T.inverse().resolvent(0.7)
    torch.testing.assert_close(moreau(z), z - 0.7 * g.prox(z / 0.7, 1 / 0.7))
    with pytest.raises(TypeError, match="not smooth"):
        T(z)
    yosida = T.yosida(0.7)  # the gradient of the Moreau envelope: a clamp
    torch.testing.assert_close(yosida(z), (z / 0.7).clamp(-0.5, 0.5))
    assert yosida.cocoercivity == pytest.approx(0.7)
    assert torch.equal(subdifferential(proximal.SquaredL2(2.0))(z), 2 * z)
    # (a I + b dg) in closed form, and the resolvent of the Yosida regularisation
    elastic = (2.0 * T.yosida(0.3)).resolvent(0.4)
    u = elastic(z)
    torch.testing.assert_close(u + 0.4 * 2.0 * T.yosida(0.3)(u), z)
    blocks = product(T, subdifferential(proximal.Box(0, 1))).resolvent(0.7)
    assert torch.equal(blocks((z, z))[1], z.clamp(0, 1))


def test_the_zeros_of_a_yosida_regularisation_are_those_of_the_operator():
    T = BASES["subdifferential"]()
    solution = solve(
        T.yosida(0.5), torch.zeros(ROWS, SIZE, dtype=torch.float64), ForwardStep(step_size=0.5)
    )
    assert solution.success
    torch.testing.assert_close(solution.z, normal(ROWS, SIZE, seed=4), rtol=1e-5, atol=1e-5)


# The iterative resolvent.


def test_an_iterative_resolvent_keeps_its_tolerance_row_by_row():
    T = BASES["softening"]()
    z = normal(ROWS, SIZE, seed=31) * torch.tensor([[1.0], [100.0], [1e-3]], dtype=torch.float64)
    for tolerance in (1e-2, 1e-6, 1e-10):
        J = T.resolvent(2.0, tolerance=tolerance)
        u, seen = J.evaluate(z)
        residual = (u + 2.0 * T(u) - z).norm(dim=1)
        assert (residual <= tolerance * (1 + u.norm(dim=1)) * (1 + 1e-6)).all()
        torch.testing.assert_close(seen["inner_residual"], residual, rtol=1e-4, atol=1e-12)
        alone = J.select(torch.tensor([1]))(z[1:2])
        assert torch.equal(alone, u[1:2])


def test_rows_that_an_iterative_resolvent_cannot_solve_are_nan_and_alone():
    T = BASES["softening"]()
    z = normal(ROWS, SIZE, seed=32)
    good = T.resolvent(2.0, tolerance=1e-8)(z)
    bad = z.clone()
    bad[1, 0] = math.nan
    value = T.resolvent(2.0, tolerance=1e-8)(bad)
    assert value[1].isnan().all()
    assert torch.equal(value[[0, 2]], good[[0, 2]])
    short = T.resolvent(2.0, tolerance=1e-12, max_iterations=1)(T.zero + torch.eye(ROWS, SIZE))
    assert short.isnan().all()


def test_an_iterative_resolvent_serves_a_monotone_map_that_only_turns():
    turn = as_operator(lambda z: synthetic.quarter_turn(z), lipschitz=1.0, strong_monotonicity=0.0)
    z = normal(ROWS, SIZE, seed=33)
    u = turn.resolvent(5.0, tolerance=1e-10)(z)
    torch.testing.assert_close(u, (z - 5.0 * synthetic.quarter_turn(z)) / 26)
    wild = as_operator(torch.cos, lipschitz=1.0)  # not monotone, but I + step T is
    u = wild.resolvent(0.5, tolerance=1e-10)(z)
    torch.testing.assert_close(u + 0.5 * u.cos(), z)
    assert solve(turn.yosida(1.0, tolerance=1e-10), z, Anderson()).success


def test_an_iterative_resolvent_is_differentiable_in_z_and_in_what_t_depends_on():
    def of(z, slope, data):
        T = as_operator(
            lambda u, data: slope * u + u.sin() / 2 - data,
            data,
            lipschitz=2.5,
            strong_monotonicity=0.2,
        )
        return T.resolvent(0.9, tolerance=1e-13)(z)

    slope = torch.tensor(1.3, dtype=torch.float64)
    arguments = [normal(ROWS, SIZE, seed=34), slope, normal(ROWS, SIZE, seed=35)]
    for asked in ([0], [1], [2], [0, 1, 2]):
        inputs = [a.clone().requires_grad_(i in asked) for i, a in enumerate(arguments)]
        assert torch.autograd.gradcheck(of, inputs, eps=1e-5, atol=1e-7, rtol=1e-6)
    assert not of(*arguments).requires_grad
    z = arguments[0].clone().requires_grad_()
    with torch.no_grad():
        assert not of(z, *arguments[1:]).requires_grad


def test_the_derivative_of_an_iterative_resolvent_leaves_out_rows_it_could_not_solve():
    T, z = BASES["softening"](), normal(ROWS, SIZE, seed=32)
    J = T.resolvent(2.0, tolerance=1e-12)
    good = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(J(good).sum(), good)
    z[1, 0] = math.nan
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(J(z).sum(), z)
    assert torch.equal(gradient[[0, 2]], expected[[0, 2]])
    assert not gradient[1].any()


def test_the_resolvent_of_an_operator_that_hides_its_derivative_refuses_one():
    @torch.no_grad()
    def hidden(z):
        return z + z.sin() / 2

    J = as_operator(hidden, lipschitz=1.5, strong_monotonicity=0.5).resolvent(1.0, tolerance=1e-8)
    z = normal(ROWS, SIZE).requires_grad_()
    with pytest.raises(ValueError, match=r"resolvent of FunctionOperator is not differentiable"):
        J(z)
    assert torch.equal(J(z.detach()), J.select(torch.arange(ROWS))(z.detach()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_iterative_resolvent_asks_for_no_more_than_the_dtype_can_give(dtype):
    T = as_operator(lambda z: z + z.sin() / 2, lipschitz=1.5, strong_monotonicity=0.5)
    size = torch.tensor([[1e-3], [1.0], [1e3]], dtype=dtype)
    z = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).to(dtype) * size
    u = T.resolvent(2.0, tolerance=1e-8)(z)
    exact = T.resolvent(2.0, tolerance=1e-12)(z.double())
    error = (u.double() - exact).norm(dim=1) / exact.norm(dim=1)
    assert (error <= 30 * torch.finfo(dtype).eps).all()


def test_zero_times_an_operator_has_a_resolvent():
    z = normal(ROWS, SIZE)
    assert torch.equal((0.0 * as_operator(torch.sin)).resolvent(STEP)(z), z)


def test_a_shift_that_is_a_tree_has_a_resolvent():
    z = (normal(ROWS, 2), normal(ROWS, 3, seed=1))
    b = (normal(ROWS, 2, seed=2), normal(ROWS, 3, seed=3))
    found = (IdentityOperator() + b).resolvent(1.0)(z)
    moved = IdentityOperator().translated(b).resolvent(1.0)(z)
    for u, v, leaf, shift in zip(found, moved, z, b, strict=True):
        torch.testing.assert_close(u, (leaf - shift) / 2)
        torch.testing.assert_close(v, (leaf + shift) / 2)
