"""The maps z -> tanh(W z + b), and the ways to find their fixed points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.splittings.ways import Counter, Way, compiled, fixpoint_way
from fixpoint import Anderson, Broyden, ForwardStep, fixed_point_of


@dataclass
class TanhMap:
    """z -> tanh(W z + b), a contraction: W symmetric, of spectral norm 0.95."""

    weight: Tensor
    bias: Tensor  # (batch, width)
    count: Counter = field(default_factory=Counter)

    @staticmethod
    def drawn(batch: int, width: int, norm: float = 0.95) -> TanhMap:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(width, width, generator=generator, dtype=torch.float64)
        weight = weight + weight.T
        weight *= norm / torch.linalg.matrix_norm(weight, 2)
        bias = 0.1 * torch.randn(batch, width, generator=generator, dtype=torch.float64)
        return TanhMap(weight, bias, Counter(batch=batch))

    def __post_init__(self) -> None:
        self.start = torch.zeros_like(self.bias)
        self.transposed = self.weight.T.contiguous()
        self.numpy_weight, self.numpy_bias = self.weight.numpy(), self.bias[0].numpy()
        self.numpy_start = self.start[0].numpy()
        self.operator = fixed_point_of(self.map_rows, self.bias)

    def map_rows(self, z: Tensor, bias: Tensor) -> Tensor:
        self.count.rows += len(z)
        return torch.addmm(bias, z, self.transposed).tanh_()

    def torch(self, z: Tensor) -> Tensor:
        return self.map_rows(z, self.bias)

    def numpy(self, z: Any) -> Any:
        self.count.rows += 1
        return np.tanh(self.numpy_weight @ z + self.numpy_bias)

    def error(self, point: Tensor) -> float:
        """The largest relative residual of the rows."""
        residual = point - torch.tanh(point @ self.weight.T + self.bias)
        return float((residual.norm(dim=1) / point.norm(dim=1)).max())


def map_ways(problem: TanhMap, modules: dict[str, Any], rtol: float = 0.0) -> list[Way]:
    """The ways of every library for one map. SciPy has no batches: it needs a map of one row."""
    T, start = problem.operator, problem.start
    ways = [
        fixpoint_way("ForwardStep", T, start, ForwardStep(step_size=1.0), rtol, family="plain"),
        *(
            fixpoint_way(
                f"Anderson, memory {m}", T, start, Anderson(memory=m), rtol, family="Anderson"
            )
            for m in (5, 10)
        ),
        fixpoint_way("Broyden", T, start, Broyden(), rtol, family="Broyden"),
    ]
    if "torchdeq" in modules:
        ways += torchdeq_ways(problem)
    if len(start) == 1 and "SciPy" in modules:
        ways += scipy_ways(problem, modules["SciPy"][0])
    if "JAXopt" in modules:
        ways += jaxopt_ways(problem, modules["JAXopt"][0])
    return ways


def torchdeq_ways(problem: TanhMap) -> list[Way]:
    anderson = import_module("torchdeq.solver.anderson").anderson_solver
    broyden = import_module("torchdeq.solver.broyden").broyden_solver
    plain = import_module("torchdeq.solver.fp_iter")

    def way(method: str, solver: Any, family: str, group: str = "", **options: Any) -> Way:
        def run(iterations: int) -> Tensor:
            with torch.no_grad():
                return solver(
                    problem.torch,
                    problem.start,
                    max_iter=iterations,
                    tol=0.0,
                    stop_mode="rel",
                    return_final=True,
                    **options,
                )[0]

        return Way("torchdeq", method, run, group=group, family=family)

    def unwatched(iterations: int) -> Tensor:
        with torch.no_grad():
            mapped = lambda z, tau: problem.torch(z)  # noqa: E731
            return plain.simple_fixed_point_iter(mapped, problem.start, max_iter=iterations)[0]

    name = "anderson_solver"
    return [
        way("fixed_point_iter", plain.fixed_point_iter, "plain"),
        Way(
            "torchdeq",
            "simple_fixed_point_iter (no residual, no stopping)",
            unwatched,
            family="plain, unwatched",
        ),
        way(f"{name}, m=6, lam=1e-4 (default)", anderson, "Anderson", name),
        *(
            way(f"{name}, m={m}, lam={lam:g}", anderson, "Anderson", name, m=m, lam=lam)
            for m in (5, 10)
            for lam in (1e-8, 1e-12)
        ),
        way("broyden_solver", broyden, "Broyden"),
        way("broyden_solver, ls=True", broyden, "Broyden", ls=True),
    ]


def scipy_ways(problem: TanhMap, optimize: Any) -> list[Way]:
    def residual(z: Any) -> Any:
        return problem.numpy(z) - z

    def way(method: str, solver: Any, family: str, group: str = "", **options: Any) -> Way:
        def run(iterations: int) -> Any:
            # With `iter` the tolerances are out of use.
            return solver(residual, problem.numpy_start, iter=iterations, **options)[None]

        return Way("SciPy", method, run, group=group, family=family)

    def iterated(method: str) -> Callable[[int], Any]:
        per_step = 2 if method == "del2" else 1

        def run(iterations: int) -> Any:
            # Reaching maxiter raises, and formats the whole array into the message. A map that
            # returns its argument ends the run without either.
            left = iterations * per_step

            def mapped(z: Any) -> Any:
                nonlocal left
                left -= 1
                return problem.numpy(z) if left >= 0 else z

            start, limit = problem.numpy_start, iterations + 2
            return optimize.fixed_point(mapped, start, xtol=1e-300, maxiter=limit, method=method)[
                None
            ]

        return run

    ways = [
        Way("SciPy", "fixed_point, iteration", iterated("iteration"), family="plain"),
        Way("SciPy", "fixed_point, del2 (default)", iterated("del2"), family="Aitken"),
        way(
            "linearmixing, alpha=1, no line search",
            optimize.linearmixing,
            "plain",
            alpha=1.0,
            line_search=None,
        ),
        way("anderson (default)", optimize.anderson, "Anderson", "anderson"),
    ]
    for memory in (5, 10):
        for search in (None, "armijo"):
            words = "no line search" if search is None else "line search"
            ways.append(
                way(
                    f"anderson, M={memory}, alpha=1, {words}",
                    optimize.anderson,
                    "Anderson",
                    "anderson",
                    M=memory,
                    alpha=1.0,
                    w0=1e-8,  # with the default, 0.01, it is slow
                    line_search=search,
                )
            )
    return [
        *ways,
        way(
            "broyden1, alpha=1, no line search",
            optimize.broyden1,
            "Broyden",
            alpha=1.0,
            line_search=None,
        ),
        way("newton_krylov (default)", optimize.newton_krylov, "Newton-Krylov"),
    ]


def jaxopt_ways(problem: TanhMap, jaxopt: Any) -> list[Way]:
    jax = import_module("jax")
    jnp = import_module("jax.numpy")
    weight = jnp.asarray(problem.transposed.numpy())
    bias, start = jnp.asarray(problem.bias.numpy()), jnp.asarray(problem.start.numpy())

    def mapped(z: Any) -> Any:
        return jnp.tanh(z @ weight + bias)

    def way(method: str, make: Callable[..., Any], family: str, group: str = "") -> Way:
        run, find = compiled(lambda limit: make(mapped, limit), start)
        return Way("JAXopt", f"{method}, jitted", run, group, family, jitted=True, find=find)

    def plain(function: Any, limit: Any, jit: bool = True) -> Any:
        return jaxopt.FixedPointIteration(
            function, maxiter=limit, tol=0.0, implicit_diff=False, jit=jit
        )

    def anderson(memory: int, ridge: float) -> Callable[..., Any]:
        return lambda function, limit: jaxopt.AndersonAcceleration(
            function,
            maxiter=limit,
            tol=0.0,
            history_size=memory,
            ridge=ridge,
            implicit_diff=False,
        )

    def unjitted(iterations: int) -> Any:
        found = plain(jax.jit(mapped), iterations, jit=False).run(start)
        return found.params.block_until_ready()

    name = "AndersonAcceleration"
    ways = [
        way("FixedPointIteration", plain, "plain"),
        way(f"{name}, 5, ridge 1e-5 (default)", anderson(5, 1e-5), "Anderson", name),
        *(
            way(f"{name}, {m}, ridge {ridge:g}", anderson(m, ridge), "Anderson", name)
            for m in (5, 10)
            for ridge in (1e-10, 1e-14)
        ),
    ]
    # Anderson's is left out: it takes a good part of a second an iteration.
    alone = Way("JAXopt", "FixedPointIteration, not jitted", unjitted, family="plain", jitted=True)
    return [*ways, alone]


def own_times(problem: TanhMap, modules: dict[str, Any]) -> dict[str, Callable[[int], Any]]:
    """Functions that evaluate the map so many times, in the form that each library calls.

    torchdeq calls the same form as fixpoint.
    """

    def repeat(function: Any, z: Any) -> Callable[[int], Any]:
        def run(times: int) -> Any:
            point = z
            for _ in range(times):
                point = function(point)
            return point

        return run

    maps = {"fixpoint": repeat(problem.torch, problem.start)}
    if "SciPy" in modules:
        maps["SciPy"] = repeat(problem.numpy, problem.numpy_start)
    if "JAXopt" in modules:
        jax, jnp = import_module("jax"), import_module("jax.numpy")
        weight, bias = jnp.asarray(problem.transposed.numpy()), jnp.asarray(problem.bias.numpy())
        start = jnp.asarray(problem.start.numpy())
        loop = jax.jit(
            lambda n, z: jax.lax.fori_loop(0, n, lambda i, z: jnp.tanh(z @ weight + bias), z)
        )
        maps["JAXopt"] = lambda times: loop(times, start).block_until_ready()
    return maps
