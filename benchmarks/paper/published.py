"""The published numbers, as data.

Hong et al., Gradient-free Decoder Inversion in Latent Diffusion Models, NeurIPS 2024: tables S1
and S2. Other autoencoders, other pictures and other machines than ours: not the same experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.paper import methods

SOURCE = "Hong et al., NeurIPS 2024"
CAUTION = (
    "Not the same experiment: the paper's autoencoders have some 84 million weights and its "
    "pictures are 512 pixels wide (LaVie: 16 frames), on an RTX 3090 Ti, an A100 and an RTX 3090."
)


@dataclass(frozen=True)
class Point:
    """One cell of table S1: mean NMSE with its 95 % interval, and the runtime."""

    iterations: int
    nmse_db: float
    interval_db: float
    seconds: float


@dataclass(frozen=True)
class Line:
    """One method of table S1 with its peak memory."""

    method: str
    bits: int
    gigabytes: float
    points: tuple[Point, ...]

    def at(self, iterations: int) -> Point | None:
        return next((point for point in self.points if point.iterations == iterations), None)

    @property
    def seconds_a_step(self) -> float:
        """Between the shortest and the longest run, so that start and end do not count."""
        first, last = self.points[0], self.points[-1]
        return (last.seconds - first.seconds) / (last.iterations - first.iterations)


SCHEDULED, FIXED, PAPER = (
    method.family for method in (methods.SCHEDULED, methods.FIXED, methods.PAPER)
)


def _line(method: str, bits: int, gigabytes: float, *cells: tuple[float, float, float]) -> Line:
    steps = (20, 50, 100, 200) if method == PAPER else (20, 30, 50, 100)
    points = (Point(count, *cell) for count, cell in zip(steps, cells, strict=True))
    return Line(method, bits, gigabytes, tuple(points))


TABLE_S1 = {
    "Stable Diffusion 2.1": (
        _line(
            SCHEDULED,
            32,
            8.83,
            (-15.92, 0.44, 6.11),
            (-17.84, 0.55, 9.31),
            (-20.69, 0.73, 15.7),
            (-24.82, 1.08, 31.7),
        ),
        _line(
            FIXED,
            32,
            8.83,
            (-18.61, 0.49, 6.29),
            (-19.51, 0.55, 9.37),
            (-20.93, 0.67, 16.0),
            (-23.00, 0.85, 32.8),
        ),
        _line(
            PAPER,
            32,
            3.81,
            (-19.39, 0.54, 3.34),
            (-20.84, 0.66, 8.53),
            (-21.71, 0.77, 17.7),
            (-21.85, 0.82, 34.5),
        ),
        _line(
            PAPER,
            16,
            3.15,
            (-18.74, 0.48, 1.91),
            (-20.82, 0.66, 4.90),
            (-21.72, 0.77, 9.56),
            (-21.86, 0.82, 19.3),
        ),
    ),
    "LaVie": (
        _line(
            SCHEDULED,
            32,
            64.7,
            (-17.35, 0.45, 24.86),
            (-18.12, 0.49, 37.07),
            (-19.58, 0.59, 61.37),
            (-22.20, 0.81, 122.31),
        ),
        _line(
            FIXED,
            32,
            64.7,
            (-19.06, 0.43, 25.11),
            (-19.68, 0.48, 37.11),
            (-20.66, 0.57, 61.67),
            (-22.14, 0.71, 122.46),
        ),
        _line(
            PAPER,
            32,
            11.7,
            (-20.21, 0.43, 12.96),
            (-21.42, 0.54, 32.17),
            (-21.58, 0.62, 64.25),
            (-21.21, 0.58, 128.34),
        ),
        _line(
            PAPER,
            16,
            7.13,
            (-19.86, 0.42, 8.59),
            (-21.37, 0.55, 21.19),
            (-21.52, 0.63, 42.28),
            (-21.14, 0.58, 83.45),
        ),
    ),
    "InstaFlow": (
        _line(
            SCHEDULED,
            32,
            8.38,
            (-15.67, 0.48, 6.29),
            (-16.22, 0.53, 9.55),
            (-17.26, 0.62, 16.12),
            (-19.15, 0.78, 32.54),
        ),
        _line(
            FIXED,
            32,
            8.38,
            (-15.94, 0.48, 6.30),
            (-16.40, 0.52, 9.51),
            (-17.14, 0.59, 15.92),
            (-18.33, 0.70, 32.14),
        ),
        _line(
            PAPER,
            32,
            3.2,
            (-16.55, 0.53, 3.17),
            (-17.46, 0.63, 8.34),
            (-17.76, 0.68, 16.90),
            (-17.81, 0.70, 34.21),
        ),
        _line(
            PAPER,
            16,
            2.62,
            (-16.38, 0.51, 1.89),
            (-17.46, 0.63, 4.93),
            (-17.76, 0.68, 9.99),
            (-17.82, 0.71, 20.04),
        ),
    ),
}

OPTIMIZERS = {"forward step": (-19.35, 0.54), "inertial KM": (-20.91, 1.20), "Adam": (-21.85, 0.82)}
"""Table S2a, Stable Diffusion 2.1, the last column, which is headed 100 iterations. (-21.85 is what
tables S1a and S2b give for Adam after 200.)"""

SCHEDULES = {
    "Adam, 0.01 scheduled": {
        20: (-19.39, 0.54),
        50: (-20.84, 0.66),
        100: (-21.71, 0.77),
        200: (-21.85, 0.82),
    },
    "Adam, 0.01 fixed": {
        20: (-20.05, 0.58),
        50: (-21.07, 0.70),
        100: (-21.22, 0.74),
        200: (-20.61, 0.79),
    },
    "Adam, 0.002 fixed": {
        20: (-17.85, 0.43),
        50: (-19.28, 0.53),
        100: (-20.59, 0.64),
        200: (-21.57, 0.74),
    },
}
"""Table S2b, Stable Diffusion 2.1."""


def with_interval(nmse_db: float, interval_db: float) -> str:
    return f"{nmse_db:.2f} ± {interval_db:.2f}"
