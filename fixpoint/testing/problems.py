"""Problems for the checks, the smallest first, so that a failure has a small example."""

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
from fixpoint.testing.broken_property import describe
from fixpoint.testing.known_operator import KnownOperator, Planes, Separable
from fixpoint.testing.wrapped import Undeclared
from fixpoint.trees.rows import select_rows


@dataclass(frozen=True, eq=False)
class Problem:
    """An operator whose zero is sought, and the starting points.

    Attributes:
        name: shown in messages.
        operator: T.
        start: (batch, *shape), the starting points; rows at different distances from the zero.
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
        return f"{self.name}: {len(self.start)} rows, T = {describe(self.operator)}"


def ladder(cocoercivity: float = 1.0) -> list[Problem]:
    """Problems that are exactly beta-cocoercive: every method with a theorem solves them.

    They grow in size and difficulty; their names are "one dimension", "diagonal", "symmetric",
    "null directions", "not symmetric" and "not linear". Each has three rows whose starts are
    0.01, 1 and 10 away from their zero. Without a theorem a method may fail on some, as Adam
    with a constant step does on "not symmetric".
    """
    forms: list[tuple[str, Separable | Planes, int]] = [
        ("one dimension", Separable((1.0,)), 0),
        ("diagonal", Separable((1.0, 0.25)), 0),
        ("symmetric", Separable((1.0, 0.5, 0.25, 0.1)), 1),
        ("null directions", Separable((1.0, 0.25, 0.0)), 2),
        ("not symmetric", Planes((math.acos(0.9), math.acos(0.5))), 3),
        ("not linear", Separable((1.0, 0.9, 0.8, 0.6, 0.4, 0.3), "softening"), 4),
    ]
    return [
        _problem(name, KnownOperator(cocoercivity, _random_zero(form.size), form, basis))
        for name, form, basis in forms
    ]


def runaways(dtype: torch.dtype = torch.float64) -> list[Problem]:
    """Problems without a zero, and one whose zero is hard to reach.

    No run of any method may call a row solved, at any tolerance, unless the row is at a zero.

    - A constant, and maps that tend to a constant: residuals tend to 1 or 1/2, and z diverges.
    - `exp(z) - 1` from 12: a step of length 1 ends far below the zero, where T is almost -1.
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
      and steps too large by a factor 1 + excess, with an excess of 0.1 to 1e-6; their constants
      declared or not. Inertial KM takes a cocoercivity too large by that factor, so that its step
      exceeds what its theorem allows for every pair (lambda, beta).
    - Operators with a negative slope of 1/10 to 1/10000, which may hardly show along the run.

    No monitor may certify a theorem on such a run, in any dtype. Measurements in few bits are
    coarse, but the constants are known.
    """
    beta = cocoercivity
    runs: list[tuple[Problem, Iterator[Any]]] = []
    plane = Planes((math.acos(0.6),))
    known = KnownOperator(beta, _random_zero(2), plane)
    for excess in (0.1, 1e-2, 1e-3, 1e-6):
        for operator in (known, Undeclared(known)):
            declared = "declared" if operator is known else "not declared"
            start = known.zero + torch.tensor(_DISTANCES, dtype=torch.float64).unsqueeze(1)
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
        operator = KnownOperator(beta, _random_zero(2), Separable((1.0, -slope)))
        problem = _problem(f"negative slope of {slope:g}", operator)
        runs.append((problem, ForwardStep(step_size=beta)))
        runs.append((problem, InertialKM(cocoercivity=beta)))
    return [(_cast(problem, dtype), iterator) for problem, iterator in runs]


_DISTANCES = (0.01, 1.0, 10.0)


def _inertial(cocoercivity: float) -> InertialKM:
    """With the longest step that theorem 2 admits for this beta, times 1 - 1e-9."""
    inertia = 0.2
    relaxation = theory.largest_relaxation(inertia) * (1 - 1e-9)
    return InertialKM(inertia=inertia, relaxation=relaxation, cocoercivity=cocoercivity)


def _cast(problem: Problem, dtype: torch.dtype) -> Problem:
    assert problem.zero is not None
    name = problem.name if dtype == torch.float64 else f"{problem.name}, in {dtype}"
    return replace(problem, name=name, start=problem.start.to(dtype), zero=problem.zero.to(dtype))


def _random_zero(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(len(_DISTANCES), size, generator=generator, dtype=torch.float64)


def _problem(name: str, operator: KnownOperator) -> Problem:
    generator = torch.Generator().manual_seed(operator.zero.shape[1] + 100)
    direction = torch.randn(operator.zero.shape, generator=generator, dtype=torch.float64)
    distance = torch.tensor(_DISTANCES, dtype=torch.float64).unsqueeze(1)
    start = operator.zero + distance * direction / direction.norm(dim=1, keepdim=True)
    return Problem(name, operator, start, operator.zero)
