"""When a residual counts as zero, when it does not, and what refused trials have to do with it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ITERATORS, problem

from fixpoint import (
    Anderson,
    Broyden,
    ForwardStep,
    NewtonKrylov,
    Operator,
    Status,
    as_operator,
    fixed_point_of,
    solve,
)
from fixpoint.loop.residual import limit
from fixpoint.proximal import Box
from fixpoint.splittings import DouglasRachford
from fixpoint.stop import Divergence

few = settings(max_examples=4, deadline=None, derandomize=True, database=None)
METHODS = ITERATORS | {"default": None}
SCALED = {  # with a forward step of the given size
    "forward step": lambda step: ForwardStep(step_size=step),
    "adaptive forward step": lambda step: ForwardStep.adaptive(first_step=step),
    "Anderson": lambda step: Anderson(mixing=step),
    "Broyden": lambda step: Broyden(mixing=step),
    "Newton-Krylov": lambda step: NewtonKrylov(mixing=step),
}
SAFEGUARDED = {
    "adaptive forward step": ForwardStep.adaptive(),
    "Anderson": Anderson(),
    "Broyden": Broyden(),
    "Newton-Krylov": NewtonKrylov(),
    "default": None,
}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1)


# Success does not depend on the units


def bent(z, b):
    """Monotone and Lipschitz, with the zero b."""
    return torch.linspace(0.1, 1, 8, dtype=z.dtype) * (z - b) + 0.3 * torch.sin(z - b)


def scaled(make, scale=1.0, shift=0.0):
    _, zero, z0 = problem()
    operator = as_operator(lambda z, b: scale * bent(z, b), zero + shift)
    return solve(operator, z0 + shift, make(0.5 / scale), rtol=1e-3)


@pytest.mark.parametrize("name", SCALED)
@given(power=st.integers(-40, 40))
@few
def test_a_power_of_two_times_the_operator_is_solved_bit_for_bit_alike(name, power):
    plain, other = scaled(SCALED[name]), scaled(SCALED[name], 2.0**power)
    assert other.status == plain.status
    assert torch.equal(other.evaluations, plain.evaluations)
    assert torch.equal(other.z, plain.z)
    assert torch.equal(other.residual_norm, 2.0**power * plain.residual_norm)


@pytest.mark.parametrize("name", SCALED)
@given(exponent=st.floats(-6, 6))
@few
def test_a_multiple_of_the_operator_is_solved_at_the_same_cost(name, exponent):
    plain, other = scaled(SCALED[name]), scaled(SCALED[name], 10.0**exponent)
    assert plain.success
    assert other.status == plain.status
    assert (other.evaluations - plain.evaluations).abs().max() <= 2


@pytest.mark.parametrize("name", SCALED)
@given(shift=st.floats(-1e4, 1e4))
@few
def test_a_shift_of_the_zero_and_the_start_changes_no_status(name, shift):
    plain, other = scaled(SCALED[name]), scaled(SCALED[name], shift=shift)
    assert other.status == plain.status
    assert (other.evaluations - plain.evaluations).abs().max() <= 2
    assert (other.z - shift - plain.z).abs().max() <= 1e-2


def test_the_default_is_as_good_far_from_the_origin():
    plain = scaled(lambda _: None)
    for shift in (-1e6, 1e3, 1e8):
        other = scaled(lambda _: None, shift=shift)
        assert other.success
        assert (other.evaluations <= plain.evaluations + 5).all()


@pytest.mark.parametrize("name", [name for name in METHODS if name != "Adam"])
@pytest.mark.parametrize("kind", ["shift", "contraction"])
def test_numbers_of_any_size_in_32_bits_are_solved_like_those_near_one(name, kind):
    exponents = (0, -30, -20, -10, 10, 20, 30)
    rows = torch.tensor([0.7, -1.3, 0.4, 2.1]).repeat(len(exponents), 1)
    size = torch.tensor([10.0**exponent for exponent in exponents]).unsqueeze(1)

    def function(z, size):
        away = z / size - rows[0]
        if kind == "shift":
            return size * away
        return size * (0.6 * away + 0.3 * torch.sin(away))

    solution = solve(as_operator(function, size), torch.zeros_like(rows), METHODS[name], rtol=1e-4)
    assert solution.success
    torch.testing.assert_close(solution.z / size, rows, rtol=1e-3, atol=1e-3)
    # Broyden's products of its own steps leave the range of 32 bits beyond 1e19.
    slack = solution.evaluations[0] + 4 if name == "Broyden" else 3
    assert ((solution.evaluations - solution.evaluations[0]) <= slack).all()


# A start at a solution


@pytest.mark.parametrize("name", METHODS)
def test_an_exact_zero_is_a_success_after_one_evaluation(name):
    operator, zero, _ = problem()
    for scale in (1e-6, 1.0, 1e6):
        moved = as_operator(lambda z, b, c=scale: c * bent(z, b), zero)
        for options in ({}, {"rtol": 0.0}, {"rtol": 1e-12}):
            solution = solve(moved, zero, METHODS[name], **options)
            assert set(solution.status) == {Status.CONVERGED}
            assert solution.evaluations.tolist() == [1] * 5
    assert solve(operator, zero, METHODS[name]).evaluations.tolist() == [1] * 5


def test_a_start_within_the_absolute_tolerance_has_converged_row_by_row():
    operator = as_operator(lambda z: z)
    atol = torch.tensor([0.5, 2.0], dtype=torch.float64)
    solution = solve(operator, double(1.0, 1.0), ForwardStep(step_size=0.5), rtol=0.0, atol=atol)
    # Two more residuals tell the first row where they tend to.
    assert solution.evaluations.tolist() == [3, 1]
    with pytest.raises(ValueError, match="one per row"):
        solve(operator, double(1.0), ForwardStep(), atol=atol)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "Adam"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_solution_up_to_rounding_is_a_success_after_a_few_evaluations(name, dtype, size):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64)).Q
    matrix = ((basis * torch.logspace(0, -3, 30, dtype=torch.float64)) @ basis.T).to(dtype)
    b = (size * torch.randn(4, 30, generator=generator, dtype=torch.float64)).to(dtype)
    z0 = torch.linalg.solve(matrix, b.T).T.contiguous()
    operator = as_operator(lambda z, b: (matrix * z.unsqueeze(1)).sum(2) - b, b)
    solution = solve(operator, z0, METHODS[name])
    assert set(solution.status) <= {Status.ROUNDING, Status.CONVERGED}
    assert solution.evaluations.max() <= 8


def test_a_flat_operator_rounds_to_nothing():
    # The residual is at eps ||z||, but T does not change with z: nothing is lost in rounding.
    z0 = double(1e10)
    tiny = as_operator(lambda z: torch.full_like(z, 1e-8))
    solution = solve(tiny, z0, ForwardStep(), max_iterations=50)
    assert not solution.success


def test_without_any_tolerance_only_a_zero_ends_a_row():
    half = ForwardStep(step_size=0.5)
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 100}
    solution = solve(as_operator(lambda z: z), double(1.0), half, **options)
    assert solution.status == (Status.MAX_ITERATIONS,)
    assert float(solution.residual_norm) == 0.5**100
    exact = solve(as_operator(lambda z: z), double(1.0), ForwardStep(), rtol=0.0, atol=0.0)
    assert exact.status == (Status.CONVERGED,)
    assert exact.evaluations.tolist() == [2]


# No success without a zero

GAPS = (1e-4, 1.0)


class Hopeless(Operator):
    """Rows without a zero in reach, each of its own kind; the first two have one at 0."""

    kinds = (0, 0, 1, 2, 2, 3, 4, 4, 5, 5)
    starts = (12.0, -12.0, 5.0, 5.0, -0.5, 5.0, 2e-4, 3.0, 2.0, 3.0)
    least = (0, 0, 1, 0.5, 0.5, 1, 1e-4, 1e-4, 1, 1)  # of all residuals

    def __init__(self, kind=None):
        self.kind = torch.tensor(self.kinds) if kind is None else kind
        self.splittings = [DouglasRachford(Box(-1.0, 0.0), Box(gap, 2.0), 1.0) for gap in GAPS]

    def __call__(self, z):
        values = [torch.exp(z) - 1, 1 + torch.nn.functional.softplus(z)]
        values += [1 + 0.5 * torch.tanh(z), torch.ones_like(z)]
        values += [splitting(z) for splitting in self.splittings]
        return torch.stack(values)[self.kind, torch.arange(len(z))]

    def select(self, rows):
        return Hopeless(self.kind[rows])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_runaway_row_is_never_a_success(name, dtype):
    z0 = torch.tensor(Hopeless.starts, dtype=dtype).unsqueeze(1)
    first = Hopeless()(z0).abs()[:, 0]
    for rtol in (1e-2, 1e-3, 1e-5, 1e-8):
        solution = solve(Hopeless(), z0, METHODS[name], rtol=rtol, max_iterations=200)
        for row, status in enumerate(solution.status):
            at_zero = row < 2 and abs(float(solution.z[row])) < 1e-2
            # A least residual far below the tolerance asked for is none to be told from zero.
            asked = row >= 2 and Hopeless.least[row] < 0.5 * rtol * first[row]
            assert at_zero or asked or not status.success, (rtol, row, solution.z[row])


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("limit", [50, 200])
def test_the_displacement_of_disjoint_boxes_is_the_gap_between_them(gap, dtype, limit):
    low = Box(torch.tensor([-1.0, -1.0], dtype=dtype), torch.tensor([0.0, 0.0], dtype=dtype))
    vector = torch.tensor([gap, 0.5 * gap], dtype=dtype)
    operator = DouglasRachford(low, Box(vector, 2 + vector), 1.0)
    z0 = torch.tensor([[3.0, 4.0], [-2.0, 0.3]], dtype=dtype)
    solution = solve(operator, z0, ForwardStep(), max_iterations=limit)
    assert set(solution.status) == {Status.NO_ZERO}
    tolerance = 1e-12 if dtype == torch.float64 else 1e-2 if gap < 1 else 1e-5
    expected = vector.expand(2, 2)
    torch.testing.assert_close(solution.displacement, expected, rtol=tolerance, atol=0)


def test_only_rows_without_a_zero_have_a_displacement():
    level = double(0.0, 1.0, 0.0)
    operator = as_operator(lambda z, b: b + (1 - b) * z, level)
    mixed = solve(operator, torch.ones_like(level), ForwardStep(step_size=0.5), max_iterations=60)
    assert mixed.status == (Status.CONVERGED, Status.NO_ZERO, Status.CONVERGED)
    assert mixed.displacement[1].tolist() == [1.0]
    assert mixed.displacement[[0, 2]].isnan().all()
    well = operator.select(torch.tensor([0, 2]))
    assert solve(well, torch.ones(2, 1).double(), ForwardStep()).displacement is None


def test_a_slow_contraction_at_the_limit_may_still_have_a_zero():
    rate = double(0.9, 0.97, 0.99)
    operator = as_operator(lambda z, q: (1 - q) * z, rate)
    solution = solve(operator, torch.ones_like(rate), ForwardStep(), rtol=1e-8, max_iterations=100)
    assert set(solution.status) == {Status.MAX_ITERATIONS}
    assert solution.displacement is None
    longer = solve(operator, torch.ones_like(rate), ForwardStep(), rtol=1e-3)
    assert longer.success


@pytest.mark.parametrize("power", [2, 3])
def test_a_residual_that_falls_like_a_power_of_the_time_does_converge(power):
    operator = as_operator(lambda z: z**power)
    for rtol in (1e-2, 1e-4):
        solution = solve(
            operator, double(1.0, 0.5), ForwardStep(step_size=0.2), rtol=rtol, max_iterations=10000
        )
        assert set(solution.status) == {Status.CONVERGED}


def test_a_fall_from_a_steep_start_to_a_plain_is_not_convergence_but_its_zero_is():
    operator = as_operator(lambda z: torch.exp(z) - 1)
    steep = solve(operator, double(5.0, 6.0), ForwardStep(step_size=0.5), rtol=1e-2)
    assert steep.success
    assert steep.z.abs().max() < 1e-2
    assert (steep.residual_norm < 1e-2).all()


@given(rate=st.floats(0.1, 0.99), level=st.floats(0.1, 10), start=st.floats(0.1, 10))
@few
def test_the_limit_of_a_geometric_sequence_is_told_from_three_terms(rate, level, start):
    terms = [torch.tensor([level + start * rate**k], dtype=torch.float64) for k in range(3)]
    torch.testing.assert_close(limit(*terms), double(level)[0], rtol=1e-9, atol=1e-9)


def test_the_limit_of_what_does_not_fall_is_its_last_term():
    first, second = torch.tensor([1.0, 1.0, math.nan, 4.0, 4.0]), torch.tensor([2.0, 1, 1, 3, 3])
    third = torch.tensor([3.0, 1.0, 0.5, 1.0, 1.9])
    assert limit(first, second, third).tolist() == [3.0, 1.0, 0.5, 1.0, pytest.approx(1.9)]


@pytest.mark.parametrize("rtol", [-0.1, 1.0, math.nan, "small"])
def test_a_relative_tolerance_outside_its_range_is_refused(rtol):
    with pytest.raises(ValueError, match="rtol"):
        solve(as_operator(lambda z: z), double(1.0), ForwardStep(), rtol=rtol)


# Refused trials are no iterates


def watched(operator, z0, iterator, **options):
    seen = []
    return solve(operator, z0, iterator, callback=seen.append, **options), seen


def log_map(n):
    return torch.log(3 / n) / torch.log(3.7477525683 * n / (n - 1)) + 1


HARD = {
    "square root": (as_operator(lambda z: torch.sqrt(z) - 0.1), 2.0, 0.01),
    "fifth root": (as_operator(lambda z: (z - 0.15) ** 0.2 - 0.4), 2.0, 0.16024),
    "log map": (fixed_point_of(log_map), 1.001, 1.3),
    "cubic": (as_operator(lambda z: z**3 + z - 5), 1e5, 1.5159802277),
    "double well": (as_operator(lambda z: z**3 - z), 1e-6, None),
}


@pytest.mark.parametrize("name", SAFEGUARDED)
@pytest.mark.parametrize("case", HARD)
def test_trials_that_go_too_far_do_not_end_a_row(name, case):
    operator, start, zero = HARD[case]
    solution = solve(operator, double(start), SAFEGUARDED[name], rtol=0.0, atol=1e-7)
    assert solution.success
    assert abs(float(operator(solution.z))) <= 1e-7
    if zero is not None:
        assert float(solution.z) == pytest.approx(zero, rel=1e-5)
    assert solve(operator, double(start), SAFEGUARDED[name]).success


@pytest.mark.parametrize("name", SAFEGUARDED)
def test_a_slope_far_too_steep_for_the_step_is_no_divergence(name):
    slope = double(*(10.0**k for k in range(4, 13)))
    operator = as_operator(lambda z, k: k * (z - 1), slope)
    solution = solve(operator, torch.full_like(slope, 2.0), SAFEGUARDED[name])
    assert set(solution.status) <= {Status.CONVERGED, Status.ROUNDING}
    assert (solution.z - 1).abs().max() <= 1e-4
    assert solution.evaluations.max() <= 100


@pytest.mark.parametrize("name", SAFEGUARDED)
def test_the_history_never_shows_a_refused_trial(name):
    refused = 0
    for operator, start, _ in HARD.values():
        solution, seen = watched(operator, double(start), SAFEGUARDED[name])
        history, last = solution.history.residual_norm[:, 0], None
        assert history.isfinite().all()
        for iterate in seen:
            state = iterate.state
            if iterate.accepted is None or bool(iterate.accepted[0]):
                assert torch.equal(state.z, state.point)
                assert torch.equal(history[iterate.iteration], state.residual.abs()[0, 0])
            else:
                refused += 1
                assert torch.equal(state.z, last.z)
                assert history[iterate.iteration] == history[iterate.iteration - 1]
                assert not iterate.evaluated_norm[0].isfinite() or torch.equal(
                    iterate.evaluated_norm[0], state.residual.abs()[0, 0]
                )
            last = state
    assert refused > 0


@pytest.mark.parametrize("name", SAFEGUARDED)
def test_the_point_of_a_trial_is_where_t_was_evaluated(name):
    operator, start, _ = HARD["square root"]
    _, seen = watched(operator, double(start), SAFEGUARDED[name])
    assert any(not bool(iterate.accepted[0]) for iterate in seen)
    for iterate in seen:
        expected = operator(iterate.state.point)
        torch.testing.assert_close(iterate.state.residual, expected, rtol=0, atol=0, equal_nan=True)


def test_a_row_without_another_finite_point_stays_where_it_is():
    operator = as_operator(lambda z: torch.where(z == 1, z, torch.nan))
    for iterator in SAFEGUARDED.values():
        solution = solve(operator, double(1.0), iterator, max_iterations=100)
        assert not solution.success
        assert solution.z.tolist() == [[1.0]]
        assert (solution.history.residual_norm == 1).all()


# Divergence


def test_the_factor_of_divergence_is_adjustable_and_takes_the_place_of_the_default():
    operator = as_operator(lambda z: 3 * z)  # forward steps double the residual
    lengths = {}
    for name, stop in {
        "default": (),
        "early": (Divergence(factor=10.0),),
        "late": (Divergence(factor=1e6),),
    }.items():
        solution = solve(operator, double(1.0), ForwardStep(), stop=stop, max_iterations=50)
        assert solution.status == (Status.DIVERGED,)
        lengths[name] = int(solution.iterations)
    # 3 * 2^k > factor * 3
    assert lengths == {"early": 4, "default": 14, "late": 20}


def test_an_infinite_factor_lets_no_row_end_as_diverged():
    operator, off = as_operator(lambda z: 3 * z), (Divergence(factor=math.inf),)
    solution = solve(operator, double(1.0), ForwardStep(), stop=off, max_iterations=50)
    assert not solution.success
    assert solution.status[0] is not Status.DIVERGED
    assert solution.iterations.tolist() == [50]
    overflow = solve(operator, double(1.0), ForwardStep(), stop=off, max_iterations=2000)
    assert overflow.status == (Status.NONFINITE,)


def test_a_start_next_to_a_zero_of_a_steep_slope_is_no_divergence():
    # The first step raises the residual 1e10-fold; the second iterate tells the scale.
    operator = as_operator(lambda z: torch.where(z == 0, 1e-10 + z, 0.5 * (z - 2)))
    solution = solve(operator, double(0.0), ForwardStep(step_size=1.9))
    assert solution.success
    assert float(solution.history.residual_norm[1]) > 1e4 * 1e-10
    assert float(solution.z) == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [1.0, 0.0, -2.0, math.nan])
def test_a_factor_of_at_most_one_is_refused(factor):
    with pytest.raises(ValueError, match="factor"):
        Divergence(factor=factor)
