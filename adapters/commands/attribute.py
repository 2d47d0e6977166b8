"""`fixpoint attribute`: which of these pictures did this model's decoder make?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fixpoint.adapters.commands.choices import AUTOENCODERS, DIFFUSION_MODELS
from fixpoint.adapters.commands.options import (
    bundled,
    load_autoencoder,
    model_name,
    placement,
    shows_progress,
)
from fixpoint.adapters.commands.per_picture import Entry, PerPicture, PictureFile
from fixpoint.adapters.pictures.observations import WhiteNoise
from fixpoint.adapters.pictures.pictures import check_sides
from fixpoint.adapters.provenance.attribution import attribute
from fixpoint.adapters.provenance.calibration import (
    Calibration,
    calibrate,
    check_medium,
    pictures_needed,
)
from fixpoint.adapters.provenance.observed_pictures import observation_of, stable_repr
from fixpoint.adapters.reports import latent_files
from fixpoint.adapters.reports.versions import versions


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return Attribute(options).run()


class Attribute(PerPicture):
    """One run of `fixpoint attribute`.

    Pictures that were observed in one way share a calibration. It is computed from the pictures of
    --real when the first of them is reached, or it is the stored one.
    """

    def check_options(self) -> None:
        options, rate = self.options, self.options.false_positive_rate
        if not 0 < rate < 1:
            raise ValueError(f"--false-positive-rate must lie between 0 and 1, got {rate}")
        if options.real is not None and len(options.real) < pictures_needed(rate):
            raise ValueError(
                f"a false positive rate of {rate:g} needs {pictures_needed(rate)} pictures in "
                f"--real, got {len(options.real)}; give more, or ask for --false-positive-rate "
                f"{1 / (1 + len(options.real)):.2g}"
            )
        if options.save_calibration is not None and options.real is None:
            raise ValueError("--save-calibration keeps what --real told: give --real")
        self.noise = None
        if options.noise_level is not None:
            self.noise = WhiteNoise(level=options.noise_level)  # refuses what is out of range

    def check_files(self, files: Sequence[PictureFile]) -> None:
        options = self.options
        self.real = [self.read(path) for path in options.real or ()]
        dtype, _ = placement(options)
        self.observations = {
            file.path: observation_of(file.pictures.observation, dtype, self.noise)
            for file in files
        }
        words = {stable_repr(observation) for observation in self.observations.values()}
        self.calibrations: dict[str, Calibration] = {}
        if options.real is None:
            stored = _stored(options)
            for file in files:
                file.check(stored.check_observation, self.observations[file.path])
            self.calibrations = dict.fromkeys(words, stored)
        if options.save_calibration is not None and len(words) > 1:
            raise ValueError(
                "--save-calibration keeps one calibration, and these pictures need several: JPEG "
                "files with other settings each need their own"
            )

    def check_outputs(self) -> None:
        super().check_outputs()
        if self.options.save_calibration is not None:
            latent_files.check_file(self.options.save_calibration)

    def prepare(self, files: list[PictureFile]) -> None:
        self.autoencoder = load_autoencoder(self.options)
        self.fit(files, self.autoencoder)
        self.fit(self.real, self.autoencoder)
        check_medium(self.autoencoder)
        for stored in self.calibrations.values():
            stored.check_model(self.autoencoder)
        for file in [*files, *self.real]:
            file.check(check_sides, file.pictures.values, self.autoencoder.factor)
            file.check(self.autoencoder.check_shape, file.pictures.values.shape)
        self.say(f"{self.autoencoder}")

    def process(self, file: PictureFile) -> Entry:
        observation = self.observations[file.path]
        found = attribute(
            self.autoencoder,
            file.pictures,
            self._calibration(file),
            observation=observation,
            false_positive_rate=self.options.false_positive_rate,
        )
        return {
            "picture": str(file.path),
            "made_by_model": bool(found.made_by_model),
            "p_value": float(found.p_value),
            "smallest_p_value": self._calibration(file).smallest_p_value,
            "score_db": float(found.score),
            "observation": stable_repr(observation),
            "status": found.inversion.status[0].name,
            "evaluations": int(found.inversion.evaluations),
            "seconds": found.inversion.seconds,
        }

    def line(self, entry: Entry) -> str:
        verdict = "made by this model" if entry["made_by_model"] else "not attributed to this model"
        return (
            f"{entry['picture']}: {verdict}, p = {entry['p_value']:.3g}{self._floor(entry)}, score "
            f"{entry['score_db']:.1f} dB, {entry['seconds']:.2f} s"
        )

    def _floor(self, entry: Entry) -> str:
        """What keeps a p-value from being smaller, where something does."""
        floor = entry["smallest_p_value"]
        if entry["p_value"] > floor:
            return ""
        return f" (the least that {round(1 / floor) - 1} pictures allow; more in --real lower it)"

    def settings(self) -> Entry:
        options = self.options
        return {
            "model": model_name(options),
            "dtype": options.dtype,
            "device": options.device,
            "false_positive_rate": options.false_positive_rate,
            "calibration": None if options.calibration is None else str(options.calibration),
            "real_pictures": len(self.real),
            "versions": versions(),
        }

    def _calibration(self, file: PictureFile) -> Calibration:
        """The calibration for the observation of a picture."""
        observation, path = self.observations[file.path], self.options.save_calibration
        words = stable_repr(observation)
        if words not in self.calibrations:
            kind = type(observation).__name__
            self.say(f"calibrating on {len(self.real)} pictures: {kind}")
            self.calibrations[words] = calibrate(
                self.autoencoder,
                [real.pictures for real in self.real],
                observation=observation,
                progress=shows_progress(self.options),
            )
            if path is not None:
                self.calibrations[words].save(path)
                self.say(f"calibration: {path}")
        return self.calibrations[words]


def _stored(options: argparse.Namespace) -> Calibration:
    """The calibration of the file, or of an embedded model."""
    if options.calibration is not None:
        stored = Calibration.load(options.calibration)
    elif options.pair is None and bundled(options.model, AUTOENCODERS):
        stored = Calibration.embedded(options.model)
    elif options.pair is None and bundled(options.model, DIFFUSION_MODELS):
        stored = Calibration.embedded("kl")  # their decoder
    else:
        raise ValueError(
            "nothing to compare the pictures with: give --calibration FILE, or --real PICTURE..."
        )
    stored.check_rate(options.false_positive_rate)
    return stored
