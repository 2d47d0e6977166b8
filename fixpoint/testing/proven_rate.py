"""Proven bounds on the residuals of a method."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fixpoint import theory
from fixpoint.iterator import Iterator
from fixpoint.iterators import ForwardStep, InertialKM

# (distance, n) -> bound on the least ||T point|| of n steps from a start at `distance` from a zero.
Bound = Callable[[float, int], float]


def proven_rate(iterator: Iterator[Any], cocoercivity: float) -> Bound | None:
    """The bound for beta-cocoercive operators; None where no bound is proven.

    - An iterator's own `residual_bound(distance, cocoercivity, iterations)` comes first.
    - Forward steps below 2 beta: theorem 1; for a step of beta, the exact worst case.
    - Inertial KM with a cocoercivity of at most beta: conclusion (B) of theorem 2.
    """
    own = getattr(iterator, "residual_bound", None)
    if own is not None:
        return lambda distance, n: own(distance, cocoercivity, n)
    if isinstance(iterator, ForwardStep):
        rho = iterator.step_size
        if rho == cocoercivity:
            return lambda distance, n: theory.km_residual_bound(distance, cocoercivity, n)
        if theory.forward_step_descent(rho, cocoercivity) > 0:
            return lambda distance, n: theory.forward_step_residual_bound(
                distance, rho, cocoercivity, n
            )
    if isinstance(iterator, InertialKM) and iterator.cocoercivity <= cocoercivity:
        constants = theory.inertial_constants(
            iterator.inertia, iterator.relaxation, iterator.cocoercivity
        )
        # With z^{-1} = z^0, the theorem's z^1 is the starting point.
        return lambda distance, n: distance * math.sqrt(constants.bound / (n + 1))
    return None
