"""The section on the hard set: measured by `hard_study`, written by `hard_page`."""

from benchmarks.paper.hard_page import draw, markdown
from benchmarks.paper.hard_study import measure

__all__ = ["draw", "markdown", "measure"]
