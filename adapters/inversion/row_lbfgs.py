"""Limited-memory BFGS (Nocedal, Math. Comp. 1980; Nocedal & Wright, Numerical Optimization,
algorithms 7.4 and 3.1), every row of a batch on its own:

    z' = z + t d,    d = -H g,    s = z' - z,    y = g' - g

with H g from the two-loop recursion over the last pairs (s, y), H_0 = <s, y> / <y, y>. The length t
starts at 1 and is cut back by quadratic interpolation until f(z') <= f(z) + c t <g, d> (Armijo). A
row without pairs starts at min(1, 1 / ||g||_1) along -g, as torch.optim.LBFGS does. Armijo's
condition does not make <s, y> positive, so a pair without positive curvature is left out.

The caller evaluates: `advance` takes f and its gradient at the state's `trial` and says where they
are wanted next. Rows that moved on and rows whose trial was refused share that evaluation, and
each evaluation, also of a refused trial, is one call of `advance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.trees.rows import expand_rows, where_rows


@dataclass(frozen=True)
class RowLBFGSState:
    trial: Float[Tensor, "batch *shape"]  # where f and its gradient are wanted next
    iterate: Float[Tensor, "batch *shape"]  # z, the last accepted trial
    value: Float[Tensor, " batch"]  # f at the iterate
    gradient: Float[Tensor, "batch *shape"]  # g at the iterate
    direction: Float[Tensor, "batch *shape"]  # d
    slope: Float[Tensor, " batch"]  # <g, d>
    length: Float[Tensor, " batch"]  # t of the trial
    refused: Int[Tensor, " batch"]  # trials refused along this direction
    steps: Float[Tensor, "batch memory *shape"]  # s, newest first; zero where there is none yet
    changes: Float[Tensor, "batch memory *shape"]  # y
    curvatures: Float[Tensor, "batch memory"]  # <s, y>; zero where there is no pair yet


@dataclass(frozen=True, kw_only=True)
class RowLBFGS:
    """L-BFGS with Armijo backtracking; rows never meet.

    Args:
        memory: remembered pairs, at least 1.
        decrease: c of Armijo's condition.
        least_curvature: a pair is remembered if `<s, y> > least_curvature ||s|| ||y||`.
        patience: after so many refusals along one direction the row forgets its pairs and starts
            again along its gradient.
    """

    memory: int = 10
    decrease: float = 1e-4
    least_curvature: float = 1e-6
    patience: int = 10

    def __post_init__(self) -> None:
        for name in ("memory", "patience"):
            number = getattr(self, name)
            if not (isinstance(number, int) and number >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {number}")
        if not 0 < self.decrease < 0.5:
            raise ValueError(f"decrease must lie in (0, 0.5), got {self.decrease}")
        if not 0 <= self.least_curvature < 1:
            raise ValueError(f"least_curvature must lie in [0, 1), got {self.least_curvature}")

    def init(self, z: Float[Tensor, "batch *shape"]) -> RowLBFGSState:
        """The state whose first trial is `z`; it is accepted if f and its gradient are finite."""
        zero = torch.zeros_like(z)
        none = kernels.row_dot(zero, zero)
        pairs = z.new_zeros(len(z), self.memory, *z.shape[1:])
        return RowLBFGSState(
            trial=z,
            iterate=z,
            value=torch.full_like(none, torch.inf),
            gradient=zero,
            direction=zero,
            slope=none,
            length=none,
            refused=torch.zeros_like(none, dtype=torch.long),
            steps=pairs,
            changes=pairs,
            curvatures=none.new_zeros(len(z), self.memory),
        )

    def advance(
        self,
        state: RowLBFGSState,
        value: Float[Tensor, " batch"],
        gradient: Float[Tensor, "batch *shape"],
    ) -> RowLBFGSState:
        """The next state, from f and its gradient at `state.trial`; `state` is left untouched.

        What is not finite is refused like what is too high.
        """
        value = value.to(state.value.dtype)
        finite = value.isfinite() & kernels.row_dot(gradient, gradient).isfinite()
        bound = state.value + self.decrease * state.length * state.slope
        accepted = finite & (value <= bound)
        state = where_rows(accepted, self._moved(state, value, gradient), _cut_back(state, value))
        worn_out = (state.refused >= self.patience) | ~(state.slope < 0)
        state = where_rows(worn_out, _started_again(state), state)
        length = expand_rows(state.length, state.direction).to(state.direction.dtype)
        return replace(state, trial=state.iterate + length * state.direction)

    def _moved(self, state: RowLBFGSState, value: Tensor, gradient: Tensor) -> RowLBFGSState:
        """From the accepted trial, with its pair if it is fit, along a new direction."""
        s, y = state.trial - state.iterate, gradient - state.gradient
        curvature = kernels.row_dot(s, y)
        least = self.least_curvature * kernels.row_norm(s) * kernels.row_norm(y)
        fit = curvature.isfinite() & (curvature > least)
        steps, changes, curvatures = where_rows(
            fit,
            (
                _pushed(s, state.steps),
                _pushed(y, state.changes),
                _pushed(curvature, state.curvatures),
            ),
            (state.steps, state.changes, state.curvatures),
        )
        direction = -two_loop(gradient, steps, changes, curvatures)
        return replace(
            state,
            iterate=state.trial,
            value=value,
            gradient=gradient,
            direction=direction,
            slope=kernels.row_dot(gradient, direction),
            length=torch.where(curvatures[:, 0] > 0, 1, _careful_length(gradient)),
            refused=torch.zeros_like(state.refused),
            steps=steps,
            changes=changes,
            curvatures=curvatures,
        )


def two_loop(
    gradient: Float[Tensor, "batch *shape"],
    steps: Float[Tensor, "batch memory *shape"],
    changes: Float[Tensor, "batch memory *shape"],
    curvatures: Float[Tensor, "batch memory"],
) -> Float[Tensor, "batch *shape"]:
    """H g of every row (algorithm 7.4); H_0 is the identity where a row has no pair."""
    memory = int((curvatures > 0).sum(1).max()) if len(curvatures) else 0  # pairs there are yet
    q, weights = gradient, []
    for i in range(memory):
        weights.append(_ratio(kernels.row_dot(steps[:, i], q), curvatures[:, i]))
        q = q - _times(weights[i], changes[:, i])
    square = kernels.row_dot(changes[:, 0], changes[:, 0])
    q = _times(torch.where(curvatures[:, 0] > 0, curvatures[:, 0] / square, 1), q)
    for i in reversed(range(memory)):
        weight = _ratio(kernels.row_dot(changes[:, i], q), curvatures[:, i])
        q = q + _times(weights[i] - weight, steps[:, i])
    return q


def _cut_back(state: RowLBFGSState, value: Tensor) -> RowLBFGSState:
    """The same direction, shorter: where the parabola through f and <g, d> at the iterate and f
    at the trial is lowest, kept between a tenth and a half of the last length."""
    rise = value - state.value - state.slope * state.length
    lowest = -state.slope * state.length * state.length / (2 * rise)
    half, tenth = 0.5 * state.length, 0.1 * state.length
    length = torch.where(lowest.isfinite(), lowest, half).maximum(tenth).minimum(half)
    return replace(state, length=length, refused=state.refused + 1)


def _started_again(state: RowLBFGSState) -> RowLBFGSState:
    """No pairs, along the gradient."""
    return replace(
        state,
        direction=-state.gradient,
        slope=-kernels.row_dot(state.gradient, state.gradient),
        length=_careful_length(state.gradient),
        refused=torch.zeros_like(state.refused),
        steps=torch.zeros_like(state.steps),
        changes=torch.zeros_like(state.changes),
        curvatures=torch.zeros_like(state.curvatures),
    )


def _careful_length(gradient: Tensor) -> Float[Tensor, " batch"]:
    """min(1, 1 / ||g||_1): no element moves by more than 1, and all together by no more."""
    return (1 / kernels.row_dot(gradient.abs(), torch.ones_like(gradient))).clamp(max=1)


def _pushed(newest: Tensor, older: Tensor) -> Tensor:
    return torch.cat((newest.unsqueeze(1), older[:, :-1]), 1)


def _ratio(a: Tensor, curvature: Tensor) -> Tensor:
    """a / <s, y>, and 0 where there is no pair."""
    return torch.where(curvature > 0, a / curvature, 0)


def _times(numbers: Float[Tensor, " batch"], rows: Tensor) -> Tensor:
    return expand_rows(numbers, rows).to(rows.dtype) * rows
