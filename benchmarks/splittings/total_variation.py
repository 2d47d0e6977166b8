"""Total variation of a signal, and the ways to minimise it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.splittings.ways import Counter, Way, fixpoint_way
from fixpoint import Anderson, ForwardStep, proximal
from fixpoint import splittings as split
from fixpoint.proximal import RowParameter


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
    """A difference operator that counts its evaluations."""

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
