"""The options of `fixpoint verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import OBSERVATIONS
from fixpoint.adapters.commands.parsers.shared import add_model, add_report


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "verify",
        help="see whether the convergence theorems apply to an autoencoder",
        description="Recovers known latents of crops by forward steps, inertial KM and Adam, "
        "measures how cocoercive the operator is along each path, and writes DIR/verify.html: the "
        "paper's section 3.4 and figures 2 and 4, with a table of certificates.",
    )
    parser.add_argument(
        "pictures",
        nargs="*",
        type=Path,
        metavar="PICTURE",
        help="to take crops of; by default the bundled photograph",
    )
    add_model(parser)
    parser.add_argument(
        "--observation",
        choices=OBSERVATIONS,
        default="none",
        help="inside the operator; none: the paper's; auto: what is done to the decoder's output",
    )
    parser.add_argument(
        "--crops", type=int, metavar="N", help="in all (default 16, or one a picture if more)"
    )
    parser.add_argument("--crop-size", type=int, default=64, metavar="PIXELS")
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="default 50; the paper's 100 and 50 for Adam"
    )
    parser.add_argument(
        "--paper-settings", action="store_true", help="step size 0.001 and inertia 0.9"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the crops' places")
    parser.add_argument("--out", type=Path, default=Path("verified"), metavar="DIR")
    add_report(parser, json_help="everything")
    parser.set_defaults(module="fixpoint.adapters.commands.verify")
