import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from fixpoint import Halpern, TheoremWarning, as_operator, kernels, solve, synthetic, theory
from fixpoint.testing import (
    KnownOperator,
    Planes,
    check_iterator,
    ladder,
    operators,
    starting_points,
)

drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)
DECAY = math.exp(-1)


def run(iterator, operator, z, steps):
    found = [iterator.init(operator, z)]
    for _ in range(steps):
        found.append(iterator.step(operator, found[-1]))
    return found


def norms(states):
    return torch.stack([state.residual.norm(dim=1) for state in states])


def ones():
    return torch.ones(1, 1, dtype=torch.float64)


def quarter():
    """T z = z with beta 1/4, so that I - 2 beta T halves: z^k is the mean of 1, 1/2, ..."""
    return as_operator(lambda z: z), Halpern(cocoercivity=0.25)


def turning(rows=1):
    """T turns by 1.4: I - 2 beta T turns by pi - 2.8, and the mean of a whole turn is the zero."""
    zero = torch.zeros(rows, 2, dtype=torch.float64)
    return synthetic.rotation(1.4, zero), Halpern(cocoercivity=math.cos(1.4))


# The iteration


def test_the_first_iterates_by_hand():
    operator, iterator = quarter()
    found = [state.z.item() for state in run(iterator, operator, ones(), 4)]
    assert found == pytest.approx([1, 3 / 4, 7 / 12, 15 / 32, 31 / 80], rel=1e-15)


def test_on_an_affine_operator_an_iterate_is_the_mean_of_the_powers():
    operator, zero, z0 = problem()
    power, total = z0 - zero, torch.zeros_like(z0)
    matrix = torch.eye(8, dtype=torch.float64) - 2 * operator.matrix
    for k, state in enumerate(run(Halpern(restart=False), operator, z0, 20)):
        total = total + power
        torch.testing.assert_close(state.z - zero, total / (k + 1))
        power = power @ matrix.T


@given(st.data())
@drawn
def test_no_residual_exceeds_the_bound_of_lieder_without_restarts(data):
    operator, start, away, rounding = drawn_run(data)
    iterator = Halpern(cocoercivity=operator.beta, restart=False)
    for n, norm in enumerate(norms(run(iterator, operator, start, 30))):
        bound = away * theory.halpern_residual_bound(1.0, operator.beta, n)
        assert (norm <= bound * (1 + 1e-9) + rounding).all()


@given(st.data())
@drawn
def test_no_least_residual_exceeds_the_bound_with_restarts(data):
    operator, start, away, rounding = drawn_run(data)
    iterator = Halpern(cocoercivity=operator.beta)
    least = norms(run(iterator, operator, start, 200)).cummin(0).values
    for n, norm in enumerate(least):
        bound = away * iterator.residual_bound(1.0, operator.beta, n)
        assert (norm <= bound * (1 + 1e-9) + rounding).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_the_bound_of_lieder_is_attained_by_a_plane_that_makes_half_a_turn(steps):
    angle = (math.pi - math.pi / (steps + 1)) / 2  # I - 2 beta T turns by pi / (steps + 1)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    operator = KnownOperator(0.7, zero, Planes((angle,)))
    operator.cocoercivity = None  # exact up to rounding: no warning about the last bit
    z0 = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    last = run(Halpern(cocoercivity=0.7, restart=False), operator, z0, steps)[-1]
    bound = theory.halpern_residual_bound(1.0, 0.7, steps)
    assert float(last.residual.norm()) == pytest.approx(bound, rel=1e-12)


def test_the_residual_bound_is_stated_only_where_it_is_proven():
    plain = Halpern(cocoercivity=0.5, restart=False)
    assert plain.residual_bound(2.0, 0.5, 3) == 1.0
    assert plain.residual_bound(2.0, 0.8, 3) == 1.0
    assert plain.residual_bound(2.0, 0.4, 3) == math.inf
    ratio = Halpern(cocoercivity=0.5).residual_bound(2.0, 0.5, 3)
    assert ratio == pytest.approx((2 - DECAY) / (1 - DECAY))


# Restarts


