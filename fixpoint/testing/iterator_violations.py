"""How an iterator can break what `check_iterator` asks for.

Each function returns a description of the violation, or None.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fixpoint import kernels
from fixpoint._solve import solve
from fixpoint.iterator import Iterator, State
from fixpoint.operator import Operator
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.check import Check
from fixpoint.testing.false_success import false_success
from fixpoint.testing.problems import Problem
from fixpoint.testing.proven_rate import Bound, proven_rate
from fixpoint.testing.trees import first_difference, not_per_row
from fixpoint.testing.wrapped import Moved, NaNRows, Recorded, Reshaped
from fixpoint.trees.rows import select_rows, where_rows

_STEPS = 6
_LONG_RUN = 40  # steps; rows that start near the zero converge before the others


@dataclass(frozen=True)
class Runs:
    """Runs of one iterator, and the checks made of them."""

    iterator: Iterator[Any]
    rtol: float
    max_iterations: int

    def check(self, name: str, violation: _Violation, problems: Sequence[Problem]) -> Check:
        return Check(name, partial(self.search, name, violation, problems))

    def search(
        self, name: str, violation: _Violation, problems: Sequence[Problem]
    ) -> BrokenProperty | None:
        for problem in problems:
            detail = violation(self, problem)
            if detail:
                return BrokenProperty(name, self.iterator, detail, str(problem))
        return None

    def states(self, operator: Operator, start: Tensor, steps: int = _STEPS) -> list[State]:
        states = [self.iterator.init(operator, start.clone())]
        for _ in range(steps):
            states.append(self.iterator.step(operator, states[-1]))
        return states


_Violation = Callable[[Runs, Problem], "str | None"]


def is_not_frozen(runs: Runs, problem: Problem) -> str | None:
    iterator = runs.iterator
    parameters = getattr(type(iterator), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        return f"{type(iterator).__name__} is not a dataclass with frozen=True"
    before = copy.deepcopy(vars(iterator))
    runs.states(problem.operator, problem.start, 2)
    if first_difference(before, vars(iterator)):
        return f"a run changed its attributes from {before} to {vars(iterator)}"
    return None


def _start_is_not_z(runs: Runs, problem: Problem) -> str | None:
    given = problem.start.clone()
    state = runs.iterator.init(problem.operator, given)
    found = first_difference(problem.start, given)
    if found:
        return f"init changed its argument z: {found}"
    found = first_difference(problem.start, state.point)
    return found and f"z and the first state's point: {found}"


def _state_is_modified(runs: Runs, problem: Problem) -> str | None:
    state = runs.iterator.init(problem.operator, problem.start.clone())
    for step in range(_STEPS):
        before = copy.deepcopy(state)
        following = runs.iterator.step(problem.operator, state)
        found = first_difference(before, state)
        if found:
            return f"step {step + 1} changed the state it was given, before and after: {found}"
        state = following
    return None


def _step_is_not_pure(runs: Runs, problem: Problem) -> str | None:
    for number, state in enumerate(runs.states(problem.operator, problem.start)):
        first = runs.iterator.step(problem.operator, state)
        second = runs.iterator.step(problem.operator, state)
        found = first_difference(first, second)
        if found:
            return f"two steps from state {number}: {found}"
    return None


def _residual_is_wrong(runs: Runs, problem: Problem) -> str | None:
    recorded = Recorded(problem.operator)
    for number, state in enumerate(runs.states(recorded, problem.start)):
        found = first_difference(state.residual, problem.operator(state.point))
        if found:
            return f"state {number}, its residual and T at its point: {found}"
        if not any(z is state.point for z in recorded.calls):
            return (
                f"T was not evaluated at state {number}'s point itself, but at another tensor; "
                "what Operator.evaluate measures there would be lost"
            )
    return None


def _refused_trial_is_iterate(runs: Runs, problem: Problem) -> str | None:
    states = runs.states(problem.operator, problem.start, _LONG_RUN)
    for number, (before, state) in enumerate(itertools.pairwise(states), start=1):
        if state.accepted is None:
            continue
        expected = where_rows(state.accepted, state.point, before.z)
        found = first_difference(state.z, expected)
        if found:
            return (
                f"state {number}: z, and what it should be with accepted = "
                f"{state.accepted.tolist()}: {found}"
            )
    return None


def succeeds_without_a_zero(runs: Runs, problem: Problem) -> str | None:
    return false_success(runs.iterator, problem)


def _batch_is_not_first(runs: Runs, problem: Problem) -> str | None:
    for number, state in enumerate(runs.states(problem.operator, problem.start)):
        found = not_per_row(state, len(problem.start))
        if found:
            return f"in state {number}, {found}"
        found = not_per_row(runs.iterator.statistics(state), len(problem.start))
        if found:
            return f"of the statistics of state {number}, {found}"
    return None


def _rows_are_dependent(runs: Runs, problem: Problem) -> str | None:
    together = runs.states(problem.operator, problem.start, _LONG_RUN)
    batch = len(problem.start)
    for row in range(batch):
        index = torch.tensor([row])
        only = problem.select(index)
        alone = runs.states(only.operator, only.start, _LONG_RUN)
        for number, (state, single) in enumerate(zip(together, alone, strict=True)):
            found = first_difference(select_rows(state.point, index), single.point)
            if found:
                return f"row {row} after {number} steps, in the batch and alone: point, {found}"
    for row in range(batch if batch > 1 else 0):
        others = torch.tensor([other for other in range(batch) if other != row])
        with_nan = NaNRows(problem.operator, torch.arange(batch) == row)
        state = clean = together[2]
        for number in range(3):
            state = runs.iterator.step(with_nan, state)
            clean = runs.iterator.step(problem.operator, clean)
            found = first_difference(state.select(others), clean.select(others))
            if found:
                return f"row {row} is NaN for {number + 1} steps, and in other rows: {found}"
    return None


def _select_does_not_commute(runs: Runs, problem: Problem) -> str | None:
    batch = len(problem.start)
    for rows in ([*range(batch - 1, -1, -1)], [batch - 1], [batch - 1, 0]):
        index = torch.tensor(rows)
        operator = problem.operator.select(index)
        for number, state in enumerate(runs.states(problem.operator, problem.start)):
            after = runs.iterator.step(problem.operator, state).select(index)
            before = runs.iterator.step(operator, state.select(index))
            found = first_difference(after, before)
            if found:
                return f"rows {rows} selected after and before step {number + 1}: {found}"
    return None


def shape_or_dtype_changes(runs: Runs, problem: Problem) -> str | None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        start = problem.start.to(dtype)
        for number, state in enumerate(runs.states(problem.operator, start)):
            for name in ("z", "point", "residual"):
                value = getattr(state, name)
                if (value.shape, value.dtype, value.device) != (start.shape, dtype, start.device):
                    return (
                        f"from z of {tuple(start.shape)} {dtype}, {name} is "
                        f"{tuple(value.shape)} {value.dtype} after {number} steps"
                    )
    return None


def _row_shape_matters(runs: Runs, problem: Problem) -> str | None:
    batch, *row = problem.start.shape
    size = problem.start[0].numel()
    shape = (2, size // 2, 1) if size % 2 == 0 else (size, 1, 1)
    flat = runs.states(problem.operator, problem.start)
    reshaped = Reshaped(problem.operator, tuple(row))
    folded = runs.states(reshaped, problem.start.reshape(batch, *shape))
    for number, state in enumerate(folded):
        if state.point.shape != (batch, *shape):
            return f"rows of {shape} become rows of {tuple(state.point.shape[1:])}"
        if not _equal_up_to_rounding(
            runs, problem, number, flat[number].point, state.point.reshape(batch, *row)
        ):
            return f"after {number} steps rows of {shape} are not where rows of {tuple(row)} are"
    return None


def _shift_equivariance_fails(runs: Runs, problem: Problem) -> str | None:
    shift = torch.full_like(problem.start, 3.0)
    return _is_not_equivariant(runs, problem, shift, 1.0)


def scale_equivariance_fails(runs: Runs, problem: Problem) -> str | None:
    return _is_not_equivariant(runs, problem, torch.zeros_like(problem.start), 4.0)


def _is_not_equivariant(runs: Runs, problem: Problem, shift: Tensor, scale: float) -> str | None:
    plain = runs.states(problem.operator, problem.start)
    moved = runs.states(Moved(problem.operator, shift, scale), problem.start * scale + shift)
    for number, (a, b) in enumerate(zip(plain, moved, strict=True)):
        moved_back = (b.point - shift) / scale
        if not _equal_up_to_rounding(runs, problem, number, a.point, moved_back):
            difference = float((a.point - moved_back).abs().max())
            words = f"{scale:g} z0 + {float(shift.max()):g}, and the zero moved in the same way"
            return f"after {number} steps from {words}, the point is {difference:.3g} off"
    return None


def _equal_up_to_rounding(
    runs: Runs, problem: Problem, steps: int, point: Tensor, other: Tensor
) -> bool:
    """Whether two points agree up to rounding errors that the method may amplify."""
    difference = (point - other).abs().max()
    size = 1 + problem.start.abs().max() + point.abs().max()
    rounding = torch.finfo(point.dtype).eps
    if bool(difference <= 1e3 * rounding * size):
        return True
    # An accelerated method amplifies rounding as much as it amplifies a change of the start.
    changed = runs.states(problem.operator, problem.start + 8 * rounding * size, steps)
    amplified = (changed[-1].point - point).abs().max()
    return bool(difference <= 1e3 * (rounding * size + amplified))


def check_options(iterator: Iterator[Any], changes: Mapping[str, object]) -> None:
    if not dataclasses.is_dataclass(iterator):
        return  # the check "options are frozen" reports it
    names = [field.name for field in dataclasses.fields(iterator)]
    for option in changes:
        if option not in names:
            raise ValueError(f"{type(iterator).__name__} has no option {option!r}, only {names}")


def search_unused_option(
    iterator: Iterator[Any], problems: Sequence[Problem], option: str, value: object
) -> BrokenProperty | None:
    changed: Iterator[Any] = dataclasses.replace(iterator, **{option: value})  # type: ignore
    for problem in problems:
        a, b = (
            Runs(which, 0.0, 0).states(problem.operator, problem.start)
            for which in (iterator, changed)
        )
        if any(first_difference(x.point, y.point) for x, y in zip(a, b, strict=True)):
            return None
    return BrokenProperty(
        f"option {option} changes the iterates",
        iterator,
        f"{option} = {getattr(iterator, option)!r} and {value!r} give the same points for "
        f"{_STEPS} steps on each of {len(problems)} problems",
        str(problems[0]),
    )


def does_not_converge(runs: Runs, problem: Problem) -> str | None:
    solution = solve(
        problem.operator,
        problem.start,
        runs.iterator,
        rtol=runs.rtol,
        max_iterations=runs.max_iterations,
    )
    true = kernels.row_norm(problem.operator(solution.z))
    error = 1e-3 * true + 64 * torch.finfo(true.dtype).eps * kernels.row_norm(solution.z)
    if bool(((true - solution.residual_norm).abs() > error).any()):
        return (
            f"the run reports residuals {solution.residual_norm.tolist()}, T at the returned "
            f"points gives {true.tolist()}"
        )
    for row, status in enumerate(solution.status):
        if not status.success:
            return (
                f"row {row} ended after {int(solution.iterations[row])} steps with "
                f"||T z|| = {float(true[row]):.3g}: {status.name}, {status.message}"
            )
    return None


def rate_is_missed(runs: Runs, problem: Problem) -> str | None:
    bound = proven_bound(runs.iterator, problem)
    if bound is None:
        return None
    assert problem.zero is not None
    distances = kernels.row_norm(problem.start - problem.zero)
    least = torch.full_like(distances, torch.inf)
    for number, state in enumerate(runs.states(problem.operator, problem.start, _LONG_RUN)):
        least = torch.minimum(least, kernels.row_norm(state.residual))
        for row, distance in enumerate(distances.tolist()):
            allowed = bound(distance, number) * (1 + 1e-9) + 1e-13
            if not float(least[row]) <= allowed:
                return (
                    f"row {row} after {number} steps: the least ||T point|| is "
                    f"{float(least[row]):.6g}, the proven bound {allowed:.6g}"
                )
    return None


def proven_bound(iterator: Iterator[Any], problem: Problem) -> Bound | None:
    beta = problem.operator.cocoercivity
    if beta is None or problem.zero is None:
        return None
    return proven_rate(iterator, beta)


VIOLATIONS: list[tuple[str, _Violation]] = [
    ("init starts at z", _start_is_not_z),
    ("old state is untouched", _state_is_modified),
    ("steps are pure", _step_is_not_pure),
    ("residual is T at point", _residual_is_wrong),
    ("a refused trial is no iterate", _refused_trial_is_iterate),
    ("state has the batch first", _batch_is_not_first),
    ("rows are independent", _rows_are_dependent),
    ("select and step commute", _select_does_not_commute),
    ("shape, dtype and device are kept", shape_or_dtype_changes),
    ("rows may have any shape", _row_shape_matters),
    ("shift equivariance", _shift_equivariance_fails),
]
