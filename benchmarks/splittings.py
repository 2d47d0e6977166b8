"""fixpoint against SciPy, PyProximal, torchdeq, deepinv and JAXopt: one process, one thread.

    pip install scipy pyproximal torchdeq jaxopt deepinv      # each only where it can be installed
    OMP_NUM_THREADS=1 python benchmarks/splittings.py --out docs
    python benchmarks/splittings.py --render                  # the page from what is stored

A library that cannot be imported is named with the reason, and left out. Results are stored as
`results/splittings.json`; `splittings-benchmark.md` is rendered from them.

Every method runs for a fixed number of iterations, with its own stopping test in place but out of
reach. How many iterations an accuracy takes is found beforehand, and judged here, from the point
that a run of that length returns. Rounds go through all methods in turn, so that drift hits all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from context import machine_name, number, ready_for_json, table
from torch import Tensor

from fixpoint import Anderson, Broyden, ForwardStep, Halpern, fixed_point_of, proximal, solve
from fixpoint import splittings as split
from fixpoint.adapters.reports.latent_files import check_folder, write_json
from fixpoint.checkpoints.whole_file import write_whole
from fixpoint.proximal import RowParameter

MODULES = {
    "SciPy": ("scipy", "scipy.optimize"),
    "torchdeq": ("torchdeq", "torchdeq", "torchdeq.solver.anderson", "torchdeq.solver.broyden"),
    "deepinv": ("deepinv", "deepinv"),
    "PyProximal": ("pyproximal", "pyproximal", "pylops"),
    "JAXopt": ("jaxopt", "jaxopt", "jax.numpy"),
}
"""Distribution, and the modules to import."""

Found = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """Of a measurement."""

    rounds: int = 15
    iterations: int = 100  # of the overhead
    width: int = 100  # of the maps
    deq: tuple[int, int] = (64, 128)  # rows and width
    lasso: tuple[int, int] = (100, 200)
    signal: int = 200
    batch: int = 4096
    alone: int = 64  # rows timed one by one
    limit: int = 1000  # iterations, of a search for an accuracy


QUICK = Size(2, 10, 8, (3, 8), (10, 20), 20, 16, 2, 60)


@dataclass(frozen=True)
class Way:
    """One method of one library on one problem.

    Attributes:
        run: so many iterations; returns the point.
        family: methods to compare with one another.
        variants: of one `group` only the default and the one that needs the fewest evaluations are
            timed.
    """

    library: str
    method: str
    run: Callable[[int], Any]
    group: str = ""
    family: str = ""
    jitted: bool = False  # its evaluations are not seen from outside
    find: Callable[[int], Any] | None = None  # the same points without compiling for each length
    first: Callable[[int, Callable[[Tensor], bool]], int | None] | None = None  # in one run


@dataclass
class Counter:
    """Rows at which a map was evaluated."""

    rows: int = 0
    batch: int = 1


def find_libraries(names: Iterable[str] = tuple(MODULES)) -> tuple[dict[str, Any], Found]:
    """The modules that could be imported, and what there is to say of every library."""
    modules: dict[str, Any] = {}
    report: Found = {}
    for name in names:
        distribution, *needed = MODULES[name]
        try:
            for module in needed:
                import_module(module)
        except Exception as error:  # a broken installation fails in any way it likes
            lines = str(error).strip().splitlines() or [""]
            report[name] = {"missing": f"{type(error).__name__}: {lines[0]}"}
            continue
        modules[name] = [import_module(module) for module in needed]
        report[name] = {"version": version(distribution)}
    if "JAXopt" in modules:
        import_module("jax").config.update("jax_enable_x64", True)
    return modules, report


# ---------------------------------------------------------------- the maps z -> tanh(W z + b)


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


class Reached(Exception):
    """Ends a run at the iteration it carries."""


def fixpoint_way(
    method: str, operator: Any, start: Tensor, iterator: Any, rtol: float = 0.0, **options: Any
) -> Way:
    """`rtol` 0: no row stops. `after` turns the last z into what is judged."""
    after = options.pop("after", lambda z: z)

    def first(limit: int, reached: Callable[[Tensor], bool]) -> int | None:
        def look(iterate: Any) -> None:
            if iterate.iteration > 0 and reached(after(iterate.state.point)):
                raise Reached(iterate.iteration)

        never = {"rtol": 0.0, "atol": 0.0, "max_iterations": limit}
        try:
            solve(operator, start, iterator, callback=look, **never)
        except Reached as found:
            return found.args[0]
        return None

    def run(iterations: int) -> Tensor:
        found = solve(
            operator,
            start,
            iterator,
            rtol=rtol,
            atol=0.0,
            max_iterations=iterations,
            keep="last",
        )
        return after(found.z)

    return Way("fixpoint", method, run, first=None if rtol else first, **options)


def map_ways(problem: TanhMap, modules: dict[str, Any], rtol: float = 0.0) -> list[Way]:
    """Every library on one map; those without a batch only where there is one row."""
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
                    w0=1e-8,  # the default, 0.01, holds it back
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


def compiled(
    make: Callable[[Any], Any], start: Any, *data: Any
) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """`run` of a JAXopt solver, compiled for each length; and its steps, compiled once."""
    jax = import_module("jax")
    whole = jax.jit(lambda limit, z: make(limit).run(z, *data).params, static_argnums=0)
    solver = make(1)

    def step(_: Any, held: Any) -> Any:
        return tuple(solver.update(*held, *data))

    def steps(limit: Any, z: Any) -> Any:
        # The first step settles the types of the state.
        held = step(0, (z, solver.init_state(z, *data)))
        return jax.lax.fori_loop(1, limit, step, held)[0]

    stepwise = jax.jit(steps)

    def run(iterations: int) -> Any:
        return whole(iterations, start).block_until_ready()

    return run, lambda iterations: stepwise(iterations, start)


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
    """So many evaluations of the map as each library gets it; torchdeq gets fixpoint's."""

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


