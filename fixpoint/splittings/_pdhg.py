"""Primal-dual hybrid gradient method (Chambolle & Pock, J. Math. Imaging Vision 2011, algorithm 1
with theta = 1; He & Yuan 2012; Ryu & Yin, section 3.2): min f(x) + g(K x), a saddle point of
f(x) + <K x, y> - g*(y).

    x^{k+1} = prox_{tau f}(x^k - tau K' y^k)
    y^{k+1} = prox_{sigma g*}(y^k + sigma K (2 x^{k+1} - x^k))

Condition: tau sigma ||K||^2 <= 1 (Chambolle & Pock prove < 1; for equality Condat 2013, theorem
3.3, where the norm of the metric is but a seminorm). S is the resolvent of the saddle point
operator in the metric M of `PrimalDual`, and 1/2-averaged there.

For convex functions f and g the plain iteration, z - T z, converges for tau sigma ||K||^2 < 4/3
(He, Ma, Xu & Yuan, SIAM J. Imaging Sci. 2022; Li & Yan, On the improved conditions for some
primal-dual algorithms, 2022; Banert, Upadhyaya & Giselsson, The Chambolle-Pock method converges
weakly with theta > 1/2 and tau sigma ||L||^2 < 4/(1 + 2 theta), 2023). No more: for f = 0 and g the
indicator of 0 it diverges above 4/3. Above 1 M is indefinite and S need not be averaged in any
norm: all constants are None. Relaxed, inertial and Halpern iterations are not covered, nor are
monotone operators in place of f and g, for which only <= 1 is proved.

Linear rate: f mu-strongly convex and g L-smooth, so that g* is 1/L-strongly convex: with l the
largest eigenvalue of [[1/(tau mu), ||K|| sqrt(L/mu)], [., L/sigma]], S contracts in the norm of M
with l/(1 + l) (Bauschke & Combettes, 23.13, in that metric; the setting of Chambolle & Pock,
section 5.3). Not sharp: the skew part of the operator is left out.

K = I and tau sigma = 1 is Douglas-Rachford of step tau, z = x - tau y (O'Connor & Vandenberghe
2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings._primal_dual import ROUNDING, PrimalDual
from fixpoint.splittings.bounds import backward_bounds
from fixpoint.splittings.linear import Linear
from fixpoint.splittings.steps import BackwardPart

LIMIT = 4 / 3  # of tau sigma ||K||^2 for convex functions


@dataclass(frozen=True, eq=False)
class PDHG(PrimalDual):
    """min f(x) + g(K x). z is packed from x and y; the solution is x^{k+1}.

    Args:
        f: a function of x.
        g: a function of K x; its conjugate's proximal operator is taken.
        linear: K.
        primal_step, dual_step: tau and sigma, above 0, tau sigma ||K||^2 <= 1; or below 4/3 where
            f and g are convex functions. Above 1 the plain iteration, `ForwardStep(step_size=1.0)`,
            converges, and `star_cocoercivity`, `metric_averagedness`, `lipschitz` and `rate` are
            None: the metric that they would hold in is none.

    Raises:
        ValueError: a step is outside.
    """

    f: BackwardPart
    g: BackwardPart
    linear: Linear
    primal_step: float
    dual_step: float

    name: ClassVar[str] = "PDHG"

    def __post_init__(self) -> None:
        coupling = self._check_steps()
        f, g = backward_bounds("f", self.f), backward_bounds("g", self.g)
        functions = f.gradient and g.gradient
        if not (coupling < LIMIT if functions else coupling <= 1 + ROUNDING):
            limit = "< 4/3" if functions else "<= 1 for operators f or g (< 4/3 for functions)"
            raise ValueError(
                f"PDHG needs primal_step * dual_step * ||K||^2 {limit}, got "
                f"{self.primal_step:g} * {self.dual_step:g} * {self.linear.norm:g}^2 = "
                f"{coupling:.6g}"
            )
        self._set_metric_constants(0.5, coupling, f, g)

    def split(self, z: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        x, y = self.unpack(z)
        then = self._back_f(x - self.primal_step * self.linear.adjoint(y))
        dual = self._back_dual(y + self.dual_step * self.linear(2 * then - x))
        return self._joined(x - then, y - dual), then
