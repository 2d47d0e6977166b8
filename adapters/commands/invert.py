"""`fixpoint invert`: the latent, the reconstruction and a report figure of each picture file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fixpoint.adapters.commands.options import (
    check_distinct,
    load_autoencoder,
    model_name,
    shows_progress,
)
from fixpoint.adapters.commands.per_picture import Entry, PerPicture, PictureFile
from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.inversion.judgement import InversionOutcome
from fixpoint.adapters.inversion.methods import METHODS
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
    WhiteNoise,
)
from fixpoint.adapters.pictures.pictures import check_sides, to_pil, turned
from fixpoint.adapters.reports import figures, latent_files
from fixpoint.adapters.reports.latent_files import finite_or_none
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.adapters.reports.versions import versions
from fixpoint.checkpoints.whole_file import write_whole
from fixpoint.iterators import ForwardStep
from fixpoint.status import Status


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return Invert(options).run()


class Invert(PerPicture):
    """One run of `fixpoint invert`."""

    def check_options(self) -> None:
        """Refuse options that contradict each other, rather than ignore one."""
        options, name = self.options, self.options.method
        method = METHODS[name]
        if options.iterations is not None and options.iterations < 1:
            raise ValueError(f"--iterations must be at least 1, got {options.iterations}")
        if options.step_size is not None and name != "forward-step":
            raise ValueError("--step-size belongs to --method forward-step")
        if options.step_size is not None:
            ForwardStep(step_size=options.step_size)  # refuses what is out of range
        if method.limit is None and options.iterations is not None:
            raise ValueError(f"--iterations does not go with --method {name}")
        for option, given in (
            ("--observation", options.observation != "auto"),
            ("--noise-level", options.noise_level is not None),
            ("--compile", options.compile),
        ):
            if given and not method.has_operator:
                raise ValueError(f"{option} does not go with --method {name}")
        for option, given in (
            ("--gradients", options.gradients is not None),
            ("--memory-budget", options.memory_budget is not None),
            ("--inverse", options.inverse is not None),
        ):
            if given and name != "auto":
                raise ValueError(f"{option} does not go with --method {name}")
        if options.memory_budget is not None and not options.memory_budget > 0:
            raise ValueError(f"--memory-budget must be above 0, got {options.memory_budget}")
        if options.noise_level is not None:
            if options.observation != "auto":
                raise ValueError(
                    "--noise-level is an observation of its own: leave --observation out"
                )
            WhiteNoise(level=options.noise_level)  # refuses what is out of range
        if options.truth is not None and len(options.pictures) > 1:
            raise ValueError("--truth goes with one picture")
        check_distinct(options.pictures)

    def check_files(self, files: Sequence[PictureFile]) -> None:
        truth = self.options.truth
        self.observations = {file.path: self._observation(file) for file in files}
        self.truth = None if truth is None else latent_files.read_latent(truth)

    def prepare(self, files: list[PictureFile]) -> None:
        self.autoencoder = load_autoencoder(self.options)
        if self.options.inverse is not None:
            self.autoencoder.use_inverse(self.options.inverse)
        self.fit(files, self.autoencoder)
        for file in files:
            self._check_size(file)
        self.say(f"{self.autoencoder}, method {self.options.method}")

    def process(self, file: PictureFile) -> Entry:
        with PeakMemory(self.autoencoder.device) as memory:
            inversion = self._invert(file)
        evaluations = int(inversion.evaluations)
        entry: Entry = {
            "picture": str(file.path),
            "status": None if bool(inversion.latent.isfinite().all()) else Status.NONFINITE.name,
            "message": "no solver ran",
            "observation": repr(inversion.observation),
            "evaluations": evaluations,
            "seconds": inversion.seconds,
            "milliseconds_per_evaluation": 1e3 * inversion.seconds / max(1, evaluations),
            "psnr_db": finite_or_none(float(inversion.psnr_db)),
            "peak_bytes": memory.added,
        }
        judged = inversion.judgements[0]
        entry["outcome"], entry["verdict"] = judged.outcome.name, judged.sentence
        entry["made_by"] = judged.method
        if inversion.status:
            entry["status"], entry["message"] = inversion.status[0].name, judged.sentence
        if inversion.solution is not None:
            norm = float(inversion.latent.norm())
            residual = float(inversion.solution.residual_norm)
            entry["relative_residual"] = finite_or_none(residual / norm) if norm > 0 else None
        if self.truth is not None:
            truth = self.truth.to(inversion.latent)
            entry["nmse_db"] = finite_or_none(float(inversion.nmse_db(truth)))
        return entry | self._write(file.path, inversion)

    def line(self, entry: Entry) -> str:
        judged = entry["outcome"] != InversionOutcome.UNJUDGED.name
        parts = [entry["status"] or "done"]
        if entry["psnr_db"] is not None:
            parts.append(f"PSNR {entry['psnr_db']:.1f} dB")
        if entry.get("nmse_db") is not None:
            parts.append(f"NMSE {entry['nmse_db']:.1f} dB")
        parts += [f"{entry['evaluations']} evaluations", f"{entry['seconds']:.2f} s"]
        numbers = ", ".join(parts) + f" -> {entry['latent']}"
        meaning = f"{entry['verdict']}\n    " if judged else ""
        return f"{entry['picture']}: {meaning}{numbers}"

    def settings(self) -> Entry:
        return {
            "model": model_name(self.options),
            "autoencoder": repr(self.autoencoder),
            "method": self.options.method,
            "dtype": self.options.dtype,
            "compile": self.options.compile,
            "device": str(self.autoencoder.device),
            "versions": versions(),
        }

    def _observation(self, file: PictureFile) -> Observation | None:
        """The observation that the options name; None for what the file shows."""
        if self.options.noise_level is not None:
            return WhiteNoise(level=self.options.noise_level)
        name = self.options.observation
        if name == "jpeg":
            if getattr(file.image, "format", None) != "JPEG":
                raise ValueError(f"--observation jpeg: {file.path} is not a JPEG file")
            if turned(file.image):
                raise ValueError(
                    f"--observation jpeg: {file.path} is turned by its EXIF orientation"
                )
            return Jpeg.of(file.image)
        if name == "8bit":
            return default_observation(EightBit(), getattr(torch, self.options.dtype))
        return {"auto": None, "none": Identity(), "clip": Clip()}[name]

    def _check_size(self, file: PictureFile) -> None:
        values, factor = file.pictures.values, self.autoencoder.factor
        file.check(check_sides, values, factor)
        file.check(self.autoencoder.check_shape, values.shape)
        latent = (1, self.autoencoder.channels, *(side // factor for side in values.shape[-2:]))
        if self.truth is not None and self.truth.shape != latent:
            raise ValueError(
                f"the true latent has shape {tuple(self.truth.shape)}, that of {file.path} has "
                f"{latent}"
            )

    def _invert(self, file: PictureFile) -> Inversion:
        method, options = METHODS[self.options.method], self.options
        keywords: dict[str, Any] = {}
        if method.has_operator:
            keywords = {"observation": self.observations[file.path], "compile": options.compile}
        if options.gradients is not None:
            keywords["gradients"] = options.gradients
        if options.memory_budget is not None:
            keywords["memory_budget"] = int(options.memory_budget * 2**20)
        if options.step_size is not None:
            keywords["iterator"] = ForwardStep(step_size=options.step_size)
        return method(
            self.autoencoder,
            file.pictures,
            iterations=options.iterations,
            progress=shows_progress(options),
            **keywords,
        )

    def _write(self, path: Path, inversion: Inversion) -> dict[str, str]:
        """Write the files of one picture; returns their names for the report."""
        options = self.options
        latent = options.out / f"{path.stem}.latent.safetensors"
        reconstruction = options.out / f"{path.stem}.reconstruction.png"
        figure = options.out / f"{path.stem}.report.png"
        latent_files.write_latent(
            latent, inversion.latent, {"scaling": "pipeline", "model": model_name(options)}
        )
        image = to_pil(inversion.reconstruction[0])
        write_whole(reconstruction, lambda temporary: image.save(temporary, "PNG"))
        title = f"{path.name}: {self.autoencoder}, method {options.method}"
        figures.inversion_figure(figure, inversion, 0, title)
        return {"latent": str(latent), "reconstruction": str(reconstruction), "report": str(figure)}
