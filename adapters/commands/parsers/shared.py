"""Options that several commands have: the model, where it computes, and the report."""

from __future__ import annotations

import argparse
from pathlib import Path

from fixpoint.adapters.commands.choices import DTYPES


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model or --pair, --dtype and --device, of an autoencoder."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        default="kl",
        metavar="DIR",
        help='a folder in diffusers\' format, or "kl" or "adversarial", which ship with '
        "fixpoint (default kl)",
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


def add_report(parser: argparse.ArgumentParser, json_help: str = "write a report as JSON") -> None:
    """--json and --quiet."""
    parser.add_argument("--json", type=Path, metavar="FILE", help=json_help)
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
