"""Forward steps with a warm-up, halved on plateaus: the rule of Hong et al. (CVPR 2024) for their
algorithm 1.

    z^{k+1} = z^k - rho_k T z^k,    rho_k = rho (k + 1)/20 for k < 20

From k = 20 on rho_k = rho, and rho is halved when ||T z||^2 has not fallen for more than 20 steps.
Here each row has its own rho. The method is for comparison: `Anderson` needs fewer evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State
from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True)
class PlateauStepState(State):
    count: int  # steps taken
    step_size: Float[Tensor, " batch"]  # after the warm-up
    least: Float[Tensor, " batch"]  # ||T||^2 on the present plateau
    waited: Int[Tensor, " batch"]  # steps since it fell


@dataclass(frozen=True, kw_only=True)
class PlateauStep(Iterator[PlateauStepState]):
    """Forward steps with a linear warm-up, reduced on plateaus of the residual.

    Args:
        step_size: rho, above 0.
        warmup: steps until rho is reached, at least 1.
        factor: on a row's rho at the end of a plateau, in (0, 1).
        patience: steps without improvement before rho is reduced.
        threshold: the relative decrease of ||T z||^2 that counts as an improvement.
    """

    step_size: float = 0.5
    warmup: int = 20
    factor: float = 0.5
    patience: int = 20
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.step_size < float("inf"):
            raise ValueError(f"step_size must be above 0, got {self.step_size}")
        if not (isinstance(self.warmup, int) and self.warmup >= 1):
            raise ValueError(f"warmup must be a whole number, at least 1, got {self.warmup}")
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must lie in (0, 1), got {self.factor}")
        if not (isinstance(self.patience, int) and self.patience >= 0):
            raise ValueError(f"patience must be a whole number, at least 0, got {self.patience}")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold must lie in [0, 1), got {self.threshold}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> PlateauStepState:
        residual = operator(z)
        norm = kernels.row_norm(residual)
        return PlateauStepState(
            z=z,
            point=z,
            residual=residual,
            count=0,
            step_size=torch.full_like(norm, self.step_size),
            least=torch.full_like(norm, torch.inf),
            waited=torch.zeros_like(norm, dtype=torch.long),
        )

    def step(self, operator: Operator, state: PlateauStepState) -> PlateauStepState:
        size, least, waited = state.step_size, state.least, state.waited
        if state.count < self.warmup:
            length = size * ((state.count + 1) / self.warmup)
        else:
            squared = kernels.row_norm(state.residual).square()
            better = squared < (1 - self.threshold) * least
            least = torch.where(better, squared, least)
            waited = torch.where(better, 0, waited + 1)
            over = waited > self.patience
            size = torch.where(over, self.factor * size, size)
            waited = torch.where(over, 0, waited)
            length = size
        z = state.z - expand_rows(length.to(state.z.dtype), state.z) * state.residual
        return PlateauStepState(
            z=z,
            point=z,
            residual=operator(z),
            count=state.count + 1,
            step_size=size,
            least=least,
            waited=waited,
        )
