"""The implicit gradient against finite differences and against what is known in closed form."""

import gc
import warnings
import weakref

import pytest
import torch
from torch import nn

from fixpoint import (
    Anderson,
    ForwardStep,
    ImplicitWarning,
    NewtonKrylov,
    Status,
    as_operator,
    fixed_point_of,
    implicit,
    solve,
)
from fixpoint.operator import Operator

METHODS = ["gmres", "neumann", "anderson", Anderson(memory=3), NewtonKrylov(krylov=6)]
TIGHT = {"rtol": 1e-12, "max_iterations": 2000}
ROWS, SIZE = 3, 5


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def contraction(seed=0, norm=0.6):
    matrix = numbers(SIZE, SIZE, seed=seed)
    return norm * matrix / torch.linalg.matrix_norm(matrix, 2)


def zero_of(operator, z0):
    solution = solve(operator, z0, Anderson(), rtol=1e-13, atol=1e-13, max_iterations=500)
    assert solution.success
    return solution


def affine(matrix, bias, data):
    return as_operator(lambda z, data: z - z @ matrix.T - bias - data, data)


def tanh(matrix, bias, data):
    """The layer of a deep-equilibrium model."""
    return fixed_point_of(lambda z, data: torch.tanh(z @ matrix.T + bias + data), data)


def scaled(matrix, bias, data):
    """Linear, with data of a row in its Jacobian."""
    return as_operator(lambda z, data: (1 + 0.2 * data.sin()) * z - z @ matrix.T - bias, data)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("make", [affine, tanh, scaled])
def test_gradients_of_data_and_parameters_are_finite_differences(make, method):
    def z(matrix, bias, data):
        operator = make(matrix, bias, data)
        return implicit(operator, zero_of(operator, numbers(ROWS, SIZE)), method=method, **TIGHT)

    arguments = [contraction(), numbers(SIZE, seed=1), numbers(ROWS, SIZE, seed=2)]
    arguments = [argument.requires_grad_() for argument in arguments]
    assert torch.autograd.gradcheck(z, arguments, eps=1e-6, atol=1e-7, rtol=1e-6)


def test_a_linear_zero_has_the_gradient_of_the_solved_system():
    matrix, data = contraction().requires_grad_(), numbers(ROWS, SIZE).requires_grad_()
    weights = numbers(ROWS, SIZE, seed=5)
    system = torch.eye(SIZE, dtype=torch.float64) - matrix
    direct = torch.linalg.solve(system, data.T).T
    expected = torch.autograd.grad((weights * direct).sum(), (matrix, data))
    operator = affine(matrix, torch.zeros(SIZE, dtype=torch.float64), data)
    z = implicit(operator, zero_of(operator, torch.zeros_like(data)), rtol=1e-13)
    torch.testing.assert_close(z, direct)
    found = torch.autograd.grad((weights * z).sum(), (matrix, data))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_ill_conditioned_rows_need_gmres_and_get_the_right_gradient():
    """Condition number 1e6, eigenvalues of both signs: the Neumann series diverges."""
    basis = torch.linalg.qr(numbers(SIZE, SIZE)).Q
    values = torch.tensor([-3.0, -1e-3, 1e-3, 1.0, 1e3], dtype=torch.float64)
    matrix = basis * values @ basis.T
    data = numbers(ROWS, SIZE, seed=3).requires_grad_()
    operator = as_operator(lambda z, data: z @ matrix.T - data, data)
    exact = torch.linalg.solve(matrix, data.T).T
    weights = numbers(ROWS, SIZE, seed=4)
    (expected,) = torch.autograd.grad((weights * exact).sum(), data)
    z = implicit(operator, exact, rtol=1e-9)
    (found,) = torch.autograd.grad((weights * z).sum(), data)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3 * float(expected.abs().max()))
    z = implicit(operator, exact, method="neumann")
    with pytest.warns(ImplicitWarning, match=r"not accurate in rows 0, 1, 2 of 3"):
        (worse,) = torch.autograd.grad((weights * z).sum(), data)
    assert bool(worse.isfinite().all())