# ---------------------------------------------------------------- measuring


def overhead(modules: dict[str, Any], size: Size) -> Found:
    """Microseconds per evaluation beyond the map's own, which is timed in the same round."""
    problem = TanhMap.drawn(1, size.width)
    ways = [w for w in map_ways(problem, modules) if w.family not in ("Aitken", "Newton-Krylov")]
    keep = {"anderson_solver": 1, "AndersonAcceleration": 1}  # the settings cost the same
    ways = [
        way
        for way in ways
        if way.group not in keep
        or "default" in way.method
        or "10, lam=1e-08" in way.method
        or "10, ridge 1e-10" in way.method
    ]
    maps = own_times(problem, modules)
    counts = [evaluations(way, problem.count, size.iterations) for way in ways]
    for own in maps.values():
        own(size.iterations)
    beyond: list[list[float]] = [[] for _ in ways]
    total: list[list[float]] = [[] for _ in ways]
    own_seconds: dict[str, list[float]] = {name: [] for name in maps}
    for _ in range(2 * size.rounds):  # they are short
        now = {name: seconds(own, size.iterations) / size.iterations for name, own in maps.items()}
        for name, value in now.items():
            own_seconds[name].append(value)
        now["torchdeq"] = now["fixpoint"]  # the same function
        for index, way in enumerate(ways):
            each = seconds(way.run, size.iterations) / counts[index]
            total[index].append(1e6 * each)
            beyond[index].append(1e6 * (each - now[way.library]))
    return {
        "width": size.width,
        "iterations": size.iterations,
        "map_us": {name: spread([1e6 * v for v in values]) for name, values in own_seconds.items()},
        "ways": [
            {
                "library": way.library,
                "method": way.method,
                "family": way.family,
                "evaluations": counts[index],
                "total_us": spread(total[index]),
                "overhead_us": spread(beyond[index]),
            }
            for index, way in enumerate(ways)
        ],
    }


def evaluations(way: Way, count: Counter, iterations: int) -> float:
    """Evaluations a row, counted in the map; what is compiled makes one an iteration."""
    count.rows = 0
    way.run(iterations)
    return float(iterations) if way.jitted else count.rows / count.batch


def seconds(run: Callable[[int], Any], iterations: int) -> float:
    started = time.perf_counter()
    run(iterations)
    return time.perf_counter() - started


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles over the rounds, and the least."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high, "least": min(values)}


