"""Peaceman-Rachford splitting (Peaceman & Rachford 1955; Lions & Mercier 1979; Ryu & Yin, section
2.7.2): 0 in A_f z + A_g z, as min f(z) + g(z).

    z^{k+1} = R_f R_g z^k,    R_g = 2 J_{s A_g} - I

Condition: s > 0. S = R_f R_g is nonexpansive, averagedness 1, and alone need not converge; with
relaxation 1/2 it is the Douglas-Rachford splitting. It contracts with the product of the constants
of R_f and R_g, of which one is below 1 where its function is strongly convex and smooth (Giselsson
& Boyd 2017, theorem 1, sharp). Where one part is mu-strongly monotone and the other
1/L-cocoercive, T is 2 (1 - q)-strongly monotone, q the rate of `douglas_rachford`: every relaxation
below 1 then converges linearly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings._douglas_rachford import mixed_rate
from fixpoint.splittings.bounds import backward_bounds, check_step
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import BackwardPart, BackwardStep, backward_step


@dataclass(frozen=True, eq=False)
class PeacemanRachford(Splitting):
    """min f(z) + g(z). The solution is J_{s A_g} z.

    Args:
        f: its reflected resolvent acts second. A function, or the resolvent of a monotone operator.
        g: its reflected resolvent acts first; likewise.
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
        check_step("Peaceman-Rachford", self.step)
        f, g = backward_bounds("f", self.f), backward_bounds("g", self.g)
        contraction = f.reflection(self.step) * g.reflection(self.step)
        strong = 2 * (1 - mixed_rate(f, g, self.step))
        self._set_averaged(1.0, contraction, strong, of=(f, g))
        self._set(
            _back_f=backward_step(self.f, self.step), _back_g=backward_step(self.g, self.step)
        )

    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        x = self._back_g(z)
        return 2 * (x - self._back_f(2 * x - z)), x
