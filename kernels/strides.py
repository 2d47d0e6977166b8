"""Strides that all operands of a launch share, so that a kernel can address rows of any layout.

Neighbouring dimensions are merged where they can be merged in every operand. A row of a dense
layout, contiguous or channels last, becomes one line of memory, and it is read in memory order.
The remaining dimensions are addressed one by one. No operand is ever copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

BLOCK = 2048  # elements of a program: with 4 warps, four loads of 16 bytes a thread and operand


class TooLong(Exception):
    """Offsets within a row do not fit 32 bits; the reference takes over."""


@dataclass(frozen=True)
class MergedStrides:
    """Sizes and strides of the merged dimensions, the innermost dimension first."""

    rows: int
    size: int  # elements of a row
    sizes: tuple[int, ...]  # of the merged dimensions
    of_operands: tuple[tuple[int, tuple[int, ...]], ...]  # stride of rows, strides within a row
    span: int  # largest offset within a row, in elements

    @property
    def blocks(self) -> int:
        """Blocks of a row. Their number depends on the size of the row alone."""
        return -(-self.size // BLOCK)

    @property
    def representable(self) -> bool:
        """True if offsets within a row fit 32 bits."""
        return self.span < 2**31 - BLOCK


def merged_strides(*operands: Tensor) -> MergedStrides:
    """Sizes and strides of operands of one shape, (batch, *shape), in memory order of the first.

    Raises:
        ValueError: the shapes differ.
    """
    shape = operands[0].shape
    for operand in operands:
        if operand.shape != shape:
            raise ValueError(f"operands of {tuple(shape)} and {tuple(operand.shape)} elements")
    return _merged(shape, tuple(operand.stride() for operand in operands))


@lru_cache(maxsize=1024)
def _merged(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> MergedStrides:
    dims = [d for d in range(1, len(shape)) if shape[d] != 1]
    dims.sort(key=lambda d: (strides[0][d], -d))
    sizes: list[int] = []
    merged: list[tuple[int, ...]] = []  # strides of each merged dimension, one an operand
    for d in dims:
        here = tuple(stride[d] for stride in strides)
        if sizes and here == tuple(step * sizes[-1] for step in merged[-1]):
            sizes[-1] *= shape[d]
        else:
            sizes.append(shape[d])
            merged.append(here)
    if not sizes:
        sizes, merged = [1], [(1,) * len(strides)]
    of_operands = tuple(
        (stride[0], tuple(step[i] for step in merged)) for i, stride in enumerate(strides)
    )
    size = math.prod(sizes)
    spans = (
        sum((count - 1) * step for count, step in zip(sizes, within, strict=True))
        for _, within in of_operands
    )
    return MergedStrides(shape[0], size, tuple(sizes), of_operands, max(size, *spans))