def as_point(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.float64)
    point = torch.tensor(np.array(value), dtype=torch.float64)
    return point if point.dim() > 1 else point[None]


def iterations_to(
    way: Way, error: Callable[[Tensor], float], tolerance: float, limit: int
) -> int | None:
    """The least number of iterations after which the returned point is good enough.

    Where that takes many runs: steps of 1 up to 16 iterations, then of 6 %, and one by one within
    the last step. A dip that is shorter is not seen.
    """
    if way.first is not None:
        return way.first(limit, lambda point: error(point) <= tolerance)

    def reached(iterations: int) -> bool:
        try:
            point = as_point((way.find or way.run)(iterations))
        except (ValueError, ArithmeticError, RuntimeError):
            return False  # a singular system, or a point that is not finite
        return error(point) <= tolerance

    tried = [0, *range(1, 17)]
    while tried[-1] < limit:
        tried.append(min(limit, tried[-1] + tried[-1] // 16))
    for before, after in pairwise(tried):
        if reached(after):
            return next(n for n in range(before + 1, after + 1) if n == after or reached(n))
    return None


def to_accuracy(
    ways: list[Way],
    count: Counter,
    error: Callable[[Tensor], float],
    tolerance: float,
    size: Size,
) -> list[Found]:
    """Evaluations and milliseconds of every way to one accuracy, the fastest first."""
    lines: list[tuple[Way, int | None, float]] = []
    for way in ways:
        started = time.perf_counter()
        iterations = iterations_to(way, error, tolerance, size.limit)
        calls = 0.0 if iterations is None else evaluations(way, count, iterations)
        lines.append((way, iterations, calls))
        took = time.perf_counter() - started
        print(f"  {way.library} {way.method}: {iterations} ({took:.1f} s)", flush=True)
    lines = best_of_groups(lines)
    times: list[list[float]] = [[] for _ in lines]
    for _ in range(size.rounds):
        for index, (way, iterations, _) in enumerate(lines):
            if iterations is not None:
                times[index].append(1e3 * seconds(way.run, iterations))
    found = [
        {
            "library": way.library,
            "method": way.method,
            "iterations": iterations,
            "evaluations": None if iterations is None else calls,
            "milliseconds": None if iterations is None else spread(times[index]),
        }
        for index, (way, iterations, calls) in enumerate(lines)
    ]
    return sorted(
        found, key=lambda f: f["milliseconds"]["median"] if f["milliseconds"] else float("inf")
    )


def best_of_groups(
    lines: list[tuple[Way, int | None, float]],
) -> list[tuple[Way, int | None, float]]:
    """Of each group the default, and what needs the fewest evaluations."""
    kept = []
    for line in lines:
        way = line[0]
        rivals = [
            other
            for other in lines
            if way.group and (other[0].library, other[0].group) == (way.library, way.group)
        ]
        best = min(
            rivals, key=lambda other: float("inf") if other[1] is None else other[2], default=line
        )
        if line is best or "default" in way.method:
            kept.append(line)
    return kept


# ---------------------------------------------------------------- a lasso


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
        """`step` in units of 1/L."""
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


# ---------------------------------------------------------------- total variation of a signal


@dataclass
class Signal:
    """min 1/2 ||x - b||^2 + w sum |x_{i+1} - x_i|; the exact solution is known."""

    noisy: Tensor  # (1, length)
    weight: float = 1.0

    @staticmethod
    def drawn(length: int) -> Signal:
        generator = torch.Generator().manual_seed(2)
        jumps = torch.randn(5, generator=generator, dtype=torch.float64)
        steps = 2 * jumps.repeat_interleave(-(-length // 5))[:length]
        noise = torch.randn(length, generator=generator, dtype=torch.float64)
        return Signal((steps + 0.3 * noise)[None])

    def __post_init__(self) -> None:
        self.count = Counter()
        self.exact = proximal.TotalVariation1D(self.weight).prox(self.noisy, 1.0)

    def error(self, x: Tensor) -> float:
        return float((x - self.exact).norm() / self.exact.norm())


class CountedDifference(split.Difference1D):
    """Differences, counted."""

    count: Counter

    def __call__(self, x: Tensor) -> Tensor:
        self.count.rows += len(x)
        return super().__call__(x)


def signal_ways(signal: Signal, modules: dict[str, Any]) -> list[Way]:
    noisy, length = signal.noisy, signal.noisy.shape[1]
    K = CountedDifference((length,))
    K.count = signal.count
    near, jumps = proximal.SquaredL2(1.0, RowParameter(noisy)), proximal.L1(signal.weight)
    ways = []
    taus = (0.03, 0.1, 0.3)

    def solved(name: str, T: Any, start: Tensor, words: str) -> list[Way]:
        return [
            fixpoint_way(
                f"{name}, {method}, {words}",
                T,
                start,
                iterator,
                group=f"{name} {method}",
                after=T.solution,
            )
            for method, iterator in (
                ("ForwardStep", ForwardStep(step_size=1.0)),
                ("Anderson, memory 10", Anderson(memory=10, shrink=1.0)),
            )
        ]

    for tau in taus:
        sigma = 0.99 / (tau * K.norm**2)
        T = split.PDHG(near, jumps, K, primal_step=tau, dual_step=sigma)
        ways += solved("PDHG", T, T.pack(noisy), f"tau {tau:g}")
        sigma = 0.99 * (1 / tau - 0.5) / K.norm**2
        smooth = split.CondatVu(near, proximal.Zero(), jumps, K, primal_step=tau, dual_step=sigma)
        ways += solved("CondatVu", smooth, smooth.pack(noisy), f"tau {tau:g}")
    for step in (1.0, 3.0, 10.0):
        A = split.ADMM(near, jumps, step=step, linear=K)
        ways += solved("ADMM", A, K(noisy), f"r {step:g}")
    if "PyProximal" in modules:
        ways += pyproximal_signal(signal, taus, *modules["PyProximal"])
    return ways


def pyproximal_signal(
    signal: Signal, taus: tuple[float, ...], pyproximal: Any, pylops: Any
) -> list[Way]:
    noisy = signal.noisy[0].numpy()
    near, count = pyproximal.L2(b=noisy), signal.count

    class Jumps(pyproximal.L1):  # type: ignore[misc]
        # One proximal step of the jumps an iteration: inner least squares are not counted.
        def prox(self, x: Any, tau: Any) -> Any:
            count.rows += 1
            return super().prox(x, tau)

        def proxdual(self, x: Any, tau: Any) -> Any:
            count.rows += 1
            before = count.rows
            found = super().proxdual(x, tau)
            count.rows = before  # where it is made of the proximal step
            return found

    jumps = Jumps(sigma=signal.weight)
    K = pylops.FirstDerivative(len(noisy), kind="forward", dtype="float64")
    square = 4.0  # at least ||K||^2
    dual = pyproximal.optimization.primaldual
    primal = pyproximal.optimization.primal

    def primal_dual(tau: float) -> Way:
        def run(iterations: int) -> Any:
            found = dual.PrimalDual(
                near, jumps, K, noisy, tau=tau, mu=0.99 / (tau * square), niter=iterations
            )
            return found[None]

        return Way("PyProximal", f"PrimalDual, tau {tau:g}", run, group="PrimalDual")

    def adaptive(tau: float) -> Way:
        def run(iterations: int) -> Any:
            return dual.AdaptivePrimalDual(
                near, jumps, K, noisy, tau=tau, mu=0.99 / (tau * square), niter=iterations
            )[0][None]

        return Way("PyProximal", f"AdaptivePrimalDual, tau {tau:g}", run, group="Adaptive")

    def linearized(tau: float) -> Way:
        def run(iterations: int) -> Any:
            return primal.LinearizedADMM(
                near, jumps, K, x0=noisy, tau=tau, mu=0.99 * tau / square, niter=iterations
            )[0][None]

        return Way("PyProximal", f"LinearizedADMM, tau {tau:g}", run, group="LinearizedADMM")

    def least_squares(tau: float) -> Way:
        identity = pylops.Identity(len(noisy))

        def run(iterations: int) -> Any:
            inner = {"iter_lim": 40, "atol": 1e-12, "btol": 1e-12}
            return primal.ADMML2(
                jumps, identity, noisy, K, x0=noisy, tau=tau, niter=iterations, **inner
            )[0][None]

        return Way("PyProximal", f"ADMML2, tau {tau:g}, LSQR inside", run, group="ADMML2")

    return [
        *(primal_dual(tau) for tau in taus),
        *(adaptive(tau) for tau in taus),
        *(linearized(tau) for tau in (0.1, 0.3, 1.0)),
        *(least_squares(tau) for tau in (0.1, 0.3)),
    ]


# ---------------------------------------------------------------- many rows


def batching(size: Size) -> list[Found]:
    """Microseconds a row: all rows in one `solve`, and the same rows one `solve` each."""
    found = []
    for width in (size.width, max(2, size.width // 10)):
        problem = TanhMap.drawn(size.batch, width)
        alone = [
            fixed_point_of(problem.map_rows, problem.bias[row : row + 1])
            for row in range(min(size.alone, size.batch))
        ]
        for method, iterator in (
            ("ForwardStep", ForwardStep(step_size=1.0)),
            ("Anderson, memory 5", Anderson(memory=5)),
        ):

            def together(_: int, problem: TanhMap = problem, iterator: Any = iterator) -> Any:
                return solve(problem.operator, problem.start, iterator, rtol=1e-6, atol=0.0)

            def apart(
                _: int, problem: TanhMap = problem, iterator: Any = iterator, alone: Any = alone
            ) -> Any:
                start = problem.start[:1]
                return [solve(one, start, iterator, rtol=1e-6, atol=0.0) for one in alone]

            assert together(0).success
            apart(0)
            batch, single, ratio = [], [], []
            for _ in range(max(2, size.rounds // 5)):
                batch.append(1e6 * seconds(together, 0) / size.batch)
                single.append(1e6 * seconds(apart, 0) / len(alone))
                ratio.append(single[-1] / batch[-1])
            found.append(
                {
                    "method": method,
                    "width": width,
                    "batch": size.batch,
                    "alone": len(alone),
                    "evaluations": float(together(0).evaluations.double().mean()),
                    "batch_us_per_row": spread(batch),
                    "single_us_per_row": spread(single),
                    "ratio": spread(ratio),
                }
            )
    return found


def measure(size: Size | None = None, libraries: Iterable[str] = tuple(MODULES)) -> Found:
    """Everything. `libraries`: those to try; the others are reported as not asked for."""
    size = size or Size()
    modules, report = find_libraries(libraries)
    for name in MODULES:
        report.setdefault(name, {"missing": "not asked for"})
    # Steps beyond a theorem and singular fits are part of what is compared.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print("overhead", flush=True)
        found: Found = {"overhead": overhead(modules, size)}
        print("batching", flush=True)
        found["batching"] = batching(size)
        found["accuracy"] = accuracy(modules, size)
    own = {"quick": size.rounds < Size.rounds, "rounds": size.rounds, "limit": size.limit}
    return {"machine": machine_name(), "libraries": report, **own, **found}


def accuracy(modules: dict[str, Any], size: Size) -> list[Found]:
    alone, layer = TanhMap.drawn(1, size.width), TanhMap.drawn(*size.deq)
    lasso, signal = Lasso.drawn(*size.lasso), Signal.drawn(size.signal)

    def sensible(way: Way) -> bool:
        return way.family != "plain, unwatched" and not way.method.endswith("not jitted")

    layer_ways = map_ways(layer, modules)
    layer_ways += [
        replace(way, method=f"{way.method}, rows leave", group="")
        for way in map_ways(layer, {}, rtol=1e-6)
    ]
    rows, columns = size.lasso
    parts = [
        (
            f"z = tanh(W z + b), {size.width} numbers, W symmetric of norm 0.95",
            "relative residual 1e-6",
            "evaluations",
            [w for w in map_ways(alone, modules) if sensible(w)],
            alone.count,
            alone.error,
            1e-6,
        ),
        (
            f"Lasso, {rows} x {columns}",
            "objective within 1e-8 of the least, relative",
            "gradients",
            lasso_ways(lasso, modules),
            lasso.count,
            lasso.gap,
            1e-8,
        ),
        (
            f"Lasso, {rows} x {columns}",
            "relative residual 1e-6 of the forward-backward step of size 1/L",
            "gradients",
            lasso_ways(lasso, modules),
            lasso.count,
            lasso.error,
            1e-6,
        ),
        (
            f"Total variation of a signal of {size.signal} numbers",
            "within 1e-6 of the exact solution, relative",
            "iterations",
            signal_ways(signal, modules),
            signal.count,
            signal.error,
            1e-6,
        ),
        (
            f"A deep-equilibrium layer, {size.deq[0]} rows of {size.deq[1]}",
            "relative residual 1e-6 in every row",
            "evaluations a row",
            [w for w in layer_ways if sensible(w)],
            layer.count,
            layer.error,
            1e-6,
        ),
    ]
    found = []
    for problem, criterion, unit, ways, count, error, tolerance in parts:
        print(f"{problem}, {criterion}", flush=True)
        lines = to_accuracy(ways, count, error, tolerance, size)
        found.append({"problem": problem, "criterion": criterion, "unit": unit, "ways": lines})
    return found


# ---------------------------------------------------------------- the page


def markdown(found: Found) -> str:
    lines = [
        "# fixpoint and others",
        "",
        "What an iteration costs beyond the map, how many evaluations and how much time an accuracy"
        " takes, and what a batch saves, against SciPy, PyProximal, torchdeq, deepinv and JAXopt; "
        "float64, all in one process on one thread.",
        "",
        found["machine"],
        "",
        *table(
            ("library", "version"),
            [
                (name, said.get("version") or f"missing: `{said['missing']}`")
                for name, said in found["libraries"].items()
            ],
            words=2,
        ),
        "",
        f"Times are medians of {found['rounds']} rounds ({2 * found['rounds']} for overheads, "
        f"{max(2, found['rounds'] // 5)} for batches), which go through all methods in turn; in "
        "brackets the quartiles, which are far apart where the machine had other work. Every method"
        " runs for a fixed number of iterations with its stopping test in place and out of reach. "
        "Measure again with `python benchmarks/splittings.py`.",
        "",
    ]
    return "\n".join(
        [
            *lines,
            *_claims_page(found),
            *_overhead_page(found),
            *_accuracy_page(found["accuracy"]),
            *_batching_page(found["batching"]),
        ]
    )


def claims(found: Found) -> list[tuple[str, bool | None]]:
    """What was claimed, and whether this run bears it out; None: nothing to compare with."""
    said = []
    for family, words in (("plain", "plain iteration"), ("Anderson", "Anderson")):
        ways = [way for way in found["overhead"]["ways"] if way["family"] == family]
        ours = [w for w in ways if w["library"] == "fixpoint"]
        own = max(w["overhead_us"]["median"] for w in ours)
        for library in ("torchdeq", "deepinv", "SciPy"):
            theirs = [w["overhead_us"]["median"] for w in ways if w["library"] == library]
            text = f"{words}: overhead below {library}'s"
            if theirs:
                text += f" ({own:.0f} against {min(theirs):.0f} microseconds)"
            said.append((text, own < min(theirs) if theirs else None))
    for line in found["batching"]:
        ratio = line["ratio"]["median"]
        text = f"{line['method']}, {line['width']} numbers: a row at batch {line['batch']} at "
        said.append((f"{text}least 100 times cheaper ({ratio:.0f} times)", ratio >= 100))
    return said


def _claims_page(found: Found) -> list[str]:
    words = {True: "yes", False: "**no**", None: "not measured: missing"}
    rows = [(text, words[answer]) for text, answer in claims(found)]
    lines = ["## In short", "", *table(("claim", "in this run"), rows, words=2), ""]
    lines += [
        "Against the best of the others, to the same accuracy: the time of fixpoint's fastest "
        "method over that of theirs, and the fewest evaluations of both.",
        "",
    ]
    head = ["problem", "fastest of the others", "times their time"]
    head += ["fewest evaluations, others", "fixpoint"]
    return [*lines, *table(head, _against_the_best(found["accuracy"]), words=2), ""]


def _against_the_best(parts: list[Found]) -> list[tuple[str, ...]]:
    rows = []
    for part in parts:
        reached = [way for way in part["ways"] if way["iterations"]]
        ours = [way for way in reached if way["library"] == "fixpoint"]
        theirs = [way for way in reached if way["library"] != "fixpoint"]
        if not ours or not theirs:
            continue
        best = theirs[0]  # they are in the order of their times
        ratio = ours[0]["milliseconds"]["median"] / best["milliseconds"]["median"]
        fewest = [min(way["evaluations"] for way in ways) for ways in (theirs, ours)]
        rows.append(
            (
                f"{part['problem']}: {part['criterion']}",
                f"{best['library']}, {best['method']}",
                number(ratio),
                *(number(value, ".0f") for value in fewest),
            )
        )
    return rows


def _spread(value: dict[str, float] | None, form: str = ".1f") -> str:
    if value is None:
        return "–"
    low, high = number(value["low"], form), number(value["high"], form)
    return f"{number(value['median'], form)} [{low}, {high}]"


def _overhead_page(found: Found) -> list[str]:
    over = found["overhead"]
    own = "; ".join(f"{name} {_spread(value)}" for name, value in over["map_us"].items())
    lines = [
        "## Overhead",
        "",
        f"z = tanh(W z + b) with {over['width']} numbers and one row, {over['iterations']} "
        "iterations: microseconds per counted evaluation of the map, in all, and beyond the map's "
        f"own time in the same round ({own}). The map of SciPy is in NumPy, that of JAXopt in JAX; "
        "jitted, its whole loop is compiled and its evaluations are one an iteration. The clock "
        "cannot tell an overhead near 0 from one below it.",
        "",
    ]
    for family in ("plain", "plain, unwatched", "Anderson", "Broyden"):
        ways = [way for way in over["ways"] if way["family"] == family]
        ways.sort(key=lambda way: way["overhead_us"]["median"])
        rows = [
            (
                way["library"],
                way["method"],
                number(way["evaluations"], ".0f"),
                _spread(way["total_us"]),
                _spread(way["overhead_us"]),
                number(way["overhead_us"]["least"]),
            )
            for way in ways
        ]
        if rows:
            head = ["library", f"method ({family})", "evaluations", "in all, us"]
            head += ["overhead, us", "least"]
            lines += [*table(head, rows, words=2), ""]
    return lines


def _accuracy_page(parts: list[Found]) -> list[str]:
    lines = [
        "## To the same accuracy",
        "",
        "Judged on the point that is returned. Of each method with settings to choose, the one "
        "that needs the fewest evaluations among those tried, for every library, and the default.",
        "",
    ]
    for part in parts:
        rows = [
            (
                way["library"],
                way["method"],
                number(way["evaluations"], ".0f") if way["iterations"] else "not reached",
                _spread(way["milliseconds"], ".2f"),
            )
            for way in part["ways"]
        ]
        head = ("library", "method", part["unit"], "milliseconds")
        lines += [f"### {part['problem']}: {part['criterion']}", ""]
        lines += [*table(head, rows, words=2), ""]
    return lines


def _batching_page(rows: list[Found]) -> list[str]:
    first = rows[0]
    return [
        "## Many rows at once",
        "",
        f"z = tanh(W z + b), each row its own b, to a relative residual of 1e-6: {first['batch']} "
        f"rows in one `solve`, and {first['alone']} of them in a `solve` each.",
        "",
        *table(
            (
                "method",
                "numbers a row",
                "evaluations a row",
                "rows a second, batch",
                "rows a second, one by one",
                "microseconds a row, batch",
                "one by one",
                "times cheaper",
            ),
            [
                (
                    row["method"],
                    str(row["width"]),
                    number(row["evaluations"]),
                    number(1e6 / row["batch_us_per_row"]["median"], ",.0f"),
                    number(1e6 / row["single_us_per_row"]["median"], ",.0f"),
                    _spread(row["batch_us_per_row"]),
                    _spread(row["single_us_per_row"], ".0f"),
                    _spread(row["ratio"], ".0f"),
                )
                for row in rows
            ],
        ),
        "",
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the page")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="small, to try the script")
    options = parser.parse_args(arguments)
    stored = options.out / "results" / "splittings.json"
    try:
        check_folder(options.out)
        if not options.render:
            write_json(stored, ready_for_json(measure(QUICK if options.quick else None)))
        text = markdown(json.loads(stored.read_text()))
    except OSError as error:
        parser.error(str(error))
    write_whole(options.out / "splittings-benchmark.md", lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
