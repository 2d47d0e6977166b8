"""Forward-backward-forward splitting (Tseng, SIAM J. Control Optim. 2000; Bauschke & Combettes,
theorem 26.17): 0 in A z + B z with B monotone and L-Lipschitz, not cocoercive: a saddle point, say.

    x^k     = J_{sA}(z^k - s B z^k)
    z^{k+1} = x^k - s (B x^k - B z^k)

Condition: 0 < s < 1/L. S is not nonexpansive: `cocoercivity` and `averagedness` are None. Known is

    ||S z - z*||^2 <= ||z - z*||^2 - (1 - s^2 L^2) ||z - x||^2

(Tseng, lemma 3.1) and star-cocoercivity c = 1/(1 + s^2 L^2): T z = s (a + B x) with a in A x, so
that <T z, x - z*> >= 0 and <T z, z - z*> >= <T z, z - x>; with d = z - x, e = s (B z - B x) the
quotient <d - e, d>/||d - e||^2 is least where <d, e> = 0 and ||e|| = s L ||d||. Theorems 1 and 2
ask for no more: relaxations below 2 c > 1 and inertia are covered; Halpern's iteration is not.

Where A + B is mu-strongly monotone, the same with 2 s mu ||x - z*||^2 taken off as well gives the
rate sqrt(1 - p r/(p + r)), p = 1 - s^2 L^2, r = 2 s mu. T is (w + w^2)-Lipschitz with
w^2 = 1 + s^2 L^2, the square of the constant of I - s B. Neither is sharp; c is, for a quarter turn
B and A = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fixpoint.constants.region import Region
from fixpoint.proximal import Function
from fixpoint.splittings.bounds import (
    backward_bounds,
    check_forward_part,
    check_number,
    operator_bounds,
)
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import (
    BackwardPart,
    BackwardStep,
    ForwardPart,
    backward_step,
    forward,
)


@dataclass(frozen=True, eq=False)
class ForwardBackwardForward(Splitting):
    """0 in A z + B z. The solution is x = J_{sA}(z - s B z). Two evaluations of B.

    Args:
        h: a monotone Lipschitz operator B; or smooth, its gradient is B.
        g: its subdifferential is A; or the resolvent of a monotone A.
        step: s, in (0, 1/L).
        lipschitz_of_h: L, where `h` does not know it, or knows less than you. That B is monotone
            is taken on trust, unless it is known that it is not.

    Raises:
        ValueError: the step is outside, L is not known, or B is not monotone.
    """

    h: ForwardPart
    g: BackwardPart
    step: float
    lipschitz_of_h: float | None = None
    _back_g: BackwardStep = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_forward_part("forward-backward-forward", self.h)
        lipschitz = self.lipschitz_of_h
        if lipschitz is not None and not 0 <= lipschitz < math.inf:
            raise ValueError(f"need 0 <= lipschitz_of_h < inf, got {lipschitz}")
        if isinstance(self.h, Function):
            lipschitz = self.h.smoothness if lipschitz is None else lipschitz
            strong = self.h.strong_convexity
        else:
            strong = operator_bounds("h", self.h).strong
            lipschitz = Region.of(self.h).constants().lipschitz if lipschitz is None else lipschitz
        if lipschitz is None:
            raise ValueError(
                "forward-backward-forward needs step < 1/L, but the Lipschitz constant of "
                f"{type(self.h).__name__} is not known: state lipschitz_of_h=L"
            )
        check_number("forward-backward-forward", self.step)
        limit = 1 / lipschitz if lipschitz > 0 else math.inf
        if not 0 < self.step < limit:
            raise ValueError(
                f"forward-backward-forward needs 0 < step < 1/L = {limit:.6g}, "
                f"got step = {self.step:g}"
            )
        square = (self.step * lipschitz) ** 2
        p = 1 - square
        behind = backward_bounds("g", self.g)
        r = 2 * self.step * (strong + behind.strong)
        width = math.sqrt(1 + square)
        self._set(_back_g=backward_step(self.g, self.step))
        if not behind.monotone:
            return
        self._set(
            star_cocoercivity=1 / (1 + square),
            lipschitz=width + width**2,
            rate=math.sqrt(1 - p * r / (p + r)) if r > 0 else None,
        )

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        slope = forward(self.h, z)
        x = self._back_g(z - self.step * slope)
        return z - x + self.step * (forward(self.h, x) - slope), x
