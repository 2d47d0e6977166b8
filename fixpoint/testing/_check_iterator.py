"""What every iterator must satisfy."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fixpoint import kernels
from fixpoint._solve import solve
from fixpoint.iterator import Iterator, State
from fixpoint.operator import Operator
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.false_success import false_success
from fixpoint.testing.problems import Problem, ladder, runaways
from fixpoint.testing.proven_rate import proven_rate
from fixpoint.testing.trees import first_difference, not_per_row
from fixpoint.testing.wrapped import Moved, NaNRows, Recorded, Reshaped
from fixpoint.trees.rows import select_rows, where_rows


@torch.no_grad()
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
    """Check an iterator on problems it must solve, the smallest first.

    The properties, by the names that a failure gives:

    - "options are frozen": a frozen dataclass, which a run does not change
    - "init starts at z": `point` is z, and z is not modified
    - "old state is untouched" by a step, bit for bit
    - "steps are pure": the same state gives the same next one
    - "residual is T at point": bit for bit, undamped; `point` is the tensor T was given
    - "a refused trial is no iterate": where a state says `accepted`, z is the point in rows where
      it was, and the z before it in the others
    - "no success without a zero": on `runaways()`, at tolerances from 1e-2 to 1e-8
    - "state has the batch first": every tensor, and none in a list
    - "rows are independent": a row alone runs as it does in the batch, bit for bit; a row of NaN
      is not noticed
    - "select and step commute": bit for bit
    - "shape, dtype and device are kept", in float64, float32, bfloat16 and float16
    - "rows may have any shape": (batch, 2, 2, 1) runs as (batch, 4) does, up to rounding
    - "shift equivariance": shifting zero and start shifts the iterates, up to rounding
    - "scale equivariance", on request, of methods that have it: not Adam
    - "option NAME changes the iterates", for every option in `changes`
    - "converges": on every problem, and what is reported is the true residual
    - "proven rate": of `ForwardStep` and `InertialKM`, where the problem's cocoercivity and zero
      are known, and of any iterator with a method
      `residual_bound(distance, cocoercivity, iterations)` that bounds the least `||T point||` of
      so many steps from a start at `distance` from a zero

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
        BrokenProperty: an AssertionError that names the property and the smallest problem.
        TypeError, ValueError: the arguments are not usable.
    """
    if not isinstance(iterator, Iterator):
        raise TypeError(f"expected an Iterator instance, as ForwardStep(); got {iterator!r}")
    if cocoercivity is None:
        declared = getattr(iterator, "cocoercivity", getattr(iterator, "step_size", 1.0))
        cocoercivity = float(declared)
    rungs = ladder(cocoercivity)
    problems = rungs if problems is None else list(problems)
    if not problems:
        raise ValueError("there is no problem to check the iterator on")

    check = _Check(iterator, rtol, max_iterations)
    _check_frozen(iterator, problems[0])
    for name, finds in _PROPERTIES:
        check.on(rungs if finds is _kind_changes else problems, name, finds)
    if scale_equivariant:
        check.on(problems, "scale equivariance", _scale_matters)
    for option, value in (changes or {}).items():
        _check_change(iterator, problems, option, value)
    check.on(runaways(), "no success without a zero", _succeeds_without_a_zero)
    check.on(problems, "converges", _fails_to_converge)
    check.on(problems, "proven rate", _misses_its_rate)


_STEPS = 6
_LONG = 40  # long enough for a near row to end before a far one


@dataclass(frozen=True)
class _Check:
    iterator: Iterator[Any]
    rtol: float
    max_iterations: int

    def on(self, problems: Sequence[Problem], name: str, finds: _Finds) -> None:
        for problem in problems:
            detail = finds(self, problem)
            if detail:
                raise BrokenProperty(name, self.iterator, detail, str(problem))

    def states(self, operator: Operator, start: Tensor, steps: int = _STEPS) -> list[State]:
        states = [self.iterator.init(operator, start.clone())]
        for _ in range(steps):
            states.append(self.iterator.step(operator, states[-1]))
        return states


_Finds = Callable[[_Check, Problem], "str | None"]


def _check_frozen(iterator: Iterator[Any], problem: Problem) -> None:
    def fail(detail: str) -> None:
        raise BrokenProperty("options are frozen", iterator, detail, str(problem))

    parameters = getattr(type(iterator), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        fail(f"{type(iterator).__name__} is not a dataclass with frozen=True")
    before = copy.deepcopy(vars(iterator))
    _Check(iterator, 0.0, 0).states(problem.operator, problem.start, 2)
    if first_difference(before, vars(iterator)):
        fail(f"a run changed its attributes from {before} to {vars(iterator)}")


def _starts_elsewhere(check: _Check, problem: Problem) -> str | None:
    given = problem.start.clone()
    state = check.iterator.init(problem.operator, given)
    found = first_difference(problem.start, given)
    if found:
        return f"init changed its argument z: {found}"
    found = first_difference(problem.start, state.point)
    return found and f"z and the first state's point: {found}"


def _touches_the_old_state(check: _Check, problem: Problem) -> str | None:
    state = check.iterator.init(problem.operator, problem.start.clone())
    for step in range(_STEPS):
        before = copy.deepcopy(state)
        following = check.iterator.step(problem.operator, state)
        found = first_difference(before, state)
        if found:
            return f"step {step + 1} changed the state it was given, before and after: {found}"
        state = following
    return None


def _is_not_pure(check: _Check, problem: Problem) -> str | None:
    for number, state in enumerate(check.states(problem.operator, problem.start)):
        first = check.iterator.step(problem.operator, state)
        second = check.iterator.step(problem.operator, state)
        found = first_difference(first, second)
        if found:
            return f"two steps from state {number}: {found}"
    return None


def _reports_another_residual(check: _Check, problem: Problem) -> str | None:
    recorded = Recorded(problem.operator)
    for number, state in enumerate(check.states(recorded, problem.start)):
        found = first_difference(state.residual, problem.operator(state.point))
        if found:
            return f"state {number}, its residual and T at its point: {found}"
        if not any(z is state.point for z in recorded.calls):
            return (
                f"T was not evaluated at state {number}'s point itself, but at another tensor; "
                "what Operator.evaluate measures there would be lost"
            )
    return None


def _takes_a_trial_for_an_iterate(check: _Check, problem: Problem) -> str | None:
    states = check.states(problem.operator, problem.start, _LONG)
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


def _succeeds_without_a_zero(check: _Check, problem: Problem) -> str | None:
    return false_success(check.iterator, problem)


def _is_not_per_row(check: _Check, problem: Problem) -> str | None:
    for number, state in enumerate(check.states(problem.operator, problem.start)):
        found = not_per_row(state, len(problem.start))
        if found:
            return f"in state {number}, {found}"
        found = not_per_row(check.iterator.statistics(state), len(problem.start))
        if found:
            return f"of the statistics of state {number}, {found}"
    return None


def _rows_meet(check: _Check, problem: Problem) -> str | None:
    together = check.states(problem.operator, problem.start, _LONG)
    batch = len(problem.start)
    for row in range(batch):
        index = torch.tensor([row])
        only = problem.select(index)
        alone = check.states(only.operator, only.start, _LONG)
        for number, (state, single) in enumerate(zip(together, alone, strict=True)):
            found = first_difference(select_rows(state.point, index), single.point)
            if found:
                return f"row {row} after {number} steps, in the batch and alone: point, {found}"
    for row in range(batch if batch > 1 else 0):
        others = torch.tensor([other for other in range(batch) if other != row])
        spoilt = NaNRows(problem.operator, torch.arange(batch) == row)
        state = clean = together[2]
        for number in range(3):
            state = check.iterator.step(spoilt, state)
            clean = check.iterator.step(problem.operator, clean)
            found = first_difference(state.select(others), clean.select(others))
            if found:
                return f"row {row} is NaN for {number + 1} steps, and in other rows: {found}"
    return None


def _select_matters(check: _Check, problem: Problem) -> str | None:
    batch = len(problem.start)
    for rows in ([*range(batch - 1, -1, -1)], [batch - 1], [batch - 1, 0]):
        index = torch.tensor(rows)
        operator = problem.operator.select(index)
        for number, state in enumerate(check.states(problem.operator, problem.start)):
            after = check.iterator.step(problem.operator, state).select(index)
            before = check.iterator.step(operator, state.select(index))
            found = first_difference(after, before)
            if found:
                return f"rows {rows} selected after and before step {number + 1}: {found}"
    return None


def _kind_changes(check: _Check, problem: Problem) -> str | None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        start = problem.start.to(dtype)
        for number, state in enumerate(check.states(problem.operator, start)):
            for name in ("z", "point", "residual"):
                value = getattr(state, name)
                if (value.shape, value.dtype, value.device) != (start.shape, dtype, start.device):
                    return (
                        f"from z of {tuple(start.shape)} {dtype}, {name} is "
                        f"{tuple(value.shape)} {value.dtype} after {number} steps"
                    )
    return None


def _layout_matters(check: _Check, problem: Problem) -> str | None:
    batch, *row = problem.start.shape
    size = problem.start[0].numel()
    shape = (2, size // 2, 1) if size % 2 == 0 else (size, 1, 1)
    flat = check.states(problem.operator, problem.start)
    reshaped = Reshaped(problem.operator, tuple(row))
    folded = check.states(reshaped, problem.start.reshape(batch, *shape))
    for number, state in enumerate(folded):
        if state.point.shape != (batch, *shape):
            return f"rows of {shape} become rows of {tuple(state.point.shape[1:])}"
        if not _near(check, problem, number, flat[number].point, state.point.reshape(batch, *row)):
            return f"after {number} steps rows of {shape} are not where rows of {tuple(row)} are"
    return None


def _shift_matters(check: _Check, problem: Problem) -> str | None:
    shift = torch.full_like(problem.start, 3.0)
    return _is_not_equivariant(check, problem, shift, 1.0)


def _scale_matters(check: _Check, problem: Problem) -> str | None:
    return _is_not_equivariant(check, problem, torch.zeros_like(problem.start), 4.0)


def _is_not_equivariant(check: _Check, problem: Problem, shift: Tensor, scale: float) -> str | None:
    plain = check.states(problem.operator, problem.start)
    moved = check.states(Moved(problem.operator, shift, scale), problem.start * scale + shift)
    for number, (a, b) in enumerate(zip(plain, moved, strict=True)):
        back = (b.point - shift) / scale
        if not _near(check, problem, number, a.point, back):
            apart = float((a.point - back).abs().max())
            words = f"{scale:g} z0 + {float(shift.max()):g}, with the zero moved alike"
            return f"after {number} steps from {words}, the point is {apart:.3g} off"
    return None


def _near(check: _Check, problem: Problem, steps: int, point: Tensor, other: Tensor) -> bool:
    """Equal up to rounding, and what the method makes of it in so many steps."""
    apart = (point - other).abs().max()
    size = 1 + problem.start.abs().max() + point.abs().max()
    rounding = torch.finfo(point.dtype).eps
    if bool(apart <= 1e3 * rounding * size):
        return True
    # Acceleration amplifies rounding, by as much as it amplifies a change of the start.
    changed = check.states(problem.operator, problem.start + 8 * rounding * size, steps)
    amplified = (changed[-1].point - point).abs().max()
    return bool(apart <= 1e3 * (rounding * size + amplified))


def _check_change(
    iterator: Iterator[Any], problems: Sequence[Problem], option: str, value: object
) -> None:
    names = [field.name for field in dataclasses.fields(iterator)]  # type: ignore[arg-type]
    if option not in names:
        raise ValueError(f"{type(iterator).__name__} has no option {option!r}, only {names}")
    changed: Iterator[Any] = dataclasses.replace(iterator, **{option: value})  # type: ignore
    for problem in problems:
        a, b = (
            _Check(which, 0.0, 0).states(problem.operator, problem.start)
            for which in (iterator, changed)
        )
        if any(first_difference(x.point, y.point) for x, y in zip(a, b, strict=True)):
            return
    raise BrokenProperty(
        f"option {option} changes the iterates",
        iterator,
        f"{option} = {getattr(iterator, option)!r} and {value!r} give the same points for "
        f"{_STEPS} steps on each of {len(problems)} problems",
        str(problems[0]),
    )


def _fails_to_converge(check: _Check, problem: Problem) -> str | None:
    solution = solve(
        problem.operator,
        problem.start,
        check.iterator,
        rtol=check.rtol,
        max_iterations=check.max_iterations,
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


def _misses_its_rate(check: _Check, problem: Problem) -> str | None:
    beta = problem.operator.cocoercivity
    bound = proven_rate(check.iterator, beta) if beta is not None else None
    if beta is None or bound is None or problem.zero is None:
        return None
    distances = kernels.row_norm(problem.start - problem.zero)
    least = torch.full_like(distances, torch.inf)
    for number, state in enumerate(check.states(problem.operator, problem.start, _LONG)):
        least = torch.minimum(least, kernels.row_norm(state.residual))
        for row, distance in enumerate(distances.tolist()):
            allowed = bound(distance, number) * (1 + 1e-9) + 1e-13
            if not float(least[row]) <= allowed:
                return (
                    f"row {row} after {number} steps: the least ||T point|| is "
                    f"{float(least[row]):.6g}, the proven bound {allowed:.6g}"
                )
    return None


_PROPERTIES: list[tuple[str, _Finds]] = [
    ("init starts at z", _starts_elsewhere),
    ("old state is untouched", _touches_the_old_state),
    ("steps are pure", _is_not_pure),
    ("residual is T at point", _reports_another_residual),
    ("a refused trial is no iterate", _takes_a_trial_for_an_iterate),
    ("state has the batch first", _is_not_per_row),
    ("rows are independent", _rows_meet),
    ("select and step commute", _select_matters),
    ("shape, dtype and device are kept", _kind_changes),
    ("rows may have any shape", _layout_matters),
    ("shift equivariance", _shift_matters),
]
