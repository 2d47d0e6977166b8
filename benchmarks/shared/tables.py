"""Numbers as tables show them, and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor


def summary(errors: Tensor) -> dict[str, float]:
    """Mean, half the 95 % interval of the mean, and the worst, of values in dB."""
    spread = float(errors.std()) if len(errors) > 1 else math.nan
    return {
        "nmse_db": float(errors.mean()),
        "interval_db": 1.96 * spread / math.sqrt(len(errors)),
        "worst_db": float(errors.max()),
    }


def number(value: float | None, form: str = ".1f") -> str:
    """A number in a format; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else format(value, form)


def mean_and_interval(row: dict[str, Any]) -> str:
    """A `summary` as "mean ± half the interval"."""
    return f"{number(row['nmse_db'])} ± {number(row['interval_db'])}"


def mebibytes(size: float | None, form: str = ".0f") -> str:
    """A number of bytes in MiB; a dash where there is none."""
    return "–" if size is None else number(size / 2**20, form)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """A Markdown table; all columns but the first `words` are numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]
