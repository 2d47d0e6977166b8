import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ITERATORS, Counting, NaNRows, problem

from fixpoint import (
    Anderson,
    ForwardStep,
    SolveError,
    Status,
    as_operator,
    fixed_point_of,
    solve,
    synthetic,
)
from fixpoint.loop.residual import Residual
from fixpoint.monitors import Cocoercivity, Convergence, ForwardStepTheorem, Monitor
from fixpoint.operator import Operator
from fixpoint.stop import Divergence, NoiseFloor, Stagnation

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


# What comes back


@pytest.mark.parametrize("name", ITERATORS)
def test_the_residual_of_the_returned_point_decides(name):
    operator, _, z0 = problem()
    for limit in (0, 1, 7, 1000):
        solution = solve(operator, z0, ITERATORS[name], rtol=1e-6, max_iterations=limit)
        norms = operator(solution.z).norm(dim=1)
        torch.testing.assert_close(solution.residual_norm, norms, rtol=1e-12, atol=1e-15)
        for row, status in enumerate(solution.status):
            within = norms[row] <= 1e-8 + 1e-6 * solution.z[row].norm()
            assert (status is Status.CONVERGED) == bool(within)


def test_reaching_the_limit_is_not_success():
    operator, _, z0 = problem()
    solution = solve(operator, z0, ForwardStep(), max_iterations=3)
    assert set(solution.status) == {Status.MAX_ITERATIONS}
    assert not solution.success
    assert solution.iterations.tolist() == [3] * 5
    assert solution.evaluations.tolist() == [4] * 5
    assert "MAX_ITERATIONS" in str(solution)


def test_a_tiny_damped_step_does_not_pass_for_convergence():
    operator, _, z0 = problem()
    solution = solve(operator, z0, ForwardStep(step_size=1e-12), max_iterations=5)
    assert set(solution.status) == {Status.MAX_ITERATIONS}


def test_the_best_point_is_kept_unless_the_last_is_asked_for():
    for keep, residual, z in (("best", 1.0, -3.0), ("last", 2.0, -4.0)):
        norms = iter([3.0, 1.0, 2.0])
        operator = as_operator(lambda z, norms=norms: torch.full_like(z, next(norms)))
        solution = solve(operator, torch.zeros(1, 1), ForwardStep(), max_iterations=2, keep=keep)
        assert (float(solution.residual_norm), float(solution.z)) == (residual, z)


def test_a_solution_at_the_start_costs_one_evaluation():
    operator, zero, _ = problem()
    solution = solve(operator, zero, ForwardStep())
    assert solution.iterations.tolist() == [0] * 5
    assert solution.evaluations.tolist() == [1] * 5


def test_the_history_holds_every_residual_and_nan_after_a_row_has_left():
    operator, zero, z0 = problem()
    z0[2] = zero[2]
    seen = {}
    solution = solve(
        operator,
        z0,
        ForwardStep(step_size=0.9),
        callback=lambda iterate: seen.update({iterate.iteration: iterate}),
    )
    history = solution.history.residual_norm
    assert history.shape == (int(solution.iterations.max()) + 1, 5)
    assert bool(history[1:, 2].isnan().all())
    for iteration, iterate in seen.items():
        assert torch.equal(history[iteration, iterate.rows], iterate.residual_norm)


def test_what_the_operator_measures_reaches_history_and_callback():
    class Measuring(Operator):
        def __call__(self, z):
            return z

        def evaluate(self, z):
            return z, {"size": z.abs().amax(1)}

        def select(self, rows):
            return self

    z0 = torch.tensor([[4.0, 1.0], [2.0, 8.0]])
    solution = solve(Measuring(), z0, ForwardStep(step_size=0.5), max_iterations=2)
    assert solution.history.measured["size"].tolist() == [[4, 8], [2, 4], [1, 2]]


def test_an_empty_batch_is_solved_without_an_evaluation():
    solution = solve(
        as_operator(lambda z: pytest.fail("evaluated")), torch.zeros(0, 3), ForwardStep()
    )
    assert solution.z.shape == (0, 3)
    assert solution.success
    assert str(solution) == "no rows"


@pytest.mark.parametrize("name", ITERATORS)
def test_rows_may_be_single_numbers(name):
    target = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    operator = as_operator(lambda z, b: 0.9 * (z - b), target)
    monitors = (
        Trace(),
        Convergence(),
        Cocoercivity(zero=target),
        ForwardStepTheorem(step_size=1.0),
    )
    solution = solve(
        operator, torch.zeros(3, dtype=torch.float64), ITERATORS[name], rtol=1e-3, monitors=monitors
    )
    assert solution.success
    torch.testing.assert_close(solution.z, target, rtol=1e-2, atol=1e-2)


