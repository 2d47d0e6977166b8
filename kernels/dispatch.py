"""Every update as an operator of torch's dispatcher: `torch.ops.fixpoint.*`.

The reference in plain torch is registered for every device, and the Triton kernel for CUDA where
Triton is installed; the dispatcher chooses. `torch.compile` takes an operator as opaque and needs
the shapes of its results alone. `torch.library.custom_op` does the same at seven times the cost of
a call.

A registered operator has no derivatives, and a tangent would be lost in it without an error.
Where a result may be differentiated or mapped by `torch.func`, the reference is therefore called
directly, and torch differentiates it as any other code.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fixpoint.kernels.device import AVAILABLE
from fixpoint.kernels.strides import TooLong

_LIBRARY = torch.library.Library("fixpoint", "DEF")
REFERENCES: dict[str, Callable[..., Any]] = {}
LAUNCHES: dict[str, Callable[..., Any]] = {}
_broken = False  # True once a launch has failed


def operator(
    signature: str,
    reference: Callable[..., Any],
    launch: Callable[..., Any],
    results: Callable[..., Any],
) -> Callable[..., Any]:
    """Define an operator and return a function that calls it, or its reference for derivatives.

    Args:
        signature: in torch's schema language, as "row_dot(Tensor a, Tensor b) -> Tensor".
        reference: the update in plain torch, of differentiable operations.
        launch: the same update by a Triton kernel on a GPU.
        results: returns empty tensors with the shapes, strides and dtypes of the results.
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
    registered = getattr(torch.ops.fixpoint, name).default

    def call(*arguments: Any) -> Any:
        return (reference if _differentiated(arguments) else registered)(*arguments)

    return call


def transformed() -> bool:
    """True inside of a transform of `torch.func`, such as `vmap`, `grad` or `jvp`."""
    return bool(torch._C._are_functorch_transforms_active())


def _differentiated(arguments: Sequence[Any]) -> bool:
    """True if results may carry derivatives or be mapped.

    That is so inside of a transform, in forward mode, and where autograd records an argument.
    """
    # To ask each tensor for its tangent is slow, and forward mode is rare: its level decides.
    if forward_ad._current_level >= 0 or transformed():
        return True
    return torch.is_grad_enabled() and _recorded(arguments)


def _recorded(arguments: Sequence[Any]) -> bool:
    for each in arguments:
        if isinstance(each, Tensor):
            if each.requires_grad:
                return True
        elif isinstance(each, list) and _recorded(each):
            return True
    return False


def _give_up(error: Exception) -> None:
    """Warn, and leave all later calls to the references."""
    global _broken
    _broken = True
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
    warnings.warn(
        f"Triton's kernels do not run here, and their references do it: {reason}",
        UserWarning,
        stacklevel=4,
    )


@contextmanager
def interpreted() -> Iterator[None]:
    """Send CPU tensors through the Triton kernels, in Triton's interpreter.

    Raises:
        RuntimeError: Triton is missing, or was imported without TRITON_INTERPRET=1.
    """
    if not AVAILABLE or os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("set TRITON_INTERPRET=1 before triton is imported, and install triton")
    with torch.library._scoped_library("fixpoint", "IMPL") as library:
        for name, launch in LAUNCHES.items():
            library.impl(name, launch, "CPU")
        yield
