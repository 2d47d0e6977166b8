"""Anderson acceleration with weights from what an evaluation measures, and with steps that shrink.

What it shares with the other iterators is tested in test_iterators.py.
"""

import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from problems import problem

from fixpoint import Anderson, ForwardStep, Operator, Status, as_operator, solve, synthetic
from fixpoint.adapters import DecoderInversion
from fixpoint.monitors import Cocoercivity, Convergence
from fixpoint.testing import iterators, operators, starting_points
from fixpoint.testing.trees import first_difference

drawn = settings(max_examples=30, deadline=None, derandomize=True, database=None)
LATENT, PIXELS = 5, 12


def states(iterator, operator, z, steps):
    state = iterator.init(operator, z)
    yield state
    for _ in range(steps):
        state = iterator.step(operator, state)
        yield state


def times(matrix):
    """The linear map of a matrix; a sum per row, so that rows are independent bit for bit."""
    return lambda x: (matrix.to(x) * x.unsqueeze(1)).sum(2)


def inversion(seed=0, rows=3, bend=0.0, noise=0.3, dtype=torch.float64):
    """A decoder D z = M z + bend sin(3 M z) and an encoder that is no pseudo-inverse of M.

    Noise takes the picture off the decoder's range: where the deviation is least, T is not zero.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    decoder, _ = torch.linalg.qr(normal(PIXELS, LATENT))
    decoder = decoder * torch.linspace(1, 0.5, LATENT)
    encoder = torch.linalg.pinv(decoder) + 0.5 * normal(LATENT, PIXELS) / math.sqrt(PIXELS)
    linear = times(decoder)

    def decode(z):
        return linear(z) + bend * torch.sin(3 * linear(z))

    truth = normal(rows, LATENT) * torch.arange(1, rows + 1).unsqueeze(1)
    image = decode(truth) + noise * normal(rows, PIXELS)
    operator = DecoderInversion(times(encoder), decode, image.to(dtype))
    operator.matrices = encoder, decoder
    return operator


DEVIATION = Anderson(memory=5, mixing=0.9, minimize="deviation")
RESIDUAL = dataclasses.replace(DEVIATION, minimize="residual")


# What the weights minimize


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("minimize", ["deviation", "residual"])
@given(seed=st.integers(0, 2**16), mixing=st.floats(0.3, 1.2))
# Runs whose every point was accepted are a part of those drawn.
@settings(drawn, max_examples=10, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_step_starts_where_what_is_minimized_is_least_in_the_affine_span(
    steps, minimize, seed, mixing
):
    operator = inversion(seed)
    encoder, decoder = operator.matrices
    iterator = Anderson(memory=4, mixing=mixing, minimize=minimize)
    run = list(states(iterator, operator, operator.start, steps + 1))
    assume(all(bool(state.accepted.all()) for state in run[:-1]))
    assume(not bool(run[-1].shortened.any()))
    assume(steps > 0 and bool((run[-2].trials.wait == 0).all()))
    points = torch.stack([state.point for state in run[:-1]])
    span = (points[:-1] - points[-1]).permute(1, 2, 0)
    # ||M (a + span c) - x|| is least at the corner, for M = D or, by the residual, M = E D.
    image, matrix = operator.image, decoder
    if minimize == "residual":
        image, matrix = image @ encoder.T, encoder @ decoder
    offset = points[-1] @ matrix.T - image
    weights = torch.linalg.lstsq(matrix @ span, -offset.unsqueeze(2)).solution
    corner = points[-1] + (span @ weights).squeeze(2)
    expected = corner - run[-2].lengths.extrapolation.unsqueeze(1) * operator(corner)
    torch.testing.assert_close(run[-1].point, expected, rtol=1e-5, atol=1e-5)


def test_what_is_minimized_changes_the_iterates():
    operator = inversion()
    by_deviation = list(states(DEVIATION, operator, operator.start, 4))
    by_residual = list(states(RESIDUAL, operator, operator.start, 4))
    for a, b in zip(by_deviation[:2], by_residual[:2], strict=True):
        assert torch.equal(a.point, b.point)  # the first step has no weights
    assert not torch.allclose(by_deviation[2].point, by_residual[2].point)


@given(seed=st.integers(0, 2**16))
@drawn
def test_the_picture_is_met_better_by_weights_from_the_deviation(seed):
    """Off the decoder's range the two have different limits; each is best at its own."""
    operator = inversion(seed, noise=1.0)
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 12}
    ours = solve(operator, operator.start, DEVIATION, keep="deviation_level", **options)
    other = solve(operator, operator.start, RESIDUAL, keep="deviation_level", **options)
    ours = ours.history.measured["deviation_level"].nan_to_num(torch.inf).amin(0)
    other = other.history.measured["deviation_level"].nan_to_num(torch.inf).amin(0)
    _, decoder = operator.matrices
    least = operator.image - operator.image @ torch.linalg.pinv(decoder).T @ decoder.T
    assert (ours >= least.square().mean(1).sqrt() * (1 - 1e-9)).all()
    assert (ours <= 1.01 * other + 1e-12).all()


