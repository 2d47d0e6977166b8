"""The machine that a measurement ran on, in words."""

from __future__ import annotations

import os
import platform

import torch

from fixpoint.version import __version__


def machine_name() -> str:
    processor = platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return (
        f"Measured with fixpoint {__version__}, torch {torch.__version__}, "
        f"{threads} thread{'s' * (threads > 1)} of {os.cpu_count()} CPU cores ({processor})."
    )