def test_throw_raises_and_carries_the_solution():
    operator, _, z0 = problem()
    with pytest.raises(SolveError, match="MAX_ITERATIONS") as caught:
        solve(operator, z0, ForwardStep(), max_iterations=2, throw=True)
    assert caught.value.solution.iterations.tolist() == [2] * 5


def test_progress_is_shown_on_request(capsys):
    operator, _, z0 = problem()
    solve(operator, z0, Anderson(), progress=True)
    assert "Anderson" in capsys.readouterr().err
    solve(operator, z0, Anderson())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ITERATORS)
def test_dtypes_are_kept(name, dtype):
    operator, _, z0 = problem(dtype=dtype)
    solution = solve(operator, z0, ITERATORS[name], max_iterations=4)
    assert solution.z.dtype == dtype
    assert solution.residual_norm.dtype == (
        torch.float64 if dtype == torch.float64 else torch.float32
    )


def test_no_graph_is_kept():
    weight = torch.ones(1, requires_grad=True)
    solution = solve(as_operator(lambda z: weight * z), torch.ones(1, 2), ForwardStep())
    assert not solution.z.requires_grad


# Statuses and stop rules


def test_an_operator_without_zero_stalls():
    operator = as_operator(lambda z: z + torch.sign(z + 0.1))
    z0 = torch.tensor([[1.0]])
    solution = solve(operator, z0, ForwardStep(step_size=0.3), stop=(Stagnation(window=8),))
    assert solution.status == (Status.STALLED,)
    assert int(solution.iterations) < 1000


def test_stagnation_counts_from_the_last_improvement():
    norms = iter([8.0, 4.0, 3.99, 3.98, 2.0, 2.1, 1.99, 1.985, 1.0])
    operator = as_operator(lambda z: torch.full_like(z, next(norms)))
    solution = solve(
        operator,
        torch.zeros(1, 1),
        ForwardStep(),
        stop=(Stagnation(window=3, improvement=0.01),),
        max_iterations=8,
    )
    assert solution.status == (Status.STALLED,)
    assert int(solution.iterations) == 7
    assert float(solution.residual_norm) == pytest.approx(1.985)


def test_a_diverging_row_is_told_from_its_neighbours():
    slope = torch.tensor([[1.0], [2.5]], dtype=torch.float64)
    operator = as_operator(lambda z, a: a * z, slope)
    z0 = torch.ones(2, 3, dtype=torch.float64)
    solution = solve(operator, z0, ForwardStep())
    assert solution.status == (Status.CONVERGED, Status.DIVERGED)
    assert torch.equal(solution.z[1], z0[1])  # its best point is the first


def test_an_infinite_point_is_never_convergence():
    constant = as_operator(lambda z: torch.full_like(z, -1000.0))
    solution = solve(constant, torch.zeros(1, 2, dtype=torch.float16), ForwardStep())
    assert solution.status == (Status.NONFINITE,)
    assert bool(solution.z.isfinite().all())


def test_a_quarter_rotation_diverges_at_its_known_rate():
    operator = synthetic.rotation(math.pi / 2)
    operator.cocoercivity = None
    solution = solve(operator, torch.ones(1, 2, dtype=torch.float64), ForwardStep(step_size=0.5))
    growth = solution.history.residual_norm[1:] / solution.history.residual_norm[:-1]
    torch.testing.assert_close(growth, torch.full_like(growth, math.sqrt(1.25)))
    assert solution.status == (Status.DIVERGED,)


class Misfit(Operator):
    """T z = z with a misfit to data that falls to 0.5 at z = 0."""

    def __init__(self, level=None):
        self.level = level

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"misfit": 0.5 + z.abs().amax(1)}

    def select(self, rows):
        return self


def test_the_noise_floor_ends_a_row_and_returns_that_point():
    level = torch.tensor([1.0, 0.6])
    z0 = torch.full((2, 3), 4.0)
    solution = solve(Misfit(), z0, ForwardStep(step_size=0.5), stop=(NoiseFloor(level=level),))
    assert solution.status == (Status.NOISE_FLOOR, Status.NOISE_FLOOR)
    assert solution.success
    assert solution.iterations.tolist() == [3, 6]
    assert solution.z[:, 0].tolist() == [0.5, 0.0625]


