"""The demonstration: four methods recover the known latent of a photograph."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fixpoint import schedules
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion.invert_picture import invert, invert_by_encoder, invert_by_paper
from fixpoint.adapters.inversion.result import Inversion, nmse_db
from fixpoint.adapters.pictures.example import PHOTOGRAPH
from fixpoint.adapters.pictures.observations import EightBit
from fixpoint.adapters.pictures.pictures import as_pictures
from fixpoint.adapters.reports.peak_memory import PeakMemory
from fixpoint.adapters.round_trips.cycles import by_encoder, by_round_trip, cycles
from fixpoint.adapters.round_trips.round_trip import RoundTrip

SIDE = 128


@dataclass(frozen=True)
class Measurement:
    """One method: a row of the table."""

    name: str
    nmse_db: float
    evaluations: int
    seconds: float
    peak_bytes: int | None

    def as_json(self) -> dict[str, Any]:
        """As a dict for JSON and the figure; NaN and infinity become None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Demonstration:
    """The results of the demonstration."""

    picture: Tensor  # (3, height, width), 8-bit values on [-1, 1]
    truth: Tensor  # z*, (1, channels, rows, columns)
    measurements: list[Measurement]
    latents: dict[str, Tensor]
    curves: dict[str, list[float]]  # NMSE in dB after 1, 2, ... evaluations

    def table(self) -> list[dict[str, Any]]:
        """A dict for each method."""
        return [measurement.as_json() for measurement in self.measurements]


def photograph(side: int = SIDE) -> Tensor:
    """The centre of the bundled photograph at half its resolution: (1, 3, side, side)."""
    from PIL import Image

    with Image.open(PHOTOGRAPH) as image:
        half = image.convert("RGB").resize(
            (image.width // 2, image.height // 2), Image.Resampling.BOX
        )
    left, top = (half.width - side) // 2, (half.height - side) // 2
    return as_pictures(half.crop((left, top, left + side, top + side))).values


def demonstrate(
    autoencoder: Autoencoder,
    picture: Tensor,
    *,
    evaluations: int = 20,
    gradient_steps: int = 100,
    paper_steps: int = 100,
    say: Callable[[str], object] = lambda line: None,
    progress: bool = False,
) -> Demonstration:
    """Encode a picture to z*, decode z* to an 8-bit picture x, and recover z* from x.

    Args:
        autoencoder: makes and inverts the picture.
        picture: (1, 3, height, width) on [-1, 1]; only its encoding is used.
        evaluations: limit on evaluations of E(D(.)) for ours.
        gradient_steps: of gradient descent.
        paper_steps: of the paper's method.
        say: called with a line of the table when a method has finished.
        progress: show progress bars.
    """
    truth, seen = observed(autoencoder, picture)
    curves: dict[str, list[float]] = {}

    def watch(name: str) -> Callable[[Tensor], None]:
        curves[name] = []
        return lambda z: curves[name].append(float(nmse_db(z, truth)))

    def encoder(record: Callable[[Tensor], None], bar: bool, steps: int | None) -> Inversion:
        inversion = invert_by_encoder(autoencoder, seen, value_range=(-1, 1))
        record(inversion.latent)
        return inversion

    def gradient(record: Callable[[Tensor], None], bar: bool, steps: int | None) -> Inversion:
        return invert_by_gradient(
            autoencoder,
            seen,
            steps=steps or gradient_steps,
            # The better one of the paper's two settings.
            schedule=schedules.constant(0.01),
            value_range=(-1, 1),
            callback=lambda step, z: record(z),
            progress=bar,
        )

    def paper(record: Callable[[Tensor], None], bar: bool, steps: int | None) -> Inversion:
        return invert_by_paper(
            autoencoder,
            seen,
            steps=steps or paper_steps,
            value_range=(-1, 1),
            callback=lambda iterate: record(iterate.state.point),
            progress=bar,
        )

    def ours(record: Callable[[Tensor], None], bar: bool, steps: int | None) -> Inversion:
        return invert(
            autoencoder,
            seen,
            max_iterations=(steps or evaluations) - 1,
            value_range=(-1, 1),
            callback=lambda iterate: record(iterate.state.point),
            progress=bar,
        )

    methods = {
        "encoder alone": encoder,
        "gradient descent": gradient,
        "the paper's Adam": paper,
        "ours": ours,
    }
    if not autoencoder.differentiable:
        del methods["gradient descent"]
    measurements, latents = [], {}
    for name, method in methods.items():
        method(lambda z: None, False, 2)  # warm-up: loads libraries before time is measured
        measurement, inversion = measure(name, partial(method, watch(name), progress, None), truth)
        latents[name] = inversion.latent
        measurements.append(measurement)
        say(table_row(measurement))
    return Demonstration(seen[0].cpu(), truth.cpu(), measurements, latents, curves)


def observed(autoencoder: Autoencoder, picture: Tensor) -> tuple[Tensor, Tensor]:
    """z*, the encoding of a picture, and what is seen of it: its decoding in 8 bits."""
    autoencoder.check_shape(picture.shape)
    with torch.no_grad():
        truth = autoencoder.encode(picture.to(autoencoder.device))
        return truth, EightBit()(autoencoder.decode(truth))


def measure(
    name: str, run: Callable[[], Inversion], truth: Tensor
) -> tuple[Measurement, Inversion]:
    """The row of the table of one inversion of one picture, and its result."""
    with PeakMemory(truth.device) as memory:
        inversion = run()
    measurement = Measurement(
        name=name,
        nmse_db=float(nmse_db(inversion.latent, truth)),
        evaluations=int(inversion.evaluations),
        seconds=inversion.seconds,
        peak_bytes=memory.added,
    )
    return measurement, inversion


def pass_through(
    autoencoder: Autoencoder, picture: Tensor, count: int, progress: bool = False
) -> dict[str, Tensor]:
    """The picture, and what encoder and decoder leave of it after some passages, two ways.

    Args:
        autoencoder: that made the picture.
        picture: (3, height, width) on the 8-bit grid of [-1, 1].
        count: passages.
        progress: show progress bars.

    Returns:
        The pictures, each under its name and PSNR.
    """
    first = picture[None].to(autoencoder.device)
    trip = RoundTrip(autoencoder, gradients="never", progress=progress)
    shown = {"first picture": picture}
    for name, step in {
        "encoder": by_encoder(autoencoder),
        "ours": by_round_trip(trip),
    }.items():
        last = list(cycles(step, first, count))[-1]
        psnr = float(last.psnr_db)
        words = f"{psnr:.1f} dB" if math.isfinite(psnr) else "no loss"
        shown[f"{name}, after {count}: {words}"] = last.pictures[0].cpu()
    return shown


def table_head() -> str:
    head = f"{'method':<18}{'NMSE (dB)':>10}{'evaluations':>13}{'seconds':>9}{'peak MiB':>10}"
    return head + "\n" + "-" * len(head)


def table_row(row: Measurement) -> str:
    peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f}"
    return f"{row.name:<18}{row.nmse_db:>10.1f}{row.evaluations:>13}{row.seconds:>9.2f}{peak:>10}"
