"""Options that several commands have: the model, where it computes, and the report."""

from __future__ import annotations

import argparse
from pathlib import Path

from fixpoint.adapters.commands.choices import AUTOENCODERS, DIFFUSION_MODELS, DTYPES, Default

_OWN = "a folder in diffusers' format, or a name of the hub (org/name) that is in its local cache"


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model or --pair, where it comes from and where it computes, of an autoencoder."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        default=Default(AUTOENCODERS[0]),
        metavar="MODEL",
        help=f"{_OWN}, or a demonstration model: {', '.join(AUTOENCODERS)}, or the autoencoder of "
        f"{', '.join(DIFFUSION_MODELS)} (default {AUTOENCODERS[0]})",
    )
    source.add_argument(
        "--pair",
        metavar="MODULE:FUNCTION",
        help="an autoencoder of your own: the function returns an Autoencoder, or (encode, "
        "decode) on [-1, 1]; the module may lie in the current directory",
    )
    parser.add_argument(
        "--subfolder", metavar="NAME", help="of the model: where its autoencoder lies, as vae"
    )
    _add_source(parser)


def add_diffusion_model(parser: argparse.ArgumentParser) -> None:
    """--model, where it comes from and where it computes, of a diffusion model."""
    parser.add_argument(
        "--model",
        default=Default(DIFFUSION_MODELS[0]),
        metavar="MODEL",
        help=f"{_OWN}, or a demonstration model: {', '.join(DIFFUSION_MODELS)} (default "
        f"{DIFFUSION_MODELS[0]}); flow is sampled with --steps 1",
    )
    _add_source(parser)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--revision", metavar="REVISION", help="of a model of the hub: branch, tag or commit"
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch what is missing of a model of the hub; nothing is fetched without this",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu", help="as torch names it: cpu, cuda, cuda:1")


def add_fitting(parser: argparse.ArgumentParser) -> None:
    """--crop and --background, for pictures that would be refused."""
    parser.add_argument(
        "--crop",
        action="store_true",
        help="cut pictures whose sides the model does not take, from their upper left corner on",
    )
    parser.add_argument(
        "--background",
        metavar="COLOUR",
        help='that shows where a picture is transparent, as white or "#ffffff"',
    )


def add_memory_budget(parser: argparse.ArgumentParser) -> None:
    """--memory-budget, of gradient steps."""
    parser.add_argument(
        "--memory-budget",
        type=float,
        metavar="MIB",
        help="that gradient steps may add to memory; what needs more goes without them",
    )


def add_report(parser: argparse.ArgumentParser, json_help: str = "a report") -> None:
    """--json and --quiet."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"write {json_help} as JSON; - for the output"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
