"""The look at the first steps of a run."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import ForwardStep, Status, as_operator, solve
from fixpoint.adapters.inversion.look import Look
from fixpoint.stop import Divergence


def fired(look, residuals):
    """(iterations, batch): where the rule ends a row, for residual norms of the same shape."""
    seen = [
        SimpleNamespace(residual_norm=norms, iteration=iteration)
        for iteration, norms in enumerate(residuals)
    ]
    memory = look.start(seen[0])
    ends = [torch.zeros(residuals.shape[1], dtype=torch.bool)]
    for iterate in seen[1:]:
        fires, memory = look.check(iterate, memory)
        ends.append(fires.expand(residuals.shape[1]))
    return torch.stack(ends)


sizes = st.floats(0, 1e3, width=32)
curves = st.integers(1, 4).flatmap(
    lambda batch: st.lists(
        st.lists(sizes, min_size=batch, max_size=batch), min_size=7, max_size=7
    ).map(lambda rows: torch.tensor(rows))
)


@settings(deadline=None)
@given(curves, st.floats(0.05, 0.95), st.integers(1, 5))
def test_a_row_is_refuted_once_and_exactly_where_no_residual_fell_to_the_share(
    residuals, share, steps
):
    ends = fired(Look(share=share, steps=steps), residuals)
    stayed = (residuals[1 : steps + 1] > share * residuals[0]).all(0) & (residuals[0] > 0)
    assert ends[steps].equal(stayed)
    assert int(ends.sum()) == int(stayed.sum())


@settings(deadline=None)
@given(curves)
def test_rows_are_looked_at_one_by_one(residuals):
    together = fired(Look(), residuals)
    for row in range(residuals.shape[1]):
        assert fired(Look(), residuals[:, row : row + 1])[:, 0].equal(together[:, row])


def test_a_row_that_fell_once_is_never_refuted():
    risen_again = torch.tensor([[1.0], [0.2], [5.0], [5.0], [9.0]])
    assert not fired(Look(share=0.25, steps=3), risen_again).any()


def test_a_residual_that_is_no_number_refutes_nothing():
    residuals = torch.tensor([[1.0], [math.nan], [math.nan], [math.nan]])
    assert not fired(Look(), residuals).any()


def test_a_run_that_ends_before_the_look_is_not_refuted():
    assert not fired(Look(steps=3), torch.ones(3, 2)).any()


def shrinking(rates):
    """T (v, rate) = (rate v, 0) with forward steps of 1: the residual falls by 1 - rate a step."""
    rates = torch.tensor(rates, dtype=torch.float64)
    return solve(
        as_operator(lambda z: torch.stack((z[:, 1] * z[:, 0], 0 * z[:, 1]), 1)),
        torch.stack((torch.ones_like(rates), rates), 1),
        ForwardStep(),
        max_iterations=8,
        rtol=0.0,
        stop=(Divergence(factor=100), Look()),
    )


def test_rows_of_a_run_that_fall_go_on_and_the_others_end_at_the_look():
    # 0.4^3 and 0.5^3 are below a quarter, 0.9^3 and (-0.9)^3 are not.
    solution = shrinking([0.6, 0.1, 0.5, 1.9])
    assert solution.status == (
        Status.MAX_ITERATIONS,
        Status.REFUTED,
        Status.MAX_ITERATIONS,
        Status.REFUTED,
    )
    assert solution.evaluations.tolist() == [9, 4, 9, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.0}, r"share must lie in \(0, 1\), got 0.0"),
        ({"share": 1.0}, r"share must lie in \(0, 1\)"),
        ({"share": math.nan}, r"share must lie in \(0, 1\)"),
        ({"steps": 0}, "steps must be a whole number above 0, got 0"),
        ({"steps": 2.5}, "steps must be a whole number above 0"),
    ],
)
def test_a_share_or_a_number_of_steps_out_of_range_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Look(**options)


def test_a_refuted_row_is_no_success():
    assert Look.status is Status.REFUTED
    assert not Status.REFUTED.success
