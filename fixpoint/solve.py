"""The loop: the only file that iterates.

Rows are independent. Each leaves the batch when a stop rule ends it, so that the cost of a run is
the sum of what its rows need. On a GPU nothing is read back to the host inside an iteration: the
flags are looked at every `check_every` iterations, and rows that ended in between are frozen.
Those iterations can also be replayed from one CUDA graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from fixpoint import kernels
from fixpoint.certificate import Certificate, Claim, TheoremReport
from fixpoint.checkpoint import Checkpoint, Journal
from fixpoint.cuda_graph import CudaGraph, NotCapturable, NotSettled
from fixpoint.iterate import Iterate
from fixpoint.iterator import Iterator, Request, State
from fixpoint.monitors import Monitor
from fixpoint.operator import Operator
from fixpoint.rows import expand_rows, join_rows, select_rows, where_rows
from fixpoint.status import Status
from fixpoint.stop import Divergence, NonFinite, Residual, StopRule
from fixpoint.structured import takes_trees

RUNNING = -1


@dataclass(frozen=True)
class History:
    """What was measured at every iteration; NaN once a row has left.

    `residual_norm` and the tensors in `measured` have shape (iterations + 1, batch): entry 0
    belongs to the starting point.
    """

    residual_norm: Float[Tensor, "iterations batch"]
    measured: dict[str, Float[Tensor, "iterations batch"]]


@dataclass(frozen=True)
class Solution:
    """How a run ended, row by row; rows in the order of `z0`.

    Attributes:
        z: (batch, *shape), the returned points; a tree where `z0` was one.
        residual_norm: `||T z||` of the returned points.
        status: why each row ended.
        iterations: steps taken by each row.
        evaluations: calls of T in which each row took part.
        history: residuals and measurements, iteration by iteration.
        monitors: the report of each monitor, in the order given.
        statistics: counts that the iterator keeps, per row.
        graph: what became of `cuda_graph=True`: how many iterations were replayed, or why none.
    """

    z: Float[Tensor, "batch *shape"]
    residual_norm: Float[Tensor, " batch"]
    status: tuple[Status, ...]
    iterations: Int[Tensor, " batch"]
    evaluations: Int[Tensor, " batch"]
    history: History
    monitors: tuple[Any, ...]
    statistics: dict[str, Int[Tensor, " batch"]]
    graph: str | None = None

    @property
    def certificate(self) -> Certificate:
        """What the run says about the theorems among its monitors; see `Certificate`."""
        claims: list[Claim] = []
        remarks: list[str] = []
        for report in self.monitors:
            if isinstance(report, TheoremReport):
                claims.extend(report.claims)
                remarks.extend(report.remarks(self.status))
        return Certificate(tuple(claims), tuple(remarks))

    @property
    def success(self) -> bool:
        """True where every row converged or reached the noise floor."""
        return all(status.success for status in self.status)

    def __str__(self) -> str:
        counts = Counter(self.status)
        lines = [
            f"{len(self.status)} rows, {int(self.evaluations.sum())} row evaluations of T, "
            f"largest residual {float(self.residual_norm.max()):.3g}"
            if self.status
            else "no rows"
        ]
        for status in Status:
            if counts[status]:
                lines.append(f"  {counts[status]:>5}  {status.name}: {status.message}")
        return "\n".join(lines)


class SolveError(RuntimeError):
    """Raised by `solve(..., throw=True)` where a row did not succeed; carries the `solution`."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(str(solution))
        self.solution = solution


@dataclass(frozen=True)
class _Record:
    """What is known of every row so far: the tree that freezes and leaves with it."""

    z: Tensor
    residual_norm: Tensor
    merit: Tensor  # the least of what `keep` names
    status: Tensor
    iterations: Tensor
    evaluations: Tensor
    memories: tuple[Any, ...]
    observations: tuple[Any, ...]
    statistics: dict[str, Tensor]


