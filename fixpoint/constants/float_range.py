"""Numbers over the whole range of a float: powers of two that never raise, and bounds that hold."""

from __future__ import annotations

import math
import sys

LARGEST = sys.float_info.max
LEAST = math.ulp(0.0)  # the least float above 0


def shifted(value: float, exponent: int, *, up: bool = False) -> float:
    """value * 2^exponent, which never raises.

    What underflows keeps its sign, unless it is a lower bound above 0.

    Args:
        up: of an upper bound: what underflows is the least number above 0.
    """
    if value == 0 or not math.isfinite(value):
        return value
    try:
        found = math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)
    if found == 0 and (up or value < 0):
        return math.copysign(LEAST, value)
    return found


def largest_exponent(*numbers: tuple[float, int]) -> int:
    """e with 2^(e-1) <= max |value * 2^exponent| < 2^e; 0 where all are 0."""
    return max((math.frexp(value)[1] + shift for value, shift in numbers if value), default=0)


def quotient(mu: float, lipschitz: float) -> float:
    """mu / lipschitz^2, for 0 < mu <= lipschitz < inf."""
    square = lipschitz * lipschitz
    exact = sys.float_info.min < square < math.inf
    return mu / square if exact else mu / lipschitz / lipschitz
