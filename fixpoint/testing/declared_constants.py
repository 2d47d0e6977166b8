"""The inequalities of declared constants, on sampled pairs of points."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows


def refutation(
    operator: Operator,
    name: str,
    a: Float[Tensor, "batch *shape"],
    b: Float[Tensor, "batch *shape"],
    center: Float[Tensor, "batch *shape"],
    rounding: float,
) -> str | None:
    """A description of how a declared constant fails, or None where no failure is found.

    The inequality is tried at (a, b) and at pairs that power iteration makes of it. Power iteration
    turns a - b towards the direction in which T changes most, and, with T subtracted from a
    multiple of the identity, towards the direction in which T changes least. In random directions a
    wrong constant seldom fails.

    Args:
        name: a key of `INEQUALITIES`.
        center: points that T may subtract, as its zero; their size adds to the rounding error.
        rounding: relative error of a value of T.
    """
    value = getattr(operator, name)
    if value is None:
        return None
    pairs = [PointPair(operator, a, b)]
    for repel in (False, True):
        pair = pairs[0]
        for _ in range(6):
            pair = pair.power_step(repel)
            pairs.append(pair)
    slope = torch.stack([pair.slope for pair in pairs]).amax(0)
    for pair in pairs:
        text = INEQUALITIES[name](pair, value, pair.error(rounding, slope, center))
        if text:
            return text
    return None


class PointPair:
    """T at two points of each row, and the inner products and norms in the inequalities."""

    def __init__(self, operator: Operator, a: Tensor, b: Tensor) -> None:
        self.operator, self.a, self.b = operator, a, b
        self.ta, self.tb = operator(a), operator(b)
        dz, dt = (a - b).double(), (self.ta - self.tb).double()
        self.dz, self.dt = dz, dt
        self.size, self.moved = kernels.row_norm(dz), kernels.row_norm(dt)
        self.inner = kernels.row_dot(dt, dz)
        self.slope = torch.where(self.size > 0, self.moved / self.size, 0)

    def power_step(self, repel: bool) -> PointPair:
        """The pair (a, a - d) with d, as long as a - b, after one step of power iteration.

        Args:
            repel: iterate with a multiple of I - T, towards the direction of least change.
        """
        direction = self.dt
        if repel:
            largest = self.slope.clamp(min=1e-30)
            direction = self.dz - self.dt / expand_rows(1.1 * largest, self.dt)
        norm = kernels.row_norm(direction)
        usable = norm.isfinite() & (norm > 0)
        scaled = direction * expand_rows(self.size / norm, direction)
        step = torch.where(expand_rows(usable, scaled), scaled, self.dz)
        return PointPair(self.operator, self.a, (self.a.double() - step).to(self.a))

    def error(self, rounding: float, slope: Tensor, center: Tensor) -> Float[Tensor, " batch"]:
        """Bound on the rounding error of T a - T b: of the values, and of the points through T."""
        values = kernels.row_norm(self.ta.double()) + kernels.row_norm(self.tb.double())
        points = [kernels.row_norm(point.double()) for point in (self.a, self.b, center)]
        return rounding * (values + slope * (points[0] + points[1] + points[2]))


def _cocoercivity_fails(pair: PointPair, beta: float, error: Tensor) -> str | None:
    if beta == math.inf:  # only a constant operator
        margin, slack = -pair.moved, error
    else:
        margin = pair.inner - beta * pair.moved.square()
        slack = error * (pair.size + 2 * beta * pair.moved + beta * error)
    return _violation(
        margin,
        slack,
        lambda row: (
            f"<T a - T b, a - b> = {pair.inner[row]:.6g} is less than {beta:.6g} "
            f"||T a - T b||^2 = {beta * pair.moved[row] ** 2:.6g}"
        ),
    )


def _lipschitz_fails(pair: PointPair, lipschitz: float, error: Tensor) -> str | None:
    return _violation(
        lipschitz * pair.size - pair.moved,
        error,
        lambda row: (
            f"||T a - T b|| = {pair.moved[row]:.6g} is more than {lipschitz:.6g} "
            f"||a - b|| = {lipschitz * pair.size[row]:.6g}"
        ),
    )


def _strong_monotonicity_fails(pair: PointPair, mu: float, error: Tensor) -> str | None:
    return _violation(
        pair.inner - mu * pair.size.square(),
        error * pair.size,
        lambda row: (
            f"<T a - T b, a - b> = {pair.inner[row]:.6g} is less than {mu:.6g} "
            f"||a - b||^2 = {mu * pair.size[row] ** 2:.6g}"
        ),
    )


def _averagedness_fails(pair: PointPair, theta: float, error: Tensor) -> str | None:
    moved = kernels.row_norm(pair.dz - pair.dt / theta) if theta > 0 else pair.moved
    bound = pair.size if theta > 0 else torch.zeros_like(pair.size)
    return _violation(
        bound - moved,
        error / theta if theta > 0 else error,
        lambda row: (
            f"N = I - T/{theta:.6g} is not nonexpansive: ||N a - N b|| = {moved[row]:.6g} for "
            f"||a - b|| = {pair.size[row]:.6g}"
        ),
    )


def _violation(margin: Tensor, slack: Tensor, describe: Callable[[int], str]) -> str | None:
    below = margin < -slack
    if not bool(below.any()):
        return None
    row = int(below.nonzero()[0])
    return f"row {row}: {describe(row)}"


INEQUALITIES: dict[str, Callable[[PointPair, float, Tensor], "str | None"]] = {
    "cocoercivity": _cocoercivity_fails,
    "lipschitz": _lipschitz_fails,
    "strong_monotonicity": _strong_monotonicity_fails,
    "averagedness": _averagedness_fails,
}
