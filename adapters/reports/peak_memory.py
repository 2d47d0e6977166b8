"""The peak memory of a computation on its device."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from types import TracebackType

import torch

STATUS = Path("/proc/self/status")
CLEAR_PEAK = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak memory that a `with` block adds.

    After the block, `added` is the number of bytes: on a GPU from torch's allocator, on the CPU of
    a Linux machine from the kernel's high-water mark of the process, elsewhere None.
    """

    added: int | None = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before: int | None = torch.cuda.memory_allocated(self.device)
        else:
            _return_free_memory()
            try:
                CLEAR_PEAK.write_text("5")
                self.before = _resident("VmRSS")
            except OSError:
                self.before = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.before is None:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _resident("VmHWM")
        self.added = max(0, peak - self.before)


def _resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, in bytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {field}")


def _return_free_memory() -> None:
    """Return freed heap pages to the system, so that they do not hide the next peak."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
