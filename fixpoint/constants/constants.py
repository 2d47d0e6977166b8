"""The four constants of an operator, and the range of each."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """What is known of an operator; see `Operator` for the inequalities. None: not known.

    Raises:
        ValueError: a number below 0, except for `strong_monotonicity`, which has to be finite.
    """

    cocoercivity: float | None = None
    lipschitz: float | None = None
    strong_monotonicity: float | None = None
    averagedness: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None:
                continue
            if name == "strong_monotonicity":
                if not math.isfinite(value):
                    raise ValueError(
                        f"{name} must be a finite number, below 0 for a hypomonotone operator, got "
                        f"{value}; None where it is not known"
                    )
            elif not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
