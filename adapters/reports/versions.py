"""The versions that a report names."""

from __future__ import annotations

import platform
import sys

import torch

from fixpoint.version import __version__


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    import diffusers

    return {
        "fixpoint": __version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
