"""The fused updates, their arguments, and the bytes that each must move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fixpoint.kernels.dispatch import REFERENCES

LATENT = (4, 64, 64)  # of a picture of 512 px
MEMORY = 5  # of Anderson's mixing
VALUES = (torch.float32, torch.bfloat16, torch.float16)


class Buffers:
    """The operands of the updates of one batch: a float32 state, and T in the dtype `values`."""

    def __init__(self, shape: tuple[int, ...], device: str, values: torch.dtype, seed: int) -> None:
        generator = torch.Generator(device).manual_seed(seed)

        def drawn() -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        self.z, self.previous, self.first, self.second = drawn(), drawn(), drawn(), drawn().abs()
        self.value, self.previous_value = drawn().to(values), drawn().to(values)
        self.differences = [drawn() for _ in range(MEMORY)]
        self.weights = torch.full((shape[0], MEMORY), 0.1, device=device)


@dataclass(frozen=True)
class Update:
    """An operator with its arguments, and the elements it must move.

    Attributes:
        operator: of `torch.ops.fixpoint`.
        arguments: from buffers.
        states, values: float32 elements and elements of T moved per element.
    """

    operator: str
    arguments: Callable[[Buffers], tuple[Any, ...]]
    states: int
    values: int

    def bytes(self, dtype: torch.dtype) -> int:
        """Bytes moved for each element."""
        return 4 * self.states + dtype.itemsize * self.values

    def call(self, buffers: Buffers) -> Any:
        """Call the operator through torch's dispatcher."""
        return getattr(torch.ops.fixpoint, self.operator).default(*self.arguments(buffers))

    def reference(self, buffers: Buffers) -> Any:
        return REFERENCES[self.operator](*self.arguments(buffers))


def _adam(b: Buffers, *previous: Tensor | None) -> tuple[Any, ...]:
    numbers = [0.9, 0.999, 1e-8, 0.01, 0.1, 0.001]
    return b.z, b.value, b.first, b.second, numbers, None, True, *previous, None


UPDATES = {
    "row sums": Update("row_sums", lambda b: (b.z, b.value, None, None), 1, 1),
    "forward step": Update(
        "forward_step", lambda b: (b.z, b.value, 0.5, None, True, None, None, None), 2, 1
    ),
    "forward step, monitored": Update(
        "forward_step",
        lambda b: (b.z, b.value, 0.5, None, True, b.previous, b.previous_value, None),
        3,
        2,
    ),
    "inertial KM": Update(
        "inertial_km", lambda b: (b.z, b.value, b.first, 0.3, 0.5, True, None, None, None), 4, 1
    ),
    "inertial KM, monitored": Update(
        "inertial_km",
        lambda b: (
            b.z, b.value, b.first, 0.3, 0.5, True, b.previous, b.previous_value, None,
        ),
        5,
        2,
    ),
    "Adam": Update("adam", lambda b: _adam(b, None, None), 6, 1),
    "Adam, monitored": Update("adam", lambda b: _adam(b, b.previous, b.previous_value), 7, 2),
    f"Anderson mix, memory {MEMORY}": Update(
        "anderson_mix",
        lambda b: (b.z, b.value, b.differences, b.differences[::-1], b.weights, 1.0, None, None),
        2 * MEMORY + 3,
        1,
    ),
    f"Gram row, memory {MEMORY}": Update(
        "gram_row", lambda b: (b.differences, b.value, b.previous_value, None), MEMORY + 1, 2
    ),
}  # fmt: skip


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
