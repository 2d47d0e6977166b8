"""The properties that every monitor must have.

A function that checks a property returns a description of its violation, or None.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fixpoint._solve import solve
from fixpoint.iterator import Iterator, TheoremWarning
from fixpoint.iterators import ForwardStep
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors import Monitor
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.check import Check
from fixpoint.testing.check_claims import claim_checks
from fixpoint.testing.monitored_run import MonitorOrFactory, iterates, make_monitor, memories
from fixpoint.testing.problems import Problem, ladder, outside
from fixpoint.testing.trees import first_difference, leaves, not_per_row
from fixpoint.testing.wrapped import Recorded
from fixpoint.trees.rows import select_rows, where_rows


def monitor_checks(
    monitor: MonitorOrFactory,
    *,
    iterator: Iterator[Any] | None = None,
    problems: Sequence[Problem] | None = None,
    certified: Callable[[Any], Tensor | bool] | None = None,
    runs_outside: Sequence[tuple[Problem, Iterator[Any]]] | None = None,
) -> list[Check]:
    """Checks of a monitor, one a property, each on runs of an iterator on the smallest problems.

        @pytest.mark.parametrize("check", monitor_checks(MyMonitor()))
        def test_my_monitor(check):
            check()

    Nothing is run before a check is called. The properties, by the names that a failure gives:

    - "no evaluation is added"
    - "states are not modified" by start or watch
    - "old memory is untouched" by watch
    - "memory has the batch first": every tensor, and none in a list
    - "rows are independent": a row that is changed, or NaN, changes no other row
    - "select and watch commute": bit for bit
    - "run is not changed": `solve` gives the same with and without the monitor, bit for bit
    - "report keeps the rows in order": in every tensor of a report with the batch first
    - "no false certificate", where `certified` is given

    Of reports that hold claims of a theorem (reports without claims pass):

    - "no certificate without a zero": a conclusion, for an operator that has none
    - "no limit is refuted by a prefix": a conclusion, on a run that the theorem covers
    - "no certificate of another iterator": a conclusion, on the run of another method
    - "nothing is claimed of NaN rows": of a row that is NaN from its first evaluation on

    Args:
        monitor: an instance; or a function (problem, iterator) that makes one, for a monitor that
            needs to know a `Problem` (its `operator`, `zero`, ...) or the iterator.
        iterator: the iterator of the runs; `ForwardStep(step_size=1.0)` unless given.
        problems: `ladder(1.0)` unless given.
        certified: (batch,), the rows that a report certifies to be covered by the theorem, or one
            bool for the run; must be False on every run in `runs_outside`.
        runs_outside: problems and iterators just outside the theorem; unless given, those of
            `outside(1.0)` in float64, float32 and bfloat16 with an iterator of the class of
            `iterator`.

    Raises:
        TypeError: `monitor` is neither an instance nor a function that makes one.
    """
    if not isinstance(monitor, Monitor) and (isinstance(monitor, type) or not callable(monitor)):
        raise TypeError(f"expected a Monitor instance or a function making one, got {monitor!r}")
    iterator = ForwardStep(step_size=1.0) if iterator is None else iterator
    problems = ladder(1.0) if problems is None else list(problems)
    checks = [
        Check(name, partial(_search, name, violation, monitor, iterator, problems))
        for name, violation in _VIOLATIONS
    ]
    checks += claim_checks(monitor, iterator)
    if certified is not None:
        if runs_outside is None:
            runs_outside = [
                run
                for dtype in (torch.float64, torch.float32, torch.bfloat16)
                for run in outside(1.0, dtype)
                if isinstance(run[1], type(iterator))
            ]
        search = partial(_search_certificates, monitor, certified, runs_outside)
        checks.append(Check("no false certificate", search))
    return checks


def check_monitor(
    monitor: MonitorOrFactory,
    *,
    iterator: Iterator[Any] | None = None,
    problems: Sequence[Problem] | None = None,
    certified: Callable[[Any], Tensor | bool] | None = None,
    runs_outside: Sequence[tuple[Problem, Iterator[Any]]] | None = None,
) -> None:
    """Call all `monitor_checks`, which has the properties and the arguments.

    Raises:
        BrokenProperty: an AssertionError that names the first property that is broken, and the
            smallest problem.
        TypeError: `monitor` is neither an instance nor a function that makes one.
    """
    for check in monitor_checks(
        monitor,
        iterator=iterator,
        problems=problems,
        certified=certified,
        runs_outside=runs_outside,
    ):
        check()


_STEPS = 8

_Violation = Callable[[MonitorOrFactory, Problem, Iterator[Any]], str | None]


def _search(
    name: str,
    violation: _Violation,
    monitor: MonitorOrFactory,
    iterator: Iterator[Any],
    problems: Sequence[Problem],
) -> BrokenProperty | None:
    for problem in problems:
        subject = make_monitor(monitor, problem, iterator)
        detail = violation(monitor, problem, iterator)
        if detail:
            return BrokenProperty(name, subject, detail, str(problem))
    return None


def _states_are_modified(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    run = iterates(problem, iterator, _STEPS)
    before = copy.deepcopy(run)
    memories(make_monitor(monitor, problem, iterator), run)
    found = first_difference(before, run)
    return found and f"iterates before and after they were watched: {found}"


def _memory_is_modified(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    instance = make_monitor(monitor, problem, iterator)
    first, *others = iterates(problem, iterator, _STEPS)
    memory = instance.start(first)
    for iterate in others:
        before = copy.deepcopy(memory)
        following = instance.watch(iterate, memory)
        found = first_difference(before, memory)
        if found:
            return f"the memory before and after iteration {iterate.iteration}: {found}"
        memory = following
    return None


def _batch_is_not_first(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    instance = make_monitor(monitor, problem, iterator)
    for number, memory in enumerate(memories(instance, iterates(problem, iterator, _STEPS))):
        found = not_per_row(memory, len(problem.start))
        if found:
            return f"in the memory after iteration {number}, {found}"
    return None


def _rows_are_dependent(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    instance = make_monitor(monitor, problem, iterator)
    batch = len(problem.start)
    run = iterates(problem, iterator, _STEPS)
    undisturbed = memories(instance, run)
    far = iterates(replace(problem, start=3 * problem.start + 5), iterator, _STEPS)
    for row in range(batch):
        mask = torch.arange(batch) == row
        others = (~mask).nonzero().flatten()
        for other, words in ((far, "elsewhere"), (_with_nan(run), "NaN")):
            mixed = [
                where_rows(mask, theirs, ours) for theirs, ours in zip(other, run, strict=True)
            ]
            for number, memory in enumerate(memories(instance, mixed)):
                found = first_difference(
                    select_rows(memory, others), select_rows(undisturbed[number], others)
                )
                if found:
                    return (
                        f"row {row} is {words}; another row changes after {number} steps: {found}"
                    )
    return None


def _with_nan(run: Sequence[Iterate]) -> list[Iterate]:
    """The same iterates with NaN in every floating-point tensor, from the second on."""
    with_nan = [run[0]]
    for iterate in run[1:]:
        state = iterate.state
        nan = torch.full_like(state.point, torch.nan)
        norm = torch.full_like(iterate.residual_norm, torch.nan)
        with_nan.append(
            replace(
                iterate,
                state=replace(state, z=nan, point=nan, residual=nan),
                residual_norm=norm,
                point_norm=norm,
            )
        )
    return with_nan


def _select_does_not_commute(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    instance = make_monitor(monitor, problem, iterator)
    batch = len(problem.start)
    run = iterates(problem, iterator, _STEPS)
    seen = memories(instance, run)
    for rows in ([*range(batch - 1, -1, -1)], [batch - 1], [batch - 1, 0]):
        index = torch.tensor(rows)
        for number in range(_STEPS):
            selected = select_rows(run[number + 1], index)
            before = instance.watch(selected, select_rows(seen[number], index))
            found = first_difference(select_rows(seen[number + 1], index), before)
            if found:
                return f"rows {rows} selected after and before iteration {number + 1}: {found}"
    return None


def _run_is_changed(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    options = {"rtol": 1e-3, "max_iterations": 40}
    alone = solve(problem.operator, problem.start, iterator, **options)  # type: ignore[arg-type]
    instance = make_monitor(monitor, problem, iterator)
    watched = solve(
        problem.operator,
        problem.start,
        iterator,
        monitors=(instance,),
        **options,  # type: ignore[arg-type]
    )
    for name in ("z", "residual_norm", "status", "iterations", "evaluations", "history"):
        found = first_difference(getattr(alone, name), getattr(watched, name))
        if found:
            return f"solve without and with the monitor: {name}, {found}"
    return None


def _evaluations_are_added(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    recorded = Recorded(problem.operator)
    run = iterates(problem, iterator, _STEPS)
    instance = make_monitor(monitor, replace(problem, operator=recorded), iterator)
    recorded.calls.clear()
    instance.report(memories(instance, run)[-1])
    if recorded.calls:
        return f"T was evaluated {len(recorded.calls)} times while {_STEPS} steps were watched"
    return None


def _report_changes_row_order(
    monitor: MonitorOrFactory, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    instance = make_monitor(monitor, problem, iterator)
    batch = len(problem.start)
    seen = memories(instance, iterates(problem, iterator, 40))
    index = torch.arange(batch - 1, -1, -1)
    found = _report_difference(
        _row_tensors(instance.report(seen[-1]), batch, index),
        _row_tensors(instance.report(select_rows(seen[-1], index)), batch),
    )
    if found:
        return f"the reports on rows in their order and reversed, {found}"
    solution = solve(
        problem.operator,
        problem.start,
        iterator,
        rtol=1e-3,
        max_iterations=40,
        monitors=(make_monitor(monitor, problem, iterator),),
    )
    (report,) = solution.monitors
    for row, steps in enumerate(solution.iterations.tolist()):
        index = torch.tensor([row])
        found = _report_difference(
            _row_tensors(instance.report(seen[steps]), batch, index),
            _row_tensors(report, batch, index),
        )
        if found:
            return f"row {row}, watched for {steps} steps and as solve reports it: {found}"
    return None


def _row_tensors(report: Any, batch: int, index: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors of a report that have the batch first, by their path."""
    rows = torch.arange(batch) if index is None else index
    return {
        path: leaf.index_select(0, rows)
        for path, leaf in leaves(report)
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == batch
    }


