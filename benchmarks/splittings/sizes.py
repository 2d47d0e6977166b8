"""How large the problems are, and how often each method is timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Sizes of one run of the measurements."""

    rounds: int = 15
    iterations: int = 100  # of the overhead
    width: int = 100  # of the maps
    deq: tuple[int, int] = (64, 128)  # rows and width
    lasso: tuple[int, int] = (100, 200)
    signal: int = 200
    batch: int = 4096
    alone: int = 64  # rows timed one by one
    limit: int = 1000  # iterations, of a search for an accuracy


QUICK = Size(2, 10, 8, (3, 8), (10, 20), 20, 16, 2, 60)
