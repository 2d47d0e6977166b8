"""The options of `fixpoint attribute`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.parsers.shared import add_fitting, add_model, add_report


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "attribute",
        help="say which pictures a model's decoder made",
        description="Inverts the decoder on every picture and compares how well it explains the "
        "picture with pictures that it did not make: those of --real, or of a stored "
        "--calibration; for an embedded model and 8-bit pictures, by default those that ship with "
        "it. JPEG files need --real, whose pictures are put through the same compression.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_fitting(parser)
    add_model(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--calibration", type=Path, metavar="FILE", help="written by --save-calibration"
    )
    source.add_argument(
        "--real",
        nargs="+",
        type=Path,
        metavar="PICTURE",
        help="pictures that the model did not make, like those in question; 99 allow for a rate "
        "of 0.01",
    )
    parser.add_argument(
        "--save-calibration", type=Path, metavar="FILE", help="keep what --real told, for later"
    )
    parser.add_argument(
        "--noise-level",
        type=float,
        metavar="RMS",
        help="white noise was added to the pictures: its root mean square on [-1, 1]",
    )
    parser.add_argument(
        "--false-positive-rate",
        type=float,
        default=0.01,
        metavar="RATE",
        help="how often a picture that the model did not make may be called its own (default 0.01)",
    )
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.attribute")
