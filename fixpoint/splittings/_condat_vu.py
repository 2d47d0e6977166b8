"""Condat-Vu splitting (Condat, J. Optim. Theory Appl. 2013, algorithm 3.1; Vu, Adv. Comput. Math.
2013; Ryu & Yin, section 3.3): min h(x) + f(x) + g(K x), h smooth.

    x^{k+1} = prox_{tau f}(x^k - tau (B x^k + K' y^k)),   B the gradient of h
    y^{k+1} = prox_{sigma g*}(y^k + sigma K (2 x^{k+1} - x^k))

Condition: 1/tau - sigma ||K||^2 > L/2 for 1/L-cocoercive B (Condat, theorem 3.1; his relaxations
are below 1/theta). Forward-backward in the metric M of `PrimalDual`: there M^{-1} B is
k-cocoercive, k = (1/tau - sigma ||K||^2)/L, and S is 1/(2 - 1/(2 k))-averaged. Without h it is
PDHG, without g forward-backward, K small; the constant is sharp there.

Linear rate, f mu-strongly convex and g smooth: that of PDHG, since I - M^{-1} B is nonexpansive.
Not sharp; a strongly convex h does not enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings._primal_dual import ROUNDING, PrimalDual
from fixpoint.splittings.bounds import backward_bounds, forward_bounds
from fixpoint.splittings.linear import Linear
from fixpoint.splittings.steps import BackwardPart, ForwardPart, forward


@dataclass(frozen=True, eq=False)
class CondatVu(PrimalDual):
    """min h(x) + f(x) + g(K x). z is packed from x and y; the solution is x^{k+1}.

    Args:
        h: smooth, its gradient is B; or a cocoercive operator B.
        f: a function of x.
        g: a function of K x; its conjugate's proximal operator is taken.
        linear: K.
        primal_step, dual_step: tau and sigma, above 0, 1/tau - sigma ||K||^2 > L/2.
        cocoercivity_of_h: 1/L, where `h` does not know it, or knows less than you.

    Raises:
        ValueError: a step is outside, or L is not known.
    """

    h: ForwardPart
    f: BackwardPart
    g: BackwardPart
    linear: Linear
    primal_step: float
    dual_step: float
    cocoercivity_of_h: float | None = None

    name: ClassVar[str] = "Condat-Vu"

    def __post_init__(self) -> None:
        smooth = forward_bounds("Condat-Vu", self.h, self.cocoercivity_of_h).smooth
        coupling = self._check_steps()
        room = (1 - coupling) / self.primal_step
        # Without h the boundary belongs to it, as to PDHG.
        if not (room > smooth / 2 if smooth > 0 else coupling <= 1 + ROUNDING):
            raise ValueError(
                "Condat-Vu needs 1/primal_step - dual_step * ||K||^2 > L/2 (>= 0 for L = 0), got "
                f"1/{self.primal_step:g} - {self.dual_step:g} * {self.linear.norm:g}^2 = "
                f"{room:.6g} and L/2 = {smooth / 2:.6g}"
            )
        inverse = smooth / room if smooth > 0 else 0.0  # 1/k
        f, g = backward_bounds("f", self.f), backward_bounds("g", self.g)
        self._set_metric_constants(1 / (2 - inverse / 2), max(0.0, coupling), f, g)

    def split(self, z: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        x, y = self.unpack(z)
        slope = forward(self.h, x) + self.linear.adjoint(y)
        then = self._back_f(x - self.primal_step * slope)
        dual = self._back_dual(y + self.dual_step * self.linear(2 * then - x))
        return self._joined(x - then, y - dual), then
