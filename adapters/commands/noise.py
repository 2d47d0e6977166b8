"""`fixpoint noise`: from picture files back to the noise that a diffusion model made them of."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixpoint.adapters.commands.options import (
    add_diffusion_model,
    add_report,
    check_distinct,
    load_diffusion,
    printer,
    shows_progress,
)

if TYPE_CHECKING:
    from torch import Tensor

    from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
    from fixpoint.adapters.diffusion.noise_recovery import RecoveredNoise

METHODS = ("naive", "backward-euler")
DECODER_INVERSIONS = ("ours", "encoder", "gradient")
REFUSED = "REFUSED"


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
        "--method", choices=METHODS, default="naive", help="of inverting the sampling"
    )
    parser.add_argument(
        "--decoder-inversion", choices=DECODER_INVERSIONS, default="ours", help="default ours"
    )
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="FILE",
        help="safetensors with the true noise of the (one) picture, to report the NMSE",
    )
    parser.add_argument("--out", type=Path, default=Path("noise"), metavar="DIR")
    add_report(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything, load the model, then go picture by picture.

    Returns:
        0, or 1 where a row diverged or ended in NaN, or 2 where a picture was refused that only
        the model could judge. The JSON report holds whatever was done, also when the run is
        interrupted.
    """
    from fixpoint.adapters.pictures.pictures import as_pictures, read_picture
    from fixpoint.adapters.reports import latent_files

    say = printer(options.quiet)
    _check_options(options)
    images = [read_picture(path) for path in options.pictures]
    for image in images:
        as_pictures(image)
    truth = None if options.truth is None else latent_files.read_latent(options.truth, name="noise")
    latent_files.check_outputs(options.out, options.json)
    model = load_diffusion(options)
    _check_model(options, model, images, truth)

    say(f"{model}, {options.method}, decoder inversion: {options.decoder_inversion}")
    entries: list[dict[str, Any]] = []
    try:
        for path, image in zip(options.pictures, images, strict=True):
            try:
                entries.append(_picture(options, model, path, image, truth))
                say(_line(entries[-1]))
            except ValueError as error:
                message = " ".join(str(error).split())
                entries.append({"picture": str(path), "status": REFUSED, "message": message})
                print(f"fixpoint: error: {path}: {message}", file=sys.stderr)
    finally:
        if options.json is not None:
            latent_files.write_json(options.json, _settings(options, model) | {"pictures": entries})
            say(f"JSON: {options.json}")
    statuses = {entry["status"] for entry in entries}
    return 2 if REFUSED in statuses else 1 if statuses & {"NONFINITE", "DIVERGED"} else 0


def _check_options(options: argparse.Namespace) -> None:
    if options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if not 1 <= options.guidance < math.inf:
        raise ValueError(f"--guidance must be at least 1, got {options.guidance}")
    if options.negative_prompt is not None and options.guidance == 1:
        raise ValueError("--negative-prompt goes with --guidance above 1")
    if options.truth is not None and len(options.pictures) > 1:
        raise ValueError("--truth goes with one picture")
    check_distinct(options.pictures)


