"""A lasso, and the ways to solve it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.splittings.ways import Counter, Way, compiled, fixpoint_way
from fixpoint import Anderson, ForwardStep, Halpern, proximal, solve
from fixpoint import splittings as split
from fixpoint.proximal import RowParameter


@dataclass
class Lasso:
    """min 1/2 ||A x - b||^2 + w ||x||_1."""

    matrix: Tensor
    target: Tensor
    weight: float

    @staticmethod
    def drawn(rows: int, columns: int) -> Lasso:
        generator = torch.Generator().manual_seed(1)
        matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        truth = torch.zeros(columns, dtype=torch.float64)
        truth[:: columns // 10] = 1.0
        noise = torch.randn(rows, generator=generator, dtype=torch.float64)
        target = matrix @ truth + 0.1 * noise
        return Lasso(matrix, target, 0.02 * float((matrix.T @ target).abs().max()))

    def __post_init__(self) -> None:
        self.count = Counter()
        self.gram, self.slope = self.matrix.T @ self.matrix, -self.matrix.T @ self.target
        fit = Counted(self.gram, RowParameter(self.slope[None]))
        object.__setattr__(fit, "count", self.count)
        self.fit, self.lipschitz = fit, fit.smoothness
        self.start = torch.zeros(1, len(self.slope), dtype=torch.float64)
        self.reference = self.splitting(1.0)
        exact = solve(
            self.reference, self.start, Anderson(memory=10), rtol=1e-13, max_iterations=20000
        )
        self.least = self.objective(self.reference.solution(exact.z))

    def splitting(self, step: float) -> split.ForwardBackward:
        """Forward-backward with a step in units of 1/L."""
        return split.ForwardBackward(self.fit, proximal.L1(self.weight), step / self.lipschitz)

    def objective(self, x: Tensor) -> float:
        misfit = x[0] @ self.matrix.T - self.target
        return float(misfit @ misfit / 2 + self.weight * x.abs().sum())

    def gap(self, x: Tensor) -> float:
        return self.objective(x) / self.least - 1

    def error(self, x: Tensor) -> float:
        """||x - S x|| / ||x||, S the forward-backward step of size 1/L."""
        return float(self.reference(x).norm() / x.norm()) if bool(x.any()) else 1.0


class Counted(proximal.Quadratic):
    """A quadratic whose gradients are counted."""

    count: Counter

    def _gradient(self, z: Tensor) -> Tensor:
        self.count.rows += len(z)
        return super()._gradient(z)


def lasso_ways(lasso: Lasso, modules: dict[str, Any]) -> list[Way]:
    ways = []
    for step in (1.0, 1.9):  # a step of 1.9/L is allowed, and faster for the plain iteration
        T = lasso.splitting(step)
        name = f", step {step:g}/L"

        def way(method: str, iterator: Any, group: str, T: Any = T, name: str = name) -> Way:
            method = f"ForwardBackward, {method}{name}"
            return fixpoint_way(method, T, lasso.start, iterator, group=group, after=T.solution)

        ways += [
            way("ForwardStep", ForwardStep(step_size=1.0), "ForwardStep"),
            way("Anderson, memory 5", Anderson(memory=5), "Anderson 5"),
            way("Anderson, memory 10", Anderson(memory=10), "Anderson 10"),
            way("Halpern", Halpern(cocoercivity=T.star_cocoercivity or 0.5), "Halpern"),
        ]
    if "PyProximal" in modules:
        ways += pyproximal_lasso(lasso, *modules["PyProximal"])
    if "JAXopt" in modules:
        ways += jaxopt_lasso(lasso, modules["JAXopt"][0])
    return ways


def pyproximal_lasso(lasso: Lasso, pyproximal: Any, pylops: Any) -> list[Way]:
    count = lasso.count
    gram, slope = lasso.gram.numpy(), lasso.slope.numpy()

    class Fit(pyproximal.Quadratic):  # type: ignore[misc]
        def grad(self, x: Any) -> Any:
            count.rows += 1
            return super().grad(x)

    fit, weight = Fit(pylops.MatrixMult(gram), slope), pyproximal.L1(sigma=lasso.weight)
    solver = pyproximal.optimization.primal
    start = lasso.start[0].numpy()

    def way(method: str, group: str, step: float, function: Any, **options: Any) -> Way:
        def run(iterations: int) -> Any:
            found = function(
                fit, weight, x0=start, tau=step / lasso.lipschitz, niter=iterations, **options
            )
            return found[None]

        return Way("PyProximal", f"{method}, step {step:g}/L", run, group=group)

    gradient, anderson = solver.ProximalGradient, solver.AndersonProximalGradient
    ways = [way("ProximalGradient", "plain", step, gradient) for step in (1.0, 1.9)]
    ways += [
        way(f"ProximalGradient, {kind}", kind, 1.0, gradient, acceleration=kind)
        for kind in ("vandenberghe", "fista")
    ]
    ways += [
        way(f"AndersonProximalGradient, {m}{words}", "Anderson", step, anderson, **options)
        for m in (5, 10)
        for step in (1.0, 1.9)
        for words, options in (
            ("", {"nhistory": m}),
            (", safeguard", {"nhistory": m, "safeguard": True}),
        )
    ]
    return ways


def jaxopt_lasso(lasso: Lasso, jaxopt: Any) -> list[Way]:
    jnp = import_module("jax.numpy")
    gram, slope = jnp.asarray(lasso.gram.numpy()), jnp.asarray(lasso.slope.numpy())
    start = jnp.asarray(lasso.start[0].numpy())

    def value_and_grad(x: Any) -> Any:
        product = gram @ x  # one product, as the others make
        return x @ product / 2 + slope @ x, product + slope

    def way(step: float, acceleration: bool) -> Way:
        def solver(limit: Any) -> Any:
            return jaxopt.ProximalGradient(
                value_and_grad,
                jaxopt.prox.prox_lasso,
                value_and_grad=True,
                stepsize=step / lasso.lipschitz,
                maxiter=limit,
                tol=0.0,
                acceleration=acceleration,
                implicit_diff=False,
            )

        run, find = compiled(solver, start, lasso.weight)
        kind = "accelerated (default)" if acceleration else "plain"
        method = f"ProximalGradient, {kind}, step {step:g}/L, jitted"
        return Way("JAXopt", method, run, group=kind, jitted=True, find=find)

    return [way(1.0, True), way(1.0, False), way(1.9, False)]