def test_a_restart_by_hand():
    # |z^4| = 31/80 is above 1/e, |z^5| = 63/192 below it, and |z^5| / |z^4| > |z^4| / |z^3|.
    operator, iterator = quarter()
    states = run(iterator, operator, ones(), 7)
    assert [int(state.restarts) for state in states] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert [int(state.steps) for state in states] == [0, 1, 2, 3, 4, 0, 1, 2]
    assert states[5].anchor.item() == states[5].z.item() == pytest.approx(63 / 192)
    assert states[6].z.item() == pytest.approx(3 / 4 * 63 / 192)
    assert states[7].z.item() == pytest.approx(7 / 12 * 63 / 192)
    assert iterator.statistics(states[-1]) == {"restarts": states[-1].restarts}


def test_restarts_change_the_iterates():
    operator, iterator = quarter()
    *_, restarted = run(iterator, operator, ones(), 6)
    *_, plain = run(Halpern(cocoercivity=0.25, restart=False), operator, ones(), 6)
    assert int(restarted.restarts) == 1
    assert int(plain.restarts) == 0
    assert restarted.z.item() < plain.z.item()


def test_a_row_that_falls_ever_faster_goes_on_below_the_decay():
    operator, iterator = turning()
    states = run(iterator, operator, torch.ones(1, 2, dtype=torch.float64), 30)
    first = next(k for k, state in enumerate(states) if int(state.restarts))
    fallen = norms(states) / norms(states)[0]
    assert float(fallen[first - 3]) < DECAY
    assert float(fallen[: first + 1].min()) < 0.1 * DECAY


def test_a_row_whose_residual_rose_goes_on_from_the_point_before():
    operator, iterator = turning()
    states = run(iterator, operator, torch.ones(1, 2, dtype=torch.float64), 60)
    back = [
        (before, at, after)
        for before, at, after in zip(states, states[1:], states[2:], strict=False)
        if int(at.steps) == 0 and float(at.norm) > float(before.norm)
    ]
    assert back
    for before, at, after in back:
        assert torch.equal(at.anchor, before.point)
        assert torch.equal(at.anchor_residual, before.residual)
        forward = before.point - iterator.cocoercivity * before.residual
        torch.testing.assert_close(after.point, forward)


@given(st.data())
@drawn
def test_anchors_fall_by_the_decay_and_come_no_farther_from_the_zero(data):
    operator, start, away, rounding = drawn_run(data)
    states = run(Halpern(cocoercivity=operator.beta), operator, start, 60)
    for before, after in itertools.pairwise(states):
        anew = after.restarts > before.restarts
        assert (after.anchor_norm <= DECAY * before.anchor_norm)[anew].all()
        assert torch.equal(after.anchor_norm[~anew], before.anchor_norm[~anew])
        distance = (after.anchor - operator.zero).norm(dim=1)
        assert (distance <= away * (1 + 1e-9) + rounding * operator.beta).all()


@given(st.data())
@drawn
def test_the_step_from_an_anchor_does_not_raise_the_residual(data):
    operator, start, _, rounding = drawn_run(data)
    states = run(Halpern(cocoercivity=operator.beta), operator, start, 60)
    for at, after in itertools.pairwise(states):
        risen = after.norm > at.anchor_norm * (1 + 1e-9) + rounding
        assert not (risen & (at.steps == 0)).any()


@given(st.data())
@drawn
def test_where_the_residual_measures_the_distance_it_falls_linearly(data):
    operator = data.draw(operators(smallest=0.02, shapes=("linear", "softening")))
    start = data.draw(starting_points(operator))
    mu, beta = float(operator.strong_monotonicity), operator.beta
    # For the planes ||T z|| = cos a ||d|| / beta, more than strong monotonicity gives.
    if isinstance(operator.form, Planes):
        mu = min(math.cos(angle) for angle in operator.form.angles) / beta
    operator.cocoercivity = None
    longest = math.e / (beta * mu)  # k_0
    found = norms(run(Halpern(cocoercivity=beta), operator, start, 300))
    rounding = 1e-13 * (start.norm(dim=1) + operator.zero.norm(dim=1)) / beta
    for n, norm in enumerate(found.cummin(0).values):
        bound = found[0] * math.exp(1 - n / (math.e * longest + 1))
        assert (norm <= bound * (1 + 1e-9) + rounding).all()


