"""`solve(operator, z0)` picks a method by what is declared of the operator."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from fixpoint import Anderson, Extragradient, Status, as_operator, fixed_point_of, solve, theory
from fixpoint._default_iterator import default_iterator

few = settings(max_examples=12, deadline=None, derandomize=True, database=None)
Z0 = torch.zeros(2, 3)


def identity(**constants):
    return as_operator(lambda z: z, **constants)


def test_solve_needs_no_iterator():
    operator, zero, z0 = problem()
    solution = solve(operator, z0)
    assert solution.success
    torch.testing.assert_close(solution.z, zero, rtol=1e-3, atol=1e-3)
    chosen = solve(operator, z0, default_iterator(operator, z0))
    assert torch.equal(chosen.z, solution.z)
    assert torch.equal(chosen.evaluations, solution.evaluations)


def test_trees_are_solved_without_an_iterator():
    operator = as_operator(lambda pair: (0.5 * pair[0], pair[1] - 1))
    solution = solve(operator, (torch.ones(2, 3), torch.zeros(2, 1)))
    assert solution.success
    torch.testing.assert_close(solution.z[1], torch.ones(2, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "constants",
    [
        {"cocoercivity": 0.3},
        {"cocoercivity": 4.0, "lipschitz": 0.2},
        {"lipschitz": 2.0, "strong_monotonicity": 0.5},
        {"averagedness": 0.25},
        {"averagedness": 0.25, "strong_monotonicity": 0.4},
    ],
)
def test_declared_constants_set_the_size_of_the_forward_steps(constants):
    operator = identity(**constants)
    iterator = default_iterator(operator, Z0)
    assert isinstance(iterator, Anderson)
    assert theory.best_step_size(operator) is not None
    assert iterator.mixing == theory.best_step_size(operator)
    assert iterator.mixing != 1


def test_a_lipschitz_constant_of_a_map_is_a_declared_constant():
    operator = fixed_point_of(lambda z: 0.5 * z, lipschitz=0.5)
    assert default_iterator(operator, Z0).mixing == theory.best_step_size(operator)


@pytest.mark.parametrize("constants", [{}, {"lipschitz": 3.0}, {"strong_monotonicity": -0.5}])
def test_the_forward_step_is_one_where_nothing_tells_a_better_one(constants):
    iterator = default_iterator(identity(**constants), Z0)
    assert isinstance(iterator, Anderson)
    assert iterator.mixing == 1


@pytest.mark.parametrize("lipschitz", [1e-9, 2.0, 1e9])
def test_a_monotone_lipschitz_operator_gets_extragradient_steps(lipschitz):
    operator = identity(lipschitz=lipschitz, strong_monotonicity=0.0)
    iterator = default_iterator(operator, Z0)
    assert isinstance(iterator, Extragradient)
    assert iterator.step_size * lipschitz == pytest.approx(0.9)


@pytest.mark.parametrize(
    "constants",
    [
        {"lipschitz": 2.0, "strong_monotonicity": 0.1},
        {"lipschitz": 2.0, "strong_monotonicity": -0.1},
        {"lipschitz": 2.0, "strong_monotonicity": 0.0, "cocoercivity": 0.5},
        {"strong_monotonicity": 0.0},
        {"lipschitz": 0.0, "strong_monotonicity": 0.0},
    ],
)
def test_an_operator_of_which_more_or_less_is_known_does_not(constants):
    assert isinstance(default_iterator(identity(**constants), Z0), Anderson)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_rotation_is_solved_by_default(scale):
    def turn(z):
        return scale * torch.stack((-z[:, 1], z[:, 0]), 1)

    z0 = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    declared = as_operator(turn, lipschitz=scale, strong_monotonicity=0.0)
    for operator in (declared, as_operator(turn)):
        solution = solve(operator, z0)
        assert solution.status == (Status.CONVERGED,)
        assert float(solution.z.norm()) <= 1e-4


def bent(z, b):
    return torch.linspace(0.1, 1, 8, dtype=z.dtype) * (z - b) + 0.3 * torch.sin(z - b)


@given(exponent=st.floats(-12, 12))
@few
def test_the_default_needs_no_scale(exponent):
    _, zero, z0 = problem()
    scale = 10.0**exponent
    plain = solve(as_operator(bent, zero), z0)
    other = solve(as_operator(lambda z, b: scale * bent(z, b), zero), z0)
    assert other.success
    torch.testing.assert_close(other.z, zero, rtol=0, atol=1e-2)
    # A first step that is far too long costs some evaluations, whatever its size.
    assert (other.evaluations <= plain.evaluations + 25).all()


@given(exponent=st.floats(-12, 12))
@few
def test_declared_constants_leave_no_scale_at_all(exponent):
    _, zero, z0 = problem()
    scale = 10.0**exponent
    slopes = torch.linspace(0.1, 1, 8, dtype=torch.float64)

    def declared(scale):
        return as_operator(
            lambda z, b: scale * slopes * (z - b),
            zero,
            lipschitz=scale * (1 + 1e-12),
            strong_monotonicity=0.1 * scale * (1 - 1e-12),
        )

    plain, other = solve(declared(1.0), z0), solve(declared(scale), z0)
    assert other.status == plain.status
    assert (other.evaluations - plain.evaluations).abs().max() <= 1


def on_meta(*shape, dtype=torch.float32):
    return default_iterator(identity(), torch.empty(shape, device="meta", dtype=dtype))


def test_the_memory_is_short_where_the_differences_would_be_large():
    # 20 pairs of differences in 2^28 bytes: up to 2^28 / (2 * 20) bytes of state.
    most = 2**28 // (2 * 20)
    for dtype, size in ((torch.float32, 4), (torch.float64, 8), (torch.float16, 2)):
        assert on_meta(1, most // size, dtype=dtype).memory == 20
        assert on_meta(1, most // size + 1, dtype=dtype).memory == 5
    assert on_meta(1000, most // 4000).memory == 20
    assert on_meta(64, 16, 512, 512).memory == 5


def test_the_default_accepts_rises_and_takes_its_time():
    iterator = on_meta(4, 8)
    assert iterator.safeguard
    assert iterator.memory > Anderson().memory
    assert iterator.patience >= iterator.memory
