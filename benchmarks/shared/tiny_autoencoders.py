"""Tiny random instances of diffusers' autoencoders: those that the tests use."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from autoencoders import TINY, decoded, residuals, taught, tiny

__all__ = ["TINY", "decoded", "residuals", "taught", "tiny"]
