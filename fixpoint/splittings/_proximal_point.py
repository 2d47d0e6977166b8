"""Proximal point method (Martinet 1970; Rockafellar, SIAM J. Control Optim. 1976; Ryu & Yin,
section 2.3): 0 in A z, as min g(z) with A the subdifferential of g.

    z^{k+1} = J_{sA} z^k

S = J_{sA}. Condition: s > 0. S is 1/2-averaged; for mu-strongly monotone A it contracts with
1/(1 + s mu). T = s A_s, the Yosida approximation, which is s L/(1 + s L)-Lipschitz and
(1 + s L)/(s L)-cocoercive for 1/L-cocoercive A. All sharp: A = mu I, A = L I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings.bounds import backward_bounds, check_step
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import BackwardPart, BackwardStep, backward_step


@dataclass(frozen=True, eq=False)
class ProximalPoint(Splitting):
    """min g(z). The solution is J_{sA} z.

    Args:
        g: its subdifferential is A; or the resolvent of a monotone A.
        step: s, above 0.

    Raises:
        ValueError: the step is outside.
    """

    g: BackwardPart
    step: float
    _back_g: BackwardStep = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_step("the proximal point method", self.step)
        bounds = backward_bounds("g", self.g)
        low, high = self.step * bounds.strong, self.step * bounds.smooth
        theta = 0.5 if high == math.inf else high / (2 * (1 + high))
        self._set_averaged(theta, bounds.backward(self.step), low / (1 + low), of=(bounds,))
        self._set(_back_g=backward_step(self.g, self.step))

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        x = self._back_g(z)
        return z - x, x
