"""What the primal-dual splittings share: the state and its metric.

Their S is averaged not in the Euclidean norm of (x, y), but in that of

    M = [ I/tau  -K' ]
        [ -K   I/sigma ],     <z, z>_M = ||x||^2/tau - 2 <K x, y> + ||y||^2/sigma

(He & Yuan 2012; Condat 2013). The state is z = (x/sqrt(tau), y/sqrt(sigma)): the diagonal of M is
then the identity, and its condition number at most (1 + n)/(1 - n), n = sqrt(tau sigma) ||K||.

`cocoercivity` and `averagedness` are None; `star_cocoercivity`, `metric_averagedness` and `rate`
hold in the norm of M. That is enough for forward steps, inertial KM and Halpern's iteration without
restarts: they form affine combinations only, and what is proved of them in one Hilbert space is
proved in any. What compares Euclidean norms is on its own: a forward step may raise the Euclidean
residual. Anderson must not take that for a step too long: give it shrink=1. In the Euclidean norm
T is Lipschitz with 2 theta sqrt((1 + n)/(1 - n)). For n > 1, which PDHG allows, M is indefinite and
no norm: all of these are None.

`euclidean()` changes variables to w = M^{1/2} z, where everything is Euclidean again; M^{1/2} is a
dense matrix, for small problems and for checking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels import row_dot
from fixpoint.operator import Operator
from fixpoint.proximal import Function
from fixpoint.proximal.row_algebra import flat, product
from fixpoint.splittings.bounds import Bounds, check_step
from fixpoint.splittings.linear import Linear, check_linear
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import BackwardPart, BackwardStep, backward_step, select_part

ROUNDING = 1e-12  # of tau sigma ||K||^2 where it should be 1


class PrimalDual(Splitting):
    """A splitting of x and y in one state, (batch, n + m); see `pack` and `unpack`."""

    f: BackwardPart
    g: BackwardPart
    linear: Linear
    primal_step: float
    dual_step: float

    name: ClassVar[str]
    _back_f: BackwardStep  # prox_{tau f}
    _back_dual: BackwardStep  # prox_{sigma g*}

    def pack(
        self, x: Float[Tensor, "batch *inputs"], y: Float[Tensor, "batch *outputs"] | None = None
    ) -> Float[Tensor, "batch size"]:
        """z = (x/sqrt(tau), y/sqrt(sigma)), every row as a vector; y = 0 unless given."""
        if y is None:
            y = x.new_zeros(len(x), *self.linear.outputs)
        for name, part, shape in (("x", x, self.linear.inputs), ("y", y, self.linear.outputs)):
            if tuple(part.shape[1:]) != shape:
                raise ValueError(f"{name} must be (batch, *{shape}), got {tuple(part.shape)}")
        return self._joined(x, y)

    def unpack(self, z: Float[Tensor, "batch size"]) -> tuple[Tensor, Tensor]:
        """x, (batch, *inputs), and y, (batch, *outputs)."""
        sizes = math.prod(self.linear.inputs), math.prod(self.linear.outputs)
        if z.dim() != 2 or z.shape[1] != sum(sizes):
            raise ValueError(
                f"z must be (batch, {sizes[0]} + {sizes[1]}), x and y packed, got {tuple(z.shape)}"
            )
        x, y = z.split(sizes, 1)
        return (
            math.sqrt(self.primal_step) * x.reshape(-1, *self.linear.inputs),
            math.sqrt(self.dual_step) * y.reshape(-1, *self.linear.outputs),
        )

    def metric(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        """M z, in the variables of the state."""
        x, y = self.unpack(z)
        return z - self._joined(
            self.primal_step * self.linear.adjoint(y), self.dual_step * self.linear(x)
        )

    def squared_norm(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, " batch"]:
        """<z, M z>; below 0 for some z where tau sigma ||K||^2 > 1."""
        return row_dot(z, self.metric(z))

    def euclidean(self) -> EuclideanForm:
        """The same splitting in the variables w = M^{1/2} z.

        Raises:
            ValueError: tau sigma ||K||^2 >= 1: M is singular or indefinite; rows have linear maps
                of their own; a part is not known to be monotone.
        """
        return EuclideanForm(self)

    def _joined(self, x: Tensor, y: Tensor) -> Float[Tensor, "batch size"]:
        scaled = flat(x) / math.sqrt(self.primal_step), flat(y) / math.sqrt(self.dual_step)
        return torch.cat(scaled, 1)

    def _check_steps(self) -> float:
        """tau sigma ||K||^2, of steps above 0."""
        check_linear(self.name, self.linear)
        for name in ("primal_step", "dual_step"):
            check_step(self.name, getattr(self, name), name)
        return self.primal_step * self.dual_step * self.linear.norm**2

    def _set_metric_constants(self, theta: float, coupling: float, f: Bounds, g: Bounds) -> None:
        """From the averagedness, tau sigma ||K||^2 and the bounds of the subdifferentials."""
        rate = None
        definite = coupling <= 1 + ROUNDING
        if definite and f.strong > 0 and g.smooth < math.inf:
            # The resolvent in the metric contracts with l/(1 + l), l the largest eigenvalue of
            # D^{-1/2} M D^{-1/2}, D = diag(mu_f, 1/L_g): that of a 2 x 2 matrix.
            a, b = 1 / (self.primal_step * f.strong), g.smooth / self.dual_step
            c = self.linear.norm * math.sqrt(g.smooth / f.strong)
            largest = (a + b) / 2 + math.hypot((a - b) / 2, c)
            rate = largest / (1 + largest)
            theta = min(theta, (1 + rate) / 2)
        n = math.sqrt(coupling)
        self._set(
            _back_f=backward_step(self.f, self.primal_step),
            _back_dual=_conjugate_step(self.g, self.dual_step),
        )
        if not (f.monotone and g.monotone and definite):
            return
        self._set(
            metric_averagedness=theta,
            star_cocoercivity=1 / (2 * theta),
            lipschitz=2 * theta * math.sqrt((1 + n) / (1 - n)) if n < 1 - ROUNDING else None,
            rate=rate,
        )


def _conjugate_step(g: BackwardPart, step: float) -> BackwardStep:
    """prox_{sigma g*}; the conjugate is made once, since making it reads values of parameters."""
    if isinstance(g, Function):
        return backward_step(g.conjugate, step)
    return Moreau(backward_step(g, 1 / step), step)


@dataclass(frozen=True, eq=False)
class Moreau:
    """z -> z - s J(z/s), J the resolvent of step 1/s: that of the inverse."""

    inner: BackwardStep
    step: float

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return z - self.step * self.inner(z / self.step)

    def select(self, rows: Tensor) -> Moreau:
        return Moreau(select_part(self.inner, rows), self.step)


class EuclideanForm(Operator):
    """w -> M^{1/2} T M^{-1/2} w of a primal-dual splitting, whose constants are Euclidean.

    `root` and `inverse_root` are M^{1/2} and its inverse, (size, size), in float64.
    """

    def __init__(self, splitting: PrimalDual) -> None:
        matrix = splitting.linear.dense()
        m, n = matrix.shape
        metric = torch.eye(n + m, dtype=torch.float64, device=matrix.device)
        metric[n:, :n] = -math.sqrt(splitting.primal_step * splitting.dual_step) * matrix
        metric[:n, n:] = metric[n:, :n].T
        values, vectors = torch.linalg.eigh(metric)
        if not float(values[0]) > ROUNDING * float(values[-1]):
            raise ValueError(
                "the change of variables needs tau sigma ||K||^2 < 1, a metric M that is positive "
                "definite"
            )
        if splitting.metric_averagedness is None:
            raise ValueError("the form has constants where both parts are known to be monotone")
        self.splitting = splitting
        self.root = (vectors * values.sqrt()) @ vectors.T
        self.inverse_root = (vectors / values.sqrt()) @ vectors.T
        theta = splitting.metric_averagedness
        self.averagedness, self.cocoercivity, self.lipschitz = theta, 1 / (2 * theta), 2 * theta
        self.strong_monotonicity = 1 - (splitting.rate or 1.0)

    def __call__(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        return self.variables(self.splitting(self.state(z)))

    def variables(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        """w = M^{1/2} z."""
        return product(self.root.to(z), z)

    def state(self, w: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        """z = M^{-1/2} w."""
        return product(self.inverse_root.to(w), w)

    def select(self, rows: Tensor) -> EuclideanForm:
        selected = EuclideanForm.__new__(EuclideanForm)
        vars(selected).update(vars(self), splitting=self.splitting.select(rows))
        return selected
