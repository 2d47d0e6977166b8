"""Davis-Yin three-operator splitting (Davis & Yin, Set-Valued Var. Anal. 2017; Ryu & Yin, section
2.7.4): 0 in A_f z + A_g z + B z, as min f(z) + g(z) + h(z) with B the gradient of h.

    x^k     = J_{s A_g} z^k
    z^{k+1} = z^k + J_{s A_f}(2 x^k - z^k - s B x^k) - x^k

Condition: 0 < s < 2 beta for beta-cocoercive B. S is 1/(2 - s/(2 beta))-averaged (their proposition
2.1), as it is for forward-backward, f = 0, where the constant is sharp. B = 0 is Douglas-Rachford.

Linear rate, where A_g is 1/L_g-cocoercive (in the way of their appendix D):

    q^2 = 1 - (2 s mu_g + (2 s - s^2/beta) mu_h)/(1 + s L_g)^2

Proof: with differences dz = dx + s a, a of A_g, b of B, c of A_f at dw, and t = s (a + b + c) of T,

    ||dS||^2 = ||dz||^2 - ||t||^2 + 2 s <b, t> - 2 s (<a, dx> + <b, dx> + <c, dw>)

and 2 s <b, t> <= ||t||^2 + s^2/beta <b, dx>, ||dz|| <= (1 + s L_g) ||dx||. Not sharp. For B = 0 the
rates of Douglas-Rachford hold, for f = 0 or g = 0 those of forward-backward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal import Zero
from fixpoint.splittings._douglas_rachford import averaged_constants
from fixpoint.splittings.bounds import backward_bounds, check_forward_step, forward_bounds
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import (
    BackwardPart,
    BackwardStep,
    ForwardPart,
    backward_step,
    forward,
)


@dataclass(frozen=True, eq=False)
class DavisYin(Splitting):
    """min f(z) + g(z) + h(z). The solution is x = J_{s A_g} z.

    Args:
        f: its resolvent acts second. A function, or the resolvent of a monotone operator.
        g: its resolvent acts first; likewise.
        h: smooth, its gradient is B; or a cocoercive operator B.
        step: s, in (0, 2 beta).
        cocoercivity_of_h: beta, where `h` does not know it, or knows less than you.

    Raises:
        ValueError: the step is outside, or beta is not known.
    """

    f: BackwardPart
    g: BackwardPart
    h: ForwardPart
    step: float
    cocoercivity_of_h: float | None = None
    _back_f: BackwardStep = field(init=False, repr=False)
    _back_g: BackwardStep = field(init=False, repr=False)

    def __post_init__(self) -> None:
        h = forward_bounds("Davis-Yin", self.h, self.cocoercivity_of_h)
        check_forward_step("Davis-Yin", self.step, h)
        f, g = backward_bounds("f", self.f), backward_bounds("g", self.g)
        theta = 1 / (2 - self.step * h.smooth / 2)
        contraction = 1.0
        if isinstance(self.f, Zero) or isinstance(self.g, Zero):
            other = g if isinstance(self.f, Zero) else f
            contraction = h.forward(self.step) * other.backward(self.step)
        elif h.smooth == 0:
            theta, contraction = averaged_constants(f, g, self.step)
        elif g.smooth < math.inf:
            descent = self.step * (2 * g.strong + (2 - self.step * h.smooth) * h.strong)
            contraction = math.sqrt(max(0.0, 1 - descent / (1 + self.step * g.smooth) ** 2))
        self._set_averaged(theta, contraction, of=(f, g))
        self._set(
            _back_f=backward_step(self.f, self.step), _back_g=backward_step(self.g, self.step)
        )

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        x = self._back_g(z)
        slope = self.step * forward(self.h, x)
        return x - self._back_f(2 * x - z - slope), x
