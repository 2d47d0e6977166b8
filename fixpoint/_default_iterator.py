"""The iterator of `solve(operator, z0)`, chosen by the declared constants of the operator."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fixpoint import theory
from fixpoint.iterator import Iterator
from fixpoint.iterators import Anderson, Extragradient
from fixpoint.operator import Operator

_MEMORY = 20
_SHORT_MEMORY = 5
_BYTES = 2**28  # that all differences may take
_SHARE = 0.9  # of 1/L, for extragradient steps


def default_iterator(operator: Operator, z0: Float[Tensor, "batch *shape"]) -> Iterator[Any]:
    """Safeguarded Anderson acceleration that adapts, or extragradient steps.

    - If T is declared monotone and Lipschitz and no more (a skew T, say): extragradient steps of
      0.9/L.
    - Otherwise Anderson with 20 differences, or with 5 if 20 would take more than 256 MiB. Its
      forward steps have the best size for the declared constants, see `theory.best_step_size`, or 1
      without any; it finds T's scale by itself. It accepts rises up to a hundredfold,
      and pauses extrapolations without progress; see `fixpoint.iterators.trials`.
    """
    mu, lipschitz = operator.strong_monotonicity, operator.lipschitz
    step = theory.best_step_size(operator)
    if step is None and mu is not None and mu >= 0 and lipschitz and lipschitz < math.inf:
        return Extragradient(step_size=_SHARE / lipschitz)
    if step is None or not 0 < step < math.inf:
        step = 1.0
    size = 2 * z0.numel() * z0.element_size()
    memory = _MEMORY if _MEMORY * size <= _BYTES else _SHORT_MEMORY
    return Anderson(memory=memory, mixing=step)
