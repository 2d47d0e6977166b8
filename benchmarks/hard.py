"""The section on the hard set: measured by `hard_study`, told by `hard_page`."""

from hard_page import draw, markdown
from hard_study import measure

__all__ = ["draw", "markdown", "measure"]