def test_an_exact_picture_is_inverted_whatever_is_minimized():
    operator = inversion(noise=0.0)
    for iterator in (DEVIATION, RESIDUAL):
        solution = solve(operator, operator.start, iterator, rtol=1e-9)
        assert solution.success
        assert float(operator.evaluate(solution.z)[1]["deviation_level"].max()) < 1e-7
        assert int(solution.evaluations.max()) <= LATENT + 3
    slow = solve(operator, operator.start, ForwardStep(step_size=0.9), rtol=1e-9)
    assert int(slow.evaluations.min()) > 2 * LATENT


def test_the_gram_matrix_is_that_of_what_is_minimized():
    operator = inversion(bend=0.1)
    *_, last = states(dataclasses.replace(DEVIATION, memory=3), operator, operator.start, 6)
    differences = torch.stack(last.merit_differences, 1)
    assert differences.shape == (3, 3, PIXELS)
    torch.testing.assert_close(last.gram, differences @ differences.transpose(1, 2))
    torch.testing.assert_close(
        last.right_hand_side, (differences * last.anchor_merit.unsqueeze(1)).sum(2)
    )
    torch.testing.assert_close(last.anchor_norm, last.anchor_merit.norm(dim=1))


def test_numbers_can_be_minimized_too():
    operator = inversion()
    run = list(
        states(dataclasses.replace(DEVIATION, minimize="misfit"), operator, operator.start, 3)
    )
    assert run[-1].anchor_merit.shape == (3,)
    assert not torch.allclose(
        run[-1].point, list(states(DEVIATION, operator, operator.start, 3))[-1].point
    )


def test_what_is_not_measured_cannot_be_minimized():
    operator = inversion()
    iterator = Anderson(minimize="curvature")
    with pytest.raises(
        ValueError, match=r"'curvature'.*\['deviation', 'deviation_level', 'misfit'\]"
    ):
        solve(operator, operator.start, iterator)
    with pytest.raises(ValueError, match=r"'deviation'.*measures nothing"):
        solve(as_operator(torch.sin), torch.ones(1, 2), DEVIATION)


# The safeguard acts on what is minimized


class Curved(Operator):
    """T z = z + sin(4 z) / 3, with a picture of its own that is no function of T."""

    def __call__(self, z):
        return z + torch.sin(4 * z) / 3

    def evaluate(self, z):
        picture = torch.cat((z + torch.cos(3 * z) / 2, z.square() / 2), 1)
        return self(z), {"picture": picture, "size": picture.norm(dim=1)}

    def select(self, rows):
        return self


