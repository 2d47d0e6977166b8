"""The photograph that the package includes, for demonstrations."""

from __future__ import annotations

from pathlib import Path

PHOTOGRAPH = Path(__file__).parents[1] / "photographs" / "chelsea.png"
