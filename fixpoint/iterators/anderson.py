"""Anderson acceleration, type II, safeguarded (Walker & Ni, SIAM J. Numer. Anal. 2011; the
safeguard after Zhang, O'Donoghue & Boyd, SIAM J. Optim. 2020):

    z' = z - dZ gamma - beta r_min,    gamma = argmin ||r - dR gamma||,    r_min = r - dR gamma

with r = T z. Every row keeps an anchor, the last accepted point a with its residual r. Differences
(dZ, dR) are taken to the anchor, of refused points, too: every evaluation teaches a column. A
refused extrapolation is followed by the forward step a - beta r; `fixpoint.iterators.trials` says
when the next one is tried. A step costs one evaluation, whatever happens.

Lengths. Forward steps have the row's own beta: `mixing` at first; shorter after one that raised
the residual, and then at most 1.8 times the ratio b = <dz, dr> / ||dr||^2 that the next one shows,
since beta < 2 b is what a b-cocoercive T allows; never above `mixing`. Extrapolations take the step
along r_min as long as the secant of the last one says, ||dz|| / ||dr||, at least the row's beta:
that scales with T, and makes new columns as large as old ones, which keeps the least squares well
conditioned. On linear problems with full memory it then needs the evaluations of GMRES. Without
the safeguard it is beta, as in the textbook.

Safeguard. With r_a the residual at the anchor, an extrapolation z' stands if

    ||T z'|| <= (1 - delta) ||r_a||    or    ||T z'|| <= s_n = D ||T z^0|| (n + 1)^-1.1,

n counting those accepted by s_n alone, and if ||z' - a|| <= L ||r_a||. Of rises, only those are
accepted that the model foresees, ||T z'|| <= 10 ||r_min||, or that a row risks when nothing else
helped, and none above `largest_rise` times the least residual.

Where T is beta-cocoercive with a zero and mixing < 2 beta, the least residual tends to 0. Forward
steps raise no residual then. So the residuals b_k at which extrapolations start obey
b_{k+1} <= (1 - delta) b_k + s_k, and sum b_k <= (b_0 + sum s_k) / delta: s_n is summable. All
extrapolations move the row by at most L sum b_k. If forward steps are infinitely many, they are a
Krasnoselskii-Mann iteration with summable errors (Combettes, 2001); else b_k -> 0. Where the row
goes back to its best point for the n-th time, that is at most D_0 + n c from a zero; q^n steps
follow, q > 1, which bring the residual to (D_0 + n c) / (beta q^(n/2)); or it fell to a tenth.

Where an evaluation of T yields more than T z, gamma may minimize that instead: the deviation
p = Q(D(z)) - x of a decoded picture, say, with T z = E(x + p) - E(x). The steps still go along T,
the weights come from the data: a nonlinear AB-GMRES (Hayami, Yin & Ito, SIAM J. Matrix Anal. Appl.
2010), with the encoder for B. Then it is ||p|| that is compared, and beta only ever shrinks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.iterator import Iterator, State
from fixpoint.iterators.least_squares import (
    bordered,
    model_norm,
    weights_of,
    without_columns,
)
from fixpoint.iterators.trials import FORWARD_RISE, Trials
from fixpoint.operator import Operator
from fixpoint.trees.rows import where_rows

_DECREASE = 1e-3  # delta
_SUMMABLE = 1e3  # D
_LONGEST = 1e8  # L, in lengths of the row's own steps
_FORESEEN = 10.0  # residual over that of the model, at most
_BOLD = 100.0  # length of a bold extrapolation, in forward steps, at most
_ROUNDING = 8 * torch.finfo(torch.float64).eps  # of the unit diagonal of the Gram matrix
_SAFE = 1.8  # of b, that a forward step takes


@dataclass(frozen=True)
class AndersonState(State):
    anchor: Float[Tensor, "batch *shape"]  # last accepted point
    anchor_residual: Float[Tensor, "batch *shape"]  # T at the anchor
    anchor_merit: Tensor | None  # what is minimized there, where that is not T
    anchor_norm: Float[Tensor, " batch"]  # the norm of what is minimized there
    best: tuple[Tensor, Tensor, Tensor | None]  # the anchor of the least norm, T and merit there
    least_norm: Float[Tensor, " batch"]  # that norm
    first_norm: Float[Tensor, " batch"]  # the norm at the start
    mixing: Float[Tensor, " batch"]  # beta of the row's forward steps
    length: Float[Tensor, " batch"]  # and of its extrapolations
    trials: Trials
    point_differences: tuple[Tensor, ...]  # dZ, newest first
    residual_differences: tuple[Tensor, ...]  # dR, newest first
    merit_differences: tuple[Tensor, ...]  # of what is minimized, where that is not T
    gram: Float[Tensor, "batch memory memory"]  # dR^T dR
    right_hand_side: Float[Tensor, "batch memory"]  # dR^T r at the anchor
    rises: Int[Tensor, " batch"]  # n, extrapolations accepted by the summable bound
    failures: Int[Tensor, " batch"]  # forward steps refused one after the other
    rejected_residual: Int[Tensor, " batch"]  # points refused: residual too large
    rejected_nonfinite: Int[Tensor, " batch"]  # points refused: NaN or infinity
    rejected_weights: Int[Tensor, " batch"]  # extrapolations with columns left out
    shortened: Int[Tensor, " batch"]  # forward steps too long: the mixing shrank
    left: Int[Tensor, " batch"]  # returns to the best point: extrapolations got nowhere


class _Tried(NamedTuple):
    """A point, T there, and what is known of the step that led to it."""

    point: Tensor
    residual: Tensor
    merit: Tensor | None
    dz: Tensor  # point - anchor, and the like
    dr: Tensor
    dp: Tensor | None
    row: kernels.GramRow  # of what is minimized
    sums: kernels.RowSums
    step: Tensor  # ||dz||^2
    norm: Tensor  # of what is minimized
    finite: Tensor  # all of it
    usable: Tensor  # the differences are finite


@dataclass(frozen=True, kw_only=True)
class Anderson(Iterator[AndersonState]):
    """Safeguarded Anderson acceleration of the forward step, each row on its own.

    Args:
        memory: remembered differences, at least 1; no more than a row has elements are used.
        mixing: beta, the step of the underlying forward step.
        regularization: added to the unit diagonal of the scaled normal equations; raised to the
            rounding level of float64 where it is below.
        safeguard: refuse points by their residual, and leave extrapolations that get nowhere.
        shrink: factor on a row's mixing after a forward step that raised the residual (or what is
            minimized instead), in (0, 1]; 1 keeps it, and accepts every forward step.
        largest_weight: the oldest differences are left out until no weight is above it.
        largest_rise: residual of an extrapolation over the least one, at most; 1 accepts no rise.
        patience: evaluations without progress until extrapolations are left; at least as many as
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
        residual, merit = self._evaluate(operator, z)
        norm = kernels.row_norm(residual if merit is None else merit).double()
        none = torch.zeros_like(norm, dtype=torch.long)
        return AndersonState(
            z=z,
            point=z,
            residual=residual,
            accepted=torch.ones_like(norm, dtype=torch.bool),
            anchor=z,
            anchor_residual=residual,
            anchor_merit=merit,
            anchor_norm=norm,
            best=(z, residual, merit),
            least_norm=norm,
            first_norm=norm,
            mixing=torch.full_like(norm, self.mixing),
            length=torch.full_like(norm, self.mixing),
            trials=Trials.first(norm),
            point_differences=(),
            residual_differences=(),
            merit_differences=(),
            gram=norm.new_zeros(len(norm), 0, 0),
            right_hand_side=norm.new_zeros(len(norm), 0),
            rises=none,
            failures=none,
            rejected_residual=none,
            rejected_nonfinite=none,
            rejected_weights=none,
            shortened=none,
            left=none,
        )

    def step(self, operator: Operator, state: AndersonState) -> AndersonState:
        weights, left_out = weights_of(
            state.gram,
            state.right_hand_side,
            max(self.regularization, _ROUNDING),
            self.largest_weight,
        )
        wait = (state.trials.wait > 0) if self.safeguard else state.trials.resting
        extrapolated = ~wait & (weights != 0).any(1)
        weights = torch.where(extrapolated.unsqueeze(1), weights, 0)
        tried = self._try(operator, state, weights, extrapolated)
        model = model_norm(state.gram, state.right_hand_side, weights, state.anchor_norm)
        accepted, risen = self._judge(state, tried, extrapolated, model)
        following = self._remember(state, tried, accepted)
        mixing, length, too_long, failures = self._lengths(
            state, tried, extrapolated, accepted, model, weights
        )
        trials, back = state.trials, torch.zeros_like(accepted)
        if self.safeguard:
            patience = max(self.patience, following.gram.shape[1])
            trials, back = trials.after(extrapolated, accepted, tried.norm, patience)
            # Columns of another quantity than T do not mislead T: they stay.
            misled = extrapolated & ~accepted & (tried.merit is None)
            gram, right_hand_side = without_columns(
                following.gram, following.right_hand_side, back, misled
            )
            following = replace(following, gram=gram, right_hand_side=right_hand_side)
        present = following.anchor, following.anchor_residual, following.anchor_merit
        anchor, anchor_residual, anchor_merit = where_rows(back, following.best, present)
        return replace(
            following,
            anchor=anchor,
            anchor_residual=anchor_residual,
            anchor_merit=anchor_merit,
            anchor_norm=torch.where(back, following.least_norm, following.anchor_norm),
            mixing=mixing,
            length=length,
            trials=trials,
            rises=state.rises + risen,
            failures=failures,
            rejected_residual=state.rejected_residual + (tried.finite & ~accepted),
            rejected_nonfinite=state.rejected_nonfinite + ~tried.finite,
            rejected_weights=state.rejected_weights + (~wait & left_out),
            shortened=state.shortened + too_long,
            left=state.left + back,
        )

    def statistics(self, state: AndersonState) -> dict[str, Tensor]:
        return {
            "rejected_residual": state.rejected_residual,
            "rejected_nonfinite": state.rejected_nonfinite,
            "rejected_weights": state.rejected_weights,
            "shortened": state.shortened,
            "left": state.left,
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

    def _try(
        self, operator: Operator, state: AndersonState, weights: Tensor, extrapolated: Tensor
    ) -> _Tried:
        """The next point, evaluated, and what it teaches."""
        # More differences than dimensions are dependent, and their weights are rounding.
        older = min(self.memory, math.prod(state.z.shape[1:])) - 1
        done = None if state.request is None else state.request.done
        point, dz, mixed = kernels.anderson_mix(
            state.anchor,
            state.anchor_residual,
            state.point_differences,
            state.residual_differences,
            weights,
            torch.where(extrapolated, state.length, state.mixing),
            done=done,
        )
        residual, merit = self._evaluate(operator, point)
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
        norm = row.value.sqrt()
        step = mixed.difference
        return _Tried(point, residual, merit, dz, dr, dp, row, sums, step, norm, finite, usable)

    def _judge(
        self, state: AndersonState, tried: _Tried, extrapolated: Tensor, model: Tensor
    ) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Which points are accepted, and which of them by the summable bound alone."""
        if not self.safeguard:
            return tried.finite, torch.zeros_like(tried.finite)
        norm, anchor = tried.norm, state.anchor_norm
        step, forward = tried.step.sqrt(), state.mixing * anchor
        lowered = norm <= (1 - _DECREASE) * anchor
        bound = _SUMMABLE * state.first_norm * (state.rises + 1.0) ** -1.1
        bounded = (norm <= bound) & (norm <= self.largest_rise * state.least_norm)
        foreseen = norm <= _FORESEEN * model
        dared = state.trials.bold & (step <= _BOLD * forward)
        near = step <= _LONGEST * torch.maximum(forward, state.length * anchor)
        risen = ~lowered & bounded & (foreseen | dared)
        stands = near & (lowered | risen)
        # T's own rounding may raise the residual where nothing else is left of it.
        short = norm <= (1 + 1e-9) * torch.maximum(FORWARD_RISE * state.least_norm, anchor)
        walks = short if self.shrink < 1 else torch.ones_like(short)
        accepted = tried.finite & torch.where(extrapolated, stands, walks)
        return accepted, accepted & extrapolated & risen

    def _lengths(
        self,
        state: AndersonState,
        tried: _Tried,
        extrapolated: Tensor,
        accepted: Tensor,
        model: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """beta of forward steps and of extrapolations, which forward steps were too long, and how
        many were refused in a row."""
        raised = ~(tried.norm <= (1 + 1e-9) * state.anchor_norm)
        too_long = ~extrapolated & raised & (self.shrink < 1)
        refused = ~extrapolated & ~accepted
        failures = torch.where(refused, state.failures + 1, 0)
        failures = torch.where(extrapolated, state.failures, failures)
        # Shorter and ever shorter: by 1, 2, 4, ... powers of `shrink` where steps are refused.
        power = 2.0 ** (failures - 1).clamp(0, 5).double()
        shrunk = state.mixing * self.shrink ** torch.where(refused, power, 1.0)
        if tried.merit is not None:
            mixing = torch.where(too_long, shrunk, state.mixing)
            return mixing, torch.minimum(mixing, state.length), too_long, failures
        moved = tried.row.newest[:, 0]
        ratio = -state.mixing * tried.row.at_anchor / moved
        safe = torch.where((ratio > 0) & ratio.isfinite(), _SAFE * ratio, torch.inf)
        fell = ~extrapolated & accepted & ~raised
        grown = torch.where(moved > 0, torch.maximum(safe, state.mixing), 2 * state.mixing)
        grown = grown.clamp(max=self.mixing)
        mixing = torch.where(fell, grown, state.mixing)
        shrunk = torch.where(accepted, torch.minimum(shrunk, safe), shrunk)
        mixing = torch.where(too_long, shrunk, mixing)
        # ||z' - (a - dZ gamma)|| over ||T z' - r_min||: the secant of the step along r_min.
        older = tried.row.at_value[:, 1:]
        products = tried.row.at_anchor + state.anchor_norm.square()
        used = weights[:, : older.shape[1]]
        products = products - (used * older).sum(1)
        change = tried.norm.square() - 2 * products + model.square()
        known = (change > 1e-12 * state.anchor_norm.square()) & (model > 1e-6 * state.anchor_norm)
        # After a forward step r_min is r_a, and the change is the new difference itself.
        change = torch.where(extrapolated, change, moved)
        known = torch.where(extrapolated, known, moved > 0) & tried.usable
        size = torch.where(extrapolated, state.length, state.mixing)
        length = torch.where(known, size * model / change.clamp(min=0).sqrt(), state.length)
        length = torch.maximum(length, mixing) if self.safeguard else mixing
        return mixing, length, too_long, failures

    def _remember(self, state: AndersonState, tried: _Tried, accepted: Tensor) -> AndersonState:
        """The new anchor, the best one, and the columns with the new one in front."""
        memory = min(self.memory, math.prod(state.z.shape[1:]))
        row = tried.row
        # At a refused point the anchor stays, and its products with the older differences.
        at_anchor = torch.cat(
            (row.at_anchor.unsqueeze(1), state.right_hand_side[:, : memory - 1]), 1
        )
        right_hand_side = torch.where(accepted.unsqueeze(1), row.at_value, at_anchor)
        # A difference that is not finite was stored as one that the weights leave out.
        older_used = state.gram.diagonal(dim1=1, dim2=2)[:, : memory - 1] > 0
        used = torch.cat((tried.usable.unsqueeze(1), older_used), 1)
        gram_row = torch.where(used & tried.usable.unsqueeze(1), row.newest, 0)
        anchor = where_rows(accepted, tried.point, state.anchor)
        anchor_residual = where_rows(accepted, tried.residual, state.anchor_residual)
        anchor_merit = where_rows(accepted, tried.merit, state.anchor_merit)
        improved = accepted & (tried.norm < state.least_norm)
        best = where_rows(improved, (tried.point, tried.residual, tried.merit), state.best)
        merit_differences = () if tried.dp is None else (tried.dp, *state.merit_differences)
        return replace(
            state,
            z=anchor,
            point=tried.point,
            residual=tried.residual,
            accepted=accepted,
            anchor=anchor,
            anchor_residual=anchor_residual,
            anchor_merit=anchor_merit,
            anchor_norm=torch.where(accepted, tried.norm, state.anchor_norm),
            best=best,
            least_norm=torch.where(improved, tried.norm, state.least_norm),
            point_differences=(tried.dz, *state.point_differences)[:memory],
            residual_differences=(tried.dr, *state.residual_differences)[:memory],
            merit_differences=merit_differences[:memory],
            gram=bordered(gram_row, state.gram),
            right_hand_side=torch.where(used, right_hand_side, 0),
            sums=tried.sums,
            request=None,
        )