class _Watched(Operator):
    """The user's operator, with its calls counted, checked and its measurements kept."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.calls = 0  # since they were last asked for
        self.seen: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.cocoercivity = operator.cocoercivity
        self.star_cocoercivity = getattr(operator, "star_cocoercivity", None)
        self.lipschitz = operator.lipschitz
        self.strong_monotonicity = operator.strong_monotonicity
        self.averagedness = operator.averagedness

    def __call__(self, z: Tensor) -> Tensor:
        return self.evaluate(z)[0]

    def evaluate(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        value, measured = self.operator.evaluate(z)
        if not isinstance(value, Tensor):
            raise TypeError(f"T must return a tensor, got {type(value).__name__}")
        if value.shape != z.shape or value.dtype != z.dtype or value.device != z.device:
            raise ValueError(
                f"T must return the shape, dtype and device of its argument: got "
                f"{tuple(value.shape)} {value.dtype} on {value.device} for "
                f"{tuple(z.shape)} {z.dtype} on {z.device}"
            )
        self.calls += 1
        self.seen.append((z, measured))
        return value, measured

    def select(self, rows: Tensor) -> _Watched:
        return _Watched(self.operator.select(rows))

    def new_calls(self) -> int:
        """Calls since the last one of this method."""
        calls, self.calls = self.calls, 0
        return calls

    def forget(self) -> None:
        """The calls and measurements of an iteration that was not made."""
        self.calls = 0
        self.seen.clear()

    def measured_at(self, point: Tensor) -> dict[str, Tensor]:
        """What was measured at `point` since the last call of this method."""
        found = [measured for z, measured in self.seen if z is point]
        self.seen.clear()
        return found[-1] if found else {}


@takes_trees
@torch.no_grad()
def solve(
    operator: Operator,
    z0: Float[Tensor, "batch *shape"],
    iterator: Iterator[Any],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    max_iterations: int = 1000,
    stop: Sequence[StopRule] = (),
    monitors: Sequence[Monitor] = (),
    keep: str = "best",
    callback: Callable[[Iterate], object] | None = None,
    progress: bool = False,
    throw: bool = False,
    check_every: int | None = None,
    cuda_graph: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Solution:
    """Look for a zero of `operator` from `z0`, each row on its own.

    A row has converged when `||T z|| <= atol + rtol ||z||` at the point that is returned.

    Args:
        operator: T; wrap a function with `as_operator`.
        z0: (batch, *shape), floating point and finite; or a tuple or dict of such tensors, with T
            from such trees to such trees, see `fixpoint.structured`.
        iterator: the method, as `ForwardStep(step_size=1.0)`.
        rtol, atol: relative and absolute tolerance on the residual, at least 0.
        max_iterations: steps at most; a row that gets there has not succeeded.
        stop: further stop rules; the first one that fires gives the status.
        monitors: observers, whose reports stand in `solution.monitors`.
        keep: what a row returns that ended without success: "best" (least residual), "last", or the
            point where a number that `Operator.evaluate` measures under this name was least.
        callback: called with every `Iterate`; its return value is ignored.
        progress: show a progress bar on standard error.
        throw: raise `SolveError` unless every row succeeded.
        check_every: iterations between two looks at the flags; 1 on the CPU and 5 elsewhere
            unless given.
        cuda_graph: capture `check_every` iterations and replay them, for small states on a GPU,
            whose time is that of its launches. T must compute the same way each time and read
            nothing back to the host. Where iterations cannot be captured they are made one by
            one, and `solution.graph` says why. Rows leave when half of them have ended.
        checkpoint: a file in which the run saves itself, and from which it goes on, bit for bit,
            where it was interrupted; see `Checkpoint`.

    Raises:
        TypeError, ValueError: an argument is not usable; nothing was evaluated yet. The file of
            `checkpoint` is damaged or belongs to another run.
        SolveError: see `throw`.
    """
    _check_arguments(operator, z0, iterator, max_iterations, stop, monitors, keep, check_every)
    if check_every is None:
        check_every = 1 if z0.device.type == "cpu" else 5
    rules = (NonFinite(), Residual(rtol=rtol, atol=atol), *stop, Divergence())
    rows = torch.arange(z0.shape[0], device=z0.device)
    if len(rows) == 0:
        return _empty(z0)

    freeze = check_every > 1 or cuda_graph
    run = _Run(operator, iterator, rules, monitors, keep, callback, freeze=freeze)
    graphs = _Graphs(run, check_every) if cuda_graph else None
    journal = None
    if checkpoint is not None:
        settings = {"iterator": iterator, "rtol": rtol, "atol": atol, "stop": tuple(stop)}
        settings |= {"monitors": tuple(monitors), "keep": keep}
        journal = Journal(checkpoint, operator, z0, settings, max_iterations)
    left: list[tuple[Tensor, _Record]] = []
    log: list[_Entry] = []
    iteration = 0

    def save(tree: Callable[[], _Kept], entries: list[tuple[Tensor, dict[str, Tensor]]]) -> None:
        def carried() -> _Progress:
            lines = [*log, *((rows, *shown) for shown in entries)]
            return _Progress(tree(), rows, tuple(left), _history(lines, len(z0)))

        if journal is not None:
            journal.save(carried, iteration + len(entries))

    bar = tqdm(total=max_iterations, disable=not progress, desc=type(iterator).__name__)
    with bar:
        found: _Progress | None = None if journal is None else journal.resume()
        kept: _Kept | None
        if found is None:
            kept, shown = run.start(z0, rows)
            log.append((rows, *shown))
            if journal is not None:
                journal.begin(kept.state.point, kept.state.residual)
        else:
            left, log = list(found.left), _entries(found.history, rows)
            iteration = len(log) - 1
            kept, rows = found.kept, found.rows
            if left:
                run.watched = run.watched.select(rows)
            bar.update(iteration)
        seen: Tensor | None = None
        while kept is not None:
            if iteration % check_every == 0 or iteration == max_iterations:
                record = kept.record
                # The very tensor that was looked at before: no rule has fired since.
                if record.status is not seen or iteration == max_iterations:
                    ended = record.status != RUNNING
                    if iteration == max_iterations:
                        limit = torch.full_like(record.status, Status.MAX_ITERATIONS.code)
                        record = replace(record, status=torch.where(ended, record.status, limit))
                        ended = torch.ones_like(ended)
                    if bool(ended.any()):
                        gone, stay = ended.nonzero().flatten(), (~ended).nonzero().flatten()
                        left.append((rows[gone], select_rows(record, gone)))
                        if not len(stay):
                            break
                        rows = rows[stay]
                        kept = run.select(_Kept(kept.state, record), stay)
                    seen = kept.record.status
                save(partial(replace, kept), [])
                if progress:
                    bar.set_postfix(running=len(rows), refresh=False)
                if graphs is not None:
                    kept, entries = graphs.go_on(kept, rows, iteration, max_iterations, save)
                    log.extend((rows, *shown) for shown in entries)
                    iteration += len(entries)
                    bar.update(len(entries))
                    if entries:
                        continue
            iteration += 1
            kept, shown = run.step(kept, rows, iteration, last=iteration == max_iterations)
            log.append((rows, *shown))
            bar.update()

    solution = _assemble(left, log, len(z0), monitors)
    if graphs is not None:
        solution = replace(solution, graph=graphs.report())
    if journal is not None and kept is not None:
        result = _Progress(None, rows[:0], tuple(left), _history(log, len(z0)))
        limited = Status.MAX_ITERATIONS in solution.status
        journal.save(lambda: result, iteration, ended=True, limited=limited)
    if throw and not solution.success:
        raise SolveError(solution)
    return solution


@dataclass(frozen=True)
class _Kept:
    """What one iteration leaves to the next."""

    state: State
    record: _Record


_Entry = tuple[Tensor, Tensor, dict[str, Tensor]]  # rows, their residuals, what was measured


@dataclass(frozen=True)
class _Progress:
    """What the loop carries from one iteration to the next."""

    kept: _Kept | None  # None: every row has left
    rows: Tensor
    left: tuple[tuple[Tensor, _Record], ...]
    history: History


class _Run:
    """One iteration of the rows that are left, and everything that watches it."""

    def __init__(
        self,
        operator: Operator,
        iterator: Iterator[Any],
        rules: Sequence[StopRule],
        monitors: Sequence[Monitor],
        keep: str,
        callback: Callable[[Iterate], object] | None,
        *,
        freeze: bool,
    ) -> None:
        self.watched = _Watched(operator)
        self.iterator = iterator
        self.rules = rules
        self.monitors = monitors
        self.keep = keep
        self.callback = callback
        self.freeze = freeze  # rows may have ended that are still in the batch
        self.pairs = any(monitor.pairs for monitor in monitors)

    def start(self, z0: Tensor, rows: Tensor) -> tuple[_Kept, tuple[Tensor, dict[str, Tensor]]]:
        """The first iterate: what to keep of it, and its entry in the history."""
        return self._observe(None, self.iterator.init(self.watched, z0), rows, 0)

    def step(
        self, kept: _Kept, rows: Tensor, iteration: int | Tensor, *, last: bool
    ) -> tuple[_Kept, tuple[Tensor, dict[str, Tensor]]]:
        """The next one. `iteration` is a tensor where it is counted on the device."""
        state = kept.state
        if self.pairs or self.freeze or last:
            done = kept.record.status != RUNNING if self.freeze else None
            request = Request(pairs=self.pairs, done=done, last=last)
            state = replace(state, request=request)
        state = self.iterator.step(self.watched, state)
        return self._observe(kept.record, state, rows, iteration)

    def select(self, kept: _Kept, rows: Tensor) -> _Kept:
        """Go on with some of the rows."""
        self.watched = self.watched.select(rows)
        return select_rows(kept, rows)

    def _observe(
        self, record: _Record | None, state: State, rows: Tensor, iteration: int | Tensor
    ) -> tuple[_Kept, tuple[Tensor, dict[str, Tensor]]]:
        sums = state.sums
        if sums is None:
            sums = kernels.row_sums(state.point, state.residual)
        iterate = Iterate(
            iteration=iteration,
            rows=rows,
            state=state,
            residual_norm=sums.residual.sqrt(),
            point_norm=sums.point.sqrt(),
            measured=self.watched.measured_at(state.point),
        )
        if record is None:
            _check_measured(self.keep, iterate)
        if self.callback is not None:
            self.callback(iterate)
        # Rows that ended since the flags were last looked at are frozen; None: there are none.
        running = None if record is None or not self.freeze else record.status == RUNNING
        following = _advance(
            record,
            iterate,
            self.rules,
            self.monitors,
            self.keep,
            self.iterator.statistics(state),
            self.watched.new_calls(),
            look=not self.freeze,
            running=running,
        )
        if record is not None and running is not None:
            # z is frozen already, in the pass over memory that chose it.
            rest = where_rows(running, replace(following, z=record.z), record)
            following = replace(rest, z=following.z)
        return _Kept(state, following), _shown(iterate, running)


class _Graphs:
    """The same iterations from CUDA graphs, as long as there can be one."""

    def __init__(self, run: _Run, count: int) -> None:
        self.run = run
        self.count = count  # iterations of a graph
        self.replayed = 0
        self.before: _Kept | None = None
        self.reason: str | None = None  # why there can be none
        self.pending: str | None = None  # why there was none yet
        if run.callback is not None:
            self.reason = "a callback is called at every iteration"

    def go_on(
        self,
        kept: _Kept,
        rows: Tensor,
        iteration: int,
        max_iterations: int,
        save: Callable[[Callable[[], _Kept], list[tuple[Tensor, dict[str, Tensor]]]], None],
    ) -> tuple[_Kept, list[tuple[Tensor, dict[str, Tensor]]]]:
        """As many iterations as graphs can do before half of these rows have ended.

        A graph is captured where two iterations in a row leave trees of the same shape. `save` is
        called after each replay.
        """
        entries: list[tuple[Tensor, dict[str, Tensor]]] = []
        if self.reason:
            return kept, entries
        before, self.before = self.before, kept
        if before is None or iteration + self.count >= max_iterations:
            return kept, entries
        try:
            graph = CudaGraph(self._body(rows), kept, before, iteration, self.count)
        except NotCapturable as error:
            self.run.watched.forget()
            if isinstance(error, NotSettled):
                self.pending = str(error)
            else:
                self.reason = str(error)
            return kept, entries
        while iteration + len(entries) + self.count < max_iterations:
            entries.extend(graph.replay())
            save(graph.tree, entries)
            ended = graph.present().record.status != RUNNING
            if 2 * int(ended.sum()) >= len(rows):
                break
        self.replayed += len(entries)
        self.before = None
        return graph.tree(), entries

    def report(self) -> str:
        """What became of it, in a sentence."""
        if self.replayed:
            return f"{self.replayed} iterations were replayed from CUDA graphs"
        reason = self.reason or self.pending or "the run was too short"
        return f"no CUDA graph: {reason}"

    def _body(self, rows: Tensor) -> Callable[[_Kept, Tensor], tuple[_Kept, Any]]:
        return lambda kept, number: self.run.step(kept, rows, number, last=False)


def _advance(
    record: _Record | None,
    iterate: Iterate,
    rules: Sequence[StopRule],
    monitors: Sequence[Monitor],
    keep: str,
    statistics: dict[str, Tensor],
    calls: int,
    *,
    look: bool = False,
    running: Tensor | None = None,
) -> _Record:
    """The record after one more iterate, for which T was called so often.

    `look`: read back whether any row ends, and whether all have improved. Mostly none ends and all
    have: that saves a third of the time of a small problem's iteration, and of a large one the
    pass over memory that chooses the best point. `running`: the rows whose z may change.
    """
    norm, point = iterate.residual_norm, iterate.state.point
    if record is None:
        memories: tuple[Any, ...] = tuple(rule.start(iterate) for rule in rules)
        observations = tuple(monitor.start(iterate) for monitor in monitors)
    else:
        memories = record.memories
        observations = tuple(
            monitor.watch(iterate, memory)
            for monitor, memory in zip(monitors, record.observations, strict=True)
        )
    checks = [rule.check(iterate, memory) for rule, memory in zip(rules, memories, strict=True)]
    status = torch.full_like(norm, RUNNING, dtype=torch.long) if record is None else record.status
    accepted: Tensor | None = None
    fired = reduce(torch.logical_or, [fires for fires, _ in checks]) if look else None
    if fired is None or bool(fired.any()):
        status = torch.full_like(status, RUNNING)
        # The first rule that fires decides: it comes last.
        for rule, (fires, _) in zip(reversed(rules), reversed(checks), strict=True):
            status = torch.where(fires, rule.status.code, status)
            if rule.accepts:
                accepted = fires if accepted is None else accepted | fires
            elif accepted is not None:
                accepted = accepted & ~fires

    merit = norm
    if keep not in ("best", "last"):
        merit = iterate.measured.get(keep, torch.full_like(norm, torch.inf))
        merit = torch.where(merit.isnan(), torch.inf, merit)
    best, best_norm, best_merit = point, norm, merit
    if record is not None:
        taken = better = iterate.finite
        if keep != "last":
            lower = merit < record.merit
            if keep != "best":  # where nothing was ever measured, the residual decides
                unknown = merit.isinf() & record.merit.isinf()
                lower = lower | (unknown & (norm < record.residual_norm))
            taken = better = lower & better
        if accepted is not None:
            taken = better | accepted
        if running is not None:
            taken = taken & running
        if not (look and bool(better.all())):
            best = torch.where(expand_rows(taken, point), point, record.z)
            best_norm = torch.where(taken, norm, record.residual_norm)
            best_merit = torch.where(better, merit, record.merit)
    return _Record(
        z=best,
        residual_norm=best_norm,
        merit=best_merit,
        status=status,
        iterations=torch.zeros_like(status) if record is None else record.iterations + 1,
        evaluations=torch.full_like(status, calls)
        if record is None
        else record.evaluations + calls,
        memories=tuple(memory for _, memory in checks),
        observations=observations,
        statistics=statistics,
    )


def _shown(iterate: Iterate, running: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Residuals and measured numbers, NaN for rows that have ended but not left."""
    numbers = iterate.numbers
    if running is None:
        return iterate.residual_norm, numbers
    return (
        torch.where(running, iterate.residual_norm, torch.nan),
        {name: torch.where(running, value, torch.nan) for name, value in numbers.items()},
    )


