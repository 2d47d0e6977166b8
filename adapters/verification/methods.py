"""The methods that `fixpoint verify` runs, in practical settings or in the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fixpoint import schedules
from fixpoint.iterator import Iterator
from fixpoint.iterators import Adam, ForwardStep, InertialKM

FURTHER = 3
"""z^inf is the point after this many times n iterations: 300 for 100 in the paper's figure 2."""


@dataclass(frozen=True)
class StudiedMethod:
    """An iterator and how long it runs.

    Attributes:
        iterations: n, the iterations after which the run is judged.
        limit: m > n, the iterations after which the point is taken for z^inf.
        needed: the ratio (14) that its theorem requires; None if no theorem covers it.
        words: its settings as text.
    """

    name: str
    iterator: Iterator[Any]
    iterations: int
    limit: int
    needed: float | None
    words: str


def methods(
    *, iterations: int | None = None, paper: bool = False, half_precision: bool = False
) -> tuple[StudiedMethod, ...]:
    """Forward step, inertial KM and Adam, in practical settings or in the paper's.

    Args:
        iterations: n; by default 50, or the paper's 100 (Adam: 50), with z^inf after 3 n, or
            after the paper's 300.
        paper: rho = 0.001 and alpha = 0.9, as in section 3.4.
        half_precision: the model computes in 16 bits, where the paper gives Adam another eps.

    Raises:
        ValueError: iterations below 1.
    """
    if iterations is not None and iterations < 1:
        raise ValueError(f"--iterations must be at least 1, got {iterations}")
    longest = 100 if paper else 50
    steps, adam_steps = iterations or longest, iterations or 50
    limit = FURTHER * (iterations or longest)
    forward = ForwardStep(step_size=0.001 if paper else 1.0)
    # The paper gives rho = 2 lambda beta only; beta = 0.1 is close to the least, 0.086, for which
    # alpha = 0.9 meets condition (13), and so the weakest hypothesis that theorem 2 can have.
    inertial = (
        InertialKM(inertia=0.9, relaxation=0.005, cocoercivity=0.1)
        if paper
        else InertialKM(inertia=0.3, relaxation=0.5, cocoercivity=1.0)
    )
    eps = 1e-4 if half_precision else 1e-8
    adam = Adam(schedule=schedules.warmup_cosine(0.01, adam_steps), eps=eps)
    return (
        StudiedMethod(
            "forward step",
            forward,
            steps,
            limit,
            forward.step_size / 2,
            f"rho = {forward.step_size:g}",
        ),
        StudiedMethod(
            "inertial KM",
            inertial,
            steps,
            limit,
            inertial.cocoercivity,
            f"alpha = {inertial.inertia:g}, lambda = {inertial.relaxation:g}, "
            f"beta = {inertial.cocoercivity:g}, so rho = 2 lambda beta = {inertial.step_size:g}",
        ),
        StudiedMethod(
            "Adam",
            adam,
            adam_steps,
            limit,
            None,
            f"rate 0.01, warm-up and cosine over {adam_steps} steps, then held; eps {eps:g}",
        ),
    )
