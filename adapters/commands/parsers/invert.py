"""The options of `fixpoint invert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import GRADIENTS, INVERSIONS, OBSERVATIONS
from fixpoint.adapters.commands.parsers.shared import (
    add_fitting,
    add_memory_budget,
    add_model,
    add_report,
)


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "invert",
        help="find the latent behind each picture",
        description="Writes, for every picture, NAME.latent.safetensors (in the pipeline's "
        "scaling), NAME.reconstruction.png and NAME.report.png.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_fitting(parser)
    add_model(parser)
    parser.add_argument("--method", choices=INVERSIONS, default="auto")
    parser.add_argument(
        "--observation",
        choices=OBSERVATIONS,
        default="auto",
        help="what happened to the decoder's output; auto: what the file shows",
    )
    parser.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="limit on iterations (default 50; 100 for paper-adam and the gradients)",
    )
    parser.add_argument(
        "--noise-level",
        type=float,
        metavar="RMS",
        help="white noise was added to the picture: its root mean square on [-1, 1]",
    )
    parser.add_argument(
        "--gradients",
        choices=GRADIENTS,
        help="with --method auto: whether pictures that the iteration cannot finish go on by "
        "gradients of the decoder (auto, default), never, or all of them always",
    )
    add_memory_budget(parser)
    parser.add_argument(
        "--inverse",
        type=Path,
        metavar="FILE",
        help="with --method auto: what `fixpoint train-inverse` wrote for this pair; its steps "
        "are taken where no gradients are, and the iteration does not do",
    )
    parser.add_argument("--step-size", type=float, metavar="RHO", help="for forward-step")
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="safetensors with the true latent of the (one) picture, to report the NMSE",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the autoencoder: worth its time where many pictures of one size follow",
    )
    parser.add_argument("--out", type=Path, default=Path("inverted"), metavar="DIR")
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.invert")
