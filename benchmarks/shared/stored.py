"""Results on disk: one JSON file for each measurement, in the folder `results`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fixpoint.adapters.reports.latent_files import write_json


def results_path(out: Path, name: str) -> Path:
    """Where the results of a measurement are stored."""
    return out / "results" / f"{name}.json"


def store(out: Path, name: str, results: Any) -> None:
    """Store results; numbers that JSON does not know become None."""
    write_json(results_path(out, name), ready_for_json(results))


def load(out: Path, name: str) -> Any:
    return json.loads(results_path(out, name).read_text())


def load_all(out: Path, names: Iterable[str]) -> dict[str, Any]:
    """The results of those measurements that are stored, in the order of their names."""
    return {name: load(out, name) for name in names if results_path(out, name).is_file()}


def ready_for_json(tree: Any) -> Any:
    """The same tree with None for every number that JSON does not know."""
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, dict):
        return {key: ready_for_json(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [ready_for_json(value) for value in tree]
    return tree
