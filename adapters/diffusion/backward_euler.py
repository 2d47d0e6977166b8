"""Inverting one step of a sampler exactly: the implicit equation as an operator.

    T x = Phi(x) - x_t

with the sampler's step Phi from level s to level t. Its zero is the x_s that Phi maps to x_t
(backward Euler; Hong et al., "On exact inversion of DPM-solvers", CVPR 2024, algorithm 1). For a
one-step rectified flow it is T z = z + v(z, 1000, c) - z_0 (the paper, appendix A.2.2). Any
iterator can solve it; no gradient is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.diffusion.networks import Network, PlainNetwork, as_network
from fixpoint.adapters.diffusion.sampler_steps import Step
from fixpoint.iterators import Anderson
from fixpoint.operator import Operator
from fixpoint.trees.rows import select_rows


class BackwardEuler(Operator):
    """The operator whose zero is x_s, the latent that a step of the sampler maps to x_t.

    Args:
        network: m(x, timestep), a `Network` or any function, whose rows are independent.
        target: x_t, (batch, *latent).
        step: from s to t.

    Raises:
        TypeError: x_t is no floating-point tensor. ValueError: it contains NaN or infinity.
    """

    def __init__(
        self,
        network: Network | Callable[[Tensor, float], Tensor],
        target: Float[Tensor, "batch *latent"],
        step: Step,
    ) -> None:
        if not isinstance(target, Tensor) or not target.is_floating_point():
            kind = target.dtype if isinstance(target, Tensor) else type(target).__name__
            raise TypeError(f"the latent must be a floating-point tensor, got {kind}")
        if not bool(target.isfinite().all()):
            raise ValueError("the latent contains NaN or infinity")
        self.network = as_network(network)
        self.target = target
        self.step = step

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        return self.step(self.network, x) - self.target

    @torch.no_grad()
    def naive(self, *, at_source: bool = False) -> Float[Tensor, "batch *latent"]:
        """The start: an estimate of x_s from one call of the network at x_t.

        It is x_t in rows where the network returns NaN or infinity.
        """
        start = self.step.naive(self.network, self.target, at_source=at_source)
        finite = start.isfinite().flatten(1).all(1)
        return torch.where(finite.reshape(-1, *[1] * (start.dim() - 1)), start, self.target)

    def select(self, rows: Tensor) -> BackwardEuler:
        selected = copy.copy(self)
        selected.network = self.network.select(rows)
        selected.target = select_rows(self.target, rows)
        return selected


class OneStepFlow(BackwardEuler):
    """The operator T z = z + v(z, timestep, *per_row) - z_0 of a one-step rectified flow.

    Args:
        velocity: v, pointing to the picture, as in InstaFlow.
        z_0: (batch, *latent), the clean latent.
        per_row: further arguments of v with the batch first: conditions of the rows.
        timestep: of pure noise.
    """

    def __init__(
        self,
        velocity: Callable[..., Tensor],
        z_0: Float[Tensor, "batch *latent"],
        *per_row: Tensor,
        timestep: float = 1000,
    ) -> None:
        step = Step(timestep, keep=1.0, take=1.0, back_keep=1.0, back_take=-1.0)
        super().__init__(PlainNetwork(velocity, *per_row), z_0, step)


def default_iterator(step: Step) -> Anderson:
    """Anderson acceleration of the fixed-point iteration x <- (x_t - take m(x)) / keep."""
    keep = abs(step.keep)
    return Anderson(memory=5, mixing=1 / keep if keep > 1e-3 else 1.0)
