"""Step sizes as functions of the step's number, counted from 0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, overload

import torch
from torch import Tensor


class Schedule(Protocol):
    """The step size of step number `step`.

    In a CUDA graph the step is a tensor of one whole number, and may stay one. A schedule that
    wants it on the host keeps its run out of the graph, with the same results.
    """

    def __call__(self, step: Any) -> Any: ...


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __post_init__(self) -> None:
        _check_positive("value", self.value)

    def __call__(self, step: int | Tensor) -> float:
        return self.value


@dataclass(frozen=True)
class WarmupCosine:
    """The paper's schedule (section 4): linear warm-up, then a cosine, held at its last value.

    With w = floor(warmup * steps): `(i + 1)/w * peak` for i < w, then
    `peak (1 + cos(pi (i - w)/(steps - w)))/2`, constant from i >= hold * steps on.
    """

    peak: float
    steps: int
    warmup: float = 0.1
    hold: float = 0.8

    def __post_init__(self) -> None:
        _check_positive("peak", self.peak)
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps must be a whole number above 0, got {self.steps}")
        if not 0 <= self.warmup < self.hold <= 1:
            raise ValueError(
                f"need 0 <= warmup < hold <= 1, got warmup {self.warmup} and hold {self.hold}"
            )

    @overload
    def __call__(self, step: int) -> float: ...

    @overload
    def __call__(self, step: Tensor) -> Tensor: ...

    def __call__(self, step: int | Tensor) -> float | Tensor:
        w = math.floor(self.warmup * self.steps + 1e-9)
        last = max(math.ceil(self.hold * self.steps - 1e-9) - 1, w)
        if isinstance(step, Tensor):
            step = step.clamp(max=last).double()
            cosine = self.peak * (1 + (math.pi * (step - w) / (self.steps - w)).cos()) / 2
            return torch.where(step < w, (step + 1) / max(w, 1) * self.peak, cosine)
        step = min(step, last)
        if step < w:
            return (step + 1) / w * self.peak
        return self.peak * (1 + math.cos(math.pi * (step - w) / (self.steps - w))) / 2


def constant(value: float) -> Constant:
    """The step size `value` at every step."""
    return Constant(value)


def warmup_cosine(peak: float, steps: int, warmup: float = 0.1, hold: float = 0.8) -> WarmupCosine:
    """The paper's schedule for a run of `steps` steps; see `WarmupCosine`."""
    return WarmupCosine(peak, steps, warmup, hold)


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be above 0 and finite, got {value}")