def _assemble(
    left: list[tuple[Tensor, _Record]],
    log: list[_Entry],
    batch: int,
    monitors: Sequence[Monitor],
) -> Solution:
    record = join_rows(left)
    log = log[: int(record.iterations.max()) + 1]  # later entries hold frozen rows only
    return Solution(
        z=record.z,
        residual_norm=record.residual_norm,
        status=tuple(Status.from_code(code) for code in record.status.tolist()),
        iterations=record.iterations,
        evaluations=record.evaluations,
        history=_history(log, batch),
        monitors=tuple(
            monitor.report(memory)
            for monitor, memory in zip(monitors, record.observations, strict=True)
        ),
        statistics=record.statistics,
    )


def _history(log: Sequence[_Entry], batch: int) -> History:
    names = sorted({name for _, _, measured in log for name in measured})

    def table(entries: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        lines = []
        for rows, values in entries:
            if values is not None and len(rows) == batch:  # nobody has left, and they are in order
                lines.append(values.to(log[0][1]))
                continue
            line = log[0][1].new_full((batch,), torch.nan)
            lines.append(line if values is None else line.index_copy(0, rows, values.to(line)))
        return torch.stack(lines)

    return History(
        residual_norm=table([(rows, norms) for rows, norms, _ in log]),
        measured={
            name: table([(rows, measured.get(name)) for rows, _, measured in log]) for name in names
        },
    )


def _entries(history: History, rows: Tensor) -> list[_Entry]:
    """Its lines one by one; `rows` are the indices of them all."""
    return [
        (rows, norms, {name: values[i] for name, values in history.measured.items()})
        for i, norms in enumerate(history.residual_norm)
    ]


def _empty(z0: Tensor) -> Solution:
    none = torch.zeros(0, dtype=torch.long, device=z0.device)
    norms = torch.zeros(0, dtype=kernels.accumulation_dtype(z0.dtype), device=z0.device)
    return Solution(z0, norms, (), none, none, History(norms.reshape(0, 0), {}), (), {})


def _check_measured(keep: str, iterate: Iterate) -> None:
    numbers = sorted(iterate.numbers)
    if keep not in ("best", "last", *numbers):
        raise ValueError(
            'keep must be "best", "last" or one of the numbers that the operator measures, '
            f"{numbers}; got {keep!r}"
        )


def _check_arguments(
    operator: Operator,
    z0: Tensor,
    iterator: Iterator[State],
    max_iterations: int,
    stop: Sequence[StopRule],
    monitors: Sequence[Monitor],
    keep: str,
    check_every: int | None,
) -> None:
    if not isinstance(operator, Operator):
        raise TypeError(
            f"solve takes an Operator, got {type(operator).__name__}; "
            "wrap a function with fixpoint.as_operator"
        )
    if not isinstance(iterator, Iterator):
        raise TypeError(f"solve takes an Iterator as ForwardStep(), got {iterator!r}")
    if not isinstance(z0, Tensor):
        raise TypeError(f"z0 must be a tensor, got {type(z0).__name__}")
    if not z0.is_floating_point():
        raise TypeError(f"z0 must be floating point, got {z0.dtype}")
    if z0.dim() < 1:
        raise ValueError("z0 must have the batch first: (batch, *shape); got a single number")
    if not bool(z0.isfinite().all()):
        bad = (~z0.isfinite()).reshape(len(z0), -1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"z0 contains NaN or infinity in rows {bad}")
    if not (isinstance(max_iterations, int) and max_iterations >= 0):
        raise ValueError(f"max_iterations must be a whole number >= 0, got {max_iterations}")
    if not isinstance(keep, str):
        raise TypeError(f'keep must be "best", "last" or a measured name, got {keep!r}')
    if check_every is not None and not (isinstance(check_every, int) and check_every >= 1):
        raise ValueError(f"check_every must be a whole number, at least 1, got {check_every}")
    for kind, things in ((StopRule, stop), (Monitor, monitors)):
        for thing in things:
            if not isinstance(thing, kind):
                raise TypeError(f"expected a {kind.__name__} instance, got {thing!r}")
