"""Inertial Krasnoselskii-Mann iteration (the paper, equations 10, 11 and theorem 2; Maulen,
Fierro & Peypouquet, Set-Valued and Variational Analysis 2024):

    y^k     = z^k + alpha (z^k - z^{k-1}),    z^{-1} = z^0
    z^{k+1} = y^k - 2 lambda beta T y^k

Theorem 2 asks for beta-cocoercivity and lambda (1 - alpha + 2 alpha^2) < (1 - alpha)^2. Only the
product lambda beta matters to the run: any pair with this product that meets both covers it.
T is evaluated at y^k: that is the state's `point`, and the point that `solve` returns.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels, theory
from fixpoint.iterator import Iterator, State, TheoremWarning
from fixpoint.operator import Operator

_ROUNDING = 1e-15  # of the margin, where numbers are meant to lie on the bound


@dataclass(frozen=True)
class InertialKMState(State):
    following: Float[Tensor, "batch *shape"]  # z^{k+1}
    ahead: Float[Tensor, "batch *shape"]  # y^{k+1}
    step: Float[Tensor, " batch"] | None  # ||z^{k+1} - z^k||^2, where it was asked for


@dataclass(frozen=True, kw_only=True)
class InertialKM(Iterator[InertialKMState]):
    """Krasnoselskii-Mann steps with inertia.

    Args:
        inertia: alpha, in [0, 1).
        relaxation: lambda, above 0, bounded by condition (13) above. The bound itself, which
            rounding may have put beyond it, is taken with a warning.
        cocoercivity: beta, known or estimated; the step is 2 lambda beta.
    """

    inertia: float = 0.2
    relaxation: float = 0.5
    cocoercivity: float = 1.0

    def __post_init__(self) -> None:
        alpha, lam = self.inertia, self.relaxation
        if not 0 <= alpha < 1:
            raise ValueError(f"inertia must lie in [0, 1), got {alpha}")
        if not 0 < self.cocoercivity < float("inf"):
            raise ValueError(f"cocoercivity must be above 0, got {self.cocoercivity}")
        margin = theory.inertia_margin(alpha, lam)
        if lam > 0 and -_ROUNDING < margin <= 0:
            warnings.warn(
                f"relaxation = {lam!r} is the bound of (13) for inertia = {alpha!r} but for the "
                f"rounding of the two, and {-margin:.3g} beyond it: theorem 2 does not cover this",
                TheoremWarning,
                stacklevel=3,
            )
        elif not (lam > 0 and margin > 0):
            bound = theory.largest_relaxation(alpha)
            shown = f"{bound:.6g}"
            if not lam > float(shown):  # too close to be told apart in six digits
                shown = repr(bound)
            raise ValueError(
                "theorem 2 needs 0 < relaxation and relaxation (1 - alpha + 2 alpha^2) < "
                f"(1 - alpha)^2: with inertia alpha = {alpha} the relaxation must be below "
                f"{shown}, got {lam}"
            )

    @property
    def step_size(self) -> float:
        """rho = 2 lambda beta."""
        return 2 * self.relaxation * self.cocoercivity

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> InertialKMState:
        beta = operator.cocoercivity
        if beta is not None and not beta > theory.least_cocoercivity(
            self.inertia, self.relaxation, self.cocoercivity
        ):
            warnings.warn(
                f"the operator is {beta:.6g}-cocoercive, less than the {self.cocoercivity} given "
                "to InertialKM; theorem 2 does not cover this run",
                TheoremWarning,
                stacklevel=4,
            )
        return self._at(z, z, operator(z))

    def step(self, operator: Operator, state: InertialKMState) -> InertialKMState:
        z, point = state.following, state.ahead
        return self._at(z, point, operator(point), state.step, **state.asked())

    def _at(
        self, z: Tensor, point: Tensor, residual: Tensor, step: Tensor | None = None, **asked: Any
    ) -> InertialKMState:
        following, ahead, sums = kernels.inertial_km_with_sums(
            point, residual, z, self.inertia, self.step_size, **asked
        )
        return InertialKMState(
            z=z,
            point=point,
            residual=residual,
            following=following,
            ahead=ahead,
            step=sums.step,
            sums=sums._replace(step=step),  # the one that led here
        )
