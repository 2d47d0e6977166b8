"""A ladder of problems, the smallest first: whatever fails on an early rung is easy to look at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import theory
from fixpoint.iterator import Iterator
from fixpoint.iterators import ForwardStep, InertialKM
from fixpoint.operator import Operator, as_operator
from fixpoint.testing.broken_property import described
from fixpoint.testing.known_operator import KnownOperator, Planes, Separable
from fixpoint.testing.wrapped import Undeclared
from fixpoint.trees.rows import select_rows


@dataclass(frozen=True, eq=False)
class Problem:
    """A zero to be found.

    Attributes:
        name: what it is, for messages.
        operator: T.
        start: (batch, *shape), the starting points; several rows at different distances.
        zero: (batch, *shape), a zero of T; None where none is known.
    """

    name: str
    operator: Operator
    start: Float[Tensor, "batch *shape"]
    zero: Float[Tensor, "batch *shape"] | None = None

    def select(self, rows: Tensor) -> Problem:
        """The rows with these indices, in that order."""
        zero = None if self.zero is None else select_rows(self.zero, rows)
        return Problem(self.name, self.operator.select(rows), select_rows(self.start, rows), zero)

    def __str__(self) -> str:
        return f"{self.name}: {len(self.start)} rows, T = {described(self.operator)}"


def ladder(cocoercivity: float = 1.0) -> list[Problem]:
    """Problems that are exactly beta-cocoercive: every method with a theorem solves them.

    They grow in size and difficulty; their names are "one dimension", "diagonal", "symmetric",
    "null directions", "not symmetric" and "not linear". Each has three rows whose starts are
    0.01, 1 and 10 away from their zero. Without a theorem a method may fail on some, as Adam
    with a constant step does on "not symmetric".
    """
    rungs: list[tuple[str, Separable | Planes, int]] = [
        ("one dimension", Separable((1.0,)), 0),
        ("diagonal", Separable((1.0, 0.25)), 0),
        ("symmetric", Separable((1.0, 0.5, 0.25, 0.1)), 1),
        ("null directions", Separable((1.0, 0.25, 0.0)), 2),
        ("not symmetric", Planes((math.acos(0.9), math.acos(0.5))), 3),
        ("not linear", Separable((1.0, 0.9, 0.8, 0.6, 0.4, 0.3), "softening"), 4),
    ]
    return [
        _known(name, KnownOperator(cocoercivity, _zero(form.size), form, basis), _AWAY)
        for name, form, basis in rungs
    ]


def runaways(dtype: torch.dtype = torch.float64) -> list[Problem]:
    """Problems without a zero, and one whose zero lies far behind a plain: no run of any method
    may call a row of them solved, at whatever tolerance, unless it is at a zero.

    - a constant, and maps that tend to one: residuals tend to 1 or 1/2 while z runs away;
    - `exp(z) - 1` from 12: a step of length 1 lands where T is -1 and stays so.
    """
    start = torch.tensor([[5.0], [0.5], [40.0]], dtype=dtype)
    steep = torch.tensor([[12.0], [11.0], [9.0]], dtype=dtype)
    softplus = torch.nn.functional.softplus
    return [
        Problem("constant", as_operator(torch.ones_like), start),
        Problem("1 + softplus", as_operator(lambda z: 1 + softplus(z)), start),
        Problem("1 + tanh / 2", as_operator(lambda z: 1 + 0.5 * torch.tanh(z)), start),
        Problem("exp - 1", as_operator(lambda z: torch.exp(z) - 1), steep, torch.zeros_like(steep)),
    ]


def outside(
    cocoercivity: float = 1.0, dtype: torch.dtype = torch.float64
) -> list[tuple[Problem, Iterator[Any]]]:
    """Runs just outside the theorems of the forward step and of inertial KM.

    - Operators for which the cocoercivity inequality is an equality for every pair of points,
      with a step too large by a part in 10 to in a million; their constants declared or not. For
      inertial KM that is a step beyond every pair (lambda, beta) of its theorem.
    - Operators with a negative slope of 1/10 to 1/10000 that is met along the run, or hardly met.

    Nothing that watches such a run may certify a theorem on it. In fewer bits neither: that
    measurements are coarse there is no reason to be generous with constants that are known.
    """
    beta = cocoercivity
    runs: list[tuple[Problem, Iterator[Any]]] = []
    turning = Planes((math.acos(0.6),))
    known = KnownOperator(beta, _zero(2), turning)
    for excess in (0.1, 1e-2, 1e-3, 1e-6):
        for operator in (known, Undeclared(known)):
            declared = "declared" if operator is known else "not declared"
            start = known.zero + torch.tensor(_AWAY, dtype=torch.float64).unsqueeze(1)
            problem = Problem(
                f"exactly {beta:.6g}-cocoercive ({declared}), exceeded by {excess:g}",
                operator,
                start,
                known.zero,
            )
            step = 2 * beta * (1 + excess)
            runs.append((problem, ForwardStep(step_size=step)))
            runs.append((problem, _inertial(beta * (1 + excess))))
    for slope in (0.1, 1e-2, 1e-3, 1e-4):
        operator = KnownOperator(beta, _zero(2), Separable((1.0, -slope)))
        problem = _known(f"negative slope of {slope:g}", operator, _AWAY)
        runs.append((problem, ForwardStep(step_size=beta)))
        runs.append((problem, InertialKM(cocoercivity=beta)))
    return [(_in(problem, dtype), iterator) for problem, iterator in runs]


_AWAY = (0.01, 1.0, 10.0)


def _inertial(cocoercivity: float) -> InertialKM:
    """With the longest step that theorem 2 admits for this beta, less a part in a billion."""
    inertia = 0.2
    relaxation = theory.largest_relaxation(inertia) * (1 - 1e-9)
    return InertialKM(inertia=inertia, relaxation=relaxation, cocoercivity=cocoercivity)


def _in(problem: Problem, dtype: torch.dtype) -> Problem:
    assert problem.zero is not None
    name = problem.name if dtype == torch.float64 else f"{problem.name}, in {dtype}"
    return replace(problem, name=name, start=problem.start.to(dtype), zero=problem.zero.to(dtype))


def _zero(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(len(_AWAY), size, generator=generator, dtype=torch.float64)


def _known(name: str, operator: KnownOperator, away: tuple[float, ...]) -> Problem:
    generator = torch.Generator().manual_seed(operator.zero.shape[1] + 100)
    direction = torch.randn(operator.zero.shape, generator=generator, dtype=torch.float64)
    distance = torch.tensor(away, dtype=torch.float64).unsqueeze(1)
    start = operator.zero + distance * direction / direction.norm(dim=1, keepdim=True)
    return Problem(name, operator, start, operator.zero)