def test_a_singular_row_is_named_and_leaves_its_neighbours_unharmed():
    slope = torch.tensor([[1.0], [0.0], [2.0]], dtype=torch.float64)
    data = numbers(3, SIZE).requires_grad_()

    def row_gradient(rows):
        operator = as_operator(lambda z, slope, data: slope * z - data, slope[rows], data[rows])
        z = implicit(operator, torch.zeros(len(rows), SIZE, dtype=torch.float64))
        (gradient,) = torch.autograd.grad(z.sum(), data)
        return gradient

    with pytest.warns(ImplicitWarning, match=r"not accurate in row 1 of 3.*J is singular"):
        together = row_gradient([0, 1, 2])
    assert torch.equal(together[1], torch.zeros(SIZE, dtype=torch.float64))
    for row in (0, 2):
        assert torch.equal(row_gradient([row])[row], together[row])
    torch.testing.assert_close(together[2], torch.full((SIZE,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("method", ["gmres", "neumann", "anderson"])
def test_rows_do_not_depend_on_their_neighbours(method):
    slope = torch.linspace(0.2, 1.2, ROWS, dtype=torch.float64)[:, None]
    data = numbers(ROWS, SIZE).requires_grad_()

    def gradient(rows):
        operator = as_operator(
            lambda z, slope, data: slope * (z + z.sin() / 3) - data, slope[rows], data[rows]
        )
        z = implicit(operator, zero_of(operator, data.detach()[rows]).z, method=method)
        return torch.autograd.grad((z * z).sum(), data)[0]

    together = gradient(list(range(ROWS)))
    for row in range(ROWS):
        assert torch.equal(gradient([row])[row], together[row])


def test_values_are_unchanged_and_without_autograd_there_is_no_graph():
    operator = tanh(contraction(), numbers(SIZE).requires_grad_(), numbers(ROWS, SIZE))
    solution = zero_of(operator, torch.zeros(ROWS, SIZE, dtype=torch.float64))
    assert not solution.z.requires_grad
    z = implicit(operator, solution)
    assert z.requires_grad
    assert torch.equal(z, solution.z)
    with torch.no_grad():
        assert not implicit(operator, solution).requires_grad


def test_one_evaluation_of_t_is_kept_and_freed_with_the_result():
    bias, data = numbers(SIZE).requires_grad_(), numbers(ROWS, SIZE)
    matrix, alive, calls = contraction(), [], []

    def layer(z, data):
        value = torch.tanh(z @ matrix.T + bias + data)
        calls.append(z.requires_grad)
        alive.append(weakref.ref(value))
        return value

    operator = fixed_point_of(layer, data)
    solution = zero_of(operator, torch.zeros_like(data))
    evaluations = len(calls)
    assert not any(calls)  # no graph in the run
    z = implicit(operator, solution)
    assert calls[evaluations:] == [True]
    z.sum().backward()
    assert len(calls) == evaluations + 1  # backward evaluates nothing
    assert bias.grad is not None
    del z, solution
    gc.disable()
    try:
        assert not [each for each in alive if each() is not None]
    finally:
        gc.enable()


def test_a_retained_graph_can_be_used_twice_and_a_freed_one_cannot():
    bias = numbers(SIZE).requires_grad_()
    operator = tanh(contraction(), bias, numbers(ROWS, SIZE))
    z = implicit(operator, zero_of(operator, torch.zeros(ROWS, SIZE, dtype=torch.float64)))
    (first,) = torch.autograd.grad(z.sum(), bias, retain_graph=True)
    (second,) = torch.autograd.grad(z.sum(), bias)
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(z.sum(), bias)


def test_second_derivatives_are_refused_not_wrong():
    bias = numbers(SIZE).requires_grad_()
    operator = tanh(contraction(), bias, numbers(ROWS, SIZE))
    z = implicit(operator, zero_of(operator, torch.zeros(ROWS, SIZE, dtype=torch.float64)))
    for loss in (z.sum(), z.square().sum()):
        (gradient,) = torch.autograd.grad(loss, bias, create_graph=True)
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(gradient.sum(), bias, retain_graph=True)


def test_rows_that_did_not_converge_are_named_and_pass_no_gradient():
    slope = torch.tensor([[1.0], [1e-3], [0.9]], dtype=torch.float64)
    data = numbers(3, SIZE).requires_grad_()
    operator = as_operator(lambda z, slope, data: slope * z - data, slope, data)
    start = torch.zeros(3, SIZE, dtype=torch.float64)
    solution = solve(operator, start, ForwardStep(), rtol=1e-9, max_iterations=30)
    assert [status is Status.MAX_ITERATIONS for status in solution.status] == [False, True, False]
    with pytest.warns(ImplicitWarning, match=r"row 1 of 3 did not converge \(MAX_ITERATIONS\)"):
        z = implicit(operator, solution)
    (gradient,) = torch.autograd.grad(z.sum(), data)
    assert torch.equal(gradient[1], torch.zeros(SIZE, dtype=torch.float64))
    torch.testing.assert_close(gradient[[0, 2]], (1 / slope[[0, 2]]).expand(2, SIZE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = implicit(operator, solution.z)
    (gradient,) = torch.autograd.grad(z.sum(), data)
    torch.testing.assert_close(gradient, (1 / slope).expand(3, SIZE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes_have_a_default_they_can_reach(dtype):
    bias = numbers(SIZE).to(dtype).requires_grad_()
    matrix, data = contraction().to(dtype), numbers(ROWS, SIZE).to(dtype)
    operator = tanh(matrix, bias, data)
    solution = solve(operator, torch.zeros_like(data), ForwardStep(), rtol=1e-2)
    z = implicit(operator, solution)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (gradient,) = torch.autograd.grad(z.sum(), bias)
    wide = numbers(SIZE).requires_grad_()
    exact = tanh(matrix.double(), wide, data.double())
    z = implicit(exact, zero_of(exact, data.double()))
    (expected,) = torch.autograd.grad(z.sum(), wide)
    torch.testing.assert_close(gradient.double(), expected, rtol=0.1, atol=0.1)


def test_a_deep_equilibrium_layer_learns():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(SIZE, SIZE), nn.Linear(2, SIZE)

        def forward(self, x):
            operator = fixed_point_of(
                lambda z, u: torch.tanh(0.5 * self.inner(z) + u), self.outer(x)
            )
            start = torch.zeros(len(x), SIZE)
            return implicit(operator, solve(operator, start, Anderson(), rtol=1e-4))

    torch.manual_seed(0)
    model = nn.Sequential(Layer(), nn.Linear(SIZE, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    x = torch.rand(64, 2) * 2 - 1
    y = (x[:, :1] * x[:, 1:]).sign()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.soft_margin_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("dropped", [False, True])
def test_trees_are_differentiated_like_tensors(dropped):
    data, other = numbers(ROWS, SIZE), numbers(ROWS, 2, seed=1)
    data.requires_grad_(), other.requires_grad_()

    def coupled(z, data, other):
        total = z["b"].sum(1, keepdim=True)
        return {"a": z["a"] + 0.1 * total - data, "b": z["b"] + 0.2 * z["a"][:, :2].sin() - other}

    def zero(data, other):
        operator = as_operator(coupled, data, other)
        start = {"a": torch.zeros_like(data), "b": torch.zeros_like(other)}
        options = {"rtol": 1e-13, "atol": 1e-13, "max_iterations": 3 if dropped else 300}
        solution = solve(operator, start, Anderson(), **options)
        assert solution.success is not dropped
        z = implicit(operator, solution, rtol=1e-12)
        return z["a"], z["b"]

    if dropped:
        with pytest.warns(ImplicitWarning, match="did not converge"):
            a, b = zero(data, other)
        (gradient,) = torch.autograd.grad((a.sum() + b.sum()), data)
        assert torch.equal(gradient, torch.zeros_like(gradient))
    else:
        assert torch.autograd.gradcheck(zero, (data, other), eps=1e-5, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("drop", ["one", "all", "all, and no empty batch"])
def test_a_failed_row_does_not_reach_what_all_rows_share(drop):
    """The derivative of T is NaN in row 1: 0 times it would be NaN in the gradient of theta."""
    theta = torch.ones((), dtype=torch.float64, requires_grad=True)
    c = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)[0 if drop == "one" else 1 :]

    def of(z, c):
        if drop == "all, and no empty batch":
            z = z.reshape(len(z), -1)
        return z - 0.5 * (theta * c).sqrt()

    operator = as_operator(of, c)
    solution = solve(operator, torch.zeros_like(c), ForwardStep())
    assert solution.status[-1] is Status.NONFINITE
    with pytest.warns(ImplicitWarning, match="did not converge"):
        z = implicit(as_operator(of, c), solution)
    z.sum().backward()
    assert torch.equal(z, solution.z)
    if drop == "one":
        torch.testing.assert_close(float(theta.grad), 0.25)
    else:
        assert theta.grad is None or float(theta.grad) == 0


def test_a_failed_row_of_a_closure_over_the_batch_is_left_out_as_well():
    slope = torch.tensor([[1.0], [1e-3]], dtype=torch.float64)
    data = numbers(2, SIZE).requires_grad_()
    start = torch.zeros(2, SIZE, dtype=torch.float64)
    with pytest.warns(UserWarning, match="cannot be evaluated on 1 of its rows"):
        solution = solve(
            as_operator(lambda z: slope * z - data), start, ForwardStep(), max_iterations=30
        )
    with (
        pytest.warns(ImplicitWarning, match="row 1 of 2 did not converge"),
        pytest.warns(UserWarning, match="cannot be evaluated on 1 of its rows"),
    ):
        z = implicit(as_operator(lambda z: slope * z - data), solution)
    (gradient,) = torch.autograd.grad(z.sum(), data)
    torch.testing.assert_close(gradient, torch.tensor([[1.0], [0.0]]).double().expand(2, SIZE))


def test_rows_are_named_by_their_place_in_the_whole_batch():
    slope = torch.tensor([[1e-3], [1.0], [0.0]], dtype=torch.float64)
    data = torch.ones(3, SIZE, dtype=torch.float64) * torch.tensor([[1.0], [1.0], [0.0]])
    data.requires_grad_()
    operator = as_operator(lambda z, slope, data: slope * z - data, slope, data)
    solution = solve(operator, torch.zeros_like(data), ForwardStep(), max_iterations=10)
    with pytest.warns(ImplicitWarning, match="row 0 of 3 did not converge"):
        z = implicit(operator, solution)
    with pytest.warns(ImplicitWarning, match="not accurate in row 2 of 3"):
        z.sum().backward()


@pytest.mark.parametrize("method", ["gmres", "neumann", "anderson"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_stays_so_in_its_row_alone(method, bad):
    data = numbers(ROWS, SIZE).requires_grad_()
    operator = tanh(contraction(), numbers(SIZE, seed=1), data)
    z = implicit(operator, zero_of(operator, torch.zeros(ROWS, SIZE).double()), method=method)
    incoming = numbers(ROWS, SIZE, seed=2)
    (expected,) = torch.autograd.grad(z, data, incoming, retain_graph=True)
    incoming[1, 0] = bad
    with pytest.warns(ImplicitWarning, match=r"gradient that arrives is not finite in row 1 of 3"):
        (gradient,) = torch.autograd.grad(z, data, incoming)
    assert bool(gradient[1].isnan().all())
    assert torch.equal(gradient[[0, 2]], expected[[0, 2]])


def softened(parameter, data):
    """T z = a z + sin(z) / 2 - data, of which the resolvent has no closed form."""
    return as_operator(
        lambda z, data: parameter * z + 0.5 * z.sin() - data,
        data,
        lipschitz=2.5,
        strong_monotonicity=0.2,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda T: T.yosida(0.9, tolerance=1e-13),
        lambda T: T.resolvent(0.9, tolerance=1e-13),
        lambda T: (2 * T).reflected_resolvent(0.5, tolerance=1e-13) + T,
    ],
)
def test_gradients_through_an_iterative_resolvent_are_finite_differences(make):
    def z(parameter, data, shift):
        operator = make(softened(parameter, data)) + shift
        start = torch.zeros(2, 2, dtype=torch.float64)
        return implicit(operator, zero_of(operator, start), **TIGHT)

    parameter = torch.tensor(1.3, dtype=torch.float64)
    arguments = [parameter, numbers(2, 2, seed=1), numbers(2, 2, seed=2)]
    arguments = [argument.requires_grad_() for argument in arguments]
    assert torch.autograd.gradcheck(z, arguments, eps=1e-5, atol=1e-7, rtol=1e-6)


# What is refused


class Hidden(Operator):
    @torch.no_grad()
    def __call__(self, z):
        return 0.5 * z

    def select(self, rows):
        return self


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"operator": Hidden()}, ValueError, "Hidden is not differentiable.*no_grad"),
        ({"operator": torch.sin}, TypeError, "fixpoint.as_operator"),
        ({"operator": as_operator(lambda z: z.sum(1))}, ValueError, "shape and dtype"),
        ({"z": torch.arange(3)}, TypeError, "floating point"),
        ({"method": "cg"}, ValueError, "method must be one of"),
        ({"rtol": -1.0}, ValueError, "rtol"),
        ({"max_iterations": 0}, ValueError, "max_iterations"),
        ({"restart": 0}, ValueError, "restart"),
    ],
)
def test_unusable_arguments_are_refused(options, error, words):
    arguments = {"operator": as_operator(torch.sin), "z": torch.zeros(2, 3)} | options
    with pytest.raises(error, match=words):
        implicit(arguments.pop("operator"), arguments.pop("z"), **arguments)
