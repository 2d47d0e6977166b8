"""The options of `fixpoint train-inverse`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import NETWORK_DTYPES
from fixpoint.adapters.commands.parsers.shared import add_model, add_report

DEFAULT_STEPS = 2000


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "train-inverse",
        help="train a network that corrects latents of a pair, for inversions without gradients",
        description="Trains on crops of the pictures, which the pair encodes and decodes itself. "
        "Writes DIR/inverse.safetensors, for `fixpoint invert --inverse`, with its card as "
        "DIR/inverse.json. An interrupted training goes on with the same command.",
    )
    add_model(parser)
    parser.add_argument(
        "--pictures",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="of photographs, of any sizes; every eighth one is held out, to measure on",
    )
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, metavar="N")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="crops of a step")
    parser.add_argument("--crop-size", type=int, metavar="PIXELS")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--network-dtype",
        choices=NETWORK_DTYPES,
        default="float32",
        help="of the network's arithmetic; bfloat16 takes half the time where a processor has it",
    )
    parser.add_argument("--out", type=Path, default=Path("learned"), metavar="DIR")
    add_report(parser, json_help="the card")
    parser.set_defaults(module="fixpoint.adapters.commands.train_inverse")