def test_an_accelerated_point_is_refused_exactly_where_what_is_minimized_does_not_fall():
    z0 = torch.linspace(0.5, 3, 24, dtype=torch.float64).reshape(8, 3)
    operator = Curved()
    iterator = Anderson(memory=2, mixing=0.3, minimize="picture", largest_rise=1.0)
    run = list(states(iterator, operator, z0, steps=12))
    disagree = 0
    for now, then in itertools.pairwise(run):
        size = operator.evaluate(then.point)[1]["size"]
        lowered = size <= now.anchor_norm * (1 - 1e-3)
        stands = lowered | (size <= now.least_norm)
        residual_lowered = then.residual.norm(dim=1) < now.anchor_residual.norm(dim=1)
        refused = then.rejected_residual > now.rejected_residual
        assert torch.equal(refused, ~then.accepted)
        assert not bool((refused & lowered).any())
        forward = now.anchor - now.lengths.mixing.unsqueeze(1) * now.anchor_residual
        stepped_forward = torch.isclose(then.point, forward, rtol=0, atol=1e-12).all(1)
        assert bool((then.accepted <= (stands | stepped_forward)).all())
        assert bool((then.accepted >= lowered).all())
        torch.testing.assert_close(
            then.anchor_norm, torch.where(then.accepted, size, now.anchor_norm)
        )
        disagree += int((~stepped_forward & (lowered != residual_lowered)).sum())
    assert int(run[-1].rejected_residual.sum()) > 0
    assert disagree > 0  # the residual would have decided otherwise


def test_a_refused_point_is_followed_by_the_forward_step_from_the_anchor():
    z0 = torch.linspace(0.5, 3, 24, dtype=torch.float64).reshape(8, 3)
    iterator = Anderson(memory=2, mixing=0.3, minimize="picture", largest_rise=1.0)
    followed = 0
    for now, then in itertools.pairwise(states(iterator, Curved(), z0, 12)):
        forward = now.anchor - now.lengths.mixing.unsqueeze(1) * now.anchor_residual
        rows = ~now.accepted & (now.trials.wait > 0)
        assert torch.equal(then.point[rows], forward[rows])
        assert bool((then.accepted | (then.lengths.mixing < now.lengths.mixing))[rows].all())
        followed += int(rows.sum())
    assert followed > 0


# Rows


class Spoiled(Operator):
    """Another operator whose "deviation" (and not T) is NaN in chosen rows, from a call on."""

    def __init__(self, operator, bad, since, calls=0):
        self.operator, self.bad, self.since, self.calls = operator, bad, since, calls

    def __call__(self, z):
        return self.evaluate(z)[0]

    def evaluate(self, z):
        self.calls += 1
        value, measured = self.operator.evaluate(z)
        if self.calls >= self.since:
            deviation = torch.where(self.bad.unsqueeze(1), torch.nan, measured["deviation"])
            measured = measured | {"deviation": deviation}
        return value, measured

    def select(self, rows):
        return Spoiled(self.operator.select(rows), self.bad[rows], self.since, self.calls)


@pytest.mark.parametrize("since", [1, 3, 6])
@pytest.mark.parametrize("bend", [0.0, 0.1])
def test_nan_in_what_is_minimized_leaves_the_neighbours_unharmed(since, bend):
    operator = inversion(rows=4, bend=bend)
    bad = torch.tensor([False, True, False, True])
    options = {"rtol": 1e-8, "max_iterations": 20}
    healthy = solve(operator, operator.start, DEVIATION, **options)
    mixed = solve(Spoiled(operator, bad, since), operator.start, DEVIATION, **options)
    for row in (0, 2):
        assert torch.equal(mixed.z[row], healthy.z[row])
        assert mixed.status[row] is healthy.status[row]
        assert int(mixed.evaluations[row]) == int(healthy.evaluations[row])
        for name, counts in mixed.statistics.items():
            assert torch.equal(counts[row], healthy.statistics[name][row])
    assert int(mixed.statistics["rejected_nonfinite"][bad].min()) > 0
    assert bool(mixed.z.isfinite().all())


@pytest.mark.parametrize("bend", [0.0, 0.1])
def test_rows_that_leave_at_different_times_are_solved_as_they_would_be_alone(bend):
    operator = inversion(rows=5, noise=0.0, bend=bend)
    iterator = dataclasses.replace(DEVIATION, memory=2)
    options = {"rtol": 1e-5, "max_iterations": 60, "keep": "deviation_level"}
    together = solve(operator, operator.start, iterator, **options)
    assert together.success
    assert len(set(together.evaluations.tolist())) > 1
    for row in range(5):
        rows = torch.tensor([row])
        alone = solve(operator.select(rows), operator.start[rows], iterator, **options)
        assert torch.equal(alone.z[0], together.z[row])
        assert alone.status[0] is together.status[row]
        assert alone.evaluations[0] == together.evaluations[row]
        for name, counts in together.statistics.items():
            assert alone.statistics[name][0] == counts[row]


