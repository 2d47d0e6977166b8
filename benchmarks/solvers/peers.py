"""Solvers of other libraries, each on the very map that is counted.

`peers()` lists those that can be imported; the others are named with the reason. Every solver is
given the target as its own tolerance, in the Euclidean norm where it lets one choose. JAX calls the
same map back, so that nothing is compiled away.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.solvers.counting import BUDGET, CountedMap, Returned, Solver

LIBRARIES = {
    "SciPy": ("scipy", "scipy.optimize"),
    "torchdeq": ("torchdeq", "torchdeq.solver.anderson", "torchdeq.solver.broyden"),
    "JAXopt": ("jaxopt", "jaxopt", "jax"),
    "optimistix": ("optimistix", "optimistix", "jax"),
}
"""Distribution, and the modules to import."""

RIDGES = (1e-12, 1e-16)
"""Tried as the regularisation of others' Anderson; their defaults, 1e-4 and 1e-5, hold it back."""


def peers() -> tuple[list[Solver], dict[str, str]]:
    """The solvers that can run here; for every library its version, or why it is missing."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    solvers, found = [plain_loop()], {}
    makers = {
        "SciPy": scipy_solvers,
        "torchdeq": torchdeq_solvers,
        "JAXopt": jaxopt_solvers,
        "optimistix": optimistix_solvers,
    }
    for library, (distribution, *modules) in LIBRARIES.items():
        try:
            for module in modules:
                import_module(module)
        except Exception as error:  # a broken installation fails in any way it likes
            missing = isinstance(error, ModuleNotFoundError)
            found[library] = "not installed" if missing else f"broken: {type(error).__name__}"
            continue
        found[library] = version(distribution)
        if "jax" in modules:
            import_module("jax").config.update("jax_enable_x64", True)
            # A map whose budget is spent raises; JAX would print that.
            logging.getLogger("jax").setLevel(logging.CRITICAL)
            found["JAX"] = version("jax")
        solvers += makers[library]()
    return solvers, found


def plain_loop() -> Solver:
    def run(counted: CountedMap, z: Tensor) -> Returned:
        while True:
            value = counted(z)
            if float((value - z).norm()) <= counted.tolerance:
                return z, True
            z = value

    return Solver("plain loop", "z = G(z)", run)


# ---------------------------------------------------------------- SciPy


def scipy_solvers() -> list[Solver]:
    optimize = import_module("scipy.optimize")

    def run(counted: CountedMap, z: Tensor, *, method: str, **options: Any) -> Returned:
        settings = {"fatol": counted.tolerance}
        if method == "df-sane":
            settings |= {"ftol": 0.0, "maxfev": BUDGET + 1}
        else:
            settings |= {"maxiter": BUDGET + 1, "tol_norm": np.linalg.norm}
        found = optimize.root(
            lambda x: counted.numpy(x) - x, z[0].numpy(), method=method, options=settings | options
        )
        return found.x, bool(found.success)

    def hybrid(counted: CountedMap, z: Tensor) -> Returned:
        # Its tolerance is on the step, so that it claims nothing of the residual.
        settings = {"xtol": 1e-9, "maxfev": BUDGET + 1}
        found = optimize.root(lambda x: counted.numpy(x) - x, z[0].numpy(), options=settings)
        return found.x, None

    def solver(method: str, words: str = "", tuned: str = "", **options: Any) -> Solver:
        return Solver("SciPy", method + words, partial(run, method=method, **options), tuned)

    names = ("anderson", "broyden1", "broyden2", "diagbroyden", "krylov", "df-sane")
    tuned = [
        solver(
            "anderson",
            f", M={memory}, no line search",
            "SciPy anderson",
            line_search=None,
            jac_options={"M": memory, "alpha": 1.0, "w0": 1e-8},
        )
        for memory in (5, 10)
    ] + [
        solver(
            method,
            ", alpha=1, no line search",
            f"SciPy {method}",
            line_search=None,
            jac_options={"alpha": 1.0},
        )
        for method in ("broyden1", "broyden2")
    ]
    return [*map(solver, names), Solver("SciPy", "hybr", hybrid), *tuned]


# ---------------------------------------------------------------- torchdeq


def torchdeq_solvers() -> list[Solver]:
    anderson = import_module("torchdeq.solver.anderson").anderson_solver
    broyden = import_module("torchdeq.solver.broyden").broyden_solver
    plain = import_module("torchdeq.solver.fp_iter").fixed_point_iter

    def run(counted: CountedMap, z: Tensor, *, method: Callable, **options: Any) -> Returned:
        with torch.no_grad():
            point, _, information = method(
                counted, z, max_iter=BUDGET + 1, tol=counted.tolerance, stop_mode="abs", **options
            )
        return point, bool(information["abs_lowest"].max() < counted.tolerance)

    def solver(name: str, method: Callable, tuned: str = "", **options: Any) -> Solver:
        return Solver("torchdeq", name, partial(run, method=method, **options), tuned)

    return [
        solver("fixed_point_iter", plain),
        solver("anderson", anderson),
        solver("broyden", broyden),
        solver("broyden, line search", broyden, "torchdeq broyden", ls=True),
        *(
            solver(
                f"anderson, m={memory}, lam={ridge:g}",
                anderson,
                "torchdeq anderson",
                m=memory,
                lam=ridge,
            )
            for memory in (5, 10)
            for ridge in RIDGES
        ),
    ]


# ---------------------------------------------------------------- JAX


def called_back(counted: CountedMap) -> Callable[[Any], Any]:
    """The counted map as a JAX function of a vector, with its derivative along one vector."""
    jax = import_module("jax")

    def call(function: Callable, z: Any, *more: Any) -> Any:
        shape = jax.ShapeDtypeStruct(z.shape, z.dtype)
        return jax.pure_callback(function, shape, z, *more, vmap_method="sequential")

    @jax.custom_jvp
    def mapped(z: Any) -> Any:
        return call(counted.numpy, z)

    @mapped.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        (z,), (direction,) = primals, tangents
        return mapped(z), call(counted.derivative, z, direction)

    return mapped


def jaxopt_solvers() -> list[Solver]:
    jaxopt, jnp = import_module("jaxopt"), import_module("jax.numpy")

    def run(counted: CountedMap, z: Tensor, *, make: Callable, **options: Any) -> Returned:
        mapped = called_back(counted)
        function = (lambda z: z - mapped(z)) if make is jaxopt.Broyden else mapped
        method = make(
            function, maxiter=BUDGET + 1, tol=counted.tolerance, implicit_diff=False, **options
        )
        point, state = method.run(jnp.asarray(z[0].numpy()))
        return point, bool(state.error <= counted.tolerance)

    def solver(name: str, tuned: str = "", words: str = "", **options: Any) -> Solver:
        make = getattr(jaxopt, name)
        return Solver("JAXopt", name + words, partial(run, make=make, **options), tuned)

    anderson = "AndersonAcceleration"
    return [
        solver("FixedPointIteration"),
        solver(anderson),
        # Its line search asks for gradients of the map.
        solver("Broyden", words=", step 1", stepsize=1.0),
        *(
            solver(
                anderson,
                f"JAXopt {anderson}",
                f", history {memory}, ridge {ridge:g}",
                history_size=memory,
                ridge=ridge,
            )
            for memory in (5, 10)
            for ridge in RIDGES
        ),
    ]


def optimistix_solvers() -> list[Solver]:
    optx, jnp = import_module("optimistix"), import_module("jax.numpy")

    def run(counted: CountedMap, z: Tensor, *, make: Callable, root: bool) -> Returned:
        mapped = called_back(counted)
        method = make(rtol=0.0, atol=counted.tolerance, norm=optx.two_norm)
        start = jnp.asarray(z[0].numpy())
        settings = {"max_steps": BUDGET + 1, "throw": False}
        if root:
            found = optx.root_find(lambda z, _: z - mapped(z), method, start, **settings)
        else:
            found = optx.fixed_point(lambda z, _: mapped(z), method, start, **settings)
        return found.value, bool(found.result == optx.RESULTS.successful)

    def solver(name: str, root: bool) -> Solver:
        make = partial(run, make=getattr(optx, name), root=root)
        return Solver("optimistix", name, make, derivatives=root)

    return [solver("FixedPointIteration", False), solver("Newton", True), solver("Chord", True)]
