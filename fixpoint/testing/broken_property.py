"""The failure that the checks report, and how it shows what is involved."""

from __future__ import annotations

import torch
from torch import Tensor


class BrokenProperty(AssertionError):
    """A property that an implementation must have and does not.

    Attributes:
        property: its name, as "rows are independent"; the names are stable.
    """

    def __init__(self, name: str, subject: object, detail: str, example: str) -> None:
        self.property = name
        super().__init__(
            f"{name}: broken by {described(subject)}\n  {detail}\n"
            f"  smallest example found: {example}"
        )


def described(thing: object) -> str:
    """Its repr, or the name of its class where it has none of its own."""
    own = type(thing).__repr__ is not object.__repr__
    return repr(thing) if own else type(thing).__name__


def numbers(x: Tensor) -> str:
    """A tensor in a message: its numbers where they are few, else its shape."""
    if x.numel() > 24:
        return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"
    return repr(torch.round(x.double(), decimals=6).tolist())
