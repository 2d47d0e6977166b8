"""`fixpoint noise`: from picture files back to the noise that a diffusion model made them of."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from fixpoint.adapters.commands.options import (
    check_distinct,
    load_diffusion,
    shows_progress,
)
from fixpoint.adapters.commands.per_picture import Entry, PerPicture, PictureFile
from fixpoint.adapters.diffusion.noise_recovery import (
    RecoveredNoise,
    recover_noise,
)
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.reports import latent_files
from fixpoint.adapters.reports.latent_files import finite_or_none
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.adapters.reports.versions import versions
from fixpoint.status import Status


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return Noise(options).run()


class Noise(PerPicture):
    """One run of `fixpoint noise`."""

    def check_options(self) -> None:
        options = self.options
        if options.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {options.steps}")
        if not 1 <= options.guidance < math.inf:
            raise ValueError(f"--guidance must be at least 1, got {options.guidance}")
        if options.negative_prompt is not None and options.guidance == 1:
            raise ValueError("--negative-prompt goes with --guidance above 1")
        if options.truth is not None and len(options.pictures) > 1:
            raise ValueError("--truth goes with one picture")
        check_distinct(options.pictures)

    def check_files(self, files: Sequence[PictureFile]) -> None:
        truth = self.options.truth
        self.truth = None if truth is None else latent_files.read_latent(truth, name="noise")

    def prepare(self, files: list[PictureFile]) -> None:
        options = self.options
        self.model = load_diffusion(options)
        self.fit(files, self.model.autoencoder)
        self.model.check_sampling(
            options.prompt,
            steps=options.steps,
            guidance=options.guidance,
            negative_prompt=options.negative_prompt,
        )
        for file in files:
            file.check(readable, self.model.autoencoder, file.pictures, None)
            self._check_truth(file)
        self.say(f"{self.model}, {options.method}, decoder inversion: {options.decoder_inversion}")

    def process(self, file: PictureFile) -> Entry:
        options = self.options
        with PeakMemory(self.model.device) as memory:
            found = recover_noise(
                self.model,
                file.pictures,
                options.prompt,
                steps=options.steps,
                guidance=options.guidance,
                negative_prompt=options.negative_prompt,
                method=options.method,
                decoder_inversion=options.decoder_inversion,
                progress=shows_progress(options),
            )
        residuals = found.trajectory.residuals
        entry: Entry = {
            "picture": str(file.path),
            "status": _status(found),
            "network_evaluations": int(found.evaluations),
            "seconds": found.seconds,
            "standard_deviation": finite_or_none(float(found.noise.std())),
            "peak_bytes": memory.added,
        }
        if residuals is not None:
            entry["largest_residual"] = finite_or_none(float(residuals.max()))
        if found.inversion is not None:
            entry["decoder"] = {
                "status": found.inversion.status[0].name if found.inversion.status else None,
                "evaluations": int(found.inversion.evaluations),
                "psnr_db": finite_or_none(float(found.inversion.psnr_db)),
                "seconds": found.inversion.seconds,
            }
        if self.truth is not None:
            entry["nmse_db"] = finite_or_none(float(found.nmse_db(self.truth.to(found.noise))))
        return entry | self._write(file.path, found)

    def line(self, entry: Entry) -> str:
        parts = [f"{entry['picture']}: {entry['status'] or 'done'}"]
        decoder = entry.get("decoder")
        if decoder is not None and decoder["psnr_db"] is not None:
            parts.append(f"PSNR {decoder['psnr_db']:.1f} dB")
        if entry.get("nmse_db") is not None:
            parts.append(f"NMSE of the noise {entry['nmse_db']:.1f} dB")
        parts += [f"{entry['network_evaluations']} evaluations", f"{entry['seconds']:.2f} s"]
        return ", ".join(parts) + f" -> {entry['noise']}"

    def settings(self) -> Entry:
        options = self.options
        return {
            "model": str(options.model),
            "description": repr(self.model),
            "prompt": options.prompt,
            "negative_prompt": options.negative_prompt,
            "steps": options.steps,
            "guidance": options.guidance,
            "method": options.method,
            "decoder_inversion": options.decoder_inversion,
            "dtype": options.dtype,
            "device": str(self.model.device),
            "versions": versions(),
        }

    def _check_truth(self, file: PictureFile) -> None:
        factor, sides = self.model.autoencoder.factor, file.pictures.values.shape[-2:]
        expected = (1, self.model.latent_shape[0], *(side // factor for side in sides))
        if self.truth is not None and self.truth.shape != expected:
            raise ValueError(
                f"the true noise has shape {tuple(self.truth.shape)}, that of {file.path} has "
                f"{expected}"
            )

    def _write(self, path: Path, found: RecoveredNoise) -> dict[str, str]:
        """Write the files of one picture; returns their names for the report."""
        options = self.options
        noise = options.out / f"{path.stem}.noise.safetensors"
        latent = options.out / f"{path.stem}.latent.safetensors"
        made = {"model": str(options.model), "prompt": options.prompt, "steps": str(options.steps)}
        made["guidance"] = str(options.guidance)
        latent_files.write_latent(noise, found.noise, made, name="noise")
        latent_files.write_latent(
            latent, found.latent, {"scaling": "pipeline", "model": str(options.model)}
        )
        return {"noise": str(noise), "latent": str(latent)}


def _status(found: RecoveredNoise) -> str | None:
    """NONFINITE, or the status of inverting the sampling; None where no solver ran on that."""
    if not bool(found.noise.isfinite().all()):
        return Status.NONFINITE.name
    return found.trajectory.status[0].name if found.trajectory.status else None
