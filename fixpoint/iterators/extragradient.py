"""Extragradient method (Korpelevich, Matekon 1976):

    y^k     = z^k - rho T z^k
    z^{k+1} = z^k - rho T y^k

For a monotone, L-Lipschitz T with a zero and rho < 1/L the distance to every zero falls and
T z^k -> 0; T need not be cocoercive, and may be a rotation, for which every forward step diverges.
A step costs two evaluations. With no constraint it is Tseng's forward-backward-forward method.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State, TheoremWarning
from fixpoint.operator import Operator


@dataclass(frozen=True, kw_only=True)
class Extragradient(Iterator[State]):
    """Extragradient steps of a constant size.

    Args:
        step_size: rho, above 0; the theorem asks for rho < 1/L.
    """

    step_size: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.step_size < math.inf:
            raise ValueError(f"an extragradient step needs 0 < step_size, got {self.step_size}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> State:
        lipschitz = operator.lipschitz
        if lipschitz is not None and not self.step_size * lipschitz < 1:
            warnings.warn(
                f"the extragradient method needs step_size < 1/L = {1 / lipschitz:.6g}, got "
                f"{self.step_size}; convergence is not guaranteed",
                TheoremWarning,
                stacklevel=4,
            )
        return State(z=z, point=z, residual=operator(z))

    def step(self, operator: Operator, state: State) -> State:
        ahead = operator(kernels.forward_step(state.z, state.residual, self.step_size))
        z = kernels.forward_step(state.z, ahead, self.step_size)
        return State(z=z, point=z, residual=operator(z))
