"""`fixpoint invert`: the latent, the reconstruction and a report figure of each picture file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.commands.options import (
    OBSERVATIONS,
    add_model,
    add_report,
    check_distinct,
    load_autoencoder,
    printer,
    shows_progress,
)
from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.inversion.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion.invert_picture import invert, invert_by_encoder, invert_by_paper
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
    WhiteNoise,
)
from fixpoint.adapters.pictures.pictures import (
    as_pictures,
    check_sides,
    read_picture,
    to_pil,
    turned,
)
from fixpoint.adapters.reports import figures, latent_files
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.adapters.reports.versions import versions
from fixpoint.checkpoints.whole_file import write_whole
from fixpoint.iterator import Iterator
from fixpoint.iterators import Anderson, Broyden, ForwardStep, InertialKM
from fixpoint.status import Status

METHODS = (
    "auto",
    "forward-step",
    "anderson",
    "inertial-km",
    "broyden",
    "paper-adam",
    "gradient",
    "gradient-lbfgs",
    "encoder",
)
FAILED = (Status.NONFINITE.name, Status.DIVERGED.name)
REFUSED = "REFUSED"
ENCODER_WEIGHT = 0.1
"""Of the encoder term of gradient-lbfgs: enough to keep it from fitting the rounding."""


def add_to(commands: Any) -> None:
    """Register the command with the subparsers of `fixpoint`."""
    parser = commands.add_parser(
        "invert",
        help="find the latent behind each picture",
        description="Writes, for every picture, NAME.latent.safetensors (in the pipeline's "
        "scaling), NAME.reconstruction.png and NAME.report.png.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    add_model(parser)
    parser.add_argument("--method", choices=METHODS, default="auto")
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything, load the model, then invert picture by picture.

    Returns:
        0, or 1 where an inversion diverged or ended in NaN, or 2 where a picture was refused
        that only the model could judge. The JSON report holds whatever was done, also when the
        run is interrupted.
    """
    say = printer(options.quiet)
    _check_options(options)
    images = [read_picture(path) for path in options.pictures]
    for path, image in zip(options.pictures, images, strict=True):
        as_pictures(image)
        _observation(options.observation, image, path)
    truth = None if options.truth is None else latent_files.read_latent(options.truth)
    latent_files.check_outputs(options.out, options.json)
    autoencoder = load_autoencoder(options)
    for path, image in zip(options.pictures, images, strict=True):
        _check_size(path, as_pictures(image).values, autoencoder, truth)

    say(f"{autoencoder}, method {options.method}")
    entries: list[dict[str, Any]] = []
    try:
        for path, image in zip(options.pictures, images, strict=True):
            try:
                entries.append(_picture(options, autoencoder, path, image, truth))
                say(_line(entries[-1]))
            except ValueError as error:
                message = " ".join(str(error).split())
                entries.append({"picture": str(path), "status": REFUSED, "message": message})
                print(f"fixpoint: error: {path}: {message}", file=sys.stderr)
    finally:
        if options.json is not None:
            latent_files.write_json(
                options.json, _settings(options, autoencoder) | {"pictures": entries}
            )
            say(f"JSON: {options.json}")
    statuses = {entry["status"] for entry in entries}
    return 2 if REFUSED in statuses else 1 if statuses & set(FAILED) else 0


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, rather than ignore one."""
    if options.iterations is not None and options.iterations < 1:
        raise ValueError(f"--iterations must be at least 1, got {options.iterations}")
    if options.step_size is not None and options.method != "forward-step":
        raise ValueError("--step-size belongs to --method forward-step")
    if options.step_size is not None:
        ForwardStep(step_size=options.step_size)  # refuses what is out of range
    if options.method == "encoder" and options.iterations is not None:
        raise ValueError("--iterations does not go with --method encoder")
    blind = options.method in ("encoder", "gradient", "gradient-lbfgs")
    if blind and options.observation != "auto":
        raise ValueError(f"--observation does not go with --method {options.method}")
    if blind and options.noise_level is not None:
        raise ValueError(f"--noise-level does not go with --method {options.method}")
    if blind and options.compile:
        raise ValueError(f"--compile does not go with --method {options.method}")
    if options.noise_level is not None:
        if options.observation != "auto":
            raise ValueError("--noise-level is an observation of its own: leave --observation out")
        WhiteNoise(level=options.noise_level)  # refuses what is out of range
    if options.truth is not None and len(options.pictures) > 1:
        raise ValueError("--truth goes with one picture")
    check_distinct(options.pictures)


def _check_size(
    path: Path, values: torch.Tensor, autoencoder: Autoencoder, truth: torch.Tensor | None
) -> None:
    try:
        check_sides(values, autoencoder.factor)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    sides = [side // autoencoder.factor for side in values.shape[-2:]]
    latent = (1, autoencoder.channels, *sides)
    if truth is not None and truth.shape != latent:
        raise ValueError(
            f"the true latent has shape {tuple(truth.shape)}, that of {path} has {latent}"
        )


def _picture(
    options: argparse.Namespace,
    autoencoder: Autoencoder,
    path: Path,
    image: Any,
    truth: torch.Tensor | None,
) -> dict[str, Any]:
    """Invert one picture and write its files; returns its entry in the report."""
    with PeakMemory(autoencoder.device) as memory:
        inversion = _invert(options, autoencoder, image, path)
    evaluations = int(inversion.evaluations)
    entry: dict[str, Any] = {
        "picture": str(path),
        "status": None if bool(inversion.latent.isfinite().all()) else Status.NONFINITE.name,
        "message": "no solver ran",
        "observation": repr(inversion.observation),
        "evaluations": evaluations,
        "seconds": inversion.seconds,
        "milliseconds_per_evaluation": 1e3 * inversion.seconds / max(1, evaluations),
        "psnr_db": latent_files.finite_or_none(float(inversion.psnr_db)),
        "peak_bytes": memory.added,
    }
    if inversion.solution is not None:
        status, norm = inversion.status[0], float(inversion.latent.norm())
        entry["status"], entry["message"] = status.name, status.message
        residual = float(inversion.solution.residual_norm)
        entry["relative_residual"] = (
            latent_files.finite_or_none(residual / norm) if norm > 0 else None
        )
    if truth is not None:
        entry["nmse_db"] = latent_files.finite_or_none(
            float(inversion.nmse_db(truth.to(inversion.latent)))
        )
    return entry | _write(options, autoencoder, path, inversion)


def _invert(
    options: argparse.Namespace, autoencoder: Autoencoder, image: Any, path: Path
) -> Inversion:
    bar = shows_progress(options)
    if options.method == "encoder":
        return invert_by_encoder(autoencoder, image)
    if options.method == "gradient":
        return invert_by_gradient(autoencoder, image, steps=options.iterations or 100, progress=bar)
    if options.method == "gradient-lbfgs":
        return invert_by_gradient(
            autoencoder,
            image,
            steps=options.iterations or 100,
            optimizer="lbfgs",
            encoder_weight=ENCODER_WEIGHT,
            progress=bar,
        )
    observation = _observation(options.observation, image, path, autoencoder.dtype)
    if options.noise_level is not None:
        observation = WhiteNoise(level=options.noise_level)
    if options.method == "paper-adam":
        steps = options.iterations or 100
        return invert_by_paper(
            autoencoder,
            image,
            steps=steps,
            observation=observation,
            compile=options.compile,
            progress=bar,
        )
    step_size = 1.0 if options.step_size is None else options.step_size
    iterators: dict[str, Iterator[Any] | None] = {
        "auto": None,
        "forward-step": ForwardStep(step_size=step_size),
        "anderson": Anderson(),
        "inertial-km": InertialKM(),
        "broyden": Broyden(),
    }
    return invert(
        autoencoder,
        image,
        observation=observation,
        iterator=iterators[options.method],
        max_iterations=options.iterations or 50,
        compile=options.compile,
        progress=bar,
    )


def _observation(
    name: str, image: Any, path: Path, dtype: torch.dtype = torch.float32
) -> Observation | None:
    if name == "jpeg":
        if getattr(image, "format", None) != "JPEG":
            raise ValueError(f"--observation jpeg: {path} is not a JPEG file")
        if turned(image):
            raise ValueError(f"--observation jpeg: {path} is turned by its EXIF orientation")
        return Jpeg.of(image)
    if name == "8bit":
        return default_observation(EightBit(), dtype)
    return {"auto": None, "none": Identity(), "clip": Clip()}[name]


def _write(
    options: argparse.Namespace, autoencoder: Autoencoder, path: Path, inversion: Inversion
) -> dict[str, str]:
    latent = options.out / f"{path.stem}.latent.safetensors"
    reconstruction = options.out / f"{path.stem}.reconstruction.png"
    figure = options.out / f"{path.stem}.report.png"
    latent_files.write_latent(
        latent, inversion.latent, {"scaling": "pipeline", "model": str(options.model)}
    )
    image = to_pil(inversion.reconstruction[0])
    write_whole(reconstruction, lambda temporary: image.save(temporary, "PNG"))
    title = f"{path.name}: {autoencoder}, method {options.method}"
    figures.inversion_figure(figure, inversion, 0, title)
    return {"latent": str(latent), "reconstruction": str(reconstruction), "report": str(figure)}


def _settings(options: argparse.Namespace, autoencoder: Autoencoder) -> dict[str, Any]:
    return {
        "model": str(options.model),
        "autoencoder": repr(autoencoder),
        "method": options.method,
        "dtype": options.dtype,
        "compile": options.compile,
        "device": str(autoencoder.device),
        "versions": versions(),
    }


def _line(entry: dict[str, Any]) -> str:
    parts = [f"{entry['picture']}: {entry['status'] or 'done'}"]
    if entry["psnr_db"] is not None:
        parts.append(f"PSNR {entry['psnr_db']:.1f} dB")
    if entry.get("nmse_db") is not None:
        parts.append(f"NMSE {entry['nmse_db']:.1f} dB")
    parts += [f"{entry['evaluations']} evaluations", f"{entry['seconds']:.2f} s"]
    return ", ".join(parts) + f" -> {entry['latent']}"
