"""`solve`: what comes back, what monitors see, and what is refused at the door."""

import math

import pytest
import torch
from measured_operators import Trace
from problems import ITERATORS, problem

from fixpoint import Anderson, ForwardStep, SolveError, Status, as_operator, fixed_point_of, solve
from fixpoint.monitors import Cocoercivity, Convergence, ForwardStepTheorem
from fixpoint.operator import Operator
from fixpoint.stop import Stagnation

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
