"""A straight line fitted to points, with the confidence interval of its slope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """A least-squares line with the 95 % confidence interval of its slope.

    Attributes:
        slope, intercept: of the line.
        low, high: ends of the interval of the slope.
        correlation: Pearson's; None if all ordinates are equal.
        points: the number of points.
    """

    slope: float
    intercept: float
    low: float
    high: float
    correlation: float | None
    points: int


def fit_line(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """The line through the finite points; None for less than three, or if all x are equal."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    count = len(pairs)
    if count < 3:
        return None
    abscissa, ordinate = np.array(pairs, dtype=float).T
    # The numbers come from float32: a spread of a few roundings counts as equal.
    rounding = 8 * float(np.finfo(np.float32).eps)
    if np.ptp(abscissa) <= rounding * np.abs(abscissa).max():
        return None
    centre, mean = abscissa.mean(), ordinate.mean()
    if np.ptp(ordinate) <= rounding * np.abs(ordinate).max():
        return Line(0.0, float(mean), 0.0, 0.0, None, count)
    dx, dy = abscissa - centre, ordinate - mean
    slope = float(dx @ dy / (dx @ dx))
    left = float(((dy - slope * dx) ** 2).sum())
    half = student_quantile(count - 2) * math.sqrt(left / (count - 2) / float(dx @ dx))
    return Line(
        slope=slope,
        intercept=float(mean - slope * centre),
        low=slope - half,
        high=slope + half,
        correlation=float(dx @ dy / math.sqrt((dx @ dx) * (dy @ dy))),
        points=count,
    )


def student_quantile(freedom: int, inside: float = 0.95) -> float:
    """t with P(|T| <= t) = `inside` for Student's distribution with `freedom` degrees of freedom.

    Bisection of Abramowitz & Stegun 26.7.3 and 26.7.4 with theta = arctan(t / sqrt(freedom)).
    """

    def probability(theta: float) -> float:
        sine, cosine = math.sin(theta), math.cos(theta)
        odd = freedom % 2
        term, total = (cosine, cosine if freedom > 1 else 0.0) if odd else (1.0, 1.0)
        for power in range(2 + odd, freedom - 1, 2):
            term *= cosine**2 * (power - 1) / power
            total += term
        return 2 / math.pi * (theta + sine * total) if odd else sine * total

    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < inside else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)
