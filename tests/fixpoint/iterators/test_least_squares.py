"""The weights of an extrapolation are those of the least squares problem they stand for."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint.iterators.least_squares import bordered, weights_of

few = settings(max_examples=15, deadline=None, derandomize=True, database=None)


def columns(seed, rows=3, size=30, memory=5):
    """Well-conditioned columns, (rows, size, memory), newest first, and right-hand sides."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows, size, memory, generator=generator, dtype=torch.float64)
    return drawn, torch.randn(rows, size, generator=generator, dtype=torch.float64)


def products(drawn, r):
    return drawn.mT @ drawn, (drawn.mT @ r.unsqueeze(2)).squeeze(2)


def weights(drawn, r, regularization=0.0, largest_weight=math.inf):
    return weights_of(*products(drawn, r), regularization, largest_weight)


def least_squares(drawn, r):
    return torch.linalg.lstsq(drawn, r.unsqueeze(2), driver="gelsd").solution.squeeze(2)


@given(seed=st.integers(0, 10**6), memory=st.integers(1, 8))
@few
def test_the_weights_solve_the_least_squares_problem(seed, memory):
    drawn, r = columns(seed, memory=memory)
    found, left_out = weights(drawn, r)
    torch.testing.assert_close(found, least_squares(drawn, r), rtol=1e-9, atol=1e-9)
    assert not left_out.any()


@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(-100, 100), min_size=5, max_size=5))
@few
def test_columns_of_any_size_are_used_alike(seed, sizes):
    drawn, r = columns(seed)
    size = 10.0 ** torch.tensor(sizes, dtype=torch.float64)
    found, left_out = weights(drawn * size, r)
    torch.testing.assert_close(found * size, least_squares(drawn, r), rtol=1e-8, atol=1e-8)
    assert not left_out.any()


@pytest.mark.parametrize("empty", [0, 2, 4])
def test_an_empty_column_gets_no_weight_and_is_not_called_left_out(empty):
    drawn, r = columns(1)
    drawn[:, :, empty] = 0
    found, left_out = weights(drawn, r)
    assert torch.count_nonzero(found[:, empty]) == 0
    others = [i for i in range(5) if i != empty]
    expected = least_squares(drawn[:, :, others], r)
    torch.testing.assert_close(found[:, others], expected, rtol=1e-9, atol=1e-9)
    assert not left_out.any()


@pytest.mark.parametrize(("newer", "older"), [(0, 4), (1, 3), (0, 1)])
def test_a_repeated_column_is_left_out_with_all_older_ones(newer, older):
    drawn, r = columns(2)
    drawn[:, :, older] = -3 * drawn[:, :, newer]
    found, left_out = weights(drawn, r)
    assert left_out.all()
    assert torch.count_nonzero(found[:, older:]) == 0
    expected = least_squares(drawn[:, :, :older], r)
    torch.testing.assert_close(found[:, :older], expected, rtol=1e-9, atol=1e-9)


def test_a_column_in_the_span_of_newer_ones_is_left_out():
    drawn, r = columns(3)
    drawn[:, :, 3] = drawn[:, :, 0] - 2 * drawn[:, :, 1] + drawn[:, :, 2]
    found, left_out = weights(drawn, r)
    assert left_out.all()
    assert torch.count_nonzero(found[:, 3:]) == 0
    expected = least_squares(drawn[:, :, :3], r)
    torch.testing.assert_close(found[:, :3], expected, rtol=1e-9, atol=1e-9)


def test_more_columns_than_elements_leave_the_oldest_out():
    drawn, r = columns(4, size=3, memory=5)
    found, left_out = weights(drawn, r)
    assert left_out.all()
    assert torch.count_nonzero(found[:, 3:]) == 0
    torch.testing.assert_close((drawn * found.unsqueeze(1)).sum(2), r, rtol=1e-6, atol=1e-6)


def test_a_dependent_column_in_one_row_changes_no_other_row():
    drawn, r = columns(5)
    before, _ = weights(drawn, r)
    drawn[1, :, 2] = drawn[1, :, 0]
    after, left_out = weights(drawn, r)
    assert left_out.tolist() == [False, True, False]
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.equal(after[1], before[1])


@pytest.mark.parametrize("largest_weight", [0.01, 0.1, 0.3, 1.0])
def test_no_weight_is_above_the_largest_and_older_columns_go_first(largest_weight):
    drawn, r = columns(6, rows=8)
    drawn = drawn + 3 * drawn[:, :, :1]  # nearly parallel: weights of both signs
    free, _ = weights(drawn, r)
    found, left_out = weights(drawn, r, largest_weight=largest_weight)
    assert (found.abs() <= largest_weight).all()
    for row in range(8):
        kept = int((found[row] != 0).sum())
        assert torch.count_nonzero(found[row, kept:]) == 0
        assert bool(left_out[row]) == (kept < 5)
        expected = least_squares(drawn[row : row + 1, :, :kept], r[row : row + 1])[0]
        torch.testing.assert_close(found[row, :kept], expected, rtol=1e-7, atol=1e-7)
        if (free[row].abs() <= largest_weight).all():
            assert torch.equal(found[row], free[row])
        else:  # one column more, and a weight would be too large
            more = least_squares(drawn[row : row + 1, :, : kept + 1], r[row : row + 1])[0]
            assert (more.abs() > largest_weight).any()


def test_regularization_shortens_the_weights():
    drawn, r = columns(7)
    norms = [weights(drawn, r, regularization=value)[0].norm() for value in (0.0, 0.01, 0.5)]
    assert norms[0] > norms[1] > norms[2]


@given(seed=st.integers(0, 10**6))
@few
def test_rows_weigh_bit_for_bit_alone_as_in_a_batch(seed):
    drawn, r = columns(seed, rows=4)
    drawn[2, :, 3] = drawn[2, :, 1]
    drawn[3, :, 1] = 0
    gram, right_hand_side = products(drawn, r)
    for largest_weight in (math.inf, 0.2):
        together, left_out = weights_of(gram, right_hand_side, 1e-12, largest_weight)
        for row in range(4):
            one = slice(row, row + 1)
            alone, left = weights_of(gram[one], right_hand_side[one], 1e-12, largest_weight)
            assert torch.equal(alone[0], together[row])
            assert bool(left) == bool(left_out[row])


def test_weights_without_columns_are_none():
    found, left_out = weights_of(torch.zeros(3, 0, 0), torch.zeros(3, 0), 0.0, math.inf)
    assert found.shape == (3, 0)
    assert left_out.tolist() == [False] * 3


@given(seed=st.integers(0, 10**6), room=st.integers(1, 6))
@few
def test_the_gram_matrix_grows_by_its_newest_row_and_drops_the_oldest(seed, room):
    drawn, _ = columns(seed, memory=6)
    newest = drawn[:, :, :room]
    gram, _ = products(drawn[:, :, 1:], drawn[:, :, 0])
    row = (newest.mT @ drawn[:, :, :1]).squeeze(2)
    expected = newest.mT @ newest
    torch.testing.assert_close(bordered(row, gram), expected, rtol=1e-12, atol=1e-12)
