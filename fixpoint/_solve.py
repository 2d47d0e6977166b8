"""`solve`: look for a zero of an operator with a method, each row on its own.

Rows are independent. Each leaves the batch when a stop rule ends it, so that the cost of a run is
the sum of what its rows need. On a GPU nothing is read back to the host inside an iteration: the
flags are looked at every `check_every` iterations, and rows that ended in between are frozen.
Those iterations can also be replayed from one CUDA graph. `fixpoint.loop` has the run itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from fixpoint import kernels
from fixpoint._default_iterator import default_iterator
from fixpoint._keywords import suggests
from fixpoint.checkpoints.checkpoint import Checkpoint, Journal, Unsaved
from fixpoint.iterator import Iterator, State
from fixpoint.loop.iterate import Iterate
from fixpoint.loop.residual import PositiveLimit, Residual, RoundingLevel
from fixpoint.loop.run import Loop
from fixpoint.loop.steps import Steps
from fixpoint.monitors import Monitor
from fixpoint.operator import Operator
from fixpoint.solution import History, Solution, SolveError
from fixpoint.stop import Divergence, NonFinite, StopRule
from fixpoint.trees.structured import takes_trees


@takes_trees
@torch.no_grad()
@suggests
def solve(
    operator: Operator,
    z0: Float[Tensor, "batch *shape"],
    iterator: Iterator[Any] | None = None,
    *,
    rtol: float = 1e-5,
    atol: float | Float[Tensor, " batch"] = 0.0,
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

    A row has converged when `||T z|| <= atol + rtol ||T z0||` at the point that is returned, and
    the extrapolated limit of its residual is below 0.6 of it: no row counts as converged whose
    residual tends to a positive limit. A residual at the level of T's rounding at
    that point counts as zero, and has a status of its own. See `fixpoint.loop.residual`.

    Args:
        operator: T; wrap a function with `as_operator`.
        z0: (batch, *shape), floating point and finite; or a tuple or dict of such tensors, with T
            from such trees to such trees, see `fixpoint.trees.structured`.
        iterator: the method, as `ForwardStep(step_size=1.0)`; by default safeguarded Anderson
            acceleration that adapts, or extragradient steps where T is declared monotone and
            Lipschitz and no more: see `default_iterator`.
        rtol: tolerance on the residual, relative to that at `z0`, in [0, 1).
        atol: absolute tolerance on it, at least 0, a number or (batch,). With both at 0 only a
            residual of 0 ends a row as converged.
        max_iterations: steps at most; a row that reaches this limit has not succeeded. It ends as
            NO_ZERO if its residual tends to a positive limit; see `Solution.displacement`.
        stop: further stop rules; the first one that fires gives the status. A `Divergence` among
            them takes the place of the default one.
        monitors: observers, whose reports stand in `solution.monitors`.
        keep: what a row without success returns: "best" (least residual), "last", or the
            point where a number that `Operator.evaluate` measures under this name was least.
        callback: called with every `Iterate`; its return value is ignored.
        progress: show a progress bar on standard error.
        throw: raise `SolveError` unless every row succeeded.
        check_every: iterations between two looks at the flags; 1 on the CPU and 5 elsewhere
            unless given.
        cuda_graph: capture `check_every` iterations and replay them, for small states on a GPU,
            where launches take most of the time. T must compute the same way each time and read
            nothing back to the host. If iterations cannot be captured they are made one by
            one, and `solution.graph` says why. Rows leave when half of them have ended.
        checkpoint: a file in which the run saves itself, and from which an interrupted run
            continues, bit for bit; see `Checkpoint`.

    Raises:
        TypeError, ValueError: an argument is not usable; nothing was evaluated yet. The file of
            `checkpoint` is damaged or belongs to another run.
        SolveError: see `throw`.
    """
    _check_arguments(operator, z0, iterator, max_iterations, stop, monitors, keep, check_every)
    if iterator is None:
        iterator = default_iterator(operator, z0)
    if check_every is None:
        check_every = 1 if z0.device.type == "cpu" else 5
    if len(z0) == 0:
        return _empty(z0)
    rules = _rules(rtol, atol, stop)
    freeze = check_every > 1 or cuda_graph
    steps = Steps(operator, iterator, rules, monitors, keep, callback, freeze=freeze)
    journal: Journal | Unsaved = Unsaved(z0)
    if checkpoint is not None:
        settings: dict[str, Any] = {"iterator": iterator, "rtol": rtol, "atol": atol}
        settings["stop"] = tuple(stop)
        settings |= {"monitors": tuple(monitors), "keep": keep}
        journal = Journal(checkpoint, operator, z0, settings, max_iterations)
    with tqdm(total=max_iterations, disable=not progress, desc=type(iterator).__name__) as bar:
        loop = Loop(
            z0,
            steps,
            max_iterations=max_iterations,
            check_every=check_every,
            cuda_graph=cuda_graph,
            bar=bar,
        )
        journal.begin(loop)
        while loop.running:
            loop.retire()
            journal.save(loop)
            loop.advance()
    solution = loop.solution()
    if throw and not solution.success:
        raise SolveError(solution)
    return solution


def _rules(rtol: float, atol: float | Tensor, stop: Sequence[StopRule]) -> tuple[StopRule, ...]:
    """Every rule of a run; the first that fires decides."""
    within = Residual(rtol=rtol, atol=atol)
    # With no tolerance at all the user wants every iteration.
    rounding = (RoundingLevel(),) if rtol > 0 or bool(torch.as_tensor(atol).any()) else ()
    diverged = () if any(isinstance(rule, Divergence) for rule in stop) else (Divergence(),)
    return (NonFinite(), within, *rounding, *stop, *diverged, PositiveLimit())


def _empty(z0: Tensor) -> Solution:
    none = torch.zeros(0, dtype=torch.long, device=z0.device)
    norms = torch.zeros(0, dtype=kernels.accumulation_dtype(z0.dtype), device=z0.device)
    return Solution(z0, norms, (), none, none, History(norms.reshape(0, 0), {}), (), {})


def _check_arguments(
    operator: Operator,
    z0: Tensor,
    iterator: Iterator[State] | None,
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
    if iterator is not None and not isinstance(iterator, Iterator):
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
