"""What every monitor must satisfy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fixpoint.iterate import Iterate
from fixpoint.iterator import Iterator, TheoremWarning
from fixpoint.iterators import ForwardStep
from fixpoint.monitors import Monitor
from fixpoint.rows import select_rows, where_rows
from fixpoint.solve import solve
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.check import Check
from fixpoint.testing.check_claims import claim_checks
from fixpoint.testing.problems import Problem, ladder, outside
from fixpoint.testing.trees import first_difference, leaves, not_per_row
from fixpoint.testing.watched import Make, iterates, made, memories
from fixpoint.testing.wrapped import Recorded


def monitor_checks(
    monitor: Monitor | Make,
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
    - "rows are independent": another row, changed or NaN, is not noticed
    - "select and watch commute": bit for bit
    - "run is not changed": solved with and without, bit for bit
    - "report keeps the rows in order": the tensors of a report with the batch first
    - "no false certificate", where `certified` is given

    Of reports that hold claims of a theorem (others pass):

    - "no certificate without a zero": a conclusion, for an operator that has none
    - "no limit is refuted by a prefix": a conclusion, on a run that the theorem covers
    - "no certificate of another iterator": a conclusion, on the run of another method
    - "nothing is claimed of NaN rows": of a row that is NaN from its first evaluation on

    Args:
        monitor: an instance; or, where it needs to know the problem, a function that makes one
            from a `Problem` (its `operator`, `zero`, ...) and the iterator that is watched.
        iterator: what is watched; `ForwardStep(step_size=1.0)` unless given.
        problems: `ladder(1.0)` unless given.
        certified: from a report to the rows, (batch,), or the run that it certifies to be covered
            by the theorem: must be False on every run in `runs_outside`.
        runs_outside: problems and iterators just outside the theorem; unless given, those of
            `outside(1.0)` in float64, float32 and bfloat16 with an iterator of the class of
            `iterator`.

    Raises:
        TypeError: `monitor` is neither.
    """
    if not isinstance(monitor, Monitor) and (isinstance(monitor, type) or not callable(monitor)):
        raise TypeError(f"expected a Monitor instance or a function making one, got {monitor!r}")
    iterator = ForwardStep(step_size=1.0) if iterator is None else iterator
    problems = ladder(1.0) if problems is None else list(problems)
    checks = [
        Check(name, partial(_search, name, finds, monitor, iterator, problems))
        for name, finds in _PROPERTIES
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
    monitor: Monitor | Make,
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
        TypeError: `monitor` is neither a monitor nor a function that makes one.
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

_Finds = Callable[[Monitor | Make, Problem, Iterator[Any]], str | None]


def _search(
    name: str,
    finds: _Finds,
    monitor: Monitor | Make,
    iterator: Iterator[Any],
    problems: Sequence[Problem],
) -> BrokenProperty | None:
    for problem in problems:
        subject = made(monitor, problem, iterator)
        detail = finds(monitor, problem, iterator)
        if detail:
            return BrokenProperty(name, subject, detail, str(problem))
    return None


def _modifies_states(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    run = iterates(problem, iterator, _STEPS)
    before = copy.deepcopy(run)
    memories(made(monitor, problem, iterator), run)
    found = first_difference(before, run)
    return found and f"iterates before and after they were watched: {found}"


def _modifies_memory(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    watching = made(monitor, problem, iterator)
    first, *others = iterates(problem, iterator, _STEPS)
    memory = watching.start(first)
    for iterate in others:
        before = copy.deepcopy(memory)
        following = watching.watch(iterate, memory)
        found = first_difference(before, memory)
        if found:
            return f"the memory before and after iteration {iterate.iteration}: {found}"
        memory = following
    return None


def _is_not_per_row(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    watching = made(monitor, problem, iterator)
    for number, memory in enumerate(memories(watching, iterates(problem, iterator, _STEPS))):
        found = not_per_row(memory, len(problem.start))
        if found:
            return f"in the memory after iteration {number}, {found}"
    return None


def _rows_meet(monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]) -> str | None:
    watching = made(monitor, problem, iterator)
    batch = len(problem.start)
    run = iterates(problem, iterator, _STEPS)
    undisturbed = memories(watching, run)
    far = iterates(replace(problem, start=3 * problem.start + 5), iterator, _STEPS)
    for row in range(batch):
        mask = torch.arange(batch) == row
        others = (~mask).nonzero().flatten()
        for other, words in ((far, "elsewhere"), (_spoilt(run), "NaN")):
            mixed = [
                where_rows(mask, theirs, ours) for theirs, ours in zip(other, run, strict=True)
            ]
            for number, memory in enumerate(memories(watching, mixed)):
                found = first_difference(
                    select_rows(memory, others), select_rows(undisturbed[number], others)
                )
                if found:
                    return f"row {row} is {words}, and after {number} steps in another: {found}"
    return None


def _spoilt(run: Sequence[Iterate]) -> list[Iterate]:
    """The same iterates with NaN in every floating-point tensor, from the second on."""
    spoilt = [run[0]]
    for iterate in run[1:]:
        state = iterate.state
        nan = torch.full_like(state.point, torch.nan)
        norm = torch.full_like(iterate.residual_norm, torch.nan)
        spoilt.append(
            replace(
                iterate,
                state=replace(state, z=nan, point=nan, residual=nan),
                residual_norm=norm,
                point_norm=norm,
            )
        )
    return spoilt


def _select_matters(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    watching = made(monitor, problem, iterator)
    batch = len(problem.start)
    run = iterates(problem, iterator, _STEPS)
    seen = memories(watching, run)
    for rows in ([*range(batch - 1, -1, -1)], [batch - 1], [batch - 1, 0]):
        index = torch.tensor(rows)
        for number in range(_STEPS):
            selected = select_rows(run[number + 1], index)
            before = watching.watch(selected, select_rows(seen[number], index))
            found = first_difference(select_rows(seen[number + 1], index), before)
            if found:
                return f"rows {rows} selected after and before iteration {number + 1}: {found}"
    return None


def _changes_the_run(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    options = {"rtol": 1e-3, "max_iterations": 40}
    alone = solve(problem.operator, problem.start, iterator, **options)  # type: ignore[arg-type]
    watching = made(monitor, problem, iterator)
    watched = solve(
        problem.operator,
        problem.start,
        iterator,
        monitors=(watching,),
        **options,  # type: ignore[arg-type]
    )
    for name in ("z", "residual_norm", "status", "iterations", "evaluations", "history"):
        found = first_difference(getattr(alone, name), getattr(watched, name))
        if found:
            return f"solve without and with the monitor: {name}, {found}"
    return None


def _adds_evaluations(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    recorded = Recorded(problem.operator)
    run = iterates(problem, iterator, _STEPS)
    watching = made(monitor, replace(problem, operator=recorded), iterator)
    recorded.calls.clear()
    watching.report(memories(watching, run)[-1])
    if recorded.calls:
        return f"T was evaluated {len(recorded.calls)} times while {_STEPS} steps were watched"
    return None


def _report_loses_rows(
    monitor: Monitor | Make, problem: Problem, iterator: Iterator[Any]
) -> str | None:
    watching = made(monitor, problem, iterator)
    batch = len(problem.start)
    seen = memories(watching, iterates(problem, iterator, 40))
    index = torch.arange(batch - 1, -1, -1)
    found = _reports_differ(
        _per_row(watching.report(seen[-1]), batch, index),
        _per_row(watching.report(select_rows(seen[-1], index)), batch),
    )
    if found:
        return f"the reports on rows in their order and reversed, {found}"
    solution = solve(
        problem.operator,
        problem.start,
        iterator,
        rtol=1e-3,
        max_iterations=40,
        monitors=(made(monitor, problem, iterator),),
    )
    (report,) = solution.monitors
    for row, steps in enumerate(solution.iterations.tolist()):
        index = torch.tensor([row])
        found = _reports_differ(
            _per_row(watching.report(seen[steps]), batch, index),
            _per_row(report, batch, index),
        )
        if found:
            return f"row {row}, watched for {steps} steps and as solve reports it: {found}"
    return None


def _per_row(report: Any, batch: int, index: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors of a report that have the batch first; a report may hold other things too."""
    rows = torch.arange(batch) if index is None else index
    return {
        path: leaf.index_select(0, rows)
        for path, leaf in leaves(report)
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.shape[0] == batch
    }


def _reports_differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> str | None:
    """As `first_difference`, up to the order of a sum."""
    if a.keys() != b.keys():
        return "they have not the same parts"
    for path in a:
        x, y = a[path], b[path]
        if x.is_floating_point():
            if not torch.allclose(x, y, rtol=1e-6, atol=0, equal_nan=True):
                return f"{path or 'the value'} is {x.tolist()} in one and {y.tolist()} in the other"
        elif first_difference(x, y):
            return f"{path or 'the value'}: {first_difference(x, y)}"
    return None


def _search_certificates(
    monitor: Monitor | Make,
    certified: Callable[[Any], Tensor | bool],
    runs: Sequence[tuple[Problem, Iterator[Any]]],
) -> BrokenProperty | None:
    for problem, iterator in runs:
        subject = made(monitor, problem, iterator)
        with warnings.catch_warnings():
            # That the run lies outside the theorem is the point of it.
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
                said = torch.as_tensor(certified(solution.monitors[0]))
                if bool(said.any()):
                    return BrokenProperty(
                        "no false certificate",
                        subject,
                        f"{iterator!r} is certified after {steps} steps, in rows "
                        f"{said.reshape(-1).nonzero().flatten().tolist()}",
                        str(problem),
                    )
    return None


_PROPERTIES: list[tuple[str, _Finds]] = [
    ("no evaluation is added", _adds_evaluations),
    ("states are not modified", _modifies_states),
    ("old memory is untouched", _modifies_memory),
    ("memory has the batch first", _is_not_per_row),
    ("rows are independent", _rows_meet),
    ("select and watch commute", _select_matters),
    ("run is not changed", _changes_the_run),
    ("report keeps the rows in order", _report_loses_rows),
]
