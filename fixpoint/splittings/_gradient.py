"""Gradient method (Cauchy 1847; Polyak 1963; Ryu & Yin, section 2.4): B z = 0, as min h(z) with B
the gradient of h.

    z^{k+1} = z^k - s B z^k

S = I - s B. Condition: 0 < s < 2 beta for beta-cocoercive B, beta = 1/L for an L-Lipschitz
gradient (Baillon & Haddad 1977). S is s/(2 beta)-averaged; where B is mu-strongly monotone it
contracts with max(|1 - s mu|, |1 - s L|) for a gradient, sqrt(1 - mu (2 s - s^2/beta)) else.
All sharp: B = mu I, B = L I.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings.bounds import check_forward_step, forward_bounds
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import ForwardPart, forward


@dataclass(frozen=True, eq=False)
class Gradient(Splitting):
    """min h(z). The solution is z.

    Args:
        h: smooth, its gradient is B; or a cocoercive operator B.
        step: s, in (0, 2 beta).
        cocoercivity_of_h: beta, where `h` does not know it, or knows less than you.

    Raises:
        ValueError: the step is outside, or beta is not known.
    """

    h: ForwardPart
    step: float
    cocoercivity_of_h: float | None = None

    def __post_init__(self) -> None:
        bounds = forward_bounds("the gradient method", self.h, self.cocoercivity_of_h)
        check_forward_step("the gradient method", self.step, bounds)
        theta = self.step * bounds.smooth / 2
        # The strong monotonicity of T = s B is that of B, which does not follow from the
        # contraction.
        self._set_averaged(theta, bounds.forward(self.step), self.step * bounds.strong)

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        return self.step * forward(self.h, z), z
