"""All measurements, with the libraries that are there."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from benchmarks.shared.machine import machine_name
from benchmarks.splittings.accuracy import accuracy
from benchmarks.splittings.batching import batching
from benchmarks.splittings.libraries import MODULES, find_libraries
from benchmarks.splittings.overhead import overhead
from benchmarks.splittings.sizes import Size


def measure(size: Size | None = None, libraries: Iterable[str] = tuple(MODULES)) -> dict[str, Any]:
    """All measurements. Libraries that are not in `libraries` are reported as not asked for."""
    size = size or Size()
    modules, report = find_libraries(libraries)
    for name in MODULES:
        report.setdefault(name, {"missing": "not asked for"})
    # Steps beyond a theorem and singular fits are part of what is compared.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print("overhead", flush=True)
        found: dict[str, Any] = {"overhead": overhead(modules, size)}
        print("batching", flush=True)
        found["batching"] = batching(size)
        found["accuracy"] = accuracy(modules, size)
    own = {"quick": size.rounds < Size.rounds, "rounds": size.rounds, "limit": size.limit}
    return {"machine": machine_name(), "libraries": report, **own, **found}
