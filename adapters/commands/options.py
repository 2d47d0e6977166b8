"""What the commands share: options for the model and the output, loading, printing."""

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

DTYPES = ("float32", "bfloat16", "float16")
DEFAULT_MODEL = "kl"
OBSERVATIONS = ("auto", "none", "clip", "8bit", "jpeg")


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model or --pair, --dtype and --device, of an autoencoder."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="DIR",
        help='a folder in diffusers\' format, or "kl", "adversarial" or "distilled", which ship '
        f"with fixpoint (default {DEFAULT_MODEL})",
    )
    source.add_argument(
        "--pair",
        metavar="MODULE:FUNCTION",
        help="an autoencoder of your own: the function returns an Autoencoder, or (encode, "
        "decode) on [-1, 1]; the module may lie in the current directory",
    )
    _add_placement(parser)


def add_diffusion_model(parser: argparse.ArgumentParser) -> None:
    """--model, --dtype and --device, of a diffusion model."""
    parser.add_argument(
        "--model",
        default="diffusion",
        metavar="DIR",
        help='a folder in diffusers\' format, or "diffusion" or "flow", which ship with '
        "fixpoint (default diffusion)",
    )
    _add_placement(parser)


def _add_placement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda, cuda:1")


def model_name(options: argparse.Namespace) -> str:
    """What --model or --pair names, for reports."""
    return str(options.model if options.pair is None else options.pair)


def add_report(parser: argparse.ArgumentParser, json_help: str = "write a report as JSON") -> None:
    """--json and --quiet."""
    parser.add_argument("--json", type=Path, metavar="FILE", help=json_help)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


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
