"""Forward-backward splitting (Lions & Mercier 1979; Passty 1979; Combettes & Wajs 2005; Ryu & Yin,
section 2.7.1): 0 in A z + B z, as min h(z) + g(z) with B the gradient of h.

    z^{k+1} = J_{sA}(z^k - s B z^k)

S = J_{sA} (I - s B). Condition: 0 < s < 2 beta for beta-cocoercive B, beta = 1/L for an L-Lipschitz
gradient. S is 1/(2 - s/(2 beta))-averaged (Combettes & Yamada 2015, proposition 2.4, of 1/2 and
s/(2 beta); the least such constant by Huang, Ryu & Yin 2020). Where A or B is strongly monotone,
S contracts with the product of the constants of both factors, in `Bounds.forward` and `.backward`;
for functions that is max(|1 - s mu_h|, |1 - s L|)/(1 + s mu_g) (Taylor, Hendrickx & Glineur 2018),
sharp: h = mu/2 ||.||^2, g = mu_g/2 ||.||^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

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
class ForwardBackward(Splitting):
    """min h(z) + g(z). The solution is S z.

    At a fixed point S z = z; before, S z is in the domain of g (sparse, inside the box), z is not.

    Args:
        h: smooth, its gradient is B; or a cocoercive operator B.
        g: its subdifferential is A; or the resolvent of a monotone A.
        step: s, in (0, 2 beta).
        cocoercivity_of_h: beta, where `h` does not know it, or knows less than you.

    Raises:
        ValueError: the step is outside, or beta is not known.
    """

    h: ForwardPart
    g: BackwardPart
    step: float
    cocoercivity_of_h: float | None = None
    _back_g: BackwardStep = field(init=False, repr=False)

    def __post_init__(self) -> None:
        bounds = forward_bounds("forward-backward", self.h, self.cocoercivity_of_h)
        check_forward_step("forward-backward", self.step, bounds)
        theta = 1 / (2 - self.step * bounds.smooth / 2)
        behind = backward_bounds("g", self.g)
        contraction = bounds.forward(self.step) * behind.backward(self.step)
        self._set_averaged(theta, contraction, of=(behind,))
        self._set(_back_g=backward_step(self.g, self.step))

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        x = self._back_g(z - self.step * forward(self.h, z))
        return z - x, x