def test_the_noise_floor_needs_something_to_watch():
    with pytest.raises(ValueError, match=r"'misfit'.*measures nothing"):
        solve(
            as_operator(lambda z: z), torch.ones(1, 1), ForwardStep(), stop=(NoiseFloor(level=1.0),)
        )
    rule = NoiseFloor(level=torch.ones(3))
    with pytest.raises(ValueError, match="one per row"):
        solve(Misfit(), torch.ones(2, 1), ForwardStep(), stop=(rule,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Residual(rtol=-1.0, atol=0.0), "got -1.0"),
        (lambda: Divergence(factor=0.5), "0.5"),
        (lambda: Stagnation(window=0), "0"),
        (lambda: Stagnation(improvement=1.0), "1.0"),
    ],
)
def test_stop_rules_check_their_options(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_statuses_carry_their_messages():
    assert Status.CONVERGED.message.startswith("the residual")
    assert [status.success for status in Status] == [True, True, *[False] * 4, True, False]
    assert all(Status.from_code(status.code) is status for status in Status)


# Monitors


class Trace(Monitor):
    """Counts the iterates of every row and adds up their residuals."""

    def start(self, iterate):
        return {"count": torch.ones_like(iterate.rows), "sum": iterate.residual_norm}

    def watch(self, iterate, memory):
        return {
            "count": memory["count"] + 1,
            "sum": memory["sum"] + iterate.residual_norm,
        }


@pytest.mark.parametrize("check_every", [1, 6])
def test_monitors_see_every_iterate_of_every_row(check_every):
    operator, _, z0 = problem()
    solution = solve(
        operator, z0, ForwardStep(step_size=0.8), monitors=(Trace(),), check_every=check_every
    )
    (trace,) = solution.monitors
    assert torch.equal(trace["count"], solution.iterations + 1)
    torch.testing.assert_close(trace["sum"], solution.history.residual_norm.nansum(0))


def test_monitors_do_not_steer():
    operator, _, z0 = problem()
    watched = solve(operator, z0, Anderson(), monitors=(Trace(),))
    alone = solve(operator, z0, Anderson())
    assert torch.equal(watched.z, alone.z)


# At the door


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"operator": lambda z: z}, TypeError, "as_operator"),
        ({"iterator": ForwardStep}, TypeError, r"ForwardStep\(\)"),
        ({"z0": [[1.0]]}, TypeError, "list"),
        ({"z0": torch.ones(1, 2, dtype=torch.long)}, TypeError, "int64"),
        ({"z0": torch.tensor(3.0)}, ValueError, "batch first"),
        ({"z0": torch.tensor([[1.0], [math.nan]])}, ValueError, r"rows \[1\]"),
        ({"rtol": -1.0}, ValueError, "rtol"),
        ({"max_iterations": -1}, ValueError, "-1"),
        ({"max_iterations": 2.5}, ValueError, "2.5"),
        ({"keep": None}, TypeError, "None"),
        ({"check_every": 0}, ValueError, "check_every"),
        ({"stop": (Stagnation,)}, TypeError, "StopRule"),
        ({"monitors": (Stagnation(),)}, TypeError, "Monitor"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_evaluated(change, error, words):
    arguments = {
        "operator": as_operator(lambda z: pytest.fail("evaluated")),
        "z0": torch.ones(1, 1),
        "iterator": ForwardStep(),
    } | change
    with pytest.raises(error, match=words):
        solve(**arguments)


def test_only_what_is_measured_can_be_kept():
    with pytest.raises(ValueError, match=r"keep must be .*'misfit'.*got 'first'"):
        solve(Measuring(), torch.ones(1, 1), ForwardStep(), keep="first")
    with pytest.raises(ValueError, match="picture"):  # no number
        solve(Measuring(), torch.ones(1, 1), ForwardStep(), keep="picture")


def test_the_point_of_the_least_measured_number_can_be_kept():
    # z goes 1, 0.5, 0.25, ...: the misfit |z - 0.3| is least at 0.25, the residual at the end.
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 6}
    kept = solve(
        Measuring(), torch.ones(2, 1), ForwardStep(step_size=0.5), keep="misfit", **options
    )
    assert kept.z.tolist() == [[0.25], [0.25]]
    assert kept.residual_norm.tolist() == [0.25, 0.25]
    assert set(kept.history.measured) == {"misfit"}  # numbers only
    best = solve(Measuring(), torch.ones(2, 1), ForwardStep(step_size=0.5), **options)
    assert best.z.tolist() == [[0.5**6]] * 2


@pytest.mark.parametrize("check_every", [1, 4])
def test_every_row_keeps_the_point_of_its_own_least_number(check_every):
    # z goes z0, z0/2, ...: rows reach 0.3 at different times, and the last one is converged at z0.
    z0 = torch.tensor([[1.0], [0.5], [3.2], [0.0]])
    solution = solve(
        Measuring(),
        z0,
        ForwardStep(step_size=0.5),
        keep="misfit",
        rtol=0.0,
        atol=0.0,
        max_iterations=6,
        check_every=check_every,
    )
    assert solution.z.flatten().tolist() == pytest.approx([0.25, 0.25, 0.4, 0.0])
    assert torch.equal(solution.residual_norm, solution.z.abs().flatten())
    assert solution.status[3] is Status.CONVERGED
    misfit = solution.history.measured["misfit"].nan_to_num(torch.inf)
    torch.testing.assert_close((solution.z[:, 0] - 0.3).abs(), misfit.amin(0))


