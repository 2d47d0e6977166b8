"""Alternating direction method of multipliers (Glowinski & Marrocco 1975; Gabay & Mercier 1976;
Eckstein & Bertsekas 1992; Ryu & Yin, section 3.1): min f(x) + g(w) subject to K x = w, that is,
min f(x) + g(K x).

    x^{k+1} = argmin_x f(x) + r/2 ||K x - w^k + u^k||^2
    w^{k+1} = prox_{g/r}(K x^{k+1} + u^k)
    u^{k+1} = u^k + K x^{k+1} - w^{k+1}

As a fixed-point iteration in v = w + u = K x + u (both splits of v are known: w = prox_{g/r}(v)):

    S v = v - w + K x(2 w - v),   x(t) = argmin_x f(x) + r/2 ||K x - t||^2

This is Douglas-Rachford of step r on the dual, min f*(-K' y) + g*(y), in z = r v (Gabay 1983),
and of step 1/r on min F(w) + g(w), F(w) = min {f(x): K x = w}. Condition: r > 0. S is 1/2-averaged;
the rates are those of `douglas_rachford` for F, mu_f/||K||^2-strongly convex and, for K onto,
L_f/least^2-smooth (Giselsson & Boyd 2017, sections V and VI).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal import Function, Quadratic, SquaredL2
from fixpoint.proximal.row_algebra import flat, product
from fixpoint.splittings._douglas_rachford import averaged_constants
from fixpoint.splittings.bounds import Bounds, backward_bounds, check_number, check_step
from fixpoint.splittings.linear import Linear, Scaling, check_linear
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import BackwardPart, BackwardStep, backward_step, select_part


@dataclass(frozen=True, eq=False)
class ADMM(Splitting):
    """min f(x) + g(K x). State v = K x + u, (batch, *outputs); the solution is x.

    T v = w - K x is the residual of the constraint; the multiplier is y = r u.

    Args:
        f: a function of x.
        g: a function of K x.
        step: r, above 0.
        linear: K; None for the identity.
        minimize: (t, r) -> argmin_x f(x) + r/2 ||K x - t||^2, row by row. Not needed without K,
            for a `Scaling`, and for f a `Quadratic` or `SquaredL2` with one matrix and one weight
            for all rows: there it is a solve with a matrix factored once, in float64. One that
            holds data of the rows needs a `select(rows)`.

    Raises:
        ValueError: the step is outside; the argmin is not unique. TypeError: it needs `minimize`.
    """

    f: BackwardPart
    g: BackwardPart
    step: float
    linear: Linear | None = None
    minimize: Callable[[Tensor, float], Tensor] | None = None
    _back_g: BackwardStep = field(init=False, repr=False)
    _argmin: Callable[[Tensor], Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_number("ADMM(f, g, step, linear)", self.step)
        check_step("ADMM", self.step)
        if self.linear is not None:
            check_linear("ADMM(f, g, step, linear)", self.linear)
        f, g = backward_bounds("f", self.f), backward_bounds("g", self.g)
        if self.linear is not None:
            norm, least = self.linear.norm, self.linear.least
            smooth = f.smooth / least**2 if least > 0 else math.inf
            strong = f.strong / norm**2 if norm > 0 else 0.0
            f = Bounds(strong, smooth, f.gradient, f.monotone)
        self._set_averaged(*averaged_constants(f, g, 1 / self.step), of=(f, g))
        self._set(_back_g=backward_step(self.g, 1 / self.step), _argmin=self._make_argmin())

    def split(self, z: Float[Tensor, "batch *outputs"]) -> tuple[Tensor, Tensor]:
        w = self._back_g(z)
        x = self._argmin(2 * w - z)
        return w - (x if self.linear is None else self.linear(x)), x

    def dual(self, z: Float[Tensor, "batch *outputs"]) -> Float[Tensor, "batch *outputs"]:
        """y = r u, the multiplier: a solution of the dual problem where T v = 0."""
        return self.step * (z - self._back_g(z))

    def _make_argmin(self) -> Callable[[Tensor], Tensor]:
        """t -> argmin_x f(x) + r/2 ||K x - t||^2."""
        if self.minimize is not None:
            return Argmin(self.minimize, self.step)
        if self.linear is None:
            return backward_step(self.f, 1 / self.step)
        if isinstance(self.linear, Scaling):
            factor = self.linear.factor
            inner = backward_step(self.f, 1 / (self.step * factor**2))
            return ScaledArgument(inner, 1 / factor)
        if isinstance(self.f, Quadratic) and isinstance(self.f.matrix, Tensor):
            curvature = self.f.matrix.to(torch.float64)
        elif isinstance(self.f, SquaredL2) and isinstance(self.f.weight, int | float):
            size = math.prod(self.linear.inputs)
            curvature = self.f.weight * torch.eye(size, dtype=torch.float64)
        else:
            raise TypeError(
                f"ADMM has no argmin of f(x) + r/2 ||K x - t||^2 for f a {type(self.f).__name__} "
                "and this K: give minimize=, or take PDHG, which needs none"
            )
        return QuadraticArgmin.of(self.f, curvature, self.linear, self.step)


@dataclass(frozen=True, eq=False)
class Argmin:
    """The user's own."""

    minimize: Callable[[Tensor, float], Tensor]
    step: float

    def __call__(self, t: Float[Tensor, "batch *outputs"]) -> Float[Tensor, "batch *inputs"]:
        return self.minimize(t, self.step)

    def select(self, rows: Tensor) -> Argmin:
        return Argmin(select_part(self.minimize, rows), self.step)


@dataclass(frozen=True, eq=False)
class ScaledArgument:
    """K = a I: argmin_x f(x) + r a^2/2 ||x - t/a||^2."""

    inner: BackwardStep
    factor: float

    def __call__(self, t: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.inner(self.factor * t)

    def select(self, rows: Tensor) -> ScaledArgument:
        return ScaledArgument(select_part(self.inner, rows), self.factor)


@dataclass(frozen=True, eq=False)
class QuadraticArgmin:
    """f(x) = 1/2 <x, P x> + <q, x>: (P + r K' K)^{-1} (r K' t - q)."""

    f: Function
    linear: Linear
    step: float
    inverse: Float[Tensor, "inputs inputs"]

    @staticmethod
    def of(
        f: Function, curvature: Float[Tensor, "inputs inputs"], linear: Linear, step: float
    ) -> QuadraticArgmin:
        matrix = linear.dense()
        system = curvature.to(matrix) + step * matrix.T @ matrix
        factor, failed = torch.linalg.cholesky_ex(system)
        if int(failed):
            raise ValueError("ADMM needs P + r K'K positive definite, for one argmin and no more")
        return QuadraticArgmin(f, linear, step, torch.cholesky_inverse(factor))

    def __call__(self, t: Float[Tensor, "batch *outputs"]) -> Float[Tensor, "batch *inputs"]:
        target = self.step * self.linear.adjoint(t)
        slope = self.f.gradient(torch.zeros_like(target))  # q
        return product(self.inverse.to(t), flat(target - slope)).reshape(target.shape)

    def select(self, rows: Tensor) -> QuadraticArgmin:
        return replace(self, f=self.f.select(rows), linear=self.linear.select(rows))
