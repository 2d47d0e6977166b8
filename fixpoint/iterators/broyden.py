"""Limited-memory Broyden, safeguarded (Broyden, Math. Comp. 1965, the "good" update):

    z' = z - H r,    H' = H + (s - H y) s^T H / (s^T H y),    s = z' - z,  y = r' - r,  r = T z

H starts from beta I and is never formed: from pairs S and Y, oldest first, the updates make it

    H = beta I + (S - beta Y) (beta S^T Y - L)^{-1} beta S^T,    L = strictly lower part of S^T S

(Byrd, Nocedal & Schnabel, Math. Programming 1994, section 6). That is Anderson mixing with other
weights, from one new row and column of a small matrix a step. A full memory is emptied before the
next pair enters, as in Kelley (Iterative Methods for Linear and Nonlinear Equations, 1995, section
7.3): dropping the oldest pair instead took two to three times as many evaluations on
ill-conditioned problems.

Every row keeps an anchor: the last accepted point a with its residual r_a. Steps and differences
start there. A quasi-Newton point whose residual is not below the anchor's is refused, and the next
point is a forward step: every step costs one evaluation. But Broyden's residuals rise on the way to
fast convergence, and a method that refuses every rise stalls if T is ill-conditioned. So a residual
of at most `largest_rise` times the least one is accepted as well, unless the least one has not
fallen for ten steps (after Grippo, Lampariello & Lucidi, SIAM J. Numer. Anal. 1986). If
quasi-Newton steps make no progress for `patience` evaluations, the row returns to its best point
and makes forward steps for a while; see `fixpoint.iterators.trials`.

Forward steps a - rho r_a have the row's own rho: beta at first, shorter where one more than doubles
the least residual, which refuses it, and growing back with every one that lowers the residual.

A quasi-Newton step is at most `largest_step` times as long as the forward step, so that no nearly
singular update carries a row far away. A pair whose s^T H y is lost in rounding is left out of H.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator
from fixpoint.iterators.anchor import AnchoredState
from fixpoint.iterators.trials import Trials, forward_lengths
from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows, where_rows

_PATIENCE = 10  # steps in which rises are accepted without a new least residual


@dataclass(frozen=True)
class Secants:
    """H as pairs (s, y), newest first, and the small matrix that they enter by."""

    point_differences: tuple[Tensor, ...]  # s
    residual_differences: tuple[Tensor, ...]  # y
    system: Float[Tensor, "batch memory memory"]  # beta S^T Y - L
    lengths: Float[Tensor, "batch memory"]  # ||s||; 0 for a pair that stays out of H

    def solve(
        self, right_hand_side: Float[Tensor, "batch memory"]
    ) -> Float[Tensor, "batch memory"]:
        """system^{-1} right_hand_side, in float64; 0 for pairs that stay out of H."""
        if self.system.shape[1] == 0:
            return right_hand_side.double()
        inverse = torch.where(self.lengths > 0, 1 / self.lengths.double(), 0)
        # The update does not change where a pair is scaled: each to ||s|| = 1.
        scaled = self.system.double() * inverse.unsqueeze(1) * inverse.unsqueeze(2)
        scaled = scaled + torch.diag_embed((self.lengths == 0).double())
        solution, _ = torch.linalg.solve_ex(scaled, right_hand_side.double() * inverse)
        return solution * inverse

    def newest(self, count: int) -> Secants:
        """The newest `count` pairs."""
        return Secants(
            self.point_differences[:count],
            self.residual_differences[:count],
            self.system[:, :count, :count],
            self.lengths[:, :count],
        )


@dataclass(frozen=True)
class BroydenState(AnchoredState):
    stale: Int[Tensor, " batch"]  # steps since the least norm fell
    best: tuple[Tensor, Tensor]  # the anchor of the least norm, and T there
    forward: Float[Tensor, " batch"]  # rho of the next forward step
    failures: Int[Tensor, " batch"]  # forward steps refused one after the other
    trials: Trials
    secants: Secants  # H
    right_hand_side: Float[Tensor, "batch memory"]  # beta S^T r at the anchor
    rejected_residual: Int[Tensor, " batch"]  # points refused: residual too large
    rejected_nonfinite: Int[Tensor, " batch"]  # points refused, or steps not tried: not finite
    shortened: Int[Tensor, " batch"]  # quasi-Newton steps cut to the largest length
    skipped_updates: Int[Tensor, " batch"]  # pairs left out: s^T H y too close to 0
    left: Int[Tensor, " batch"]  # returns to the best point: quasi-Newton steps made no progress

    counters: ClassVar = (
        "rejected_residual",
        "rejected_nonfinite",
        "shortened",
        "skipped_updates",
        "left",
    )


@dataclass(frozen=True, kw_only=True)
class Broyden(Iterator[BroydenState]):
    """Safeguarded Broyden steps, each row with its own inverse Jacobian.

    Args:
        memory: pairs (s, y) remembered before H starts anew, at least 1.
        mixing: beta, the step of the underlying forward step; beta I is the first H.
        safeguard: refuse quasi-Newton points by their residual.
        largest_rise: residual of a quasi-Newton point over the least one accepted, at most; 1 to
            accept none that rises.
        largest_step: length of a quasi-Newton step over that of the forward step, at most.
        patience: evaluations without progress until quasi-Newton steps pause.
    """

    memory: int = 10
    mixing: float = 1.0
    safeguard: bool = True
    largest_rise: float = 2.0
    largest_step: float = 30.0
    patience: int = 40

    def __post_init__(self) -> None:
        for name in ("memory", "patience"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value}")
        if not 0 < self.mixing < float("inf"):
            raise ValueError(f"mixing must be above 0, got {self.mixing}")
        if not self.largest_rise >= 1:
            raise ValueError(f"largest_rise must be at least 1, got {self.largest_rise}")
        if not self.largest_step > 0:
            raise ValueError(f"largest_step must be above 0, got {self.largest_step}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> BroydenState:
        residual = operator(z)
        norm = kernels.row_norm(residual).double()
        none = torch.zeros_like(norm, dtype=torch.long)
        return BroydenState.first(
            z,
            residual,
            norm,
            stale=none,
            best=(z, residual),
            forward=torch.full_like(norm, self.mixing),
            failures=none,
            trials=Trials.first(norm),
            secants=Secants((), (), norm.new_zeros(len(norm), 0, 0), norm.new_zeros(len(norm), 0)),
            right_hand_side=norm.new_zeros(len(norm), 0),
        )

    def step(self, operator: Operator, state: BroydenState) -> BroydenState:
        wide = kernels.accumulation_dtype(state.z.dtype)
        weights = state.secants.solve(state.right_hand_side)
        direction = kernels.broyden_direction(
            state.anchor_residual,
            state.secants.point_differences,
            state.secants.residual_differences,
            weights,
            self.mixing,
        )
        length = kernels.row_norm(direction)
        tried = length.isfinite()
        wait = (state.trials.wait > 0) if self.safeguard else state.trials.resting
        quasi_newton = ~wait & tried & (weights != 0).any(1)
        # If T is too steep for forward steps of the first length, H has the better scale.
        largest = self.largest_step * self.mixing * state.anchor_norm
        shortened = quasi_newton & (length > largest)
        share = expand_rows(torch.where(shortened, largest / length, 1), direction)
        newton = kernels.forward_step(state.anchor.to(wide), direction, share).to(state.z.dtype)
        rho = expand_rows(state.forward, state.z)
        forward = kernels.forward_step(state.anchor, state.anchor_residual, rho)
        point = where_rows(quasi_newton, newton, forward)
        residual = operator(point)
        norm = kernels.row_norm(residual).double()

        finite = norm.isfinite()
        near = (norm <= self.largest_rise * state.least_norm) & (state.stale < _PATIENCE)
        lowered = (norm < state.anchor_norm) | near
        accepted = finite
        if self.safeguard:
            stands = torch.where(quasi_newton, lowered, state.forward_step_stands(norm))
            accepted = finite & stands
        improved = accepted & (norm < state.least_norm)
        anchor_residual = where_rows(accepted, residual, state.anchor_residual)
        # In the accumulation dtype: differences of 16-bit numbers can overflow.
        s = point.to(wide) - state.anchor.to(wide)
        y = residual.to(wide) - state.anchor_residual.to(wide)
        known = (kernels.row_dot(s, s) + kernels.row_dot(y, y)).isfinite()
        s = where_rows(known, s, torch.zeros_like(s))
        y = where_rows(known, y, torch.zeros_like(y))
        secants, right_hand_side, skipped = self._updated(state.secants, s, y, anchor_residual)
        anchor, anchor_norm = (
            where_rows(accepted, point, state.anchor),
            torch.where(accepted, norm, state.anchor_norm),
        )
        best = where_rows(improved, (point, residual), state.best)
        least_norm = torch.where(improved, norm, state.least_norm)
        trials, back = state.trials, torch.zeros_like(accepted)
        if self.safeguard:
            patience = max(self.patience, self.memory)
            trials, back = trials.after(quasi_newton, accepted, norm, patience)
            # H starts anew at the best point.
            lengths = torch.where(back.unsqueeze(1), 0, secants.lengths)
            secants = replace(secants, lengths=lengths)
            right_hand_side = torch.where(back.unsqueeze(1), 0, right_hand_side)
        lowered = norm <= state.anchor_norm
        failures, forward_length = forward_lengths(
            state.forward, state.failures, ~quasi_newton, accepted, lowered, self.mixing
        )
        start, start_residual = where_rows(back, best, (anchor, anchor_residual))
        return BroydenState(
            z=anchor,
            point=point,
            residual=residual,
            accepted=accepted,
            anchor=start,
            anchor_residual=start_residual,
            anchor_norm=torch.where(back, least_norm, anchor_norm),
            least_norm=least_norm,
            stale=torch.where(improved | back, 0, state.stale + 1),
            best=best,
            forward=forward_length,
            failures=failures,
            trials=trials,
            secants=secants,
            right_hand_side=right_hand_side,
            rejected_residual=state.rejected_residual + (finite & ~accepted),
            rejected_nonfinite=state.rejected_nonfinite + (~finite | (~wait & ~tried)),
            shortened=state.shortened + shortened,
            skipped_updates=state.skipped_updates + skipped,
            left=state.left + back,
        )

    def statistics(self, state: BroydenState) -> dict[str, Tensor]:
        return state.statistics()

    def _updated(
        self,
        secants: Secants,
        s: Float[Tensor, "batch *shape"],
        y: Float[Tensor, "batch *shape"],
        residual: Float[Tensor, "batch *shape"],
    ) -> tuple[Secants, Float[Tensor, "batch memory"], Bool[Tensor, " batch"]]:
        """H updated by one pair, beta S^T r, and in which rows the pair stays out of H."""
        older = secants.newest(secants.lengths.shape[1] % self.memory)  # a full memory is emptied
        point_differences = (s, *older.point_differences)
        residual_differences = (y, *older.residual_differences)
        ss, ys, sy, sr = kernels.broyden_products(
            point_differences, residual_differences, s, y, residual
        )
        squared = ss[:, :1]
        row = self.mixing * ys - torch.cat((torch.zeros_like(squared), ss[:, 1:]), 1)
        column = self.mixing * sy
        # The Schur complement of the older pairs is s^T H y.
        terms = row[:, 1:].double() * older.solve(column[:, 1:])
        curvature = row[:, 0].double() - terms.sum(1)
        size = self.mixing * squared[:, 0].sqrt() * kernels.row_norm(y) + terms.abs().sum(1)
        skipped = ~(curvature.abs() >= torch.finfo(ss.dtype).eps ** 0.5 * size)
        length = torch.where(skipped.unsqueeze(1), 0, squared.sqrt())
        lower = torch.cat((column[:, 1:].unsqueeze(2), older.system), 2)
        updated = Secants(
            point_differences,
            residual_differences,
            system=torch.cat((row.unsqueeze(1), lower), 1),
            lengths=torch.cat((length, older.lengths), 1),
        )
        return updated, self.mixing * sr, skipped