def test_a_row_that_converges_returns_that_point_whatever_it_should_keep():
    solution = solve(
        Measuring(), torch.ones(1, 1), ForwardStep(step_size=0.5), keep="misfit", atol=0.1, rtol=0.0
    )
    assert solution.status == (Status.CONVERGED,)
    assert solution.z.tolist() == [[0.0625]]


class MeasuringOnce(Operator):
    """T z = z; "misfit" is given by the calls, one number for all rows."""

    def __init__(self, misfits):
        self.misfits = iter(misfits)

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"misfit": torch.full_like(z[:, 0], next(self.misfits))}

    def select(self, rows):
        return self


@pytest.mark.parametrize(
    ("misfits", "kept"),
    [
        ([3.0, 1.0, math.nan, 2.0], 0.5),
        ([3.0, math.nan, math.nan, 2.0], 0.125),
        ([math.inf, 2.0, 2.0, 2.0], 0.5),
        ([math.nan, 2.0, 1.0, 3.0], 0.25),
    ],
    ids=["NaN later", "NaN before the least", "infinite first", "NaN first"],
)
def test_a_number_that_is_nan_is_never_the_least(misfits, kept):
    solution = solve(
        MeasuringOnce(misfits),
        torch.ones(1, 1),
        ForwardStep(step_size=0.5),
        keep="misfit",
        rtol=0.0,
        atol=0.0,
        max_iterations=3,
    )
    assert solution.z.tolist() == [[kept]]


@pytest.mark.parametrize("name", ITERATORS)
def test_what_is_kept_does_not_steer(name):
    class Norms(Operator):
        def __init__(self, operator):
            self.operator = operator

        def __call__(self, z):
            return self.evaluate(z)[0]

        def evaluate(self, z):
            value = self.operator(z)
            return value, {"norm": value.norm(dim=1), "minus": -value.norm(dim=1)}

        def select(self, rows):
            return Norms(self.operator.select(rows))

    operator, _, z0 = problem()
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 8}
    best = solve(Norms(operator), z0, ITERATORS[name], keep="best", **options)
    least = solve(Norms(operator), z0, ITERATORS[name], keep="norm", **options)
    worst = solve(Norms(operator), z0, ITERATORS[name], keep="minus", **options)
    torch.testing.assert_close(
        best.history.residual_norm, worst.history.residual_norm, rtol=0, atol=0
    )
    assert torch.equal(best.evaluations, worst.evaluations)
    assert torch.equal(best.z, least.z)
    assert (worst.residual_norm > best.residual_norm).all()


def test_stagnation_can_watch_a_measured_number():
    # |z - 0.3| goes 0.7, 0.2, 0.05, 0.175, ...: it is least at the second step.
    rule = Stagnation(window=2, improvement=0.1, quantity="misfit")
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 20}
    start, halving = torch.ones(1, 1), ForwardStep(step_size=0.5)
    watched = solve(Measuring(), start, halving, stop=(rule,), **options)
    assert watched.status == (Status.STALLED,)
    assert watched.iterations.tolist() == [4]
    # The residual itself never stagnates.
    by_residual = Stagnation(window=2, improvement=0.1)
    assert solve(Measuring(), start, halving, stop=(by_residual,), **options).iterations == 20


def test_stagnation_of_what_is_not_measured_is_refused():
    with pytest.raises(ValueError, match=r"Stagnation watches 'level'.*\['misfit'\]"):
        solve(Measuring(), torch.ones(1, 1), ForwardStep(), stop=(Stagnation(quantity="level"),))


class Measuring(Operator):
    """T z = z, which also measures |z - 0.3| and a picture."""

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"misfit": (z[:, 0] - 0.3).abs(), "picture": z.expand(-1, 4)}

    def select(self, rows):
        return self


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="tolerance"):
        solve(as_operator(lambda z: z), torch.ones(1, 1), ForwardStep(), tolerance=1.0)


@pytest.mark.parametrize(
    "function", [lambda z: z[:, :1], lambda z: z.double(), lambda z: z.sum(1, keepdim=True)]
)
def test_an_operator_that_returns_another_shape_or_dtype_is_refused(function):
    with pytest.raises(ValueError, match="shape, dtype and device"):
        solve(as_operator(function), torch.ones(2, 3), ForwardStep())


def test_a_fixed_point_is_a_zero_of_the_residual():
    solution = solve(
        fixed_point_of(torch.cos),
        torch.zeros(1, 1, dtype=torch.float64),
        Anderson(),
        rtol=1e-12,
        atol=0.0,
    )
    assert float(solution.z) == pytest.approx(0.7390851332151607, abs=1e-11)
