"""Evaluations and seconds of a run, and their spread over the rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.splittings.ways import Counter, Way


def evaluations(way: Way, count: Counter, iterations: int) -> float:
    """Evaluations a row, counted by the map. A compiled way makes one in each iteration."""
    count.rows = 0
    way.run(iterations)
    return float(iterations) if way.jitted else count.rows / count.batch


def seconds(run: Callable[[int], Any], iterations: int) -> float:
    started = time.perf_counter()
    run(iterations)
    return time.perf_counter() - started


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and least value over the rounds."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high, "least": min(values)}
