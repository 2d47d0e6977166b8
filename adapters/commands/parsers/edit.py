"""The options of `fixpoint edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import DECODER_INVERSIONS, SAMPLING_INVERSIONS
from fixpoint.adapters.commands.parsers.shared import add_diffusion_model, add_fitting, add_report


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "edit",
        help="draw part of a picture anew under another prompt, and keep the rest",
        description="Recovers the trajectory of the picture, draws what is white in the mask anew "
        "and puts the background back at every step. Writes NAME.edited.png, "
        "NAME.edited.safetensors (z_0, in the pipeline's scaling) and NAME.report.png.",
    )
    parser.add_argument("picture", type=Path, metavar="PICTURE")
    add_fitting(parser)
    parser.add_argument(
        "--mask",
        type=Path,
        required=True,
        metavar="FILE",
        help="a picture of the same size; white is drawn anew",
    )
    parser.add_argument(
        "--prompt",
        default="",
        metavar="OLD",
        help="that the picture was made with, or that describes it",
    )
    parser.add_argument("--new-prompt", required=True, metavar="NEW")
    add_diffusion_model(parser)
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of the sampler")
    parser.add_argument(
        "--guidance", type=float, default=3.0, metavar="G", help="of the new prompt (default 3)"
    )
    parser.add_argument(
        "--inversion-guidance",
        type=float,
        default=1.0,
        metavar="G",
        help="of the old one: that the picture was made with (default 1, none)",
    )
    parser.add_argument(
        "--method", choices=SAMPLING_INVERSIONS, default="naive", help="of inverting the sampling"
    )
    parser.add_argument(
        "--decoder-inversion",
        choices=DECODER_INVERSIONS,
        default="ours",
        help="default ours",
    )
    parser.add_argument(
        "--refine",
        type=int,
        default=8,
        metavar="N",
        help="iterations that fit the decoded background to the original again (default 8)",
    )
    parser.add_argument("--out", type=Path, default=Path("edited"), metavar="DIR")
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.edit")
