"""Anderson acceleration, step by step: least squares, Gram matrix, refusals."""

import dataclasses
import itertools

import pytest
import torch
from iterated import ones, states
from problems import problem

from fixpoint import Anderson, as_operator, solve, synthetic

# Anderson


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_anderson_with_full_memory_solves_a_linear_system_in_size_plus_2_evaluations(size):
    operator, zero, z0 = problem(size=size)
    solution = solve(operator, z0, Anderson(memory=size), rtol=1e-8)
    assert int(solution.evaluations.max()) <= size + 2
    torch.testing.assert_close(solution.z, zero, rtol=1e-6, atol=1e-6)


def test_anderson_with_one_difference_by_hand():
    # T z = (z1, 2 z2), z0 = (1, 1), mixing 1/2. r0 = (1, 2); z1 = (1/2, 0), r1 = (1/2, 0).
    # dz = (-1/2, -1), dr = (-1/2, -2), gamma = <dr, r1>/<dr, dr> = -1/17.
    # z2 = z1 - r1/2 - (dz - dr/2) gamma = (1/4, 0) - (-1/4, 0)(-1/17) = (4/17, 0).
    operator = synthetic.diagonal([1.0, 2.0])
    iterator = Anderson(memory=1, mixing=0.5, safeguard=False)  # which keeps to beta
    *_, last = states(iterator, operator, torch.ones(1, 2, dtype=torch.float64), 2)
    torch.testing.assert_close(last.z, torch.tensor([[4 / 17, 0.0]], dtype=torch.float64))


def test_the_first_step_of_anderson_is_a_forward_step_and_is_never_refused():
    operator = as_operator(lambda z: 2.5 * z)
    run = list(states(Anderson(), operator, ones(), 3))
    assert [state.z.item() for state in run[:2]] == [1.0, -1.5]
    assert abs(run[2].z.item()) < 1e-12
    assert int(run[-1].rejected_residual) == 0


def test_anderson_does_not_amplify_rounding_where_its_memory_exceeds_the_dimension():
    b = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    operator = as_operator(lambda z: z + torch.sin(z) / 2 - b)
    *_, one = states(Anderson(memory=5), operator, torch.zeros_like(b), 5)
    *_, other = states(Anderson(memory=5), operator, torch.zeros_like(b) + 1e-15, 5)
    assert float((one.z - other.z).abs().max()) < 1e-9


def test_anderson_survives_differences_that_overflow_in_16_bits():
    operator = as_operator(lambda z: 1.9 * z)
    z0 = torch.full((1, 3), 2e4, dtype=torch.float16)
    solution = solve(operator, z0, Anderson(), rtol=1e-5, max_iterations=50)
    assert bool(solution.z.isfinite().all())
    assert float(solution.residual_norm) < 1


def test_the_gram_matrix_updated_row_by_row_is_the_one_built_anew():
    operator, _, z0 = problem()
    *_, last = states(Anderson(memory=3, mixing=0.5), operator, z0, 7)
    differences = torch.stack(last.residual_differences, 1)
    torch.testing.assert_close(last.gram, differences @ differences.transpose(1, 2))
    torch.testing.assert_close(
        last.right_hand_side, (differences * last.anchor_residual.unsqueeze(1)).sum(2)
    )


@pytest.mark.parametrize(
    "change",
    [{"memory": 1}, {"mixing": 0.5}, {"regularization": 0.5}, {"largest_weight": 1e-3}],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_anderson_changes_its_iterates(change):
    operator, _, z0 = problem()
    base = Anderson(memory=3)
    *_, plain = states(base, operator, z0, 5)
    *_, changed = states(dataclasses.replace(base, **change), operator, z0, 5)
    assert not torch.allclose(plain.z, changed.z)


def test_an_accelerated_step_that_raises_the_residual_is_replaced_by_the_forward_step():
    operator = as_operator(lambda z: 0.02 * z + torch.sin(3 * z))
    iterator = Anderson(memory=2, mixing=0.1)
    run = list(states(iterator, operator, torch.tensor([[1.6]], dtype=torch.float64), 12))
    for now, then in itertools.pairwise(run):
        if not now.accepted:
            forward = now.anchor - now.lengths.mixing.unsqueeze(1) * now.anchor_residual
            assert torch.equal(then.point, forward)
            assert then.accepted
    refused = sum(not bool(state.accepted) for state in run)
    assert refused > 0
    assert int(run[-1].rejected_residual) == refused
    assert iterator.statistics(run[-1])["rejected_residual"] is run[-1].rejected_residual


def test_the_safeguard_changes_the_iterates_where_it_steps_in():
    operator = as_operator(lambda z: 0.02 * z + torch.sin(3 * z))
    z0 = torch.tensor([[1.6]], dtype=torch.float64)
    *_, safe = states(Anderson(memory=2, mixing=0.1), operator, z0, 6)
    *_, bold = states(Anderson(memory=2, mixing=0.1, safeguard=False), operator, z0, 6)
    assert not torch.equal(safe.z, bold.z)


def test_refusals_are_counted_by_cause():
    *_, weights = states(
        Anderson(mixing=0.1, largest_weight=1e-9), as_operator(torch.sinh), ones(), 4
    )
    assert int(weights.rejected_weights) == 3
    assert int(weights.rejected_residual) == int(weights.rejected_nonfinite) == 0
    wall = as_operator(lambda z: torch.where(z < 0.5, torch.nan, z))
    *_, nonfinite = states(Anderson(mixing=0.4), wall, ones(), 3)
    assert int(nonfinite.rejected_nonfinite) == 2
    assert bool(nonfinite.anchor.isfinite().all())
