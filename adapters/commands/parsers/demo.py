"""The options of `fixpoint demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.parsers.shared import add_model, add_report


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "demo",
        help="recover a known latent from an 8-bit picture, four ways",
        description="Encodes a photograph to a known latent, decodes it to an 8-bit picture, and "
        "recovers the latent by the encoder alone, by gradient descent, by the paper's method and "
        "by ours. Without --model and --pair a second, harder pair follows, whose encoder and "
        "decoder were trained apart. Then the picture is taken through the autoencoder ten times, "
        "by the encoder and by ours.",
    )
    add_model(parser)
    parser.add_argument(
        "--evaluations", type=int, default=20, metavar="N", help="of E(D(z)), for ours"
    )
    parser.add_argument("--gradient-steps", type=int, default=100, metavar="N")
    parser.add_argument(
        "--cycles", type=int, default=10, metavar="N", help="through the autoencoder (default 10)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR")
    add_report(parser, json_help="the table")
    parser.set_defaults(module="fixpoint.adapters.commands.demo")
