"""Inverting picture files one after the other, each with its latent, reconstruction and report."""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fixpoint import schedules
from fixpoint.adapters import files, report
from fixpoint.adapters.autoencoder import Autoencoder
from fixpoint.adapters.command import load_model
from fixpoint.adapters.inversion import (
    Inversion,
    invert,
    invert_by_encoder,
    invert_by_gradient,
)
from fixpoint.adapters.measure import PeakMemory
from fixpoint.adapters.observations import Clip, EightBit, Identity, Jpeg, Observation
from fixpoint.adapters.pictures import as_pictures, check_sides, read_picture, to_pil
from fixpoint.iterators import Adam, Anderson, ForwardStep, InertialKM
from fixpoint.status import Status
from fixpoint.version import __version__


def run(options: argparse.Namespace, say: Callable[[str], object]) -> int:
    """`fixpoint invert`: check everything, then invert picture by picture. Returns 0 or 1."""
    if options.iterations is not None and options.iterations < 1:
        raise ValueError(f"--iterations must be at least 1, got {options.iterations}")
    if options.step_size is not None and options.method != "forward-step":
        raise ValueError("--step-size belongs to --method forward-step")
    stems = [path.stem for path in options.pictures]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"two pictures would write the same results: {', '.join(twice)}")
    if options.truth is not None and len(options.pictures) > 1:
        raise ValueError("--truth goes with one picture")
    images = [read_picture(path) for path in options.pictures]
    for path, image in zip(options.pictures, images, strict=True):
        as_pictures(image)
        _observation(options.observation, image, path)
    truth = None if options.truth is None else files.read_latent(options.truth)
    files.check_folder(options.out)
    if options.json is not None:
        files.check_folder(options.json.parent)
    autoencoder = load_model(options)
    for path, image in zip(options.pictures, images, strict=True):
        try:
            check_sides(as_pictures(image).values, autoencoder.factor)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    entries = []
    say(f"{autoencoder}, method {options.method}")
    for path, image in zip(options.pictures, images, strict=True):
        with PeakMemory(autoencoder.device) as memory:
            inversion = _invert(options, autoencoder, image, path)
        entry = _entry(path, inversion, memory.added)
        if truth is not None:
            _check_truth(truth, inversion)
            entry["nmse_db"] = _number(float(inversion.nmse_db(truth.to(inversion.latent))))
        entry |= _write(options, autoencoder, path, inversion)
        entries.append(entry)
        say(_line(entry))
    if options.json is not None:
        settings = {
            "model": str(options.model),
            "autoencoder": repr(autoencoder),
            "method": options.method,
            "observation": options.observation,
            "dtype": options.dtype,
            "device": str(autoencoder.device),
            "versions": {
                "fixpoint": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        files.write_json(options.json, settings | {"pictures": entries})
        say(f"JSON: {options.json}")
    failed = {Status.NONFINITE.name, Status.DIVERGED.name}
    return 1 if any(entry["status"] in failed for entry in entries) else 0


def _invert(
    options: argparse.Namespace, autoencoder: Autoencoder, image: Any, path: Path
) -> Inversion:
    bar = not options.quiet and sys.stderr.isatty()
    if options.method == "encoder":
        return invert_by_encoder(autoencoder, image)
    if options.method == "gradient":
        return invert_by_gradient(autoencoder, image, steps=options.iterations or 100, progress=bar)
    iterations = options.iterations or (100 if options.method == "paper-adam" else 50)
    observation = _observation(options.observation, image, path)
    if options.method == "paper-adam":
        eps = 1e-8 if autoencoder.dtype == torch.float32 else 1e-4
        iterator = Adam(schedule=schedules.warmup_cosine(0.01, iterations), eps=eps)
        return invert(
            autoencoder,
            image,
            observation=observation if options.observation != "auto" else Identity(),
            iterator=iterator,
            max_iterations=iterations,
            stop=(),
            progress=bar,
        )
    iterators = {
        "auto": None,
        "forward-step": ForwardStep(step_size=options.step_size or 1.0),
        "anderson": Anderson(),
        "inertial-km": InertialKM(),
    }
    return invert(
        autoencoder,
        image,
        observation=observation,
        iterator=iterators[options.method],
        max_iterations=iterations,
        progress=bar,
    )


def _observation(name: str, image: Any, path: Path) -> Observation | None:
    if name == "jpeg":
        if getattr(image, "format", None) != "JPEG":
            raise ValueError(f"--observation jpeg: {path} is not a JPEG file")
        return Jpeg.of(image)
    return {"auto": None, "none": Identity(), "clip": Clip(), "8bit": EightBit()}[name]


def _check_truth(truth: torch.Tensor, inversion: Inversion) -> None:
    if truth.shape != inversion.latent.shape:
        raise ValueError(
            f"the true latent has shape {tuple(truth.shape)}, "
            f"this picture's {tuple(inversion.latent.shape)}"
        )


def _entry(path: Path, inversion: Inversion, peak_bytes: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "picture": str(path),
        "status": None,
        "message": "no solver ran",
        "evaluations": int(inversion.evaluations),
        "seconds": inversion.seconds,
        "milliseconds_per_evaluation": 1e3 * inversion.seconds / max(1, int(inversion.evaluations)),
        "psnr_db": _number(float(inversion.psnr_db)),
        "peak_bytes": peak_bytes,
    }
    if inversion.solution is not None:
        status = inversion.status[0]
        norm = float(inversion.latent.norm())
        entry["status"], entry["message"] = status.name, status.message
        entry["relative_residual"] = _number(float(inversion.solution.residual_norm) / norm)
    return entry


def _write(
    options: argparse.Namespace, autoencoder: Autoencoder, path: Path, inversion: Inversion
) -> dict[str, str]:
    latent = options.out / f"{path.stem}.latent.safetensors"
    reconstruction = options.out / f"{path.stem}.reconstruction.png"
    figure = options.out / f"{path.stem}.report.png"
    files.write_latent(
        latent, inversion.latent, {"scaling": "pipeline", "model": str(options.model)}
    )
    image = to_pil(inversion.reconstruction[0])
    files.write_whole(reconstruction, lambda temporary: image.save(temporary, "PNG"))
    title = f"{path.name}: {autoencoder}, method {options.method}"
    report.inversion_figure(figure, inversion, 0, title)
    return {
        "latent": str(latent),
        "reconstruction": str(reconstruction),
        "report": str(figure),
    }


def _line(entry: dict[str, Any]) -> str:
    parts = [f"{entry['picture']}: {entry['status'] or 'done'}"]
    if entry["psnr_db"] is not None:
        parts.append(f"PSNR {entry['psnr_db']:.1f} dB")
    if entry.get("nmse_db") is not None:
        parts.append(f"NMSE {entry['nmse_db']:.1f} dB")
    parts += [f"{entry['evaluations']} evaluations", f"{entry['seconds']:.2f} s"]
    return ", ".join(parts) + f" -> {entry['latent']}"


def _number(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None
