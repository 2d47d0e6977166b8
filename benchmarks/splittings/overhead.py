"""What an evaluation costs beyond the map's own time."""

from __future__ import annotations

from typing import Any

from benchmarks.splittings.sizes import Size
from benchmarks.splittings.tanh_map import TanhMap, map_ways, own_times
from benchmarks.splittings.timing import evaluations, seconds, spread


def overhead(modules: dict[str, Any], size: Size) -> dict[str, Any]:
    """Microseconds per evaluation beyond the map's own, which is timed in the same round."""
    problem = TanhMap.drawn(1, size.width)
    ways = [w for w in map_ways(problem, modules) if w.family not in ("Aitken", "Newton-Krylov")]
    keep = {"anderson_solver": 1, "AndersonAcceleration": 1}  # the settings cost the same
    ways = [
        way
        for way in ways
        if way.group not in keep
        or "default" in way.method
        or "10, lam=1e-08" in way.method
        or "10, ridge 1e-10" in way.method
    ]
    maps = own_times(problem, modules)
    counts = [evaluations(way, problem.count, size.iterations) for way in ways]
    for own in maps.values():
        own(size.iterations)
    beyond: list[list[float]] = [[] for _ in ways]
    total: list[list[float]] = [[] for _ in ways]
    own_seconds: dict[str, list[float]] = {name: [] for name in maps}
    for _ in range(2 * size.rounds):  # they are short
        now = {name: seconds(own, size.iterations) / size.iterations for name, own in maps.items()}
        for name, value in now.items():
            own_seconds[name].append(value)
        now["torchdeq"] = now["fixpoint"]  # the same function
        for index, way in enumerate(ways):
            each = seconds(way.run, size.iterations) / counts[index]
            total[index].append(1e6 * each)
            beyond[index].append(1e6 * (each - now[way.library]))
    return {
        "width": size.width,
        "iterations": size.iterations,
        "map_us": {name: spread([1e6 * v for v in values]) for name, values in own_seconds.items()},
        "ways": [
            {
                "library": way.library,
                "method": way.method,
                "family": way.family,
                "evaluations": counts[index],
                "total_us": spread(total[index]),
                "overhead_us": spread(beyond[index]),
            }
            for index, way in enumerate(ways)
        ],
    }
