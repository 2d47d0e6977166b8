"""The photograph that comes with the package: for demonstrations and first tries."""

from __future__ import annotations

from pathlib import Path

PHOTOGRAPH = Path(__file__).parents[1] / "photographs" / "chelsea.png"
