"""Douglas-Rachford splitting (Douglas & Rachford 1956; Lions & Mercier 1979; Eckstein & Bertsekas
1992; Ryu & Yin, section 2.7.3): 0 in A_f z + A_g z, as min f(z) + g(z).

    x^k     = J_{s A_g} z^k
    z^{k+1} = z^k + J_{s A_f}(2 x^k - z^k) - x^k

Condition: s > 0. S = (I + R_f R_g)/2, R = 2 J - I, is 1/2-averaged. Linear rates:

- R_f R_g contracts with d: S with (1 + d)/2, and its averagedness is (1 + d)/4. d is below 1 where
  one function is strongly convex and smooth (Giselsson & Boyd 2017, theorem 1). Sharp.
- one part mu-strongly monotone, the other 1/L-cocoercive: `mixed_rate` (Ryu, Taylor, Bergeling &
  Giselsson, SIAM J. Optim. 2020, theorem 4.1, for relaxation 1). It is max |1 + a b|/2 over the
  discs of diameters [-1, (1 - s mu)/(1 + s mu)] and [(1 - s L)/(1 + s L), 1] that hold a of one
  reflected resolvent and b of the other. Sharp, by quadratics in the plane already: any two points
  of these discs are values of two symmetric matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings.bounds import Bounds, backward_bounds, check_step
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import BackwardPart, BackwardStep, backward_step


def mixed_rate(f: Bounds, g: Bounds, step: float) -> float:
    """The second rate above, the better of both roles; 1 where neither can be given."""
    roles = ((f.strong, g.smooth), (g.strong, f.smooth))
    return min(
        (_mixed(step * mu, step * most) for mu, most in roles if mu > 0 and most < math.inf),
        default=1.0,
    )


def _mixed(m: float, n: float) -> float:
    """For m = s mu and n = s L."""
    if n * m * (1 + m) <= 1 - m:
        return 1 / (1 + m)
    if m * n * (n - 1) >= n + 1:
        return n / (1 + n)
    if m >= 1 + n + n * m:
        return (1 + m * n) / ((1 + m) * (1 + n))
    return (1 + m * n) / (2 * math.sqrt(m * (1 + n + n * m)))


def averaged_constants(f: Bounds, g: Bounds, step: float) -> tuple[float, float]:
    """The averagedness and the contraction of S."""
    reflections = f.reflection(step) * g.reflection(step)
    return (1 + reflections) / 4, min((1 + reflections) / 2, mixed_rate(f, g, step))


@dataclass(frozen=True, eq=False)
class DouglasRachford(Splitting):
    """min f(z) + g(z). The solution is x = J_{s A_g} z.

    Args:
        f: its resolvent acts second. A function, or the resolvent of a monotone operator.
        g: its resolvent acts first; likewise.
        step: s, above 0.

    Raises:
        ValueError: the step is outside.
    """

    f: BackwardPart
    g: BackwardPart
    step: float
    _back_f: BackwardStep = field(init=False, repr=False)
    _back_g: BackwardStep = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_step("Douglas-Rachford", self.step)
        f, g = backward_bounds("f", self.f), backward_bounds("g", self.g)
        self._set_averaged(*averaged_constants(f, g, self.step), of=(f, g))
        self._set(
            _back_f=backward_step(self.f, self.step), _back_g=backward_step(self.g, self.step)
        )

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        x = self._back_g(z)
        return x - self._back_f(2 * x - z), x
