"""The properties that every iterator must have.

A function that checks a property returns a description of its violation, or None.
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
from fixpoint.testing.problems import Problem, ladder, runaways
from fixpoint.testing.proven_rate import Bound, proven_rate
from fixpoint.testing.trees import first_difference, not_per_row
from fixpoint.testing.wrapped import Moved, NaNRows, Recorded, Reshaped
from fixpoint.trees.rows import select_rows, where_rows


def iterator_checks(
    iterator: Iterator[Any],
    problems: Sequence[Problem] | None = None,
    *,
    cocoercivity: float | None = None,
    changes: Mapping[str, object] | None = None,
    scale_equivariant: bool = False,
    rtol: float = 1e-4,
    max_iterations: int = 5000,
) -> list[Check]:
    """Checks of an iterator, one a property, each on the smallest problems first.

        @pytest.mark.parametrize("check", iterator_checks(MyIterator(step_size=0.5)))
        def test_my_iterator(check):
            check()

    Nothing is run before a check is called. The properties, by the names that a failure gives:

    - "options are frozen": a frozen dataclass, which a run does not change
    - "init starts at z": `point` is z, and z is not modified
    - "old state is untouched" by a step, bit for bit
    - "steps are pure": the same state gives the same next one
    - "residual is T at point": bit for bit, undamped; `point` is the tensor T was given
    - "a refused trial is no iterate": if a state has `accepted`, then z is the point in accepted
      rows, and the z of the state before in the others
    - "no success without a zero": on `runaways()`, at tolerances from 1e-2 to 1e-8
    - "state has the batch first": every tensor, and none in a list
    - "rows are independent": a row alone runs as it does in the batch, bit for bit; a row of NaN
      changes no other row
    - "select and step commute": bit for bit
    - "shape, dtype and device are kept", in float64, float32, bfloat16 and float16
    - "rows may have any shape": (batch, 2, 2, 1) runs as (batch, 4) does, up to rounding
    - "shift equivariance": shifting zero and start shifts the iterates, up to rounding
    - "scale equivariance", if `scale_equivariant`: Adam, for example, does not have it
    - "option NAME changes the iterates", for every option in `changes`
    - "converges": on every problem, and the reported residual is the true one
    - "proven rate": on problems with known cocoercivity and zero, for `ForwardStep`, `InertialKM`
      and any iterator with a method `residual_bound(distance, cocoercivity, iterations)`. The
      method bounds the least `||T point||` of `iterations` steps from a start at `distance` from
      a zero

    Args:
        iterator: an instance, with admissible settings.
        problems: `ladder(cocoercivity)` unless given. The checks in other dtypes always take the
            ladder.
        cocoercivity: beta of the ladder's problems. Unless given, the iterator's own
            `cocoercivity`, or else its `step_size`, or else 1.
        changes: another admissible value for every option that must change the iterates.
        scale_equivariant: whether scaling zero, start and T must scale the iterates.
        rtol, max_iterations: for "converges"; see `solve`.

    Raises:
        TypeError, ValueError: the arguments are not usable.
    """
    if not isinstance(iterator, Iterator):
        raise TypeError(f"expected an Iterator instance, as ForwardStep(); got {iterator!r}")
    if cocoercivity is None:
        declared = getattr(iterator, "cocoercivity", getattr(iterator, "step_size", 1.0))
        cocoercivity = float(declared)
    default_problems = ladder(cocoercivity)
    problems = default_problems if problems is None else list(problems)
    if not problems:
        raise ValueError("there is no problem to check the iterator on")
    changes = changes or {}
    _check_options(iterator, changes)

    runs = _Runs(iterator, rtol, max_iterations)
    checks = [runs.check("options are frozen", _is_not_frozen, problems[:1])]
    for name, violation in _VIOLATIONS:
        known = violation is _shape_or_dtype_changes  # a user's operator may have one dtype
        checks.append(runs.check(name, violation, default_problems if known else problems))
    if scale_equivariant:
        checks.append(runs.check("scale equivariance", _scale_equivariance_fails, problems))
    for option, value in changes.items():
        search = partial(_search_unused_option, iterator, problems, option, value)
        checks.append(Check(f"option {option} changes the iterates", search))
    checks.append(runs.check("no success without a zero", _succeeds_without_a_zero, runaways()))
    checks.append(runs.check("converges", _does_not_converge, problems))
    if any(_proven_bound(iterator, problem) for problem in problems):
        checks.append(runs.check("proven rate", _rate_is_missed, problems))
    return checks


def check_iterator(
    iterator: Iterator[Any],
    problems: Sequence[Problem] | None = None,
    *,
    cocoercivity: float | None = None,
    changes: Mapping[str, object] | None = None,
    scale_equivariant: bool = False,
    rtol: float = 1e-4,
    max_iterations: int = 5000,
) -> None:
    """Call all `iterator_checks`, which has the properties and the arguments.

    Raises:
        BrokenProperty: an AssertionError that names the first property that is broken, and the
            smallest problem.
        TypeError, ValueError: the arguments are not usable.
    """
    for check in iterator_checks(
        iterator,
        problems,
        cocoercivity=cocoercivity,
        changes=changes,
        scale_equivariant=scale_equivariant,
        rtol=rtol,
        max_iterations=max_iterations,
    ):
        check()


_STEPS = 6
_LONG_RUN = 40  # steps; rows that start near the zero converge before the others


@dataclass(frozen=True)
class _Runs:
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


_Violation = Callable[[_Runs, Problem], "str | None"]


def _is_not_frozen(runs: _Runs, problem: Problem) -> str | None:
    iterator = runs.iterator
    parameters = getattr(type(iterator), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        return f"{type(iterator).__name__} is not a dataclass with frozen=True"
    before = copy.deepcopy(vars(iterator))
    runs.states(problem.operator, problem.start, 2)
    if first_difference(before, vars(iterator)):
        return f"a run changed its attributes from {before} to {vars(iterator)}"
    return None


def _start_is_not_z(runs: _Runs, problem: Problem) -> str | None:
    given = problem.start.clone()
    state = runs.iterator.init(problem.operator, given)
    found = first_difference(problem.start, given)
    if found:
        return f"init changed its argument z: {found}"
    found = first_difference(problem.start, state.point)
    return found and f"z and the first state's point: {found}"


def _state_is_modified(runs: _Runs, problem: Problem) -> str | None:
    state = runs.iterator.init(problem.operator, problem.start.clone())
    for step in range(_STEPS):
        before = copy.deepcopy(state)
        following = runs.iterator.step(problem.operator, state)
        found = first_difference(before, state)
        if found:
            return f"step {step + 1} changed the state it was given, before and after: {found}"
        state = following
    return None


def _step_is_not_pure(runs: _Runs, problem: Problem) -> str | None:
    for number, state in enumerate(runs.states(problem.operator, problem.start)):
        first = runs.iterator.step(problem.operator, state)
        second = runs.iterator.step(problem.operator, state)
        found = first_difference(first, second)
        if found:
            return f"two steps from state {number}: {found}"
    return None


def _residual_is_wrong(runs: _Runs, problem: Problem) -> str | None:
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


def _refused_trial_is_iterate(runs: _Runs, problem: Problem) -> str | None:
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


def _succeeds_without_a_zero(runs: _Runs, problem: Problem) -> str | None:
    return false_success(runs.iterator, problem)


def _batch_is_not_first(runs: _Runs, problem: Problem) -> str | None:
    for number, state in enumerate(runs.states(problem.operator, problem.start)):
        found = not_per_row(state, len(problem.start))
        if found:
            return f"in state {number}, {found}"
        found = not_per_row(runs.iterator.statistics(state), len(problem.start))
        if found:
            return f"of the statistics of state {number}, {found}"
    return None


def _rows_are_dependent(runs: _Runs, problem: Problem) -> str | None:
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


def _select_does_not_commute(runs: _Runs, problem: Problem) -> str | None:
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


def _shape_or_dtype_changes(runs: _Runs, problem: Problem) -> str | None:
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


def _row_shape_matters(runs: _Runs, problem: Problem) -> str | None:
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


def _shift_equivariance_fails(runs: _Runs, problem: Problem) -> str | None:
    shift = torch.full_like(problem.start, 3.0)
    return _is_not_equivariant(runs, problem, shift, 1.0)


def _scale_equivariance_fails(runs: _Runs, problem: Problem) -> str | None:
    return _is_not_equivariant(runs, problem, torch.zeros_like(problem.start), 4.0)


def _is_not_equivariant(runs: _Runs, problem: Problem, shift: Tensor, scale: float) -> str | None:
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
    runs: _Runs, problem: Problem, steps: int, point: Tensor, other: Tensor
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


def _check_options(iterator: Iterator[Any], changes: Mapping[str, object]) -> None:
    if not dataclasses.is_dataclass(iterator):
        return  # the check "options are frozen" reports it
    names = [field.name for field in dataclasses.fields(iterator)]
    for option in changes:
        if option not in names:
            raise ValueError(f"{type(iterator).__name__} has no option {option!r}, only {names}")


def _search_unused_option(
    iterator: Iterator[Any], problems: Sequence[Problem], option: str, value: object
) -> BrokenProperty | None:
    changed: Iterator[Any] = dataclasses.replace(iterator, **{option: value})  # type: ignore
    for problem in problems:
        a, b = (
            _Runs(which, 0.0, 0).states(problem.operator, problem.start)
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


def _does_not_converge(runs: _Runs, problem: Problem) -> str | None:
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


def _rate_is_missed(runs: _Runs, problem: Problem) -> str | None:
    bound = _proven_bound(runs.iterator, problem)
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


def _proven_bound(iterator: Iterator[Any], problem: Problem) -> Bound | None:
    beta = problem.operator.cocoercivity
    if beta is None or problem.zero is None:
        return None
    return proven_rate(iterator, beta)


_VIOLATIONS: list[tuple[str, _Violation]] = [
    ("init starts at z", _start_is_not_z),
    ("old state is untouched", _state_is_modified),
    ("steps are pure", _step_is_not_pure),
    ("residual is T at point", _residual_is_wrong),
    ("a refused trial is no iterate", _refused_trial_is_iterate),
    ("state has the batch first", _batch_is_not_first),
    ("rows are independent", _rows_are_dependent),
    ("select and step commute", _select_does_not_commute),
    ("shape, dtype and device are kept", _shape_or_dtype_changes),
    ("rows may have any shape", _row_shape_matters),
    ("shift equivariance", _shift_equivariance_fails),
]
