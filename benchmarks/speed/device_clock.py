"""Seconds of work on a device, and the peak rate of its matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.speed.evaluation_cases import Plan


def peak_rate(plan: Plan, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of several matrix products."""
    side = plan.matrix
    a, b = (torch.randn(side, side, device=plan.device, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    blocks = [seconds_of(lambda: torch.mm(a, b), plan.device, plan.calls, 1) for _ in range(10)]
    return 2 * side**3 / min(blocks)


def seconds_of(work: Callable[[], object], device: torch.device, calls: int, repeats: int) -> float:
    """Seconds a call: the median of some blocks of calls, after one block that is not counted."""
    blocks = []
    for _ in range(repeats + 1):
        _synchronize(device)
        started = time.perf_counter()
        for _ in range(calls):
            work()
        _synchronize(device)
        blocks.append((time.perf_counter() - started) / calls)
    return statistics.median(blocks[1:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def tf32(device: torch.device, allowed: bool) -> Iterator[None]:
    """Allow TF32 inside the block, for products and convolutions; or forbid it for both."""
    if device.type != "cuda":
        yield
        return
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
