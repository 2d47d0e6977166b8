"""Forward step method (the paper, equation 8 and theorem 1):

    z^{k+1} = z^k - rho T z^k

For a beta-cocoercive T and 0 < rho < 2 beta, T z^k -> 0 and the distance to every zero falls.
On a fixed-point residual T = I - G this is the Krasnoselskii-Mann iteration with relaxation rho.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State, TheoremWarning
from fixpoint.iterators.adaptive_forward_step import AdaptiveForwardStep
from fixpoint.operator import Operator


@dataclass(frozen=True)
class ForwardStepState(State):
    following: Float[Tensor, "batch *shape"]  # z^{k+1}


@dataclass(frozen=True, kw_only=True)
class ForwardStep(Iterator[ForwardStepState]):
    """Forward steps of a constant size.

    Args:
        step_size: rho, above 0; theorem 1 asks for rho < 2 beta. Where `cocoercivity` is not known
            and the operator has a `star_cocoercivity`, as `Splitting`, beta is that.
    """

    step_size: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.step_size < float("inf"):
            raise ValueError(f"a forward step needs 0 < step_size, got {self.step_size}")

    @staticmethod
    def adaptive(
        *, first_step: float = 1.0, fraction: float = 0.9, growth: float = 1.2
    ) -> AdaptiveForwardStep:
        """Forward steps whose size follows the measured cocoercivity, row by row."""
        return AdaptiveForwardStep(first_step=first_step, fraction=fraction, growth=growth)

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> ForwardStepState:
        beta = operator.cocoercivity
        if beta is None:  # theorem 1 needs it at the zeros only
            beta = getattr(operator, "star_cocoercivity", None)
        if beta is not None and not self.step_size < 2 * beta:
            warnings.warn(
                f"theorem 1 needs step_size < 2 beta = {2 * beta:.6g}, got {self.step_size}; "
                "convergence is not guaranteed",
                TheoremWarning,
                stacklevel=4,
            )
        return self._at(z, operator(z))

    def step(self, operator: Operator, state: ForwardStepState) -> ForwardStepState:
        z = state.following
        return self._at(z, operator(z), **state.asked())

    def _at(self, z: Tensor, residual: Tensor, **asked: Any) -> ForwardStepState:
        following, sums = kernels.forward_step_with_sums(z, residual, self.step_size, **asked)
        return ForwardStepState(z=z, point=z, residual=residual, following=following, sums=sums)
