"""Anderson acceleration, type II, safeguarded (Walker & Ni, SIAM J. Numer. Anal. 2011; the
safeguard after Zhang, O'Donoghue & Boyd, SIAM J. Optim. 2020):

    z' = z - dZ gamma - beta r_min,    gamma = argmin ||r - dR gamma||,    r_min = r - dR gamma

with r = T z. Every row keeps an anchor, the last accepted point a with its residual r. Differences
(dZ, dR) are taken to the anchor, also those of refused points: every evaluation gives a column. A
refused extrapolation is followed by the forward step a - beta r; `fixpoint.iterators.trials` says
when the next one is tried. Every step costs one evaluation.

The lengths of both steps are the row's own; see `fixpoint.iterators.anderson_lengths`. On linear
problems with full memory the iteration needs the evaluations of GMRES.
`fixpoint.iterators.least_squares` says why the weights come from a Gram matrix. The counters of
refusals point to hyper-parameters: `rejected_residual` to `largest_rise`, `rejected_weights` to
`regularization` and `memory`, `shortened` to `mixing`, `left` to `patience`. `rejected_nonfinite`
points to T.

Safeguard. With r_a the residual at the anchor, an extrapolation z' stands if

    ||T z'|| <= (1 - delta) ||r_a||    or    ||T z'|| <= s_n = D ||T z^0|| (n + 1)^-1.1,

n counting those accepted by s_n alone, and if ||z' - a|| <= L ||r_a||. Of rises, only those are
accepted that the model predicts, ||T z'|| <= 10 ||r_min||, or that are bold trials after others
failed, and none above `largest_rise` times the least residual.

Where T is beta-cocoercive with a zero and mixing < 2 beta, the least residual tends to 0. Forward
steps raise no residual then. So the residuals b_k at which extrapolations start obey
b_{k+1} <= (1 - delta) b_k + s_k, and sum b_k <= (b_0 + sum s_k) / delta: s_n is summable. All
extrapolations move the row by at most L sum b_k. If forward steps are infinitely many, they are a
Krasnoselskii-Mann iteration with summable errors (Combettes, 2001); else b_k -> 0. Where the row
goes back to its best point for the n-th time, that is at most D_0 + n c from a zero; q^n steps
follow, q > 1, which bring the residual to (D_0 + n c) / (beta q^(n/2)); or it fell to a tenth.

If an evaluation of T yields more than T z, gamma may minimize that instead: for example the
deviation p = Q(D(z)) - x of a decoded picture, with T z = E(x + p) - E(x). The steps still go along
T, the weights come from the data: a nonlinear AB-GMRES (Hayami, Yin & Ito, SIAM J. Matrix Anal.
Appl. 2010), with the encoder for B. Then ||p|| is compared in place of ||T z||, and beta never
grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator
from fixpoint.iterators.anchor import AnchoredState
from fixpoint.iterators.anderson_lengths import Evaluated, Extrapolation, Lengths
from fixpoint.iterators.least_squares import (
    bordered,
    model_norm,
    weights_of,
    without_columns,
)
from fixpoint.iterators.trials import Trials
from fixpoint.operator import Operator
from fixpoint.trees.rows import where_rows

_DECREASE = 1e-3  # delta
_SUMMABLE = 1e3  # D
_LONGEST = 1e8  # L, in lengths of the row's own steps
_PREDICTED = 10.0  # residual over that of the model, at most
_BOLD = 100.0  # length of a bold extrapolation, in forward steps, at most
_ROUNDING = 8 * torch.finfo(torch.float64).eps  # of the unit diagonal of the Gram matrix


@dataclass(frozen=True)
class AndersonState(AnchoredState):
    """Norms are those of what is minimized."""

    anchor_merit: Tensor | None  # what is minimized at the anchor, where that is not T
    best: tuple[Tensor, Tensor, Tensor | None]  # the anchor of the least norm, T and merit there
    first_norm: Float[Tensor, " batch"]  # the norm at the start
    lengths: Lengths
    trials: Trials
    point_differences: tuple[Tensor, ...]  # dZ, newest first
    residual_differences: tuple[Tensor, ...]  # dR, newest first
    merit_differences: tuple[Tensor, ...]  # of what is minimized, where that is not T
    gram: Float[Tensor, "batch memory memory"]  # dR^T dR
    right_hand_side: Float[Tensor, "batch memory"]  # dR^T r at the anchor
    rises: Int[Tensor, " batch"]  # n, extrapolations accepted by the summable bound
    rejected_residual: Int[Tensor, " batch"]  # points refused: residual too large
    rejected_nonfinite: Int[Tensor, " batch"]  # points refused: NaN or infinity
    rejected_weights: Int[Tensor, " batch"]  # extrapolations with columns left out
    shortened: Int[Tensor, " batch"]  # forward steps too long: the mixing shrank
    left: Int[Tensor, " batch"]  # returns to the best point: extrapolations made no progress

    counters: ClassVar = (
        "rejected_residual",
        "rejected_nonfinite",
        "rejected_weights",
        "shortened",
        "left",
    )


@dataclass(frozen=True, kw_only=True)
class Anderson(Iterator[AndersonState]):
    """Safeguarded Anderson acceleration of the forward step, each row on its own.

    Args:
        memory: remembered differences, at least 1; no more than a row has elements are used.
        mixing: beta, the step of the underlying forward step.
        regularization: added to the unit diagonal of the scaled normal equations; raised to the
            rounding level of float64 where it is below.
        safeguard: refuse points by their residual, and pause extrapolations without progress.
        shrink: factor on a row's mixing after a forward step that raised the residual (or what is
            minimized instead), in (0, 1]; 1 keeps it, and accepts every forward step.
        largest_weight: the oldest differences are left out until no weight is above it.
        largest_rise: residual of an extrapolation over the least one, at most; 1 accepts no rise.
        patience: evaluations without progress until extrapolations pause; at least as many as
            there are differences.
        minimize: "residual" for T z, or the name of a tensor that `Operator.evaluate` measures, as
            "deviation" of a `DecoderInversion`: what the weights minimize.
    """

    memory: int = 5
    mixing: float = 1.0
    regularization: float = 0.0
    safeguard: bool = True
    shrink: float = 0.5
    largest_weight: float = math.inf
    largest_rise: float = 100.0
    patience: int = 25
    minimize: str = "residual"

    def __post_init__(self) -> None:
        for name in ("memory", "patience"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value}")
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
        if not self.largest_rise >= 1:
            raise ValueError(f"largest_rise must be at least 1, got {self.largest_rise}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> AndersonState:
        residual, merit = self._at(operator, z)
        norm = kernels.row_norm(residual if merit is None else merit).double()
        return AndersonState.first(
            z,
            residual,
            norm,
            anchor_merit=merit,
            best=(z, residual, merit),
            first_norm=norm,
            lengths=Lengths.first(self.mixing, norm),
            trials=Trials.first(norm),
            point_differences=(),
            residual_differences=(),
            merit_differences=(),
            gram=norm.new_zeros(len(norm), 0, 0),
            right_hand_side=norm.new_zeros(len(norm), 0),
            rises=torch.zeros_like(norm, dtype=torch.long),
        )

    def step(self, operator: Operator, state: AndersonState) -> AndersonState:
        step = self._extrapolation(state)
        found = self._evaluated(operator, state, step)
        accepted, risen = self._judge(state, step, found)
        return self._remember(state, step, found, accepted, risen)

    def statistics(self, state: AndersonState) -> dict[str, Tensor]:
        return state.statistics()

    def _extrapolation(self, state: AndersonState) -> Extrapolation:
        """The weights of the next point; 0 in rows that make a forward step."""
        weights, left_out = weights_of(
            state.gram,
            state.right_hand_side,
            max(self.regularization, _ROUNDING),
            self.largest_weight,
        )
        wait = (state.trials.wait > 0) if self.safeguard else state.trials.resting
        extrapolated = ~wait & (weights != 0).any(1)
        weights = torch.where(extrapolated.unsqueeze(1), weights, 0)
        model = model_norm(state.gram, state.right_hand_side, weights, state.anchor_norm)
        return Extrapolation(weights, extrapolated, model, ~wait & left_out)

    def _at(self, operator: Operator, point: Tensor) -> tuple[Tensor, Tensor | None]:
        """T at `point`, and what is minimized there if it is not T."""
        if self.minimize == "residual":
            return operator(point), None
        residual, measured = operator.evaluate(point)
        if self.minimize not in measured:
            raise ValueError(
                f"Anderson minimizes {self.minimize!r}, but the operator measures "
                f"{sorted(measured) or 'nothing'}; report it from Operator.evaluate"
            )
        return residual, measured[self.minimize]

    def _evaluated(
        self, operator: Operator, state: AndersonState, step: Extrapolation
    ) -> Evaluated:
        """The next point, T there, and the new column."""
        # More differences than dimensions are dependent: their weights would be rounding errors.
        older = min(self.memory, math.prod(state.z.shape[1:])) - 1
        done = None if state.request is None else state.request.done
        point, dz, mixed = kernels.anderson_mix(
            state.anchor,
            state.anchor_residual,
            state.point_differences,
            state.residual_differences,
            step.weights,
            torch.where(step.extrapolated, state.lengths.extrapolation, state.lengths.mixing),
            done=done,
        )
        residual, merit = self._at(operator, point)
        known = state.residual_differences[:older]
        dr, row = kernels.gram_row(
            known if merit is None else (), residual, state.anchor_residual, done=done
        )
        sums = kernels.RowSums(residual=row.value, point=mixed.point)
        finite = row.value < torch.inf
        usable = row.newest[:, 0] + mixed.difference < torch.inf
        dp: Tensor | None = None
        if merit is not None and state.anchor_merit is not None:
            known = state.merit_differences[:older]
            dp, row = kernels.gram_row(known, merit, state.anchor_merit, done=done)
            finite = finite & (row.value < torch.inf)
            usable = usable & (row.newest[:, 0] < torch.inf)
        return Evaluated(
            point=point,
            residual=residual,
            merit=merit,
            point_difference=dz,
            residual_difference=dr,
            merit_difference=dp,
            row=row,
            sums=sums,
            squared_step=mixed.difference,
            norm=row.value.sqrt(),
            finite=finite,
            usable=usable,
        )

    def _judge(
        self, state: AndersonState, step: Extrapolation, found: Evaluated
    ) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Which points are accepted, and which of them by the summable bound alone."""
        if not self.safeguard:
            return found.finite, torch.zeros_like(found.finite)
        norm, anchor = found.norm, state.anchor_norm
        length, forward = found.squared_step.sqrt(), state.lengths.mixing * anchor
        lowered = norm <= (1 - _DECREASE) * anchor
        bound = _SUMMABLE * state.first_norm * (state.rises + 1.0) ** -1.1
        bounded = (norm <= bound) & (norm <= self.largest_rise * state.least_norm)
        predicted = norm <= _PREDICTED * step.model
        bold = state.trials.bold & (length <= _BOLD * forward)
        near = length <= _LONGEST * torch.maximum(forward, state.lengths.extrapolation * anchor)
        risen = ~lowered & bounded & (predicted | bold)
        stands = near & (lowered | risen)
        # T's own rounding may raise the residual where nothing else is left of it.
        short = state.forward_step_stands(norm, rounding=1e-9)
        forward_stands = short if self.shrink < 1 else torch.ones_like(short)
        accepted = found.finite & torch.where(step.extrapolated, stands, forward_stands)
        return accepted, accepted & step.extrapolated & risen

    def _remember(
        self,
        state: AndersonState,
        step: Extrapolation,
        found: Evaluated,
        accepted: Tensor,
        risen: Tensor,
    ) -> AndersonState:
        """The state after this point: anchor, columns, lengths, counters."""
        lengths, too_long = state.lengths.after(
            step, found, accepted, state.anchor_norm, shrink=self.shrink, longest=self.mixing
        )
        if not self.safeguard and found.merit is None:
            lengths = replace(lengths, extrapolation=lengths.mixing)
        following = replace(
            self._with_column(state, found, accepted),
            lengths=lengths,
            rises=state.rises + risen,
            rejected_residual=state.rejected_residual + (found.finite & ~accepted),
            rejected_nonfinite=state.rejected_nonfinite + ~found.finite,
            rejected_weights=state.rejected_weights + step.left_out,
            shortened=state.shortened + too_long,
        )
        if not self.safeguard:
            return following
        patience = max(self.patience, following.gram.shape[1])
        trials, back = state.trials.after(step.extrapolated, accepted, found.norm, patience)
        # Columns of another quantity than T are kept: they do not mislead.
        misled = step.extrapolated & ~accepted & (found.merit is None)
        return self._back_to_the_best(replace(following, trials=trials), back, misled)

    def _with_column(
        self, state: AndersonState, found: Evaluated, accepted: Tensor
    ) -> AndersonState:
        """The new anchor, the best one, and the columns with the new one in front."""
        memory = min(self.memory, math.prod(state.z.shape[1:]))
        row = found.row
        # At a refused point the anchor stays, and its products with the older differences.
        at_anchor = torch.cat(
            (row.at_anchor.unsqueeze(1), state.right_hand_side[:, : memory - 1]), 1
        )
        right_hand_side = torch.where(accepted.unsqueeze(1), row.at_value, at_anchor)
        # A difference that is not finite was stored as one that the weights leave out.
        older_used = state.gram.diagonal(dim1=1, dim2=2)[:, : memory - 1] > 0
        used = torch.cat((found.usable.unsqueeze(1), older_used), 1)
        gram_row = torch.where(used & found.usable.unsqueeze(1), row.newest, 0)
        reached = found.point, found.residual, found.merit
        before = state.anchor, state.anchor_residual, state.anchor_merit
        anchor, anchor_residual, anchor_merit = where_rows(accepted, reached, before)
        improved = accepted & (found.norm < state.least_norm)
        dp = found.merit_difference
        merit_differences = () if dp is None else (dp, *state.merit_differences)
        return replace(
            state,
            z=anchor,
            point=found.point,
            residual=found.residual,
            accepted=accepted,
            anchor=anchor,
            anchor_residual=anchor_residual,
            anchor_merit=anchor_merit,
            anchor_norm=torch.where(accepted, found.norm, state.anchor_norm),
            best=where_rows(improved, reached, state.best),
            least_norm=torch.where(improved, found.norm, state.least_norm),
            point_differences=(found.point_difference, *state.point_differences)[:memory],
            residual_differences=(found.residual_difference, *state.residual_differences)[:memory],
            merit_differences=merit_differences[:memory],
            gram=bordered(gram_row, state.gram),
            right_hand_side=torch.where(used, right_hand_side, 0),
            sums=found.sums,
            request=None,
        )

    def _back_to_the_best(
        self, state: AndersonState, back: Tensor, misled: Tensor
    ) -> AndersonState:
        """Rows that leave extrapolations start from their best point, without columns; rows that
        were misled keep the newest column alone."""
        gram, right_hand_side = without_columns(state.gram, state.right_hand_side, back, misled)
        present = state.anchor, state.anchor_residual, state.anchor_merit
        anchor, anchor_residual, anchor_merit = where_rows(back, state.best, present)
        return replace(
            state,
            anchor=anchor,
            anchor_residual=anchor_residual,
            anchor_merit=anchor_merit,
            anchor_norm=torch.where(back, state.least_norm, state.anchor_norm),
            gram=gram,
            right_hand_side=right_hand_side,
            left=state.left + back,
        )
