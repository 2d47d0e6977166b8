"""`fixpoint attribute`: which of these pictures did this model's decoder make?"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixpoint.adapters.commands.options import (
    add_model,
    add_report,
    load_autoencoder,
    placement,
    printer,
    shows_progress,
)

if TYPE_CHECKING:
    from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
    from fixpoint.adapters.pictures.observations import Observation
    from fixpoint.adapters.provenance.attribution import Calibration

AROUND_KL = ("diffusion", "flow")
"""Embedded diffusion models, whose decoder is that of "kl"."""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of an `argparse` parser."""
    parser = commands.add_parser(
        "attribute",
        help="say which pictures a model's decoder made",
        description="Inverts the decoder on every picture and compares how well it explains the "
        "picture with pictures that it did not make: those of --real, or of a stored "
        "--calibration; for an embedded model and 8-bit pictures, by default those that ship with "
        "it. JPEG files need --real, whose pictures are put through the same compression.",
    )
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything, load the model, calibrate where asked to, then judge picture by picture.

    Returns:
        0, or 1 where an inversion diverged or ended in NaN. The JSON report holds whatever was
        done, also when the run is interrupted.
    """
    from fixpoint.adapters.pictures.pictures import as_pictures, check_sides, read_picture
    from fixpoint.adapters.provenance.attribution import (
        attribute,
        calibrate,
        check_observation,
        in_words,
    )
    from fixpoint.adapters.reports import latent_files

    say = printer(options.quiet)
    _check_options(options)
    images = [read_picture(path) for path in options.pictures]
    values = [as_pictures(image).values for image in images]
    real = [read_picture(path) for path in options.real or ()]
    reals = [as_pictures(image).values for image in real]
    dtype, _ = placement(options)
    observations = [_observation(options, image, dtype) for image in images]
    reference = _stored(options)
    for path, observation in zip(options.pictures, observations, strict=True):
        if reference is not None:
            _named(path, check_observation, reference, observation)
    if options.save_calibration is not None and len(set(map(in_words, observations))) > 1:
        raise ValueError(
            "--save-calibration keeps one calibration, and these pictures need several: JPEG files "
            "with other settings each need their own"
        )
    for path in (options.json, options.save_calibration):
        if path is not None:
            latent_files.check_file(path)
    autoencoder = _load(options)
    every = [
        *zip(options.pictures, values, strict=True),
        *zip(options.real or (), reals, strict=True),
    ]
    for path, picture in every:
        _named(path, check_sides, picture, autoencoder.factor)

    say(f"{autoencoder}")
    bar = shows_progress(options)
    references: dict[str, Calibration] = {}
    entries: list[dict[str, Any]] = []
    try:
        for path, image, observation in zip(options.pictures, images, observations, strict=True):
            words = in_words(observation)
            if reference is not None:
                references[words] = reference
            if words not in references:
                say(f"calibrating on {len(reals)} pictures: {_kind(observation)}")
                references[words] = calibrate(
                    autoencoder, reals, observation=observation, value_range=(-1, 1), progress=bar
                )
                if options.save_calibration is not None:
                    references[words].save(options.save_calibration)
                    say(f"calibration: {options.save_calibration}")
            found = attribute(
                autoencoder,
                image,
                references[words],
                observation=observation,
                false_positive_rate=options.false_positive_rate,
            )
            entries.append(_entry(path, observation, found))
            say(_line(entries[-1]))
    finally:
        if options.json is not None:
            latent_files.write_json(options.json, _settings(options) | {"pictures": entries})
            say(f"JSON: {options.json}")
    return 1 if any(entry["status"] in ("NONFINITE", "DIVERGED") for entry in entries) else 0


def _check_options(options: argparse.Namespace) -> None:
    """Refuse what cannot give a verdict before anything is read."""
    from fixpoint.adapters.pictures.observations import WhiteNoise
    from fixpoint.adapters.provenance.attribution import pictures_needed

    rate = options.false_positive_rate
    if not 0 < rate < 1:
        raise ValueError(f"--false-positive-rate must lie between 0 and 1, got {rate}")
    if options.real is not None and len(options.real) < pictures_needed(rate):
        raise ValueError(
            f"a false positive rate of {rate:g} needs {pictures_needed(rate)} pictures in --real, "
            f"got {len(options.real)}; give more, or ask for --false-positive-rate "
            f"{1 / (1 + len(options.real)):.2g}"
        )
    if options.save_calibration is not None and options.real is None:
        raise ValueError("--save-calibration keeps what --real told: give --real")
    if options.noise_level is not None:
        WhiteNoise(level=options.noise_level)  # refuses what is out of range


def _stored(options: argparse.Namespace) -> Calibration | None:
    """The calibration of a file, or of an embedded model; None where --real makes one."""
    from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED
    from fixpoint.adapters.provenance.attribution import Calibration

    if options.real is not None:
        return None
    if options.calibration is not None:
        reference = Calibration.load(options.calibration)
    elif _decoder(options) in EMBEDDED and not Path(options.model).exists():
        reference = Calibration.embedded(_decoder(options))
    else:
        raise ValueError(
            "nothing to compare the pictures with: give --calibration FILE, or --real PICTURE..."
        )
    reference.check_rate(options.false_positive_rate)
    return reference


def _observation(options: argparse.Namespace, image: Any, dtype: Any) -> Observation:
    from fixpoint.adapters.pictures.observations import WhiteNoise
    from fixpoint.adapters.pictures.pictures import as_pictures
    from fixpoint.adapters.provenance.attribution import observation_of

    told = None if options.noise_level is None else WhiteNoise(level=options.noise_level)
    return observation_of(as_pictures(image).observation, dtype, told)


def _decoder(options: argparse.Namespace) -> str:
    return "kl" if options.model in AROUND_KL else options.model


def _load(options: argparse.Namespace) -> Autoencoder:
    if options.model in AROUND_KL and not Path(options.model).exists():
        options = argparse.Namespace(**(vars(options) | {"model": _decoder(options)}))
    return load_autoencoder(options)


def _named(path: Path, check: Callable[..., object], *arguments: Any) -> None:
    try:
        check(*arguments)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _entry(path: Path, observation: Observation, found: Any) -> dict[str, Any]:
    from fixpoint.adapters.provenance.attribution import in_words

    return {
        "picture": str(path),
        "made_by_model": bool(found.made_by_model),
        "p_value": float(found.p_value),
        "score_db": float(found.score),
        "observation": in_words(observation),
        "status": found.inversion.status[0].name,
        "evaluations": int(found.inversion.evaluations),
        "seconds": found.inversion.seconds,
    }


def _line(entry: dict[str, Any]) -> str:
    verdict = "made by this model" if entry["made_by_model"] else "not attributed to this model"
    return (
        f"{entry['picture']}: {verdict}, p = {entry['p_value']:.3g}, score "
        f"{entry['score_db']:.1f} dB, {entry['seconds']:.2f} s"
    )


def _kind(observation: Observation) -> str:
    return type(observation).__name__


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from fixpoint.adapters.reports.versions import versions

    return {
        "model": str(options.model),
        "dtype": options.dtype,
        "device": options.device,
        "false_positive_rate": options.false_positive_rate,
        "calibration": None if options.calibration is None else str(options.calibration),
        "real_pictures": len(options.real or ()),
        "versions": versions(),
    }
