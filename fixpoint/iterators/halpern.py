"""Halpern's iteration (Halpern, Bull. Amer. Math. Soc. 1967; Lieder, Optimization Letters 2021):

    z^{k+1} = z^0 / (k+2) + (k+1)/(k+2) (z^k - 2 beta T z^k)

For a beta-cocoercive T the map I - 2 beta T is nonexpansive, no iterate is farther from any zero z*
than z^0, and beta ||T z^k|| <= ||z^0 - z*|| / (k+1): no method has a better bound for all of them
(Park & Ryu, ICML 2022). But the residual falls like 1/k for easy operators, too, as T = I / 2.

With `restart`, a row gets a new anchor, z^0 replaced and k back to 0, once its residual is at most
q times its anchor's, q = 1/e, and no longer falls faster from step to step: from then on only the
slow 1/k would be left. While it falls ever faster, as for a rotation T, the row goes on. The new
anchor is the better one of the last two points; the first step from it, z - beta T z, does not
raise the residual. For a
beta-cocoercive T and D = ||z^0 - z*|| at the very start:

- Anchors come no farther from any zero, and the residual of each is at most q times the last one's.
- An anchor of residual r is found within D / (beta r) steps of the last one. Summed up, the least
  residual of n steps is at most (2-q)/(1-q) D / (beta (n+1)): 2.6 times the bound without restarts.
- Where ||T z|| >= mu ||z - z*||, it takes at most k_0 = 1/(q beta mu) steps from an anchor to fall
  to q times its residual, and on the whole e k_0 + 1 steps for every factor e.

Restarts on sufficient decay of the residual: Diakonikolas, COLT 2020; Lu & Yang, arXiv 2407.16144.
By that k_0 a given decay takes 1/(q log(1/q)) steps, the fewest for q = 1/e.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels, theory
from fixpoint.iterator import Iterator, State, TheoremWarning
from fixpoint.operator import Operator
from fixpoint.trees.rows import where_rows

_DECAY = math.exp(-1)  # q


@dataclass(frozen=True)
class HalpernState(State):
    anchor: Float[Tensor, "batch *shape"]  # z^0 of the row
    anchor_residual: Float[Tensor, "batch *shape"]  # T at the anchor
    anchor_norm: Float[Tensor, " batch"]  # its norm
    norm: Float[Tensor, " batch"]  # ||T z^k||
    contraction: Float[Tensor, " batch"]  # ||T z^k|| / ||T z^{k-1}||, at most 1; 0 at an anchor
    steps: Int[Tensor, " batch"]  # k, since the anchor was set
    restarts: Int[Tensor, " batch"]  # restarts so far


@dataclass(frozen=True, kw_only=True)
class Halpern(Iterator[HalpernState]):
    """Halpern's iteration of I - 2 beta T, each row with its own anchor.

    Args:
        cocoercivity: beta, known or estimated.
        restart: give a row a new anchor once its residual has fallen enough; without it the bound
            of Lieder holds unchanged, and nothing faster.
    """

    cocoercivity: float = 1.0
    restart: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.cocoercivity < float("inf"):
            raise ValueError(f"cocoercivity must be above 0, got {self.cocoercivity}")

    def residual_bound(self, distance: float, cocoercivity: float, iterations: int) -> float:
        """A bound on the least `||T z||` of so many steps from a start at `distance` from a zero.

        Infinite where the operator's `cocoercivity` is below the one given to the iterator.
        """
        if self.cocoercivity > cocoercivity:
            return math.inf
        bound = theory.halpern_residual_bound(distance, self.cocoercivity, iterations)
        return bound * (2 - _DECAY) / (1 - _DECAY) if self.restart else bound

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> HalpernState:
        beta = operator.cocoercivity
        if beta is not None and self.cocoercivity > beta:
            warnings.warn(
                f"the operator is {beta:.6g}-cocoercive, less than the {self.cocoercivity} given "
                "to Halpern; the bound on its residuals does not cover this run",
                TheoremWarning,
                stacklevel=4,
            )
        residual = operator(z)
        norm = kernels.row_norm(residual)
        none = torch.zeros_like(norm, dtype=torch.long)
        return HalpernState(
            z=z,
            point=z,
            residual=residual,
            anchor=z,
            anchor_residual=residual,
            anchor_norm=norm,
            norm=norm,
            contraction=torch.zeros_like(norm),
            steps=none,
            restarts=none,
        )

    def step(self, operator: Operator, state: HalpernState) -> HalpernState:
        at_anchor = state.steps == 0
        previous = where_rows(at_anchor, state.anchor, state.point)
        previous_residual = where_rows(at_anchor, state.anchor_residual, state.residual)
        previous_norm = torch.where(at_anchor, state.anchor_norm, state.norm)

        pull = 1 / (state.steps + 2).to(state.norm.dtype)
        point = kernels.halpern(
            previous, previous_residual, state.anchor, 2 * self.cocoercivity, pull
        )
        residual = operator(point)
        norm = kernels.row_norm(residual)

        risen = norm > previous_norm
        best_norm = torch.minimum(norm, previous_norm)
        settled = norm >= state.contraction * previous_norm  # falls no faster than before
        restarts = settled & (best_norm < _DECAY * state.anchor_norm)
        if not self.restart:
            restarts = torch.zeros_like(restarts)
        return HalpernState(
            z=point,
            point=point,
            residual=residual,
            anchor=where_rows(restarts, where_rows(risen, previous, point), state.anchor),
            anchor_residual=where_rows(
                restarts, where_rows(risen, previous_residual, residual), state.anchor_residual
            ),
            anchor_norm=torch.where(restarts, best_norm, state.anchor_norm),
            norm=norm,
            contraction=torch.where(restarts, 0, (norm / previous_norm).clamp(max=1)),
            steps=torch.where(restarts, 0, state.steps + 1),
            restarts=state.restarts + restarts,
        )

    def statistics(self, state: HalpernState) -> dict[str, Tensor]:
        return {"restarts": state.restarts}
