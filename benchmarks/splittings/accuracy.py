"""Evaluations and time to one accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.splittings.lasso import Lasso, lasso_ways
from benchmarks.splittings.sizes import Size
from benchmarks.splittings.tanh_map import TanhMap, map_ways
from benchmarks.splittings.timing import evaluations, seconds, spread
from benchmarks.splittings.total_variation import Signal, signal_ways
from benchmarks.splittings.ways import Counter, Way


def as_point(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.float64)
    point = torch.tensor(np.array(value), dtype=torch.float64)
    return point if point.dim() > 1 else point[None]


def iterations_to(
    way: Way, error: Callable[[Tensor], float], tolerance: float, limit: int
) -> int | None:
    """The least number of iterations after which the returned point is good enough.

    Where that takes many runs: steps of 1 up to 16 iterations, then of 6 %, and one by one within
    the last step. A dip that is shorter is not seen.
    """
    if way.first is not None:
        return way.first(limit, lambda point: error(point) <= tolerance)

    def reached(iterations: int) -> bool:
        try:
            point = as_point((way.find or way.run)(iterations))
        except (ValueError, ArithmeticError, RuntimeError):
            return False  # a singular system, or a point that is not finite
        return error(point) <= tolerance

    tried = [0, *range(1, 17)]
    while tried[-1] < limit:
        tried.append(min(limit, tried[-1] + tried[-1] // 16))
    for before, after in pairwise(tried):
        if reached(after):
            return next(n for n in range(before + 1, after + 1) if n == after or reached(n))
    return None


def to_accuracy(
    ways: list[Way],
    count: Counter,
    error: Callable[[Tensor], float],
    tolerance: float,
    size: Size,
) -> list[dict[str, Any]]:
    """Evaluations and milliseconds of every way to one accuracy, the fastest first."""
    lines: list[tuple[Way, int | None, float]] = []
    for way in ways:
        started = time.perf_counter()
        iterations = iterations_to(way, error, tolerance, size.limit)
        calls = 0.0 if iterations is None else evaluations(way, count, iterations)
        lines.append((way, iterations, calls))
        took = time.perf_counter() - started
        print(f"  {way.library} {way.method}: {iterations} ({took:.1f} s)", flush=True)
    lines = best_of_groups(lines)
    times: list[list[float]] = [[] for _ in lines]
    for _ in range(size.rounds):
        for index, (way, iterations, _) in enumerate(lines):
            if iterations is not None:
                times[index].append(1e3 * seconds(way.run, iterations))
    found = [
        {
            "library": way.library,
            "method": way.method,
            "iterations": iterations,
            "evaluations": None if iterations is None else calls,
            "milliseconds": None if iterations is None else spread(times[index]),
        }
        for index, (way, iterations, calls) in enumerate(lines)
    ]
    return sorted(
        found, key=lambda f: f["milliseconds"]["median"] if f["milliseconds"] else float("inf")
    )


def best_of_groups(
    lines: list[tuple[Way, int | None, float]],
) -> list[tuple[Way, int | None, float]]:
    """The default of each group, and its way with the fewest evaluations."""
    kept = []
    for line in lines:
        way = line[0]
        rivals = [
            other
            for other in lines
            if way.group and (other[0].library, other[0].group) == (way.library, way.group)
        ]
        best = min(
            rivals, key=lambda other: float("inf") if other[1] is None else other[2], default=line
        )
        if line is best or "default" in way.method:
            kept.append(line)
    return kept


def accuracy(modules: dict[str, Any], size: Size) -> list[dict[str, Any]]:
    alone, layer = TanhMap.drawn(1, size.width), TanhMap.drawn(*size.deq)
    lasso, signal = Lasso.drawn(*size.lasso), Signal.drawn(size.signal)

    def sensible(way: Way) -> bool:
        return way.family != "plain, unwatched" and not way.method.endswith("not jitted")

    layer_ways = map_ways(layer, modules)
    layer_ways += [
        replace(way, method=f"{way.method}, rows leave", group="")
        for way in map_ways(layer, {}, rtol=1e-6)
    ]
    rows, columns = size.lasso
    parts = [
        (
            f"z = tanh(W z + b), {size.width} numbers, W symmetric of norm 0.95",
            "relative residual 1e-6",
            "evaluations",
            [w for w in map_ways(alone, modules) if sensible(w)],
            alone.count,
            alone.error,
            1e-6,
        ),
        (
            f"Lasso, {rows} x {columns}",
            "objective within 1e-8 of the least, relative",
            "gradients",
            lasso_ways(lasso, modules),
            lasso.count,
            lasso.gap,
            1e-8,
        ),
        (
            f"Lasso, {rows} x {columns}",
            "relative residual 1e-6 of the forward-backward step of size 1/L",
            "gradients",
            lasso_ways(lasso, modules),
            lasso.count,
            lasso.error,
            1e-6,
        ),
        (
            f"Total variation of a signal of {size.signal} numbers",
            "within 1e-6 of the exact solution, relative",
            "iterations",
            signal_ways(signal, modules),
            signal.count,
            signal.error,
            1e-6,
        ),
        (
            f"A deep-equilibrium layer, {size.deq[0]} rows of {size.deq[1]}",
            "relative residual 1e-6 in every row",
            "evaluations a row",
            [w for w in layer_ways if sensible(w)],
            layer.count,
            layer.error,
            1e-6,
        ),
    ]
    found = []
    for problem, criterion, unit, ways, count, error, tolerance in parts:
        print(f"{problem}, {criterion}", flush=True)
        lines = to_accuracy(ways, count, error, tolerance, size)
        found.append({"problem": problem, "criterion": criterion, "unit": unit, "ways": lines})
    return found
