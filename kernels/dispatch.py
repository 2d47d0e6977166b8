"""Every update as an operator of torch's dispatcher: `torch.ops.fixpoint.*`.

The plain-torch reference is the operator, for whatever device; the Triton kernel is registered
beside it for CUDA, where Triton is installed, and the dispatcher chooses. Operators are opaque to
`torch.compile`, which needs the shapes of their results and no more. `torch.library.custom_op`
would do the same at seven times the cost of a call.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fixpoint.kernels.device import AVAILABLE
from fixpoint.kernels.strides import TooLong

_LIBRARY = torch.library.Library("fixpoint", "DEF")
REFERENCES: dict[str, Callable[..., Any]] = {}
LAUNCHES: dict[str, Callable[..., Any]] = {}
_broken = False  # a launch has failed


def operator(
    signature: str,
    reference: Callable[..., Any],
    launch: Callable[..., Any],
    results: Callable[..., Any],
) -> Callable[..., Any]:
    """Define an operator and return it.

    Args:
        signature: in torch's schema language, as "row_dot(Tensor a, Tensor b) -> Tensor".
        reference: in plain torch.
        launch: the same on a GPU, by a Triton kernel.
        results: empty tensors of the shapes, strides and dtypes of the results.
    """
    name = signature[: signature.index("(")]
    _LIBRARY.define(signature, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, reference, "CompositeExplicitAutograd")
    _LIBRARY.impl(name, results, "Meta")
    REFERENCES[name] = reference
    if AVAILABLE:

        def on_a_gpu(*arguments: Any) -> Any:
            if not _broken:
                try:
                    return launch(*arguments)
                except TooLong:
                    pass
                except (ValueError, torch.OutOfMemoryError):
                    raise
                except Exception as error:  # no compiler for its launcher, a GPU too old for it
                    _give_up(error)
            return reference(*arguments)

        _LIBRARY.impl(name, on_a_gpu, "CUDA")
        LAUNCHES[name] = on_a_gpu
    return getattr(torch.ops.fixpoint, name).default


def _give_up(error: Exception) -> None:
    """Leave everything to the references, from now on."""
    global _broken
    _broken = True
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
    warnings.warn(
        f"Triton's kernels do not run here, and their references do it: {reason}",
        UserWarning,
        stacklevel=4,
    )


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd follows these: then the reference is called as it is, which it knows."""
    return torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in tensors
    )


@contextmanager
def interpreted() -> Iterator[None]:
    """Within it, CPU tensors go through the Triton kernels, in Triton's interpreter.

    Raises:
        RuntimeError: Triton is missing, or was imported without TRITON_INTERPRET=1.
    """
    if not AVAILABLE or os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before triton is imported, and install triton")
    with torch.library._scoped_library("fixpoint", "IMPL") as library:
        for name, launch in LAUNCHES.items():
            library.impl(name, launch, "CPU")
        yield
