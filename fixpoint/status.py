"""How a row of a run can end."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    """The reason why a row left the iteration; `message` says it in words."""

    CONVERGED = (0, "the residual of the returned point is within tolerance")
    NOISE_FLOOR = (1, "the data are explained to within their noise; iterating on would fit it")
    STALLED = (2, "what a stop rule watches has stopped falling above the tolerance")
    DIVERGED = (3, "the residual has grown far beyond its first value")
    NONFINITE = (4, "the operator returned NaN or infinity; the best finite iterate is returned")
    MAX_ITERATIONS = (5, "the iteration limit was reached before the tolerance")
    ROUNDING = (6, "the residual is at the rounding level of T there: it counts as zero")
    REFUTED = (8, "the residual does not fall as a contraction's would: the method is not the one")
    NO_ZERO = (7, "no zero was found: the residual tends to a positive limit")

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message

    @property
    def success(self) -> bool:
        """True where the returned point is what was asked for: a zero of T, to within the
        tolerance or T's rounding, or one up to the noise of the data."""
        return self in (Status.CONVERGED, Status.ROUNDING, Status.NOISE_FLOOR)

    @classmethod
    def from_code(cls, code: int) -> Status:
        return _BY_CODE[code]

    def __repr__(self) -> str:
        return f"Status.{self.name}"


_BY_CODE = {status.code: status for status in Status}
