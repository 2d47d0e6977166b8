"""Generated problems of which it is known whether they have a zero.

A problem is a row. Every family is drawn in batches, in both precisions, each row at a scale s of
its own from 1e-6 to 1e6: T(z) becomes s T(z / s). Where there is no zero, no residual is below a
bound of the order of s, so that any success is false. A success is also false where the residual of
the returned point, evaluated again in float64, is beyond the tolerance of `solve`, 1e-5 times the
first residual, or not below s / 10: however large the first one was, that is no zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.solvers.own import methods
from benchmarks.solvers.problems import Draws
from fixpoint import as_operator

RTOL = 1e-5
"""The tolerance of `solve` when none is given."""

NEAR = 0.1
"""Largest residual of a zero, in the scale of its row."""

ROUNDING = 1.05
"""Residuals are evaluated in the precision of the row: by how much float64 may disagree."""

WIDTH = 8
DTYPES = (torch.float64, torch.float32)

Map = Callable[..., Tensor]
Drawn = tuple[Map, tuple[Tensor, ...], Tensor]
"""T(z, *per_row), its tensors per row, and the starts."""


@dataclass(frozen=True)
class Family:
    """Random operators of one kind.

    Attributes:
        draw: so many of them, in float64 and at scale 1.
        solvable: every one has a zero; or else none has.
    """

    name: str
    draw: Callable[[Draws, int], Drawn]
    solvable: bool


def _product(matrix: Tensor, z: Tensor) -> Tensor:
    return torch.einsum("rij,rj->ri", matrix, z)


def cocoercive(draws: Draws, rows: int) -> Drawn:
    """T z = A (z - z*): a symmetric part from 0.05 to 1 and a skew one."""
    basis = torch.linalg.qr(draws.normal(rows, WIDTH, WIDTH))[0]
    values = 0.05 ** draws.uniform(rows, 1, WIDTH)
    skew = 0.1 * draws.normal(rows, WIDTH, WIDTH) * draws.uniform(rows, 1, 1)
    matrix = (basis * values) @ basis.mT + skew - skew.mT
    zero = draws.normal(rows, WIDTH)
    start = torch.zeros_like(zero)
    return lambda z, matrix, zero: _product(matrix, z - zero), (matrix, zero), start


def potential(draws: Draws, rows: int) -> Drawn:
    """T z = A^T tanh(A (z - z*)), the gradient of a convex function; |A| is about 1."""
    matrix = draws.normal(rows, 2 * WIDTH, WIDTH) / 5
    zero = 2 * draws.normal(rows, WIDTH)

    def slope(z: Tensor, matrix: Tensor, zero: Tensor) -> Tensor:
        return _product(matrix.mT, _product(matrix, z - zero).tanh())

    return slope, (matrix, zero), torch.zeros_like(zero)


def exponential(draws: Draws, rows: int) -> Drawn:
    """T z = exp(z - z*) - 1: steep on one side, flat on the other."""
    zero = draws.normal(rows, WIDTH)
    return lambda z, zero: (z - zero).exp() - 1, (zero,), 3 * draws.normal(rows, WIDTH)


def rotation(draws: Draws, rows: int) -> Drawn:
    """T z = K (z - z*), K skew: monotone, and no forward step approaches the zero."""
    square = draws.normal(rows, WIDTH, WIDTH)
    matrix = (square - square.mT) / 4
    zero = draws.normal(rows, WIDTH)
    start = torch.zeros_like(zero)
    return lambda z, matrix, zero: _product(matrix, z - zero), (matrix, zero), start


def _balls(draws: Draws, rows: int, gap: Tensor) -> Drawn:
    """Douglas-Rachford on two balls so far apart; below 0 they overlap."""
    first, direction = draws.normal(rows, WIDTH), draws.normal(rows, WIDTH)
    radii = 0.5 + draws.uniform(rows, 2)
    distance = radii.sum(dim=1, keepdim=True) + gap
    second = first + distance * direction / direction.norm(dim=1, keepdim=True)

    def project(z: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
        offset = z - centre
        return centre + offset / (offset.norm(dim=1, keepdim=True) / radius).clamp(min=1)

    def step(z: Tensor, first: Tensor, second: Tensor, radii: Tensor) -> Tensor:
        inside = project(z, first, radii[:, :1])
        return inside - project(2 * inside - z, second, radii[:, 1:])

    return step, (first, second, radii), 3 * draws.normal(rows, WIDTH)


def meeting_sets(draws: Draws, rows: int) -> Drawn:
    """Douglas-Rachford on two balls that overlap."""
    return _balls(draws, rows, -0.1 - 0.4 * draws.uniform(rows, 1))


def disjoint_sets(draws: Draws, rows: int) -> Drawn:
    """Douglas-Rachford on two balls that do not meet."""
    return _balls(draws, rows, 0.1 + draws.uniform(rows, 1))


def infeasible(draws: Draws, rows: int) -> Drawn:
    """T z = A z - b, cocoercive, of which two numbers are constant, between 0.1 and 1."""
    _, (matrix, zero), start = cocoercive(draws, rows)
    matrix[:, -2:], matrix[:, :, -2:] = 0, 0
    offset = _product(matrix, zero)
    offset[:, -2:] = 0.1 + 0.9 * draws.uniform(rows, 2)
    return lambda z, matrix, offset: _product(matrix, z) - offset, (matrix, offset), start


def above_one(draws: Draws, rows: int) -> Drawn:
    """T z = 1 + log(1 + exp(z - c))."""
    centre = draws.normal(rows, WIDTH)
    return lambda z, centre: 1 + softplus(z - centre), (centre,), 3 * draws.normal(rows, WIDTH)


def bowl(draws: Draws, rows: int) -> Drawn:
    """T z = sqrt(h^2 + (z - c)^2): the norm of T has a least value, which is not 0."""
    centre, height = draws.normal(rows, WIDTH), 0.1 + draws.uniform(rows, WIDTH)

    def rise(z: Tensor, centre: Tensor, height: Tensor) -> Tensor:
        return (height**2 + (z - centre) ** 2).sqrt()

    return rise, (centre, height), 3 * draws.normal(rows, WIDTH)


def constant(draws: Draws, rows: int) -> Drawn:
    """T z = c."""
    value = draws.normal(rows, WIDTH)
    value = value / value.norm(dim=1, keepdim=True)
    return lambda z, value: value + 0 * z, (value,), draws.normal(rows, WIDTH)


FAMILIES = (
    Family("cocoercive, affine", cocoercive, True),
    Family("gradient of a convex function", potential, True),
    Family("exp(z) - 1", exponential, True),
    Family("skew", rotation, True),
    Family("Douglas-Rachford, sets that meet", meeting_sets, True),
    Family("Douglas-Rachford, disjoint sets", disjoint_sets, False),
    Family("affine, infeasible", infeasible, False),
    Family("1 + softplus(z)", above_one, False),
    Family("sqrt(h² + z²)", bowl, False),
    Family("constant", constant, False),
)


@dataclass(frozen=True)
class Batch:
    """Rows of one family in one precision.

    Attributes:
        function: T(z, scale, *data), with tensors per row in the precision of `start`.
        solvable: see `Family`.
    """

    function: Map
    data: tuple[Tensor, ...]
    start: Tensor
    solvable: bool

    @staticmethod
    def drawn(family: Family, rows: int, dtype: torch.dtype, seed: int) -> Batch:
        draws = Draws(seed)
        unscaled, data, start = family.draw(draws, rows)
        scale = 10 ** (12 * draws.uniform(rows, 1) - 6)

        def scaled(z: Tensor, scale: Tensor, *data: Tensor) -> Tensor:
            return scale * unscaled(z / scale, *data)

        rounded = tuple(tensor.to(dtype) for tensor in (scale, *data))
        return Batch(scaled, rounded, (scale * start).to(dtype), family.solvable)

    def residual_norm(self, z: Tensor) -> Tensor:
        """(batch,): residuals in float64, of the same operators that the solver had."""
        return self.function(z.double(), *(tensor.double() for tensor in self.data)).norm(dim=1)

    def judged(self, method: Callable[..., Any], max_iterations: int) -> dict[str, int]:
        """Rows that a method solved, its false successes, and those beyond the tolerance."""
        operator = as_operator(self.function, *self.data)
        found = method(operator, self.start, rtol=RTOL, max_iterations=max_iterations)
        claimed = torch.tensor([status.success for status in found.status])
        allowed = ROUNDING * RTOL * self.residual_norm(self.start)
        near = NEAR * self.data[0].double().flatten()
        held = self.residual_norm(found.z) <= torch.minimum(allowed, near)
        true = claimed & held & self.solvable
        return {
            "claimed": int(claimed.sum()),
            "solved": int(true.sum()),
            "false": int((claimed & ~true).sum()),
            "beyond": int((claimed & ~held).sum()),
            "evaluations": int(found.evaluations.sum()),
        }


def measure(problems: int = 10_000, max_iterations: int = 300) -> dict[str, Any]:
    """Every solver of fixpoint on about so many problems."""
    rows = max(1, problems // (len(FAMILIES) * len(DTYPES)))
    lines = []
    for index, family in enumerate(FAMILIES):
        batches = [
            Batch.drawn(family, rows, dtype, seed=100 * index + place)
            for place, dtype in enumerate(DTYPES)
        ]
        found = {}
        for name, method in methods().items():
            counts = [batch.judged(method, max_iterations) for batch in batches]
            found[name] = {key: sum(count[key] for count in counts) for key in counts[0]}
        line = {"family": family.name, "solvable": family.solvable}
        lines.append(line | {"problems": rows * len(DTYPES), "methods": found})
    return {"max_iterations": max_iterations, "families": lines}
