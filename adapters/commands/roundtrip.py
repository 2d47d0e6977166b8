"""`fixpoint roundtrip`: pictures through encoder and decoder again and again, two ways."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fixpoint.adapters.commands.options import (
    check_distinct,
    load_autoencoder,
    model_name,
    shows_progress,
)
from fixpoint.adapters.commands.per_picture import Entry, PerPicture, PictureFile
from fixpoint.adapters.diffusion.editing import read_mask
from fixpoint.adapters.pictures.observations import EightBit
from fixpoint.adapters.pictures.pictures import as_pictures, check_sides, read_picture
from fixpoint.adapters.reports import figures
from fixpoint.adapters.reports.latent_files import finite_or_none
from fixpoint.adapters.reports.versions import versions
from fixpoint.adapters.round_trips.cycles import Cycle, by_encoder, by_round_trip, cycles, pasted
from fixpoint.adapters.round_trips.round_trip import CAPACITY, RoundTrip
from fixpoint.status import Status


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return RoundTrips(options).run()


class RoundTrips(PerPicture):
    """One run of `fixpoint roundtrip`."""

    def check_options(self) -> None:
        options = self.options
        if options.cycles < 1:
            raise ValueError(f"--cycles must be at least 1, got {options.cycles}")
        if (options.mask is None) != (options.source is None):
            raise ValueError("--mask and --source go together: where is pasted, and what")
        if options.memory_budget is not None and not 0 < options.memory_budget < math.inf:
            raise ValueError(f"--memory-budget must be above 0, got {options.memory_budget}")
        check_distinct(options.pictures)

    def check_files(self, files: Sequence[PictureFile]) -> None:
        self.edits: dict[Path, Any] = {file.path: None for file in files}
        if self.options.mask is None:
            return
        mask, source = read_picture(self.options.mask), as_pictures(self.options.source).values
        for file in files:
            shape = file.pictures.values.shape
            if source.shape != shape:
                raise ValueError(
                    f"{self.options.source} has {source.shape[-1]} x {source.shape[-2]} pixels, "
                    f"{file.path} {shape[-1]} x {shape[-2]}: they must have one size"
                )
            self.edits[file.path] = pasted(source, read_mask(mask, shape)[:, None])

    def prepare(self, files: list[PictureFile]) -> None:
        self.autoencoder = load_autoencoder(self.options)
        for file in files:
            file.check(check_sides, file.pictures.values, self.autoencoder.factor)
            file.check(self.autoencoder.check_shape, file.pictures.values.shape)
        budget = self.options.memory_budget
        self.trip = RoundTrip(
            self.autoencoder,
            gradients=self.options.gradients,
            memory_budget=None if budget is None else int(budget * 2**20),
            capacity=0 if self.options.forget else CAPACITY,
            progress=shows_progress(self.options),
        )
        self.say(f"{self.autoencoder}, {self.options.cycles} cycles")

    def process(self, file: PictureFile) -> Entry:
        first = EightBit()(file.pictures.values.to(self.autoencoder.device))
        edit, count = self.edits[file.path], self.options.cycles
        ways = {"encoder": by_encoder(self.autoencoder), "ours": by_round_trip(self.trip)}
        entry: Entry = {"picture": str(file.path), "status": None}
        if not self.options.forget:
            self.trip.encode(file.path)  # before it is edited
        shown = {"first picture": first[0]}
        for name, step in ways.items():
            started = time.perf_counter()
            passed = tqdm(
                cycles(step, first, count, edit),
                total=count,
                disable=not shows_progress(self.options),
                desc=name,
            )
            made = list(passed)
            entry[name] = self._measured(made) | {"seconds": time.perf_counter() - started}
            psnr = float(made[-1].psnr_db)
            shown[f"{name}, after {count}: {psnr:.1f} dB"] = made[-1].pictures[0]
        result = self.options.out / f"{file.path.stem}.roundtrip.png"
        strip = self.options.out / f"{file.path.stem}.strip.png"
        store = None if self.options.store == "none" else self.options.store
        result.parent.mkdir(parents=True, exist_ok=True)
        self.trip.save(result, made[-1].pictures[0].cpu(), store=store)
        figures.strip_figure(strip, shown, f"{file.path.name}: {self.autoencoder}")
        finite = bool(made[-1].pictures.isfinite().all())
        entry["status"] = None if finite else Status.NONFINITE.name
        return entry | {"result": str(result), "strip": str(strip)}

    def line(self, entry: Entry) -> str:
        head = f"{'cycle':>7}{'encoder, dB':>14}{'ours, dB':>14}"
        rows = [
            f"{number:>7}{_decibels(theirs):>14}{_decibels(ours):>14}"
            for number, (theirs, ours) in enumerate(
                zip(entry["encoder"]["psnr_db"], entry["ours"]["psnr_db"], strict=True), 1
            )
        ]
        seconds = entry["ours"]["seconds"]
        return "\n".join([f"{entry['picture']}: {seconds:.1f} s -> {entry['strip']}", head, *rows])

    def settings(self) -> Entry:
        return {
            "model": model_name(self.options),
            "autoencoder": repr(self.autoencoder),
            "cycles": self.options.cycles,
            "forget": self.options.forget,
            "gradients": self.options.gradients,
            "mask": None if self.options.mask is None else str(self.options.mask),
            "source": None if self.options.source is None else str(self.options.source),
            "dtype": self.options.dtype,
            "device": str(self.autoencoder.device),
            "versions": versions(),
        }

    def _measured(self, made: list[Cycle]) -> Entry:
        """PSNR by cycle in dB, of untouched and touched pixels; None where there are none, or where
        nothing differs."""
        return {
            "psnr_db": [finite_or_none(float(cycle.psnr_db)) for cycle in made],
            "touched_psnr_db": [finite_or_none(float(cycle.touched_psnr_db)) for cycle in made],
            "ssim": [finite_or_none(float(cycle.ssim)) for cycle in made],
            "same": [bool((cycle.pictures == cycle.wanted).all()) for cycle in made],
        }


def _decibels(value: float | None) -> str:
    return "no loss" if value is None else f"{value:.1f}"