def _report_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> str | None:
    """As `first_difference`, but sums may be taken in another order."""
    if a.keys() != b.keys():
        return "they do not have the same parts"
    for path in a:
        x, y = a[path], b[path]
        if x.is_floating_point():
            if not torch.allclose(x, y, rtol=1e-6, atol=0, equal_nan=True):
                return f"{path or 'the value'} is {x.tolist()} in one and {y.tolist()} in the other"
        elif first_difference(x, y):
            return f"{path or 'the value'}: {first_difference(x, y)}"
    return None


def _search_certificates(
    monitor: MonitorOrFactory,
    certified: Callable[[Any], Tensor | bool],
    runs: Sequence[tuple[Problem, Iterator[Any]]],
) -> BrokenProperty | None:
    for problem, iterator in runs:
        subject = make_monitor(monitor, problem, iterator)
        with warnings.catch_warnings():
            # The run is chosen to lie outside the theorem.
            warnings.simplefilter("ignore", TheoremWarning)
            for steps in (0, 1, 30):
                solution = solve(
                    problem.operator,
                    problem.start,
                    iterator,
                    monitors=(subject,),
                    rtol=0,
                    atol=0,
                    max_iterations=steps,
                )
                rows = torch.as_tensor(certified(solution.monitors[0]))
                if bool(rows.any()):
                    return BrokenProperty(
                        "no false certificate",
                        subject,
                        f"{iterator!r} is certified after {steps} steps, in rows "
                        f"{rows.reshape(-1).nonzero().flatten().tolist()}",
                        str(problem),
                    )
    return None


_VIOLATIONS: list[tuple[str, _Violation]] = [
    ("no evaluation is added", _evaluations_are_added),
    ("states are not modified", _states_are_modified),
    ("old memory is untouched", _memory_is_modified),
    ("memory has the batch first", _batch_is_not_first),
    ("rows are independent", _rows_are_dependent),
    ("select and watch commute", _select_does_not_commute),
    ("run is not changed", _run_is_changed),
    ("report keeps the rows in order", _report_changes_row_order),
]
