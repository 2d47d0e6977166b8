"""The method: it turns one state into the next, and knows neither loop nor stop rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.kernels import RowSums
from fixpoint.operator import Operator
from fixpoint.summary import Summarised
from fixpoint.trees.rows import select_rows


class TheoremWarning(UserWarning):
    """A hyper-parameter lies outside what the method's theorem allows for this operator."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the loop wants from the next step. A method may ignore it; using it saves passes."""

    pairs: bool = False  # monitors want the sums of successive points
    done: Bool[Tensor, " batch"] | None = None  # rows that have ended and not left yet
    last: bool = False  # no further step follows


@dataclass(frozen=True)
class State(Summarised):
    """What a run knows: tensors with the batch first, and numbers shared by all rows.

    A safeguarded method may refuse the point where it evaluated T last. Then `accepted` is False
    in that row, `point` and `residual` are those of the refused trial, and `z` is still the iterate
    that was accepted before. Stop rules and the best point go by accepted iterates alone.

    Methods whose update is one fused pass make the next update as soon as T is known: that pass
    also yields the sums of this iterate, `sums`. If there are none, the loop computes them.
    """

    z: Float[Tensor, "batch *shape"]  # the iterate
    point: Float[Tensor, "batch *shape"]  # where T was evaluated last
    residual: Float[Tensor, "batch *shape"]  # T at `point`
    sums: RowSums | None = field(default=None, kw_only=True)  # of `point` and `residual`
    request: Request | None = field(default=None, kw_only=True)  # set by the loop
    accepted: Bool[Tensor, " batch"] | None = field(default=None, kw_only=True)  # None: all are

    def select(self: StateT, rows: Tensor) -> StateT:
        """The state of the rows with these indices, in that order."""
        return select_rows(self, rows)

    def asked(self) -> dict[str, Any]:
        """The request of the loop as keyword arguments of an update's kernel."""
        if self.request is None:
            return {}
        previous = (self.point, self.residual) if self.request.pairs else None
        return {"previous": previous, "done": self.request.done}


StateT = TypeVar("StateT", bound=State)


class Iterator(ABC, Generic[StateT]):
    """A method for finding a zero of an operator.

    Subclasses are frozen dataclasses of hyper-parameters, checked in `__post_init__`. Rows are
    independent: what `step` computes for a row depends on that row alone.
    """

    @abstractmethod
    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> StateT:
        """The first state, with T evaluated at `z`."""

    @abstractmethod
    def step(self, operator: Operator, state: StateT) -> StateT:
        """The next state. `state` is left untouched."""

    def statistics(self, state: StateT) -> dict[str, Tensor]:
        """Counts per row for the user, as how often a safeguard refused a point."""
        return {}