def test_restarts_never_cost_evaluations_on_the_ladder():
    for rung in ladder():
        for rtol in (1e-1, 1e-2):
            plain, restarted = (
                solve(rung.operator, rung.start, Halpern(restart=restart), rtol=rtol)
                for restart in (False, True)
            )
            assert restarted.success
            # That a residual goes on falling is seen a little later where it fell faster.
            assert (restarted.evaluations <= plain.evaluations + 3).all(), rung.name


def test_restarts_pay_where_the_operator_is_strongly_monotone():
    operator, _, z0 = problem()
    plain, restarted = (
        solve(operator, z0, Halpern(restart=restart), rtol=1e-3) for restart in (False, True)
    )
    assert restarted.success
    assert (10 * restarted.evaluations < plain.evaluations).all()


# Rows, precisions, options


def test_every_row_restarts_by_itself():
    operator, _, z0 = problem()
    z0 = z0 * torch.tensor([[1.0], [2], [3], [4], [5]])
    together = run(Halpern(), operator, z0, 30)[-1]
    assert len(set(together.restarts.tolist())) > 1
    for row in range(5):
        index = torch.tensor([row])
        alone = run(Halpern(), operator.select(index), z0[index], 30)[-1]
        assert torch.equal(alone.z[0], together.z[row])
        assert torch.equal(alone.restarts[0], together.restarts[row])


def test_a_row_of_nan_does_not_disturb_its_neighbours():
    bad = torch.tensor([[False], [True], [False]])
    z0 = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]], dtype=torch.float64)

    def spoilt(z, bad):
        return torch.where(bad & (z.abs() < 2), torch.nan, z * torch.tensor([1.0, 0.3]).double())

    clean = run(Halpern(), as_operator(spoilt, bad & False), z0, 20)[-1]
    mixed = run(Halpern(), as_operator(spoilt, bad), z0, 20)[-1]
    assert mixed.z[1].isnan().any()
    assert torch.equal(mixed.z[[0, 2]], clean.z[[0, 2]])
    assert torch.equal(mixed.restarts[[0, 2]], clean.restarts[[0, 2]])
    assert bool(mixed.anchor.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_latents_are_solved_to_their_rounding(dtype):
    operator, _, z0 = problem(dtype=dtype)
    solution = solve(operator, z0, Halpern(), rtol=2e-2, max_iterations=200)
    assert solution.success
    assert solution.z.dtype == dtype
    last = run(Halpern(), operator, z0, 3)[-1]
    assert last.norm.dtype == kernels.accumulation_dtype(dtype) == torch.float32
    assert last.anchor.dtype == last.anchor_residual.dtype == dtype


def test_it_warns_when_it_is_told_more_cocoercivity_than_there_is():
    operator, _, z0 = problem()
    with pytest.warns(TheoremWarning, match="1-cocoercive, less than the 1.5 given to Halpern"):
        Halpern(cocoercivity=1.5).init(operator, z0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_cocoercivity_out_of_range_is_refused_with_its_value(value):
    with pytest.raises(ValueError, match=f"above 0, got {value}"):
        Halpern(cocoercivity=value)
    with pytest.raises(TypeError, match="momentum"):
        Halpern(momentum=0.9)


@pytest.mark.parametrize("restart", [True, False])
def test_it_passes_the_check_of_iterators(restart):
    check_iterator(
        Halpern(cocoercivity=0.8, restart=restart),
        changes={"cocoercivity": 0.5, "restart": not restart},
        scale_equivariant=True,
        rtol=1e-4 if restart else 1e-2,
    )


def drawn_run(data):
    operator = data.draw(operators())
    start = data.draw(starting_points(operator))
    away = (start - operator.zero).norm(dim=1)
    rounding = 1e-13 * (start.norm(dim=1) + operator.zero.norm(dim=1)) / operator.beta
    operator.cocoercivity = None  # exact up to rounding: no warning about the last bit
    return operator, start, away, rounding
