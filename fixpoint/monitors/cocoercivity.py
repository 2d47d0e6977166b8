"""How cocoercive an operator shows itself along a run.

Three ratios, each `<T a - T b, a - b> / ||T a - T b||^2` for other pairs (a, b):

- *pairwise*: two successive points;
- *at a known zero*: a point and z* (star-cocoercivity, the paper's equations 9 and 12);
- *in hindsight*: a point and the last one (the paper's equation 14).

For a beta-cocoercive operator each is at least beta. A minimum over finitely many pairs is
therefore an upper estimate: it can refute a beta, never certify one. Each ratio is taken at the
upper end of its rounding error, so that noise in T, in 16 bits above all, refutes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterate import Iterate
from fixpoint.monitors.monitor import Monitor


@dataclass(frozen=True)
class CocoercivityReport:
    """The least ratio of every row and the iteration where it occurred.

    A ratio is infinite, and its iteration -1, where no two values of T differed.
    """

    pairwise: Float[Tensor, " batch"]
    pairwise_iteration: Int[Tensor, " batch"]
    at_zero: Float[Tensor, " batch"] | None
    at_zero_iteration: Int[Tensor, " batch"] | None
    hindsight: Float[Tensor, " batch"]
    hindsight_iteration: Int[Tensor, " batch"]

    @property
    def star(self) -> Float[Tensor, " batch"]:
        """The star-cocoercivity: at the known zero, else in hindsight."""
        return self.hindsight if self.at_zero is None else self.at_zero

    @property
    def star_iteration(self) -> Int[Tensor, " batch"]:
        known = self.at_zero_iteration
        return self.hindsight_iteration if known is None else known


@dataclass(frozen=True, kw_only=True, eq=False)
class Cocoercivity(Monitor):
    """Measures the least cocoercivity ratio of every row, without evaluating T.

    Args:
        zero: (batch, *shape), z* where it is known.
        capacity: points kept for the hindsight ratio; a longer run is thinned to every second,
            fourth, ... point, so that the memory is bounded.
        precision: relative rounding of T's values; None for that of their dtype. A model in
            16 bits behind a float32 latent needs its own, 2**-8 for bfloat16.
    """

    zero: Float[Tensor, "batch *shape"] | None = None
    capacity: int = 32
    precision: float | None = None
    pairs: ClassVar = True

    def __post_init__(self) -> None:
        if not (isinstance(self.capacity, int) and self.capacity >= 2):
            raise ValueError(f"capacity must be a whole number, at least 2, got {self.capacity}")

    def start(self, iterate: Iterate) -> Any:
        point, residual = iterate.state.point, iterate.state.residual
        none = torch.full_like(iterate.residual_norm, torch.inf)
        never = torch.full_like(none, -1, dtype=torch.long)
        batch = point.shape[0]
        unused = (_unused(point),) * self.capacity
        memory = {
            "point": point,
            "residual": residual,
            "pairwise": none,
            "pairwise_at": never,
            "at_zero": none,
            "at_zero_at": never,
            "zero": self._zero(point),
            "points": unused,
            "residuals": unused,
            "times": never.unsqueeze(1).expand(batch, self.capacity),
            "stride": 1,
            "kept": 0,
        }
        return self._keep(iterate, self._at_zero(iterate, memory))

    def watch(self, iterate: Iterate, memory: Any) -> Any:
        point, residual = iterate.state.point, iterate.state.residual
        pair = iterate.pair(memory["point"], memory["residual"])
        ratio = self._ratio(pair, iterate.point_norm, point.dtype)
        memory = memory | _least("pairwise", ratio, iterate.iteration, memory)
        memory |= {"point": point, "residual": residual}
        return self._keep(iterate, self._at_zero(iterate, memory))

    def report(self, memory: Any) -> CocoercivityReport:
        known = self.zero is not None
        point, residual = memory["point"], memory["residual"]
        scale = kernels.row_norm(point)
        kept = zip(memory["points"], memory["residuals"], strict=True)
        pairs = [kernels.row_sums(point, residual, each).pair for each in kept]
        ratios = torch.stack([self._ratio(pair, scale, point.dtype) for pair in pairs if pair], 1)
        ratios = torch.where(memory["times"] >= 0, ratios, torch.inf)
        least, slot = ratios.min(1)
        times = memory["times"].gather(1, slot.unsqueeze(1)).squeeze(1)
        return CocoercivityReport(
            pairwise=memory["pairwise"],
            pairwise_iteration=memory["pairwise_at"],
            at_zero=memory["at_zero"] if known else None,
            at_zero_iteration=memory["at_zero_at"] if known else None,
            hindsight=least,
            hindsight_iteration=torch.where(least.isfinite(), times, -1),
        )

    def _ratio(
        self, pair: kernels.PairSums, scale: Float[Tensor, " batch"], dtype: torch.dtype
    ) -> Float[Tensor, " batch"]:
        """`<dt, dz> / ||dt||^2` at the upper end of its rounding error; infinite where dt is 0.

        T's values carry an error of `precision * scale`, scale = ||z||: E(D(z)) is as large as z
        even where T z is small.
        """
        precision = torch.finfo(dtype).eps if self.precision is None else self.precision
        moved, size = pair.residual.sqrt(), pair.point.sqrt()
        ratio = pair.inner / moved.square()
        error = precision * scale * (size + 2 * ratio.abs() * moved) / moved.square()
        return torch.where(moved > 0, ratio + error, torch.inf)

    def _zero(self, point: Tensor) -> Tensor:
        if self.zero is None:
            return point.new_zeros(point.shape[0], 0)
        if self.zero.shape != point.shape:
            raise ValueError(
                f"zero must have the shape of the iterates, {tuple(point.shape)}; "
                f"got {tuple(self.zero.shape)}"
            )
        return self.zero.to(point)

    def _at_zero(self, iterate: Iterate, memory: dict[str, Any]) -> dict[str, Any]:
        if self.zero is None:
            return memory
        point, residual = iterate.state.point, iterate.state.residual
        offset = point - memory["zero"]
        pair = kernels.PairSums(
            inner=kernels.row_dot(residual, offset),
            residual=iterate.residual_norm.square(),
            point=kernels.row_dot(offset, offset),
        )
        ratio = self._ratio(pair, iterate.point_norm, point.dtype)
        return memory | _least("at_zero", ratio, iterate.iteration, memory)

    def _keep(self, iterate: Iterate, memory: dict[str, Any]) -> dict[str, Any]:
        """Store this iterate in the bounded buffer, thinning it where it is full."""
        stride, kept = memory["stride"], memory["kept"]
        if iterate.iteration % stride:
            return memory
        times = memory["times"]
        buffers = {name: memory[name] for name in ("points", "residuals")}
        if kept == self.capacity:
            stride, kept = 2 * stride, (kept + 1) // 2
            rest = self.capacity - kept
            for name, buffer in buffers.items():
                buffers[name] = buffer[::2] + (_unused(iterate.state.point),) * rest
            times = torch.cat((times[:, ::2], torch.full_like(times[:, kept:], -1)), 1)
            if iterate.iteration % stride:
                return memory | buffers | {"times": times, "stride": stride, "kept": kept}
        now = torch.zeros_like(times[:, :1]) + iterate.iteration
        times = torch.cat((times[:, :kept], now, times[:, kept + 1 :]), 1)
        values = {"points": iterate.state.point, "residuals": iterate.state.residual}
        for name, value in values.items():
            buffer = buffers[name]
            buffers[name] = (*buffer[:kept], value, *buffer[kept + 1 :])
        return memory | buffers | {"times": times, "stride": stride, "kept": kept + 1}


def _unused(point: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """NaN in the shape of a point, without its memory."""
    return point.new_full((), torch.nan).expand_as(point)


def _least(
    name: str, ratio: Tensor, iteration: int | Tensor, memory: dict[str, Any]
) -> dict[str, Tensor]:
    lower = ratio < memory[name]
    return {
        name: torch.where(lower, ratio, memory[name]),
        f"{name}_at": torch.where(lower, iteration, memory[f"{name}_at"]),
    }
