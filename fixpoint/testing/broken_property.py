"""The error that a failed check raises, and the parts of its message."""

from __future__ import annotations

import torch
from torch import Tensor


class BrokenProperty(AssertionError):
    """A required property that an implementation does not have.

    Attributes:
        property: its name, as "rows are independent"; the names are stable.
    """

    def __init__(self, name: str, subject: object, detail: str, example: str) -> None:
        self.property = name
        super().__init__(
            f"{name}: broken by {describe(subject)}\n  {detail}\n"
            f"  smallest example found: {example}"
        )


def describe(thing: object) -> str:
    """The repr of an object, or the name of its class if the class defines no repr."""
    own = type(thing).__repr__ is not object.__repr__
    return repr(thing) if own else type(thing).__name__


def format_tensor(x: Tensor) -> str:
    """The values of a small tensor; shape, dtype and device of a large one."""
    if x.numel() > 24:
        return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"
    return repr(torch.round(x.double(), decimals=6).tolist())
