"""The memory of theorem 2's monitor, and the constants of a pair (lambda, beta)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.monitors.cocoercivity import CocoercivityMemory
from fixpoint.monitors.path import Path
from fixpoint.monitors.tightest import Tightest


@dataclass(frozen=True)
class InertialKMMemory:
    """What is known of the run. Distances of z^k are squared, to the known zero; 0 without one."""

    ratios: CocoercivityMemory
    path: Path
    star: Tightest  # at the known zero
    z: Float[Tensor, "batch *shape"]
    step: Float[Tensor, "batch *shape"]  # z^k - z^{k-1}
    inertia_resolution: Float[Tensor, " batch"]  # alpha is known to this from the points
    step_norm: Float[Tensor, " batch"]
    longest_step: Float[Tensor, " batch"]
    step_sum: Float[Tensor, " batch"]  # of ||z^k - z^{k-1}||^2
    bend_sum: Float[Tensor, " batch"]  # of ||z^{k+1} - 2 z^k + z^{k-1}||^2
    start_distance: Float[Tensor, " batch"]
    distance: Float[Tensor, " batch"]
    lyapunov: Float[Tensor, " batch"]  # C^k
    growth: Tightest  # what C^k fell by, relative to the squared distance
    allowance: Float[Tensor, " batch"]  # rounding of C^k, summed up


@dataclass(frozen=True)
class ParameterPair:
    """nu of theorem 2 for the beta of one of the pairs of a step rho = 2 lambda beta."""

    inertia: float
    step_size: float
    cocoercivity: float

    @property
    def nu(self) -> float:
        """1/lambda - 1."""
        return 2 * self.cocoercivity / self.step_size - 1

    def rows(self, cocoercivity: Float[Tensor, " batch"]) -> PairRows:
        """The constants with a beta of its own for every row."""
        nu = 2 * cocoercivity / self.step_size - 1
        eps = nu * (1 - self.inertia) ** 2 - self.inertia * (1 + self.inertia)
        return PairRows(self.inertia, self.step_size, nu, eps)


@dataclass(frozen=True)
class PairRows:
    """nu and eps per row, and the bounds that they give in units of `||z^0 - z*||^2`."""

    inertia: float
    step_size: float
    nu: Float[Tensor, " batch"]
    eps: Float[Tensor, " batch"]

    @property
    def bounded(self) -> Bool[Tensor, " batch"]:
        """Inside (13)."""
        return self.eps > 0

    @property
    def steps(self) -> Float[Tensor, " batch"]:
        """Of the sum of ||z^k - z^{k-1}||^2: C^0 / eps."""
        return (1 - self.inertia) / self.eps

    @property
    def bends(self) -> Float[Tensor, " batch"]:
        """Of the sum of ||z^{k+1} - 2 z^k + z^{k-1}||^2; infinite without inertia."""
        weight = self.nu * self.inertia
        return torch.where(weight > 0, (1 - self.inertia) / weight, torch.inf)

    @property
    def residuals(self) -> Float[Tensor, " batch"]:
        """M, of the sum of ||T y^k||^2."""
        return (1 + self.inertia) ** 2 / self.eps / self.step_size / self.step_size
