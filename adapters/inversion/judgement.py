"""What an inversion came to, per row: by which method, and what it means, in one sentence each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from fixpoint.status import Status

LEVEL = 2 / 255
"""One level of 8 bits on [-1, 1]."""

FOREIGN_DB = 36.0
"""A decoding that comes no nearer to the picture than this is taken to be of another picture."""

NOISY_DB = 28.0
"""The same where what is left is like white noise."""

EXPLAINED = 1.25
"""Misfit over the observation's noise, up to which a row is explained."""


class InversionOutcome(Enum):
    """What a row came to; the value says it in a few words."""

    EXPLAINED = "explained by the observation"
    NOISE = "explained up to an estimated noise"
    FOREIGN = "not made by this decoder"
    REFUTED = "condition refuted"
    UNFINISHED = "not finished"
    FAILED = "failed"
    UNJUDGED = "not judged"

    @property
    def success(self) -> bool:
        """Whether D(latent) is the picture up to what the observation, or noise, explains."""
        return self in (InversionOutcome.EXPLAINED, InversionOutcome.NOISE)

    def status(self, solved: Status | None) -> Status | None:
        """The status of a row, from that of the solver, where one ran."""
        if self.success:
            return solved if solved is not None and solved.success else Status.NOISE_FLOOR
        return solved if solved is not None else _UNSOLVED.get(self)


_UNSOLVED = {
    InversionOutcome.FOREIGN: Status.STALLED,
    InversionOutcome.REFUTED: Status.REFUTED,
    InversionOutcome.UNFINISHED: Status.MAX_ITERATIONS,
    InversionOutcome.FAILED: Status.NONFINITE,
}


@dataclass(frozen=True)
class Judgement:
    """What a row came to.

    Attributes:
        outcome: see `InversionOutcome`.
        method: what made the latent.
        sentence: the outcome with its numbers, and why this method.
    """

    outcome: InversionOutcome
    method: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def by_misfit(misfit: float, floor: float, method: str, why: str = "") -> Judgement:
    """A row whose misfit fell to the observation's, or did not yet.

    Args:
        misfit, floor: root mean squares on [-1, 1]: of D(z) - x, and what the observation leaves.
        method: what made the latent.
        why: by this method; said in brackets.
    """
    if misfit <= EXPLAINED * floor:
        outcome, sentence = InversionOutcome.EXPLAINED, explained(misfit)
    else:
        outcome, sentence = InversionOutcome.UNFINISHED, unfinished(misfit)
    return Judgement(outcome, method, sentence + _because(why))


def by_noise(level: float, textured: bool, method: str, why: str = "") -> Judgement:
    """A row that would come no nearer; `level` and `textured`: of what is left of the picture."""
    if is_foreign(level, textured):
        outcome, sentence = InversionOutcome.FOREIGN, foreign(level)
    else:
        outcome, sentence = InversionOutcome.NOISE, noise(level)
    return Judgement(outcome, method, sentence + _because(why))


def failed(reason: str, method: str, why: str = "") -> Judgement:
    """A row without a result."""
    return Judgement(InversionOutcome.FAILED, method, f"failed: {reason}{_because(why)}")


def explained(misfit: float) -> str:
    """The sentence of a picture whose misfit (root mean square on [-1, 1]) is the observation's."""
    return f"explained by the observation: D(latent) is {_levels(misfit)} from the picture"


def explained_by(codec: object, level: float) -> str:
    """The sentence of a picture that D(z) explains up to `level` times the noise of a codec."""
    return (
        f"explained by the observation: the picture is D(latent) up to {level:.1f} times what "
        f"{codec!r} changes"
    )


def noise(level: float) -> str:
    """Of a picture that noise of this level was added to."""
    return (
        f"explained up to an estimated noise of {_levels(level)}, which the observation does not "
        "account for"
    )


def foreign(misfit: float) -> str:
    """Of a picture that the decoder cannot draw."""
    return (
        "not made by this decoder, or changed much since: the nearest that was drawn is "
        f"{_levels(misfit)} ({_psnr_db(misfit):.0f} dB) from it"
    )


def unfinished(misfit: float) -> str:
    """Of a run that was cut off."""
    return (
        f"not finished: D(latent) is {_levels(misfit)} from the picture, and was still coming "
        "nearer when the run ended"
    )


def refuted(share: float, steps: int) -> str:
    """Why a row left the fixed-point iteration."""
    return (
        f"condition refuted: {share:.0%} of the residual is left after {steps} evaluations, so "
        "E(D(.)) does not contract here"
    )


def slow(share: float, steps: int) -> str:
    """Why a row left it where gradients follow."""
    return (
        f"{share:.0%} of the residual is left after {steps} evaluations: E(D(.)) hardly contracts "
        "here"
    )


def at_rest(share: float) -> str:
    """Why a row that came to rest left the fixed-point iteration."""
    return (
        f"condition refuted: the iteration came to rest with {share:.0%} of its residual left, so "
        "E(D(.)) hardly contracts here"
    )


def is_foreign(misfit: float, textured: bool = True) -> bool:
    """Whether a decoding is so far from the picture that it is another one; `textured`: what is
    left of the picture looks like one, and not like noise."""
    return not _psnr_db(misfit) >= (FOREIGN_DB if textured else NOISY_DB)  # NaN is foreign


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _psnr_db(misfit: float) -> float:
    if misfit == 0 or math.isinf(misfit):
        return -math.inf if misfit else math.inf
    return 20 * math.log10(2 / misfit)


def _levels(size: float) -> str:
    return f"{size / LEVEL:.2f} of 255 levels"
