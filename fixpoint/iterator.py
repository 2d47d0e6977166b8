"""The method: turns one state into the next, and knows neither loop nor stopping rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator
from fixpoint.rows import select_rows


class TheoremWarning(UserWarning):
    """A hyper-parameter lies outside what the method's theorem allows for this operator."""


@dataclass(frozen=True)
class State:
    """What a run knows: tensors with the batch first, and numbers shared by all rows."""

    z: Float[Tensor, "batch *shape"]  # the iterate
    point: Float[Tensor, "batch *shape"]  # where T was evaluated last
    residual: Float[Tensor, "batch *shape"]  # T at `point`

    def select(self: StateT, rows: Tensor) -> StateT:
        """The state of the rows with these indices, in that order."""
        return select_rows(self, rows)


StateT = TypeVar("StateT", bound=State)


class Iterator(ABC, Generic[StateT]):
    """A method for finding a zero of an operator.

    Subclasses are frozen dataclasses of hyper-parameters, checked in `__post_init__`. Rows never
    meet: whatever `step` computes for a row depends on that row alone.
    """

    @abstractmethod
    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> StateT:
        """The first state, with T evaluated at `z`."""

    @abstractmethod
    def step(self, operator: Operator, state: StateT) -> StateT:
        """The next state. `state` is left untouched."""

    def statistics(self, state: StateT) -> dict[str, Tensor]:
        """Counts per row worth telling the user, as how often a safeguard stepped in."""
        return {}
