"""What the commands share: loading the model that the options name, and printing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
    from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion


def model_name(options: argparse.Namespace) -> str:
    """What --model or --pair names, for reports."""
    return str(options.model if options.pair is None else options.pair)


def load_autoencoder(options: argparse.Namespace) -> Autoencoder:
    """The autoencoder named by --model or --pair, --dtype and --device."""
    from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED, Autoencoder
    from fixpoint.adapters.commands.pairs import load_pair

    dtype, device = placement(options)
    if options.pair is not None:
        return load_pair(options.pair, dtype, device)
    if options.model in EMBEDDED and not Path(options.model).exists():
        return Autoencoder.embedded(options.model, dtype=dtype, device=device)
    return Autoencoder.from_pretrained(options.model, dtype=dtype, device=device)


def load_diffusion(options: argparse.Namespace) -> LatentDiffusion:
    """The diffusion model named by --model, --dtype and --device."""
    from fixpoint.adapters.diffusion.latent_diffusion import EMBEDDED, LatentDiffusion

    dtype, device = placement(options)
    if options.model in EMBEDDED and not Path(options.model).exists():
        return LatentDiffusion.embedded(options.model, dtype=dtype, device=device)
    return LatentDiffusion.from_pretrained(options.model, dtype=dtype, device=device)


def check_distinct(pictures: Sequence[Path]) -> None:
    """Check that no two pictures would write files of the same name.

    Raises:
        ValueError: two pictures have one name; the message lists the names.
    """
    stems = [path.stem for path in pictures]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"two pictures would write the same results: {', '.join(twice)}")


def placement(options: argparse.Namespace) -> tuple[torch.dtype, torch.device]:
    """The dtype and the device that the options name.

    Raises:
        ValueError: the device does not exist or cannot be used.
    """
    import torch

    try:
        device = torch.device(options.device)
        float(torch.zeros(1, device=device))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {options.device!r} cannot be used: {one_line(error)}") from None
    return getattr(torch, options.dtype), device


def printer(quiet: bool) -> Callable[[str], None]:
    """A function that prints a line; with --quiet it prints nothing."""
    return (lambda line: None) if quiet else (lambda line: print(line, flush=True))


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether to draw progress bars: on a terminal, without --quiet."""
    return not options.quiet and sys.stderr.isatty()


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, or its type where there is no message."""
    return " ".join(str(error).split()) or type(error).__name__