@pytest.mark.parametrize("steps", [0, 1, 4, 9])
def test_selecting_rows_before_a_step_or_after_it_is_the_same(steps):
    operator = inversion(rows=4, bend=0.1)
    rows = torch.tensor([3, 0])
    *_, state = states(dataclasses.replace(DEVIATION, memory=3), operator, operator.start, steps)
    first = DEVIATION.step(operator.select(rows), state.select(rows))
    second = DEVIATION.step(operator, state).select(rows)
    assert first_difference(first, second) is None


@pytest.mark.parametrize("check_every", [1, 4])
def test_a_run_is_the_same_with_monitors_and_without(check_every):
    operator = inversion(rows=4, bend=0.1, noise=0.0)
    options = {
        "rtol": 1e-5,
        "max_iterations": 30,
        "keep": "deviation_level",
        "check_every": check_every,
    }
    plain = solve(operator, operator.start, DEVIATION, **options)
    seen = []
    watched = solve(
        operator,
        operator.start,
        DEVIATION,
        monitors=(Convergence(), Cocoercivity()),
        callback=lambda iterate: seen.append(iterate.measured["deviation"].shape),
        **options,
    )
    assert torch.equal(plain.z, watched.z)
    assert plain.status == watched.status
    assert torch.equal(plain.evaluations, watched.evaluations)
    assert set(plain.history.measured) == set(watched.history.measured)
    for name, values in plain.history.measured.items():
        torch.testing.assert_close(
            values, watched.history.measured[name], rtol=0, atol=0, equal_nan=True
        )
    for name, counts in plain.statistics.items():
        assert torch.equal(counts, watched.statistics[name])
    assert len(watched.monitors) == 2
    assert {shape[1] for shape in seen} == {PIXELS}


