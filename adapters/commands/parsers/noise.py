"""The options of `fixpoint noise`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.choices import DECODER_INVERSIONS, SAMPLING_INVERSIONS
from fixpoint.adapters.commands.parsers.shared import add_diffusion_model, add_fitting, add_report


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "noise",
        help="recover the noise that a diffusion model made each picture of",
        description="Inverts the decoder, then the sampling. Writes, for every picture, "
        "NAME.noise.safetensors (z_T, of variance 1) and NAME.latent.safetensors (z_0, in the "
        "pipeline's scaling).",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_fitting(parser)
    add_diffusion_model(parser)
    parser.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="that the pictures were made with; where it is not known leave it out",
    )
    parser.add_argument("--negative-prompt", metavar="TEXT")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of the sampler")
    parser.add_argument(
        "--guidance", type=float, default=1.0, metavar="G", help="of the sampler; 1 for none"
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
        "--truth",
        type=Path,
        metavar="FILE",
        help="safetensors with the true noise of the (one) picture, to report the NMSE",
    )
    parser.add_argument("--out", type=Path, default=Path("noise"), metavar="DIR")
    add_report(parser)
    parser.set_defaults(module="fixpoint.adapters.commands.noise")
