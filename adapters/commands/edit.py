"""`fixpoint edit`: part of a picture drawn anew under another prompt, the rest kept."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from fixpoint.adapters.commands.options import (
    add_diffusion_model,
    add_report,
    load_diffusion,
    printer,
    shows_progress,
)
from fixpoint.adapters.diffusion.editing import edit, read_mask
from fixpoint.adapters.diffusion.noise_recovery import DECODER_INVERSIONS
from fixpoint.adapters.diffusion.sampling import METHODS
from fixpoint.adapters.pictures.pictures import as_pictures, read_picture
from fixpoint.adapters.reports import latent_files
from fixpoint.adapters.reports.latent_files import finite_or_none
from fixpoint.adapters.reports.versions import versions
from fixpoint.checkpoints.whole_file import write_whole


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "edit",
        help="draw part of a picture anew under another prompt, and keep the rest",
        description="Recovers the trajectory of the picture, draws what is white in the mask anew "
        "and puts the background back at every step. Writes NAME.edited.png and "
        "NAME.edited.safetensors (z_0, in the pipeline's scaling).",
    )
    parser.add_argument("picture", type=Path, metavar="PICTURE")
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
        "--method", choices=METHODS, default="naive", help="of inverting the sampling"
    )
    parser.add_argument(
        "--decoder-inversion",
        choices=tuple(DECODER_INVERSIONS),
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything, load the model, then edit.

    Returns:
        0, or 1 where the result is not finite.
    """
    say = printer(options.quiet)
    _check_options(options)
    pictures = as_pictures(read_picture(options.picture))
    edited = read_mask(read_picture(options.mask), pictures.values.shape)
    latent_files.check_outputs(options.out, options.json)
    model = load_diffusion(options)
    say(f"{model}, decoder inversion: {options.decoder_inversion}")
    found = edit(
        model,
        pictures,
        edited,
        options.prompt,
        new_prompt=options.new_prompt,
        steps=options.steps,
        guidance=options.guidance,
        inversion_guidance=options.inversion_guidance,
        method=options.method,
        decoder_inversion=options.decoder_inversion,
        refine=options.refine,
        progress=shows_progress(options),
    )
    finite = bool(found.latent.isfinite().all())
    picture = options.out / f"{options.picture.stem}.edited.png"
    latent = options.out / f"{options.picture.stem}.edited.safetensors"
    if finite:
        (drawn,) = found.to_pil()
        write_whole(picture, lambda temporary: drawn.save(temporary, "PNG"))
        latent_files.write_latent(
            latent, found.latent, {"scaling": "pipeline", "model": str(options.model)}
        )
    entry = {
        "picture": str(options.picture),
        "edited": str(picture) if finite else None,
        "latent": str(latent) if finite else None,
        "background_nmse_db": finite_or_none(float(found.background_nmse_db)),
        "background_psnr_db": finite_or_none(float(found.background_psnr_db)),
        "background_share": float(found.background.double().mean()),
        "evaluations": int(found.evaluations),
        "seconds": found.seconds,
    }
    if options.json is not None:
        latent_files.write_json(options.json, _settings(options) | entry)
    if not finite:
        print(
            f"fixpoint: failed: {options.picture}: the latent is not finite; nothing was written",
            file=sys.stderr,
        )
        return 1
    say(
        f"{options.picture}: background kept to {found.background_psnr_db.item():.1f} dB PSNR "
        f"(NMSE {found.background_nmse_db.item():.1f} dB), {found.seconds:.2f} s -> {picture}"
    )
    if options.json is not None:
        say(f"JSON: {options.json}")
    return 0


def _check_options(options: argparse.Namespace) -> None:
    if options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if options.refine < 0:
        raise ValueError(f"--refine must be at least 0, got {options.refine}")
    for name in ("guidance", "inversion_guidance"):
        value = getattr(options, name)
        if not 1 <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": str(options.model),
        "dtype": options.dtype,
        "device": options.device,
        "mask": str(options.mask),
        "prompt": options.prompt,
        "new_prompt": options.new_prompt,
        "steps": options.steps,
        "guidance": options.guidance,
        "inversion_guidance": options.inversion_guidance,
        "method": options.method,
        "decoder_inversion": options.decoder_inversion,
        "refine": options.refine,
        "versions": versions(),
    }
