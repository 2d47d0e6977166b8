"""`fixpoint edit`: part of a picture drawn anew under another prompt, the rest kept."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

from fixpoint.adapters.commands.cropping import like
from fixpoint.adapters.commands.options import (
    load_diffusion,
    printer,
    shows_progress,
)
from fixpoint.adapters.commands.per_picture import PictureFile
from fixpoint.adapters.commands.reports import check_report, write_report
from fixpoint.adapters.diffusion.editing import edit, read_mask
from fixpoint.adapters.pictures.pictures import read_picture
from fixpoint.adapters.reports import figures, latent_files
from fixpoint.adapters.reports.latent_files import finite_or_none
from fixpoint.adapters.reports.versions import versions
from fixpoint.checkpoints.whole_file import write_whole


def run(options: argparse.Namespace) -> int:
    """Check everything, load the model, then edit.

    Returns:
        0, or 1 where the result is not finite.
    """
    say = printer(options)
    _check_options(options)
    file = PictureFile.read(options.picture, options.background)
    pictures = file.pictures
    edited = read_mask(read_picture(options.mask), pictures.values.shape)
    latent_files.check_folder(options.out)
    check_report(options)
    model = load_diffusion(options)
    if options.crop:
        pictures = file.cropped(model.autoencoder).pictures
        edited = like(edited, pictures.values.shape[-2:])
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
    figure = options.out / f"{options.picture.stem}.report.png"
    if finite:
        (drawn,) = found.to_pil()
        write_whole(picture, lambda temporary: drawn.save(temporary, "PNG"))
        latent_files.write_latent(
            latent, found.latent, {"scaling": "pipeline", "model": str(options.model)}
        )
        figures.edit_figure(
            figure,
            pictures.values[0],
            edited[0],
            found.picture[0],
            f"{options.picture.name}: {options.new_prompt}",
        )
    entry = {
        "picture": str(options.picture),
        "edited": str(picture) if finite else None,
        "latent": str(latent) if finite else None,
        "report": str(figure) if finite else None,
        "background_nmse_db": finite_or_none(float(found.background_nmse_db)),
        "background_psnr_db": finite_or_none(float(found.background_psnr_db)),
        "background_share": float(found.background.double().mean()),
        "evaluations": int(found.evaluations),
        "seconds": found.seconds,
    }
    write_report(options, _settings(options) | entry, say)
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
