"""Functions that the Triton kernels share: positions, loads and stores, sums, rounding.

Triton is imported here alone, and only where it can be of use: with a build of torch that knows
GPUs, for its interpreter, or where the program has imported it before. Without it `AVAILABLE` is
False, nothing is compiled, and the references serve every device.

`put_sum` stores the sum of a block, and `launch` adds up the blocks. A block is summed in a tree
of fixed shape, without atomics, so that a row's sums are the same in every run, bit for bit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_asked_for = "TRITON_INTERPRET" in os.environ or "triton" in sys.modules

try:
    if not (_asked_for or torch.version.cuda or torch.version.hip):
        raise ImportError("this build of torch knows no GPU")
    import triton
    import triton.language as tl
except ImportError:
    triton = tl = None

AVAILABLE = triton is not None

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(function: Kernel) -> Any:
    """`triton.jit`, or `function` itself where Triton is not installed."""
    return triton.jit(function) if AVAILABLE else function


@jit
def place(size, blocks, BLOCK: tl.constexpr):
    """Row, block, offsets and bounds mask of this program."""
    program = tl.program_id(0)
    block = program % blocks
    index = block * BLOCK + tl.arange(0, BLOCK)
    return program // blocks, block, index, index < size


@jit
def addresses(operand, row, index, sizes):
    """Addresses of the elements `index` of a row."""
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
    """Elements of a row in the accumulation dtype; 0 beyond the end of the row."""
    at = addresses(operand, row, index, sizes)
    return tl.load(at, mask=inside, other=0).to(ACC)


@jit
def store(operand, row, index, inside, sizes, value):
    """Store elements of a row in the dtype of the operand."""
    at = addresses(operand, row, index, sizes)
    tl.store(at, value.to(operand[0].dtype.element_ty), mask=inside)


@jit
def dot(a, b):
    """Inner product of two blocks; products are formed and added in float64."""
    return tl.sum(a.to(tl.float64) * b.to(tl.float64))


@jit
def put_sum(partial, which: tl.constexpr, row, rows, block, blocks, value):
    """Store the sum number `which` of this block."""
    tl.store(partial + (which * rows + row).to(tl.int64) * blocks + block, value)


@jit
def put_nan_sums(partial, row, rows, block, blocks, SUMS: tl.constexpr):
    """Write NaN sums for a finished row."""
    for which in tl.static_range(SUMS):
        put_sum(partial, which, row, rows, block, blocks, float("nan"))


@jit
def divide(a, b):
    """a / b, correctly rounded. Triton's own division of float32 numbers is not."""
    a, b = tl.broadcast(a, b)
    return tl.div_rn(a, b) if a.dtype == tl.float32 else a / b


@jit
def square_root(a):
    """The square root, correctly rounded."""
    return tl.sqrt_rn(a) if a.dtype == tl.float32 else tl.sqrt(a)
