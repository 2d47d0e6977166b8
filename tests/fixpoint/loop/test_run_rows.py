"""The rows of a run are independent, and leave the batch as they end."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_operators import Trace
from problems import ITERATORS, Counting, NaNRows, problem

from fixpoint import Anderson, ForwardStep, Status, as_operator, solve
from fixpoint.loop.residual import Residual
from fixpoint.stop import Divergence, Stagnation

# Rows


@pytest.mark.parametrize("name", ITERATORS)
def test_a_batch_solves_bit_for_bit_as_its_rows_would_alone(name):
    operator, zero, z0 = problem()
    z0 = z0 + torch.arange(5).reshape(5, 1)  # rows that need different numbers of iterations
    together = solve(operator, z0, ITERATORS[name], rtol=1e-3)
    assert together.success
    assert len(set(together.iterations.tolist())) > 1
    torch.testing.assert_close(together.z, zero, rtol=0, atol=0.2)
    for row in range(5):
        alone = solve(
            operator.select(torch.tensor([row])), z0[row : row + 1], ITERATORS[name], rtol=1e-3
        )
        assert torch.equal(alone.z[0], together.z[row])
        assert torch.equal(alone.residual_norm[0], together.residual_norm[row])
        assert alone.status[0] is together.status[row]
        assert alone.evaluations[0] == together.evaluations[row]


@pytest.mark.parametrize("name", ITERATORS)
def test_a_row_that_turns_nan_leaves_its_neighbours_unharmed(name):
    operator, _, z0 = problem()
    bad = torch.tensor([False, True, False, False, True])
    healthy = solve(NaNRows(operator, bad & False), z0, ITERATORS[name], rtol=1e-8)
    mixed = solve(NaNRows(operator, bad), z0, ITERATORS[name], rtol=1e-8)
    for row in range(5):
        if bad[row]:
            assert mixed.status[row] is Status.NONFINITE
            assert bool(mixed.z[row].isfinite().all())
            assert float(mixed.residual_norm[row]) == pytest.approx(
                float((operator(mixed.z) - 0)[row].norm()), rel=1e-12
            )
        else:
            assert torch.equal(mixed.z[row], healthy.z[row])
            assert mixed.status[row] is healthy.status[row]


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_reordering_the_rows_reorders_the_solution(order):
    operator, _, z0 = problem()
    rows = torch.tensor(order)
    straight = solve(operator, z0, Anderson(), rtol=1e-8)
    shuffled = solve(operator.select(rows), z0[rows], Anderson(), rtol=1e-8)
    assert torch.equal(shuffled.z, straight.z[rows])
    assert torch.equal(shuffled.evaluations, straight.evaluations[rows])


def test_converged_rows_leave_the_batch():
    operator, zero, z0 = problem()
    z0[0] = zero[0]  # done at once
    counting = Counting(operator)
    solution = solve(counting, z0, ForwardStep(step_size=0.8), rtol=1e-8)
    assert int(solution.evaluations[0]) == 1
    assert sum(counting.count) == int(solution.evaluations.sum())
    assert counting.count[:2] == [5, 4]


def test_a_closure_over_the_full_batch_still_solves():
    target = torch.randn(4, 3, dtype=torch.float64)
    slope = torch.tensor([[1.0], [0.5], [0.3], [0.1]], dtype=torch.float64)
    operator = as_operator(lambda z: slope * (z - target))
    with pytest.warns(UserWarning, match="Pass the per-row tensors"):
        solution = solve(operator, torch.zeros_like(target), ForwardStep(), rtol=1e-8)
    assert solution.success
    assert len(set(solution.iterations.tolist())) == 4
    torch.testing.assert_close(solution.z, target, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ITERATORS)
@pytest.mark.parametrize("check_every", [2, 7, 1000])
def test_looking_at_the_flags_less_often_changes_nothing(name, check_every):
    operator, _, z0 = problem()
    bad = torch.tensor([False, True, False, False, False])
    often = solve(NaNRows(operator, bad), z0, ITERATORS[name], rtol=1e-8)
    seldom = solve(NaNRows(operator, bad), z0, ITERATORS[name], rtol=1e-8, check_every=check_every)
    assert torch.equal(often.z, seldom.z)
    assert often.status == seldom.status
    assert torch.equal(often.evaluations, seldom.evaluations)
    for a, b in zip(often.statistics.values(), seldom.statistics.values(), strict=True):
        assert torch.equal(a, b)
    length = len(often.history.residual_norm)
    torch.testing.assert_close(
        seldom.history.residual_norm[:length], often.history.residual_norm, equal_nan=True
    )


@pytest.mark.parametrize("name", ITERATORS)
def test_an_iteration_reads_nothing_back_to_the_host(name):
    """On the meta device there is nothing to read: any synchronisation raises."""
    from fixpoint.kernels import row_norm
    from fixpoint.loop.iterate import Iterate
    from fixpoint.loop.record import RUNNING, recorded
    from fixpoint.stop import NonFinite
    from fixpoint.trees.rows import where_rows

    operator = as_operator(lambda z: 0.5 * z)
    rules = (NonFinite(), Residual(rtol=0.1, atol=0.0), Stagnation(), Divergence())
    state, record = None, None
    for iteration in range(8):
        if state is None:
            state = ITERATORS[name].init(operator, torch.empty(3, 4, device="meta"))
        else:
            state = ITERATORS[name].step(operator, state)
        norms = row_norm(state.residual), row_norm(state.point)
        iterate = Iterate(iteration, torch.empty(3, device="meta"), state, *norms, {})
        statistics = ITERATORS[name].statistics(state)
        following = recorded(record, iterate, rules, (Trace(),), "best", statistics, iteration)
        frozen = None if record is None else record.status == RUNNING
        record = following if frozen is None else where_rows(frozen, following, record)
