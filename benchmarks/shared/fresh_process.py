"""One measurement in a process of its own.

Earlier work leaves memory in the heap, which would hide or inflate a peak. Blocks of 64 KiB and
more are mapped one by one (MALLOC_MMAP_THRESHOLD_), so that fragmentation does not count.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fixpoint.adapters.reports.peak_memory import PeakMemory

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
RESERVE = 1 << 30  # bytes for the rest of the machine


def measure(function: str, **arguments: Any) -> dict[str, Any]:
    """Prepare work in a fresh process, run it there, and measure what it adds to memory.

    Args:
        function: "module:name"; called with the arguments, which JSON can hold, it loads and warms
            up what is not to be counted and returns the work, a function without arguments.

    Returns:
        "peak_bytes": None where the system does not measure it. "found": what the work returned.
        "failed": None, or the last line of an error, for example when memory did not suffice.
    """
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.shared.fresh_process"],
        input=json.dumps({"function": function, "arguments": arguments}),
        env=os.environ | ALLOCATOR,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"ended by signal {-run.returncode}"]
        return {"peak_bytes": None, "found": None, "failed": lines[-1][:200]}
    return json.loads(run.stdout.splitlines()[-1])


def measure_here(function: str, **arguments: Any) -> dict[str, Any]:
    """The same in this process."""
    module, _, name = function.partition(":")
    work = getattr(import_module(module), name)(**arguments)
    with PeakMemory(torch.device("cpu")) as memory:
        found = work()
    return {"peak_bytes": memory.added, "found": found, "failed": None}


def _limit_memory() -> None:
    """Let allocations fail before the machine runs out of memory."""
    information = Path("/proc/meminfo")
    if not information.exists():
        return
    entries = dict(line.split(":") for line in information.read_text().splitlines())
    available = 1024 * int(entries["MemAvailable"].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (max(available - RESERVE, RESERVE),) * 2)


if __name__ == "__main__":
    _limit_memory()
    job = json.load(sys.stdin)
    print(json.dumps(measure_here(job["function"], **job["arguments"])))
