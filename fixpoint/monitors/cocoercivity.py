"""How cocoercive an operator is along a run.

Three ratios `<T a - T b, a - b> / ||T a - T b||^2`, each for its own pairs (a, b):

- *pairwise*: two successive points where T was evaluated;
- *at a known zero*: a point and z* (star-cocoercivity, the paper's equations 9 and 12);
- *in hindsight*: an iterate and the last one (the paper's equation 14).

For a beta-cocoercive operator each ratio is at least beta. A minimum over finitely many pairs is
therefore an upper estimate of beta: it can refute a beta and never certify one. Each ratio is taken
at the upper end of its rounding error, so that noise in T, mostly in 16 bits, refutes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors.accepted import accepted_rows, evaluated_norms
from fixpoint.monitors.monitor import Monitor
from fixpoint.monitors.rounding import eps_of, value_error
from fixpoint.monitors.tightest import Tightest
from fixpoint.summary import Summarised
from fixpoint.trees.rows import where_rows


@dataclass(frozen=True)
class CocoercivityReport(Summarised):
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


@dataclass(frozen=True)
class CocoercivityMemory:
    """Of the run so far; `zero` is empty where none is known."""

    point: Float[Tensor, "batch *shape"]  # where T was evaluated last
    residual: Float[Tensor, "batch *shape"]  # T there
    norm: Float[Tensor, " batch"]  # of that
    last: Float[Tensor, "batch *shape"]  # the last accepted of such points
    last_residual: Float[Tensor, "batch *shape"]
    zero: Float[Tensor, "batch *shape"]
    scale: Float[Tensor, " batch"]  # the largest ||z||, and ||z*||
    slope: Float[Tensor, " batch"]  # the largest ||dT|| / ||dz|| above rounding
    pairwise: Tightest
    at_zero: Tightest
    ratio_at_zero: Float[Tensor, " batch"]  # of the last evaluated point; NaN: not defined
    points: tuple[Float[Tensor, "batch *shape"], ...]  # kept for hindsight
    residuals: tuple[Float[Tensor, "batch *shape"], ...]
    times: Int[Tensor, "batch capacity"]  # their iterations; -1: unused
    stride: int
    kept: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Cocoercivity(Monitor):
    """Measures the least cocoercivity ratio of every row, without evaluating T.

    Args:
        zero: (batch, *shape), z* where it is known.
        capacity: points kept for the hindsight ratio; a longer run is thinned to every second,
            fourth, ... point, so that the memory is bounded.
        precision: error of T's values relative to ||z||; None for that of their dtype. A model in
            16 bits behind a float32 latent needs its own, 2**-8 for bfloat16.
    """

    zero: Float[Tensor, "batch *shape"] | None = None
    capacity: int = 32
    precision: float | None = None
    pairs: ClassVar = True

    def __post_init__(self) -> None:
        if not (isinstance(self.capacity, int) and self.capacity >= 2):
            raise ValueError(f"capacity must be a whole number, at least 2, got {self.capacity}")

    def start(self, iterate: Iterate) -> CocoercivityMemory:
        point, residual = iterate.state.point, iterate.state.residual
        norm, size = evaluated_norms(iterate)
        zero = self._zero(point)
        unseen = Tightest.unseen(norm)
        unused = (_unused(point),) * self.capacity
        memory = CocoercivityMemory(
            point=point,
            residual=residual,
            norm=norm,
            last=point,
            last_residual=residual,
            zero=zero,
            scale=size if self.zero is None else torch.fmax(size, kernels.row_norm(zero)),
            slope=torch.zeros_like(norm),
            pairwise=unseen,
            at_zero=unseen,
            ratio_at_zero=torch.full_like(norm, torch.nan),
            points=unused,
            residuals=unused,
            times=unseen.iteration.unsqueeze(1).expand(len(point), self.capacity),
            stride=1,
            kept=0,
        )
        return self._keep(iterate.iteration, self._at_zero(iterate, memory))

    def watch(self, iterate: Iterate, memory: CocoercivityMemory) -> CocoercivityMemory:
        point, residual = iterate.state.point, iterate.state.residual
        norm, size = evaluated_norms(iterate)
        pair = iterate.pair(memory.point, memory.residual)
        memory = replace(memory, scale=torch.fmax(memory.scale, size))
        ratio, slope = self._ratio(pair, norm + memory.norm, memory)
        ratio = torch.where(pair.point > 0, ratio, torch.nan)  # twice the same point
        accepted = accepted_rows(iterate)
        memory = replace(
            memory,
            point=point,
            residual=residual,
            norm=norm,
            last=point if accepted is None else where_rows(accepted, point, memory.last),
            last_residual=residual
            if accepted is None
            else where_rows(accepted, residual, memory.last_residual),
            slope=slope,
            pairwise=memory.pairwise.seen(ratio, iterate.iteration, torch.inf),
        )
        return self._keep(iterate.iteration, self._at_zero(iterate, memory))

    def report(self, memory: CocoercivityMemory) -> CocoercivityReport:
        known = self.zero is not None
        ratios = torch.nan_to_num(self.hindsight(memory), nan=torch.inf, posinf=torch.inf)
        least, slot = ratios.min(1)
        times = memory.times.gather(1, slot.unsqueeze(1)).squeeze(1)
        return CocoercivityReport(
            pairwise=memory.pairwise.margin,
            pairwise_iteration=memory.pairwise.iteration,
            at_zero=memory.at_zero.margin if known else None,
            at_zero_iteration=memory.at_zero.iteration if known else None,
            hindsight=least,
            hindsight_iteration=torch.where(least.isfinite(), times, -1),
        )

    def hindsight(self, memory: CocoercivityMemory) -> Float[Tensor, "batch capacity"]:
        """The ratios of the kept points and the last one; NaN where there is none."""
        last, residual = memory.last, memory.last_residual
        norm = kernels.row_norm(residual)
        ratios = []
        for point, value in zip(memory.points, memory.residuals, strict=True):
            pair = kernels.row_sums(last, residual, (point, value)).pair
            assert pair is not None
            ratio, _ = self._ratio(pair, norm + kernels.row_norm(value), memory)
            ratios.append(torch.where(pair.point > 0, ratio, torch.nan))
        return torch.where(memory.times >= 0, torch.stack(ratios, 1), torch.nan)

    def _ratio(
        self, pair: kernels.PairSums, norms: Float[Tensor, " batch"], memory: CocoercivityMemory
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """`<dT, dz> / ||dT||^2` at the upper end of its rounding error, and the largest slope now.

        Infinite where dT is no more than rounding, as for dT = 0; NaN where a sum is not finite.
        """
        moved, size = pair.residual.sqrt(), pair.point.sqrt()
        tiny = torch.finfo(size.dtype).tiny
        slope = torch.fmax(memory.slope, moved / size.clamp(min=tiny))
        error = value_error(memory.point, memory.scale, slope, norms, self.precision)
        inner = pair.inner + error * size
        farthest = moved - torch.where(inner > 0, error, -error)
        ratio = torch.where(moved > error, inner / farthest.square(), torch.inf)
        finite = moved + size + pair.inner.abs() < torch.inf
        # A slope between points that rounding can hardly tell apart is not remembered.
        distinct = finite & (size > 16 * eps_of(memory.point) * memory.scale)
        return torch.where(finite, ratio, torch.nan), torch.where(distinct, slope, memory.slope)

    def _zero(self, point: Tensor) -> Tensor:
        if self.zero is None:
            return point.new_zeros(point.shape[0], 0)
        if self.zero.shape != point.shape:
            raise ValueError(
                f"zero must have the shape of the iterates, {tuple(point.shape)}; "
                f"got {tuple(self.zero.shape)}"
            )
        return self.zero.to(point)

    def _at_zero(self, iterate: Iterate, memory: CocoercivityMemory) -> CocoercivityMemory:
        if self.zero is None:
            return memory
        offset = memory.point - memory.zero
        pair = kernels.PairSums(
            inner=kernels.row_dot(memory.residual, offset),
            residual=memory.norm.square(),
            point=kernels.row_dot(offset, offset),
        )
        ratio, slope = self._ratio(pair, memory.norm, memory)
        # The ratio is not defined at z* itself.
        ratio = torch.where((pair.point > 0) | (pair.residual == 0), ratio, torch.nan)
        return replace(
            memory,
            slope=slope,
            ratio_at_zero=ratio,
            at_zero=memory.at_zero.seen(ratio, iterate.iteration, torch.inf),
        )

    def _keep(self, iteration: int | Tensor, memory: CocoercivityMemory) -> CocoercivityMemory:
        """Store the last iterate in the bounded buffer, thinning it where it is full."""
        stride, kept, times = memory.stride, memory.kept, memory.times
        if iteration % stride:
            return memory
        points, residuals = memory.points, memory.residuals
        if kept == self.capacity:
            stride, kept = 2 * stride, (kept + 1) // 2
            rest = (_unused(memory.last),) * (self.capacity - kept)
            points, residuals = points[::2] + rest, residuals[::2] + rest
            times = torch.cat((times[:, ::2], torch.full_like(times[:, kept:], -1)), 1)
            if iteration % stride:
                return replace(
                    memory,
                    points=points,
                    residuals=residuals,
                    times=times,
                    stride=stride,
                    kept=kept,
                )
        now = torch.zeros_like(times[:, :1]) + iteration
        return replace(
            memory,
            points=(*points[:kept], memory.last, *points[kept + 1 :]),
            residuals=(*residuals[:kept], memory.last_residual, *residuals[kept + 1 :]),
            times=torch.cat((times[:, :kept], now, times[:, kept + 1 :]), 1),
            stride=stride,
            kept=kept + 1,
        )


def _unused(point: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """NaN in the shape of a point, without its memory."""
    return point.new_full((), torch.nan).expand_as(point)
