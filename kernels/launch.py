"""Launch of a Triton kernel: one program takes one block of one row.

The partial sums of the blocks are added up in a second launch of a few bytes. How a row is cut
into blocks depends on its size alone, so that its sums are the same, bit for bit, in every run
and whichever rows share its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fixpoint.kernels.device import jit, tl
from fixpoint.kernels.strides import BLOCK, TooLong, merged_strides

SUM_BLOCK = 1024  # partial sums that are added at a time
WARPS = 4


def launch(
    kernel: Any,
    operands: Sequence[Tensor | Sequence[Tensor] | None],
    sums: int,
    *numbers: Any,
    accumulation: torch.dtype,
) -> Tensor:
    """Launch a kernel over all blocks of all rows and return its sums, (sums, batch), in float64.

    The kernel takes, in this order: the operands, each as (address, stride of rows, strides within
    a row); the tensor of partial sums; the sizes of the merged dimensions; the numbers of rows, of
    elements of a row and of blocks of a row; `numbers`; and the constants SUMS, ACC and BLOCK.

    Args:
        kernel: compiled by `device.jit`.
        operands: tensors of one shape, (batch, *shape), sequences of such tensors, or None.
        sums: how many sums a row has.
        numbers: further arguments, passed on as they are.
        accumulation: the dtype in which the kernel computes.

    Raises:
        TooLong: offsets within a row do not fit 32 bits.
        ValueError: the shapes of the operands differ.
    """
    flat: list[Tensor] = []
    for each in operands:
        flat.extend([each] if isinstance(each, Tensor) else each or ())
    merged = merged_strides(*flat)
    if not merged.representable:
        raise TooLong
    strides = iter(merged.of_operands)

    def described(each: Tensor | Sequence[Tensor] | None) -> Any:
        if each is None:
            return None
        if isinstance(each, Tensor):
            return (each, *next(strides))
        return tuple(described(one) for one in each)

    partial = flat[0].new_empty((sums, merged.rows, merged.blocks), dtype=torch.float64)
    if not (merged.rows and merged.size):
        return partial.new_zeros((sums, merged.rows))
    # Triton launches on the current device, which need not be that of the tensors.
    with torch.cuda.device_of(flat[0]) if flat[0].is_cuda else nullcontext():
        start(
            kernel,
            merged.rows * merged.blocks,
            *(described(each) for each in operands),
            partial,
            merged.sizes,
            merged.rows,
            merged.size,
            merged.blocks,
            *numbers,
            SUMS=sums,
            ACC=tl.float64 if accumulation == torch.float64 else tl.float32,
            BLOCK=BLOCK,
        )
        if merged.blocks == 1 or sums == 0:
            return partial[:, :, 0]
        total = partial.new_empty((sums, merged.rows))
        start(_totals_kernel, sums * merged.rows, partial, total, merged.blocks, BLOCK=SUM_BLOCK)
        return total


def start(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Start a kernel with this number of programs."""
    # Without fusion a product and a sum are rounded separately, as in the reference, bit for bit.
    kernel[(programs,)](*arguments, **constants, num_warps=WARPS, enable_fp_fusion=False)


def per_row(values: Tensor | None, rows: int) -> tuple[Tensor, int] | None:
    """Address and stride of one number per row; the stride of a single number for all rows is 0.

    Raises:
        ValueError: there is neither one number nor one per row.
    """
    if values is None:
        return None
    flat = values.reshape(-1)
    if len(flat) not in (1, rows) or (values.dim() and values.shape[0] != len(flat)):
        raise ValueError(f"expected a number, or one per row of {rows}; got {tuple(values.shape)}")
    return flat, (0 if len(flat) == 1 else flat.stride(0))


@jit
def _totals_kernel(partial, total, blocks, BLOCK: tl.constexpr):
    line = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, BLOCK)
    found = tl.zeros((BLOCK,), total.dtype.element_ty)
    for first in range(0, blocks, BLOCK):
        found += tl.load(partial + line * blocks + first + index, first + index < blocks, other=0)
    tl.store(total + line, tl.sum(found))