def _check_model(
    options: argparse.Namespace, model: LatentDiffusion, images: list[Any], truth: Tensor | None
) -> None:
    """What only the model can tell of the options and pictures."""
    from fixpoint.adapters.diffusion.sampler_steps import schedule_of
    from fixpoint.adapters.inversion.reading import readable

    model.check_sampling(
        options.prompt, guidance=options.guidance, negative_prompt=options.negative_prompt
    )
    schedule_of(model.pipeline.scheduler, options.steps, velocity=model.velocity)
    for path, image in zip(options.pictures, images, strict=True):
        try:
            values = readable(model.autoencoder, image, None).values
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from None
        sides = (side // model.autoencoder.factor for side in values.shape[-2:])
        expected = (1, model.latent_shape[0], *sides)
        if truth is not None and truth.shape != expected:
            raise ValueError(
                f"the true noise has shape {tuple(truth.shape)}, that of {path} has {expected}"
            )


def _picture(
    options: argparse.Namespace,
    model: LatentDiffusion,
    path: Path,
    image: Any,
    truth: Tensor | None,
) -> dict[str, Any]:
    """Recover the noise of one picture and write its files; returns its entry in the report."""
    from fixpoint.adapters.diffusion.noise_recovery import recover_noise
    from fixpoint.adapters.reports import latent_files
    from fixpoint.adapters.reports.peak_memory import PeakMemory

    with PeakMemory(model.device) as memory:
        found = recover_noise(
            model,
            image,
            options.prompt,
            steps=options.steps,
            guidance=options.guidance,
            negative_prompt=options.negative_prompt,
            method=options.method,
            decoder_inversion=options.decoder_inversion,
            progress=shows_progress(options),
        )
    residuals = found.trajectory.residuals
    entry: dict[str, Any] = {
        "picture": str(path),
        "status": _status(found),
        "network_evaluations": int(found.evaluations),
        "seconds": found.seconds,
        "standard_deviation": latent_files.finite_or_none(float(found.noise.std())),
        "peak_bytes": memory.added,
    }
    if residuals is not None:
        entry["largest_residual"] = latent_files.finite_or_none(float(residuals.max()))
    if found.inversion is not None:
        entry["decoder"] = {
            "status": found.inversion.status[0].name if found.inversion.status else None,
            "evaluations": int(found.inversion.evaluations),
            "psnr_db": latent_files.finite_or_none(float(found.inversion.psnr_db)),
            "seconds": found.inversion.seconds,
        }
    if truth is not None:
        entry["nmse_db"] = latent_files.finite_or_none(float(found.nmse_db(truth.to(found.noise))))
    return entry | _write(options, path, found)


def _status(found: RecoveredNoise) -> str | None:
    """Of the first part that was no success; None where no solver ran on the sampling."""
    if not bool(found.noise.isfinite().all()):
        return "NONFINITE"
    return found.trajectory.status[0].name if found.trajectory.status else None


def _write(options: argparse.Namespace, path: Path, found: RecoveredNoise) -> dict[str, str]:
    from fixpoint.adapters.reports import latent_files

    noise = options.out / f"{path.stem}.noise.safetensors"
    latent = options.out / f"{path.stem}.latent.safetensors"
    made = {"model": str(options.model), "prompt": options.prompt, "steps": str(options.steps)}
    made["guidance"] = str(options.guidance)
    latent_files.write_latent(noise, found.noise, made, name="noise")
    latent_files.write_latent(
        latent, found.latent, {"scaling": "pipeline", "model": str(options.model)}
    )
    return {"noise": str(noise), "latent": str(latent)}


def _settings(options: argparse.Namespace, model: LatentDiffusion) -> dict[str, Any]:
    from fixpoint.adapters.reports.versions import versions

    return {
        "model": str(options.model),
        "description": repr(model),
        "prompt": options.prompt,
        "negative_prompt": options.negative_prompt,
        "steps": options.steps,
        "guidance": options.guidance,
        "method": options.method,
        "decoder_inversion": options.decoder_inversion,
        "dtype": options.dtype,
        "device": str(model.device),
        "versions": versions(),
    }


def _line(entry: dict[str, Any]) -> str:
    parts = [f"{entry['picture']}: {entry['status'] or 'done'}"]
    decoder = entry.get("decoder")
    if decoder is not None and decoder["psnr_db"] is not None:
        parts.append(f"PSNR {decoder['psnr_db']:.1f} dB")
    if entry.get("nmse_db") is not None:
        parts.append(f"NMSE of the noise {entry['nmse_db']:.1f} dB")
    parts += [f"{entry['network_evaluations']} evaluations", f"{entry['seconds']:.2f} s"]
    return ", ".join(parts) + f" -> {entry['noise']}"
