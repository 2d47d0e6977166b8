"""The network of a diffusion model under its prompts: m(x, timestep), row by row.

Classifier-free guidance (Ho and Salimans, 2022) is part of m: m = n + guidance (c - n), with c the
output for the prompt and n that for the negative prompt, both from one batched call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.trees.rows import map_rows, select_rows

Condition = dict[str, Tensor]
"""What a network takes besides x and the timestep: tensors with the batch first."""


class Network(Protocol):
    """m(x, timestep) for a batch of independent rows."""

    @property
    def evaluations(self) -> int:
        """Evaluations of the underlying network in one call, per row."""

    def __call__(
        self, x: Float[Tensor, "batch *latent"], timestep: float
    ) -> Float[Tensor, "batch *latent"]:
        """The output: shape, dtype and device of x."""

    def select(self, rows: Tensor) -> Network:
        """The same network for the rows with these indices."""


class PlainNetwork:
    """A function of (x, timestep, *per_row) as a `Network`.

    Args:
        function: returns the shape of x.
        per_row: tensors with the batch first that belong to the rows.
    """

    evaluations = 1

    def __init__(self, function: Callable[..., Tensor], *per_row: Tensor) -> None:
        self.function = function
        self.per_row = per_row

    def __call__(self, x: Tensor, timestep: float) -> Tensor:
        return self.function(x, timestep, *self.per_row)

    def select(self, rows: Tensor) -> PlainNetwork:
        return PlainNetwork(self.function, *select_rows(self.per_row, rows))


def as_network(network: Network | Callable[..., Tensor]) -> Network:
    """A `Network` as it is, or a function of (x, timestep) made one.

    Raises:
        TypeError: it is not callable.
    """
    if hasattr(network, "select") and hasattr(network, "evaluations"):
        return network
    if not callable(network):
        raise TypeError(f"a network is called with (x, timestep); got {type(network).__name__}")
    return PlainNetwork(network)


class ConditionedNetwork:
    """The network of a pipeline, conditioned on one prompt for all rows or one for each row.

    Args:
        function: maps (x, timestep, condition) to the output, in the network's own dtype.
        condition: one row for all rows of x, or one for each.
        negative: the condition of the negative prompt, likewise; None without guidance.
        guidance: the weight, above 1 where `negative` is given.
        dtype: of the network. Latents keep theirs.

    Raises:
        ValueError: at a call, if there are neither one prompt nor as many as rows.
    """

    def __init__(
        self,
        function: Callable[[Tensor, float, Condition], Tensor],
        condition: Condition,
        negative: Condition | None,
        guidance: float,
        dtype: torch.dtype,
    ) -> None:
        self.function = function
        self.condition = condition
        self.negative = negative
        self.guidance = guidance
        self.dtype = dtype

    @property
    def evaluations(self) -> int:
        return 1 if self.negative is None else 2

    @torch.no_grad()
    def __call__(self, x: Tensor, timestep: float) -> Tensor:
        inner = x.to(self.dtype)
        condition = _for_rows(self.condition, len(x))
        if self.negative is None:
            return self.function(inner, timestep, condition).to(x.dtype)
        negative = _for_rows(self.negative, len(x))
        both = map_rows(lambda *pair: torch.cat(pair), negative, condition)
        found = self.function(torch.cat((inner, inner)), timestep, both).to(x.dtype)
        away, towards = found.chunk(2)
        return away + self.guidance * (towards - away)

    def select(self, rows: Tensor) -> ConditionedNetwork:
        selected = copy.copy(self)
        selected.condition = _selected(self.condition, rows)
        selected.negative = None if self.negative is None else _selected(self.negative, rows)
        return selected


def _rows(condition: Condition) -> int:
    """The number of rows of a condition; 1 stands for any number."""
    return len(next(iter(condition.values()))) if condition else 1


def _for_rows(condition: Condition, rows: int) -> Condition:
    given = _rows(condition)
    if given == rows:
        return condition
    if given != 1:
        raise ValueError(f"{given} prompts for {rows} rows: give one prompt, or one for each row")
    return {name: value.expand(rows, *value.shape[1:]) for name, value in condition.items()}


def _selected(condition: Condition, rows: Tensor) -> Any:
    return condition if _rows(condition) == 1 else select_rows(condition, rows)
