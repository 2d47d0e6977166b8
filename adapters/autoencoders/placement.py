"""Where a model computes, and in which numbers: arguments as users write them."""

from __future__ import annotations

import torch

from fixpoint._nearest import did_you_mean

FLOATS = ("float32", "bfloat16", "float16", "float64")
_ABBREVIATIONS = {
    "fp32": "float32",
    "single": "float32",
    "float": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp64": "float64",
    "double": "float64",
}


def dtype_of(
    dtype: torch.dtype | str | None, torch_dtype: torch.dtype | str | None = None
) -> torch.dtype:
    """The floating-point dtype that is named; float32 where none is.

    Args:
        dtype: of torch, or its name, with or without "torch.".
        torch_dtype: the same under the name that diffusers has for it; one of them is given.

    Raises:
        TypeError: it is something else. ValueError: both are given, and differ.
    """
    if torch_dtype is not None:
        if dtype is not None and _dtype(dtype) != _dtype(torch_dtype):
            raise ValueError(
                f"dtype and torch_dtype mean the same, and differ: {dtype}, {torch_dtype}"
            )
        dtype = torch_dtype
    return torch.float32 if dtype is None else _dtype(dtype)


def _dtype(given: torch.dtype | str) -> torch.dtype:
    if isinstance(given, torch.dtype) and given.is_floating_point:
        return given
    name = given.removeprefix("torch.") if isinstance(given, str) else ""
    if name in FLOATS:
        return getattr(torch, name)
    meant = _ABBREVIATIONS.get(name.lower())
    question = f"; did you mean {meant}?" if meant else did_you_mean(name, FLOATS)
    raise TypeError(f"dtype must be one of {', '.join(FLOATS)}, got {given!r}{question}")


def placed(
    device: str | torch.device | torch.dtype | None, dtype: torch.dtype | str | None
) -> tuple[torch.device | None, torch.dtype | None]:
    """The arguments of `to`, as `torch.nn.Module.to` takes them: a dtype may stand alone.

    Raises:
        ValueError: the device cannot be used. TypeError: the dtype is none.
    """
    alone = isinstance(device, torch.dtype) or str(device).removeprefix("torch.") in FLOATS
    if alone and dtype is None:
        device, dtype = None, str(device)
    if isinstance(device, torch.dtype):
        raise TypeError(f"expected a device, and then a dtype; got {device}, {dtype}")
    return (
        None if device is None else device_of(device),
        None if dtype is None else _dtype(dtype),
    )


def device_of(device: str | torch.device) -> torch.device:
    """The device that is named, once it is sure that torch can use it.

    Raises:
        ValueError: it does not exist or cannot be used.
    """
    try:
        found = torch.device(device)
        float(torch.zeros(1, device=found))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        question = "; did you mean cuda?" if device in ("gpu", "GPU") else ""
        raise ValueError(f"device {device!r} cannot be used: {reason}{question}") from None
    return found
