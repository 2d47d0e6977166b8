"""What the commands share: loading the model that the options name, and printing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fixpoint._nearest import did_you_mean
from fixpoint.adapters.commands.choices import AUTOENCODERS, DIFFUSION_MODELS, Default

if TYPE_CHECKING:
    import torch

    from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
    from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion


def model_name(options: argparse.Namespace) -> str:
    """What --model or --pair names, for reports."""
    return str(options.model if options.pair is None else options.pair)


def load_autoencoder(options: argparse.Namespace) -> Autoencoder:
    """The autoencoder named by --model or --pair, and where it computes.

    Raises:
        FileNotFoundError, ValueError, TypeError: it cannot be had.
    """
    from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
    from fixpoint.adapters.autoencoders.folder import MODELS
    from fixpoint.adapters.commands.pairs import load_pair

    dtype, device = placement(options)
    if options.pair is not None:
        _refuse_source(options, "--pair")
        return load_pair(options.pair, dtype, device)
    if bundled(options.model, AUTOENCODERS + DIFFUSION_MODELS):
        _refuse_source(options, f"--model {options.model}, which comes with fixpoint")
    if bundled(options.model, AUTOENCODERS):
        _announce(options)
        return Autoencoder.embedded(options.model, dtype=dtype, device=device)
    if bundled(options.model, DIFFUSION_MODELS):
        return Autoencoder.from_pretrained(MODELS / options.model, dtype=dtype, device=device)
    with _suggesting(options.model, AUTOENCODERS + DIFFUSION_MODELS):
        return Autoencoder.from_pretrained(
            options.model,
            subfolder=options.subfolder,
            revision=options.revision,
            local_files_only=not options.download,
            dtype=dtype,
            device=device,
        )


def load_diffusion(options: argparse.Namespace) -> LatentDiffusion:
    """The diffusion model named by --model, and where it computes.

    Raises:
        FileNotFoundError, ValueError, TypeError: it cannot be had.
    """
    from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion

    dtype, device = placement(options)
    if bundled(options.model, DIFFUSION_MODELS):
        _refuse_source(options, f"--model {options.model}, which comes with fixpoint")
        _announce(options)
        return LatentDiffusion.embedded(options.model, dtype=dtype, device=device)
    if bundled(options.model, AUTOENCODERS):
        raise ValueError(
            f"--model {options.model} is an autoencoder, and this command needs a diffusion model: "
            f"{' or '.join(DIFFUSION_MODELS)}, a folder, or a name of the hub"
        )
    with _suggesting(options.model, DIFFUSION_MODELS):
        return LatentDiffusion.from_pretrained(
            options.model,
            revision=options.revision,
            local_files_only=not options.download,
            dtype=dtype,
            device=device,
        )


def bundled(model: str, names: Sequence[str]) -> bool:
    """Whether --model means one of these models, which come with fixpoint, and not a folder."""
    return isinstance(model, Default) or (model in names and not Path(model).exists())


def _refuse_source(options: argparse.Namespace, model: str) -> None:
    """Refuse options on where a model comes from, where that is settled."""
    for option in ("subfolder", "revision", "download"):
        if getattr(options, option, None):
            raise ValueError(f"--{option} does not go with {model}")


def _announce(options: argparse.Namespace) -> None:
    """Say which model is used where the user named none."""
    if isinstance(options.model, Default):
        printer(options)(
            f"Model: {options.model}, the small demonstration model that comes with fixpoint; "
            "--model names yours"
        )


@contextmanager
def _suggesting(model: str, names: Sequence[str]) -> Iterator[None]:
    """Ask in the error of a model that is not there which of these was meant."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}{did_you_mean(model, names)}") from error


def check_distinct(pictures: Sequence[Path]) -> None:
    """Check that no two pictures would write files of the same name.

    Raises:
        ValueError: two pictures have one name; the message lists their paths.
    """
    stems = [path.stem for path in pictures]
    for stem in dict.fromkeys(stems):
        same = [str(path) for path in pictures if path.stem == stem]
        if len(same) > 1:
            raise ValueError(
                f"{' and '.join(same)} would write the same results, {stem}.*: rename one of them, "
                "or give them to two calls with an --out each"
            )


def placement(options: argparse.Namespace) -> tuple[torch.dtype, torch.device]:
    """The dtype and the device that the options name.

    Raises:
        ValueError: the device does not exist or cannot be used.
    """
    from fixpoint.adapters.autoencoders.placement import device_of, dtype_of

    return dtype_of(options.dtype), device_of(options.device)


def printer(options: argparse.Namespace) -> Callable[[str], None]:
    """A function that prints a line: to standard error where the report goes to standard output.

    With --quiet it prints nothing.
    """
    if options.quiet:
        return lambda line: None
    report = getattr(options, "json", None)
    return lambda line: print(
        line, flush=True, file=sys.stderr if str(report) == "-" else sys.stdout
    )


def shows_progress(options: argparse.Namespace) -> bool:
    """Whether to draw progress bars: on a terminal, without --quiet."""
    return not options.quiet and sys.stderr.isatty()


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, or its type where there is no message."""
    return " ".join(str(error).split()) or type(error).__name__
