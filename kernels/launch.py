"""How the Triton kernels walk over a batch: one program takes one block of one row.

Operands may have any strides. Dimensions that lie alike in memory in all of them are merged, so
that rows of one dense layout, contiguous or channels last, are one line of memory each, read in
the order in which they lie there. What cannot be merged is addressed dimension by dimension;
nothing is ever copied.

Sums over a row are those of its blocks, each in a tree of fixed shape, added up in a second launch
of a few bytes: no atomics. Blocks depend on the row's size alone, so that a row's sums are the
same, bit for bit, in every run and whichever rows share its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # the reference serves every device then
    triton = tl = None

AVAILABLE = triton is not None
BLOCK = 2048  # elements of a program: with 4 warps, four loads of 16 bytes a thread and operand
SUM_BLOCK = 1024  # blocks that are added up at a time
WARPS = 4

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(function: Kernel) -> Any:
    """`triton.jit`, or the function as it is where Triton is not installed."""
    return triton.jit(function) if AVAILABLE else function


class TooLong(Exception):
    """Offsets within a row do not fit 32 bits: the reference has to do it."""


@dataclass(frozen=True)
class Walk:
    """Sizes and strides that all operands of a launch agree on, the innermost dimension first."""

    rows: int
    size: int  # elements of a row
    sizes: tuple[int, ...]  # of the merged dimensions
    strides: tuple[tuple[int, tuple[int, ...]], ...]  # of each operand: row, merged dimensions
    span: int  # farthest element of a row from its first one, in elements

    @property
    def blocks(self) -> int:
        """Of a row."""
        return -(-self.size // BLOCK)

    @property
    def representable(self) -> bool:
        """Whether offsets within a row fit 32 bits."""
        return self.span < 2**31 - BLOCK


def walk(*operands: Tensor) -> Walk:
    """The walk over operands of one shape, (batch, *shape), in the memory order of the first.

    Raises:
        ValueError: they have not one shape.
    """
    shape = operands[0].shape
    for operand in operands:
        if operand.shape != shape:
            raise ValueError(f"operands of {tuple(shape)} and {tuple(operand.shape)} elements")
    return _walk(shape, tuple(operand.stride() for operand in operands))


@lru_cache(maxsize=1024)
def _walk(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> Walk:
    dims = [d for d in range(1, len(shape)) if shape[d] != 1]
    dims.sort(key=lambda d: (strides[0][d], -d))
    sizes: list[int] = []
    steps: list[tuple[int, ...]] = []  # strides of a merged dimension, by operand
    for d in dims:
        here = tuple(stride[d] for stride in strides)
        if sizes and here == tuple(step * sizes[-1] for step in steps[-1]):
            sizes[-1] *= shape[d]
        else:
            sizes.append(shape[d])
            steps.append(here)
    if not sizes:
        sizes, steps = [1], [(1,) * len(strides)]
    size = math.prod(sizes)
    per_operand = tuple(
        (stride[0], tuple(step[i] for step in steps)) for i, stride in enumerate(strides)
    )
    span = max(
        size,
        *(
            sum((count - 1) * step for count, step in zip(sizes, within, strict=True))
            for _, within in per_operand
        ),
    )
    return Walk(shape[0], size, tuple(sizes), per_operand, span)


def run(
    kernel: Any,
    operands: Sequence[Tensor | Sequence[Tensor] | None],
    sums: int,
    *numbers: Any,
    accumulation: torch.dtype,
) -> Tensor:
    """Launch a kernel over all blocks of all rows, and return its sums, (sums, rows), in float64.

    Operands are tensors of one shape, tuples of such, or None. The kernel takes them in this order,
    each as (address, stride of rows, strides within a row), then the tensor of its partial sums,
    the sizes of the merged dimensions, the numbers of rows, of elements and of blocks of a row,
    and `numbers` as they are.

    Raises:
        TooLong: offsets within a row do not fit 32 bits.
    """
    flat: list[Tensor] = []
    for each in operands:
        flat.extend([each] if isinstance(each, Tensor) else each or ())
    walked = walk(*flat)
    if not walked.representable:
        raise TooLong
    strides = iter(walked.strides)

    def described(each: Tensor | Sequence[Tensor] | None) -> Any:
        if each is None:
            return None
        if isinstance(each, Tensor):
            return (each, *next(strides))
        return tuple(described(one) for one in each)

    partial = flat[0].new_empty((sums, walked.rows, walked.blocks), dtype=torch.float64)
    if not (walked.rows and walked.size):
        return partial.new_zeros((sums, walked.rows))
    # Triton launches on the current device, wherever the tensors are.
    with torch.cuda.device_of(flat[0]) if flat[0].is_cuda else nullcontext():
        start(
            kernel,
            walked.rows * walked.blocks,
            *(described(each) for each in operands),
            partial,
            walked.sizes,
            walked.rows,
            walked.size,
            walked.blocks,
            *numbers,
            SUMS=sums,
            ACC=tl.float64 if accumulation == torch.float64 else tl.float32,
            BLOCK=BLOCK,
        )
        if walked.blocks == 1 or sums == 0:
            return partial[:, :, 0]
        total = partial.new_empty((sums, walked.rows))
        start(_totals_kernel, sums * walked.rows, partial, total, walked.blocks, BLOCK=SUM_BLOCK)
        return total


def start(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Start so many programs."""
    # A product and a sum that are rounded apart are those of the reference, bit for bit.
    kernel[(programs,)](*arguments, **constants, num_warps=WARPS, enable_fp_fusion=False)


