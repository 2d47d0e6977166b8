"""Anderson acceleration, type II, safeguarded (Walker & Ni, SIAM J. Numer. Anal. 2011; the
safeguard after Zhang, O'Donoghue & Boyd, SIAM J. Optim. 2020):

    z' = z - beta r - (dZ - beta dR) gamma,    gamma = argmin ||r - dR gamma||,    r = T z

Every row keeps an anchor: the last accepted point a with its residual r_a. Differences are taken
to the anchor and the extrapolation starts there. An accelerated point whose residual is not below
the anchor's is refused, and the next point is the forward step a - beta r_a, which needs no new
evaluation and is always accepted: a step costs one evaluation, whatever happens. A forward step
that raised the residual was too long for this operator (beta-cocoercive ones raise none below
2 beta): the row's own beta shrinks.

The normal equations are scaled to unit diagonal, so that `regularization` is a relative number;
one row of the Gram matrix is new in each step, the rest is carried along.

Where an evaluation of T yields more than T z, gamma may minimize that instead: the deviation
p = Q(D(z)) - x of a decoded picture, say, with T z = E(x + p) - E(x). The steps still go along r,
the weights come from the data: a nonlinear AB-GMRES (Hayami, Yin & Ito, SIAM J. Matrix Anal. Appl.
2010), with the encoder for B. Then it is ||p|| that an accelerated point must lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State
from fixpoint.operator import Operator
from fixpoint.rows import where_rows


@dataclass(frozen=True)
class AndersonState(State):
    anchor: Float[Tensor, "batch *shape"]  # last accepted point
    anchor_residual: Float[Tensor, "batch *shape"]  # T at the anchor
    anchor_merit: Tensor | None  # what is minimized there, where that is not T
    anchor_norm: Float[Tensor, " batch"]  # the norm of what is minimized there
    mixing: Float[Tensor, " batch"]  # beta of the row
    trusted: Bool[Tensor, " batch"]  # the last point was accepted: extrapolate next
    point_differences: tuple[Tensor, ...]  # dZ, newest first
    residual_differences: tuple[Tensor, ...]  # dR, newest first
    merit_differences: tuple[Tensor, ...]  # of what is minimized, where that is not T
    gram: Float[Tensor, "batch memory memory"]  # dR^T dR
    right_hand_side: Float[Tensor, "batch memory"]  # dR^T r at the anchor
    rejected_residual: Int[Tensor, " batch"]  # points refused: residual not lowered
    rejected_nonfinite: Int[Tensor, " batch"]  # points refused: NaN or infinity
    rejected_weights: Int[Tensor, " batch"]  # extrapolations not tried: weights too large
    shortened: Int[Tensor, " batch"]  # forward steps too long: the mixing shrank


@dataclass(frozen=True, kw_only=True)
class Anderson(Iterator[AndersonState]):
    """Safeguarded Anderson acceleration of the forward step, each row on its own.

    Args:
        memory: remembered differences, at least 1; no more than a row has elements are used.
        mixing: beta, the step of the underlying forward step.
        regularization: added to the unit diagonal of the scaled normal equations; raised to the
            rounding level of the dtype that the Gram matrix is accumulated in, where it is below.
        safeguard: refuse accelerated points that do not lower the residual.
        shrink: factor on a row's mixing after a forward step that raised the residual (or what is
            minimized instead), in (0, 1]; 1 keeps it.
        largest_weight: extrapolations with a weight above it are not tried.
        minimize: "residual" for T z, or the name of a tensor that `Operator.evaluate` measures, as
            "deviation" of a `DecoderInversion`: what the weights minimize.
    """

    memory: int = 5
    mixing: float = 1.0
    regularization: float = 0.0
    safeguard: bool = True
    shrink: float = 0.5
    largest_weight: float = 1e4
    minimize: str = "residual"

    def __post_init__(self) -> None:
        if not (isinstance(self.memory, int) and self.memory >= 1):
            raise ValueError(f"memory must be a whole number, at least 1, got {self.memory}")
        if not 0 < self.mixing < float("inf"):
            raise ValueError(f"mixing must be above 0, got {self.mixing}")
        if not 0 <= self.regularization < 1:
            raise ValueError(f"regularization must lie in [0, 1), got {self.regularization}")
        if not 0 < self.shrink <= 1:
            raise ValueError(f"shrink must lie in (0, 1], got {self.shrink}")
        if not isinstance(self.minimize, str):
            raise TypeError(f"minimize must be a name, got {self.minimize!r}")
        if not self.largest_weight > 0:
            raise ValueError(f"largest_weight must be above 0, got {self.largest_weight}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> AndersonState:
        residual, merit = self._evaluate(operator, z)
        norm = kernels.row_norm(residual if merit is None else merit)
        none = torch.zeros_like(norm, dtype=torch.long)
        return AndersonState(
            z=z,
            point=z,
            residual=residual,
            anchor=z,
            anchor_residual=residual,
            anchor_merit=merit,
            anchor_norm=norm,
            mixing=torch.full_like(norm, self.mixing),
            trusted=torch.ones_like(norm, dtype=torch.bool),
            point_differences=(),
            residual_differences=(),
            merit_differences=(),
            gram=norm.new_zeros(len(norm), 0, 0),
            right_hand_side=norm.new_zeros(len(norm), 0),
            rejected_residual=none,
            rejected_nonfinite=none,
            rejected_weights=none,
            shortened=none,
        )

    def step(self, operator: Operator, state: AndersonState) -> AndersonState:
        # More differences than dimensions are dependent, and their weights are rounding.
        memory = min(self.memory, math.prod(state.z.shape[1:]))
        done = None if state.request is None else state.request.done
        weights, tried = self._weights(state)
        accelerated = state.trusted & tried & (weights != 0).any(1)
        point, dz, mixed = kernels.anderson_mix(
            state.anchor,
            state.anchor_residual,
            state.point_differences,
            state.residual_differences,
            torch.where(accelerated.unsqueeze(1), weights, 0),
            state.mixing,
            done=done,
        )
        residual, merit = self._evaluate(operator, point)
        older = state.residual_differences[: memory - 1]
        dr, row = kernels.gram_row(
            older if merit is None else (), residual, state.anchor_residual, done=done
        )
        sums = kernels.RowSums(residual=row.value, point=mixed.point)
        finite = row.value < torch.inf
        usable = row.newest[:, 0] + mixed.difference < torch.inf
        merit_differences: tuple[Tensor, ...] = ()
        if merit is not None and state.anchor_merit is not None:
            older = state.merit_differences[: memory - 1]
            dp, row = kernels.gram_row(older, merit, state.anchor_merit, done=done)
            merit_differences = (dp, *older)
            finite = finite & (row.value < torch.inf)
            usable = usable & (row.newest[:, 0] < torch.inf)
        norm = row.value.sqrt()

        lowered = norm < state.anchor_norm
        accepted = finite & (lowered | ~accelerated) if self.safeguard else finite
        rounding = 8 * torch.finfo(norm.dtype).eps
        too_long = ~accelerated & ~(norm <= (1 + rounding) * state.anchor_norm)
        shortened = too_long & (self.shrink < 1)
        # At a refused point the anchor stays, and its products with the older differences.
        at_anchor = torch.cat(
            (row.at_anchor.unsqueeze(1), state.right_hand_side[:, : memory - 1]), 1
        )
        right_hand_side = torch.where(accepted.unsqueeze(1), row.at_value, at_anchor)
        # A difference that is not finite was stored as one that the weights leave out.
        older_used = state.gram.diagonal(dim1=1, dim2=2)[:, : memory - 1] > 0
        used = torch.cat((usable.unsqueeze(1), older_used), 1)
        gram_row = torch.where(used & usable.unsqueeze(1), row.newest, 0)
        return AndersonState(
            z=point,
            point=point,
            residual=residual,
            anchor=where_rows(accepted, point, state.anchor),
            anchor_residual=where_rows(accepted, residual, state.anchor_residual),
            anchor_merit=where_rows(accepted, merit, state.anchor_merit),
            anchor_norm=torch.where(accepted, norm, state.anchor_norm),
            mixing=torch.where(shortened, self.shrink * state.mixing, state.mixing),
            trusted=accepted,
            point_differences=(dz, *state.point_differences)[:memory],
            residual_differences=(dr, *state.residual_differences)[:memory],
            merit_differences=merit_differences,
            gram=_bordered(gram_row, state.gram),
            right_hand_side=torch.where(used, right_hand_side, 0),
            sums=sums,
            rejected_residual=state.rejected_residual + (finite & ~accepted),
            rejected_nonfinite=state.rejected_nonfinite + ~finite,
            rejected_weights=state.rejected_weights + (state.trusted & ~tried),
            shortened=state.shortened + shortened,
        )

    def statistics(self, state: AndersonState) -> dict[str, Tensor]:
        return {
            "rejected_residual": state.rejected_residual,
            "rejected_nonfinite": state.rejected_nonfinite,
            "rejected_weights": state.rejected_weights,
            "shortened": state.shortened,
        }

    def _evaluate(self, operator: Operator, point: Tensor) -> tuple[Tensor, Tensor | None]:
        """T at `point`, and what is minimized there, where that is something else."""
        if self.minimize == "residual":
            return operator(point), None
        residual, measured = operator.evaluate(point)
        if self.minimize not in measured:
            raise ValueError(
                f"Anderson minimizes {self.minimize!r}, but the operator measures "
                f"{sorted(measured) or 'nothing'}; report it from Operator.evaluate"
            )
        return residual, measured[self.minimize]

    def _weights(
        self, state: AndersonState
    ) -> tuple[Float[Tensor, "batch memory"], Bool[Tensor, " batch"]]:
        """gamma of every row, and whether it is fit for use."""
        if state.gram.shape[1] == 0:
            return state.right_hand_side, torch.ones_like(state.trusted)
        gram = state.gram.double()
        scale = gram.diagonal(dim1=1, dim2=2).sqrt()
        inverse = torch.where(scale > 0, 1 / scale, 0)  # an empty difference gets no weight
        scaled = gram * inverse.unsqueeze(1) * inverse.unsqueeze(2)
        # The unit diagonal is set, not summed to: empty differences have none of their own.
        rounding = 8 * torch.finfo(state.gram.dtype).eps
        unit = torch.eye(gram.shape[1], dtype=torch.bool, device=gram.device)
        system = torch.where(unit, 1 + max(self.regularization, rounding), scaled)
        solution, _ = torch.linalg.solve_ex(system, state.right_hand_side.double() * inverse)
        weights = solution * inverse
        usable = weights.abs().amax(1) <= self.largest_weight  # neither NaN nor infinite, then
        return weights, usable


def _bordered(
    row: Float[Tensor, "batch memory"], gram: Float[Tensor, "batch old old"]
) -> Float[Tensor, "batch memory memory"]:
    """The Gram matrix with `row` as its first row and column, and the oldest dropped."""
    kept = gram[:, : row.shape[1] - 1, : row.shape[1] - 1]
    below = torch.cat((row[:, 1:].unsqueeze(2), kept), 2)
    return torch.cat((row.unsqueeze(1), below), 1)
