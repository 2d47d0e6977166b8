"""The options of `fixpoint roundtrip`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import GRADIENTS, STORES
from fixpoint.adapters.commands.parsers.shared import add_memory_budget, add_model, add_report


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "roundtrip",
        help="take pictures through the autoencoder again and again, without loss",
        description="Encodes and decodes every picture several times, by the encoder and by ours, "
        "and says what is left. Writes NAME.roundtrip.png, with the latent behind it, and "
        "NAME.strip.png.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_model(parser)
    parser.add_argument("--cycles", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument(
        "--mask", type=Path, metavar="FILE", help="white is overwritten in every cycle"
    )
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="with --mask: the picture it is overwritten by"
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="invert the picture anew in every cycle, as if each were made by another program",
    )
    parser.add_argument("--gradients", choices=GRADIENTS, default="auto", help="as for invert")
    add_memory_budget(parser)
    parser.add_argument(
        "--store",
        choices=(*STORES, "none"),
        default="chunks",
        help="where the latent is saved: in text chunks of the PNG (default), in a file beside it, "
        "or not at all",
    )
    parser.add_argument("--out", type=Path, default=Path("roundtrip"), metavar="DIR")
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.roundtrip")
