"""Times of calls whose operands come cold from memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

COLD = 256 * 2**20  # bytes to rotate through: several times the cache of any GPU or CPU


def copy_rate(shape: tuple[int, ...], device: str) -> float:
    """Bytes a second of a plain copy between cold buffers of this shape, read and written."""
    size = 4 * torch.Size(shape).numel()
    sources = [torch.ones(shape, device=device) for _ in rotation(size)]
    return 2 * size / seconds_of_calls(torch.clone, sources, device)["device"]


def rotation(size: int) -> range:
    """Indices of so many sets of buffers, each of `size` bytes, that no set is left in a cache."""
    return range(max(2, min(2048, -(-COLD // size))))


def seconds_of_calls(
    function: Callable[[Any], Any], sets: list[Any], device: str
) -> dict[str, float | None]:
    """The median time of a call, over rounds through all sets of buffers.

    "device": seconds of the work alone. On a GPU a round is replayed from a CUDA graph, so that
    nothing waits for the host. All results live until the round ends, so that none is written to
    memory that is still in the cache. "host": seconds to start a call on a GPU.
    """
    for each in sets[:3]:
        function(each)
    if device == "cpu":
        times = []
        for _ in range(7):
            started = time.perf_counter()
            for each in sets:
                function(each)
            times.append((time.perf_counter() - started) / len(sets))
        return {"device": statistics.median(times), "host": None}
    torch.cuda.synchronize()
    started = time.perf_counter()
    for each in sets[:20]:  # fewer launches than a stream takes without waiting
        function(each)
    host = (time.perf_counter() - started) / len(sets[:20])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = [function(each) for each in sets]
    times = []
    for _ in range(7):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop) / 1e3 / len(sets))
    del results
    return {"device": statistics.median(times), "host": host}
