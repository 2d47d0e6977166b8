"""What the commands share: the options that name a model, and how it is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from fixpoint.adapters.autoencoder import Autoencoder

DTYPES = ("float32", "bfloat16", "float16")


def add_model(
    parser: argparse.ArgumentParser,
    *,
    default: str = "kl",
    embedded: str = '"kl" or "adversarial", which ship with fixpoint',
) -> None:
    """--model, --dtype and --device."""
    parser.add_argument(
        "--model",
        default=default,
        metavar="DIR",
        help=f"a folder in diffusers' format, or {embedded} (default {default})",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda, cuda:1")


def load_autoencoder(options: argparse.Namespace) -> Autoencoder:
    """The autoencoder named by --model, --dtype and --device."""
    from fixpoint.adapters.autoencoder import EMBEDDED, Autoencoder

    dtype, device = placement(options)
    if options.model in EMBEDDED and not Path(options.model).exists():
        return Autoencoder.embedded(options.model, dtype=dtype, device=device)
    return Autoencoder.from_pretrained(options.model, dtype=dtype, device=device)


def placement(options: argparse.Namespace) -> tuple[torch.dtype, torch.device]:
    """The dtype and the device that the options name, once it is sure that they can be used.

    Raises:
        ValueError: there is no such device.
    """
    import torch

    try:
        device = torch.device(options.device)
        float(torch.zeros(1, device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {options.device!r} cannot be used: {one_line(error)}") from None
    return getattr(torch, options.dtype), device


def sayer(quiet: bool) -> Callable[[str], None]:
    """`print`, or with --quiet nothing."""
    return (lambda line: None) if quiet else (lambda line: print(line, flush=True))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