@pytest.mark.parametrize("latents", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("pictures", [torch.float16, torch.float32, torch.float64])
def test_latents_and_pictures_may_have_different_dtypes(latents, pictures):
    operator = inversion(noise=0.0, dtype=pictures)
    decode = operator.decode
    operator.decode = lambda z: decode(z.double()).to(pictures)
    z0 = operator.start.to(latents)
    solution = solve(operator, z0, DEVIATION, rtol=1e-4, max_iterations=20, keep="deviation_level")
    assert solution.z.dtype == latents
    assert bool(solution.z.isfinite().all())
    level = solution.history.measured["deviation_level"]
    assert (level.nan_to_num(torch.inf).amin(0) < 0.05 * level[0]).all()


# Steps that are too long


@pytest.mark.parametrize("slope", [2.1, 3.0, 10.0])
def test_a_forward_step_that_is_too_long_shrinks_until_it_converges(slope):
    operator = as_operator(lambda z: slope * (z - 2))
    z0 = torch.zeros(2, 3, dtype=torch.float64)
    forward = Anderson(largest_weight=1e-9)  # no acceleration: what the fallback does alone
    solution = solve(operator, z0, forward)
    assert set(solution.status) == {Status.CONVERGED}
    # A few times, after which the ratio that is seen keeps the steps below twice it.
    assert 1 <= int(solution.statistics["shortened"].max()) <= 3
    kept = solve(operator, z0, dataclasses.replace(forward, shrink=1.0))
    assert set(kept.status) == {Status.DIVERGED}


@pytest.mark.parametrize(("top", "memory"), [(10.0, 1), (10.0, 3), (6.0, 2)])
def test_acceleration_needs_steps_that_are_not_too_long(top, memory):
    zero = torch.randn(3, 8, dtype=torch.float64)
    operator = synthetic.dense(torch.linspace(0.1, top, 8), zero, seed=8)
    iterator = Anderson(memory=memory)
    options = {"rtol": 1e-8, "max_iterations": 200}
    shrinking = solve(operator, torch.zeros_like(zero), iterator, **options)
    kept = solve(
        operator, torch.zeros_like(zero), dataclasses.replace(iterator, shrink=1.0), **options
    )
    assert int(shrinking.statistics["shortened"].min()) > 0
    assert int(shrinking.statistics["shortened"].max()) <= 8
    best = shrinking.history.residual_norm.nan_to_num(torch.inf).amin(0)
    assert (best < 1e-3 * shrinking.history.residual_norm[0]).all()
    assert (
        float(shrinking.evaluations.double().mean()) < 0.8 * float(kept.evaluations.double().mean())
        or Status.DIVERGED in kept.status
    )


def test_only_the_row_whose_step_was_too_long_shrinks_its_own():
    slope = torch.tensor([[1.0], [3.0], [9.0]], dtype=torch.float64)
    operator = as_operator(lambda z, a: a * z, slope)
    z0 = torch.ones(3, 2, dtype=torch.float64)
    run = list(states(Anderson(largest_weight=1e-9, shrink=0.25), operator, z0, 4))
    # Grown back to 1.8 times the ratio that was seen, 1 / slope.
    torch.testing.assert_close(run[-1].lengths.mixing, torch.tensor([1.0, 0.6, 0.2]).double())
    assert run[-1].shortened.tolist() == [0, 1, 2]
    # A step that more than doubles the residual is taken back, and the next one is shorter.
    assert [float(state.z[2, 0]) for state in run[:3]] == [1.0, 1.0, 1.0 - 9 * 0.25]


def test_a_step_into_nan_shrinks_too():
    wall = as_operator(lambda z: torch.where(z < 0.3, torch.nan, z))
    z0 = torch.ones(1, 1, dtype=torch.float64)
    run = list(states(Anderson(), wall, z0, 3))
    assert run[1].lengths.mixing.tolist() == [0.5]
    assert bool(run[2].accepted)
    kept = list(states(Anderson(shrink=1.0), wall, z0, 3))
    assert not any(bool(state.accepted) for state in kept[1:])  # it runs into the same wall


@given(data=st.data())
@drawn
def test_below_two_beta_no_step_of_a_cocoercive_operator_is_too_long(data):
    operator = data.draw(operators(smallest=1e-2))
    iterator = data.draw(iterators(operator.beta, methods=(Anderson,)))
    z0 = data.draw(starting_points(operator))
    solution = solve(operator, z0, iterator, rtol=1e-7, max_iterations=60)
    assert torch.count_nonzero(solution.statistics["shortened"]) == 0
    kept = solve(
        operator, z0, dataclasses.replace(iterator, shrink=1.0), rtol=1e-7, max_iterations=60
    )
    assert torch.equal(solution.z, kept.z)


@pytest.mark.parametrize("shrink", [0.0, -0.5, 1.5, math.nan])
def test_a_factor_that_does_not_shrink_is_refused(shrink):
    with pytest.raises(ValueError, match=rf"shrink must lie in \(0, 1\], got {shrink}"):
        Anderson(shrink=shrink)


class WithResidual(Operator):
    """Another operator that measures T z, too: beta only shrinks where that is minimized."""

    def __init__(self, operator):
        self.operator = operator

    def __call__(self, z):
        return self.operator(z)

    def evaluate(self, z):
        value = self(z)
        return value, {"residual_itself": value}

    def select(self, rows):
        return WithResidual(self.operator.select(rows))


def test_the_factor_changes_the_iterates_where_a_step_was_too_long():
    _, zero, z0 = problem()
    operator = synthetic.dense(torch.linspace(0.1, 3, 8), zero, seed=8)
    *_, half = states(Anderson(minimize="residual_itself"), WithResidual(operator), z0, 5)
    *_, quarter = states(
        Anderson(minimize="residual_itself", shrink=0.25), WithResidual(operator), z0, 5
    )
    assert int(half.shortened.sum()) > 0
    assert not torch.allclose(half.z, quarter.z)
