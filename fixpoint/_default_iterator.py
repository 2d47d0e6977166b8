"""The iterator of `solve(operator, z0)`, by what is declared of the operator."""

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

    - T monotone and Lipschitz, and no more (as a skew T): extragradient steps of 0.9/L.
    - Else Anderson with 20 differences, or 5 where 20 would take more than 256 MiB. Its forward
      steps have the best size for the constants that are declared, see `theory.best_step_size`, or
      1 where there are none; it finds T's scale by itself. It accepts rises up to a hundredfold,
      and leaves extrapolations that get nowhere; see `fixpoint.iterators.trials`.
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
