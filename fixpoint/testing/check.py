"""One property of one object, as a callable without arguments."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch

from fixpoint.testing.broken_property import BrokenProperty


class Check:
    """Check one property: a call returns None, or raises a `BrokenProperty`.

    Checks are independent: they may be called in any order, and any of them alone.

    Args:
        name: the property, as in `BrokenProperty`.
        find: returns the failure with the smallest example, or None.

    Attributes:
        property: the name of the property, as "rows are independent".
        __name__: the name as an identifier, as "rows_are_independent". pytest takes it as the id
            of the test case.
    """

    def __init__(self, name: str, find: Callable[[], BrokenProperty | None]) -> None:
        self.property = name
        self.__name__ = re.sub(r"\W+", "_", name)
        self._find = find

    def __call__(self) -> None:
        __tracebackhide__ = True  # pytest shows the test that called, and the message
        with torch.no_grad():
            broken = self._find()
        if broken is not None:
            raise broken

    def __repr__(self) -> str:
        return f"Check({self.property!r})"