def per_row(values: Tensor | None, rows: int) -> tuple[Tensor, int] | None:
    """One number per row, or one for all, as the kernels take it: address and stride.

    Raises:
        ValueError: it is neither.
    """
    if values is None:
        return None
    flat = values.reshape(-1)
    if len(flat) not in (1, rows) or (values.dim() and values.shape[0] != len(flat)):
        raise ValueError(f"expected a number, or one per row of {rows}; got {tuple(values.shape)}")
    return flat, (0 if len(flat) == 1 else flat.stride(0))


def flags(done: Tensor | None, rows: int) -> Tensor | None:
    """Flags as bytes.

    Raises:
        ValueError: there is not one per row.
    """
    if done is None:
        return None
    if done.shape != (rows,):
        raise ValueError(f"expected one flag per row of {rows}, got {tuple(done.shape)}")
    return done.contiguous().view(torch.uint8)


@jit
def place(size, blocks, BLOCK: tl.constexpr):
    """What this program works on: its row, its block, the elements and which of them there are."""
    program = tl.program_id(0)
    block = program % blocks
    index = block * BLOCK + tl.arange(0, BLOCK)
    return program // blocks, block, index, index < size


@jit
def addresses(operand, row, index, sizes):
    """Where the elements `index` of a row lie."""
    offset = tl.zeros_like(index)
    rest = index
    for d in tl.static_range(len(sizes)):
        if d + 1 < len(sizes):
            offset += rest % sizes[d] * operand[2][d]
            rest = rest // sizes[d]
        else:
            offset += rest * operand[2][d]
    return operand[0] + row.to(tl.int64) * operand[1] + offset


@jit
def load(operand, row, index, inside, sizes, ACC: tl.constexpr):
    """Elements of a row in the accumulation dtype, 0 beyond its end."""
    at = addresses(operand, row, index, sizes)
    return tl.load(at, mask=inside, other=0).to(ACC)


@jit
def store(operand, row, index, inside, sizes, value):
    at = addresses(operand, row, index, sizes)
    tl.store(at, value.to(operand[0].dtype.element_ty), mask=inside)


@jit
def dot(a, b):
    """The inner product of two blocks, formed and added in float64."""
    return tl.sum(a.to(tl.float64) * b.to(tl.float64))


@jit
def put_no_sums(partial, row, rows, block, blocks, SUMS: tl.constexpr):
    """No sums, of a row that is left alone."""
    for which in tl.static_range(SUMS):
        put_sum(partial, which, row, rows, block, blocks, float("nan"))


@jit
def put_sum(partial, which: tl.constexpr, row, rows, block, blocks, value):
    """Store the sum `which` of this block."""
    tl.store(partial + (which * rows + row).to(tl.int64) * blocks + block, value)


@jit
def _totals_kernel(partial, total, blocks, BLOCK: tl.constexpr):
    line = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    found = tl.zeros((BLOCK,), total.dtype.element_ty)
    for start in range(0, blocks, BLOCK):
        found += tl.load(partial + line * blocks + start + index, start + index < blocks, other=0)
    tl.store(total + line, tl.sum(found))


@jit
def divide(a, b):
    """a / b, correctly rounded; Triton's own division of float32 is not."""
    a, b = tl.broadcast(a, b)
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@jit
def square_root(a):
    """Correctly rounded."""
    return tl.sqrt_rn(a) if a.dtype == tl.float32 else tl.sqrt(a)
