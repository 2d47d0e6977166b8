"""Gradient steps that take as much time as the gradient-free inversion."""

from __future__ import annotations

import time
from collections.abc import Callable


def steps_in_equal_time(
    ours: Callable[[], object],
    gradient: Callable[[int], object],
    *,
    few: int,
    rounds: int,
) -> tuple[int, dict[str, float]]:
    """How many gradient steps the processor makes in the time of one call of `ours`.

    Args:
        ours: one inversion without gradients.
        gradient: an inversion by so many gradient steps.
        few: steps that are timed.
        rounds: calls that are timed, after one that is not; the fastest one counts.

    Returns:
        The number of steps, at least 1, and the seconds of "ours" and of "gradient" for them.
    """
    seconds = {}
    runs: dict[str, Callable[[], object]] = {"ours": ours, "gradient": lambda: gradient(few)}
    for name, run in runs.items():
        run()
        times = []
        for _ in range(rounds):
            started = time.process_time()
            run()
            times.append(time.process_time() - started)
        seconds[name] = min(times)
    steps = max(1, round(few * seconds["ours"] / seconds["gradient"]))
    return steps, {"ours": seconds["ours"], "gradient": seconds["gradient"] * steps / few}
