"""The problem: a batched operator T whose zero is sought."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fixpoint.constants.constants import Constants as Constants
from fixpoint.distribution_clash import warn_of_clash
from fixpoint.operator_algebra import OperatorAlgebra
from fixpoint.trees.rows import select_rows

warn_of_clash()  # here, since another distribution may have overwritten fixpoint/__init__.py


class Operator(OperatorAlgebra, ABC):
    """A map T on a batch of independent rows; `solve` looks for z with T z = 0.

    The constants are lower bounds (`cocoercivity`, `strong_monotonicity`) or upper bounds
    (`lipschitz`, `averagedness`) that hold for every row, in the Euclidean norm of a row; None
    means not known.

    - `cocoercivity` beta: `<T a - T b, a - b> >= beta ||T a - T b||^2`
    - `lipschitz` L: `||T a - T b|| <= L ||a - b||`
    - `strong_monotonicity` mu: `<T a - T b, a - b> >= mu ||a - b||^2`; below 0 where T is not
      known to be monotone: it is (-mu)-hypomonotone then, and T - mu I is monotone
    - `averagedness` theta: `I - T = (1 - theta) I + theta N` with N nonexpansive; above 1, I - T is
      averaged conically

    Operations on operators give operators, with the constants that follow: `2 * T`, `T + S`,
    `T - b`, `T @ S`, `T.complement`, `T.resolvent(step)` and the other methods of
    `OperatorAlgebra`.
    """

    cocoercivity: float | None = None
    lipschitz: float | None = None
    strong_monotonicity: float | None = None
    averagedness: float | None = None

    @abstractmethod
    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """T z: same shape, dtype and device as `z`; row i depends on row i of `z` alone."""

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        """T z, and what was measured per row on the way, every tensor with the batch first.

        Override it where an evaluation yields more than T z, as the pixel misfit of a decoder.
        Stop rules, monitors and iterators read it; numbers, (batch,), stand in the history.
        """
        return self(z), {}

    @abstractmethod
    def select(self, rows: Tensor) -> Operator:
        """The same problem on the rows with these indices, in that order."""


class FunctionOperator(Operator):
    """T from a callable and the per-row tensors it takes after z; see `as_operator`."""

    def __init__(
        self, function: Callable[..., Tensor], per_row: tuple[Tensor, ...], constants: Constants
    ) -> None:
        self.function = function
        self.per_row = per_row
        self.constants = constants
        self.cocoercivity = constants.cocoercivity
        self.lipschitz = constants.lipschitz
        self.strong_monotonicity = constants.strong_monotonicity
        self.averagedness = constants.averagedness
        self.batch = 0

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        self.batch = _batch(z)
        for tensor in self.per_row:
            if tensor.shape[:1] != (self.batch,):
                raise ValueError(
                    f"a per-row tensor has shape {tuple(tensor.shape)}, but the batch is "
                    f"{self.batch}: its first dimension must be the batch"
                )
        return self.function(z, *self.per_row)

    def select(self, rows: Tensor) -> Operator:
        if self.per_row:
            return FunctionOperator(self.function, select_rows(self.per_row, rows), self.constants)
        return _RowsOfFunction(self.function, rows, self.batch, self.constants)


class _RowsOfFunction(FunctionOperator):
    """Some rows of a callable without declared per-row tensors.

    The callable is tried on these rows alone. If the result has another shape, the callable closes
    over tensors of the full batch, and is evaluated on a full batch: correct, but no cheaper.
    """

    def __init__(
        self, function: Callable[..., Tensor], rows: Tensor, batch: int, constants: Constants
    ) -> None:
        super().__init__(function, (), constants)
        self.rows = rows
        self.full_batch = batch
        self.closes_over_batch = False

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        if not self.closes_over_batch:
            try:
                value = self.function(z)
                shapes, expected = (tree_map(lambda leaf: leaf.shape, tree) for tree in (value, z))
                problem = f"it returned {shapes}"
                if shapes == expected:
                    return value
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, IndexError, ValueError) as error:
                if not self.full_batch:  # never evaluated on all rows: no batch to fall back to
                    raise
                problem = str(error)
            warnings.warn(
                f"the wrapped function cannot be evaluated on {_batch(z)} of its rows alone "
                f"({problem}); finished rows stay in every evaluation. Pass the per-row tensors "
                "it closes over as as_operator(function, tensor, ...)",
                UserWarning,
                stacklevel=2,
            )
            self.closes_over_batch = True
        size = max(self.full_batch, _batch(z))

        def full(leaf: Tensor) -> Tensor:
            rows = self.rows.to(leaf.device)
            return leaf[:1].expand(size, *leaf.shape[1:]).index_copy(0, rows, leaf)

        return select_rows(self.function(tree_map(full, z)), self.rows)

    def select(self, rows: Tensor) -> Operator:
        selected = _RowsOfFunction(
            self.function, self.rows[rows.to(self.rows.device)], self.full_batch, self.constants
        )
        selected.closes_over_batch = self.closes_over_batch
        return selected


def _batch(z: Any) -> int:
    """The number of rows of a tensor, or of the tensors of a tree."""
    return len(z) if isinstance(z, Tensor) else len(tree_leaves(z)[0])


def as_operator(
    function: Callable[..., Tensor],
    *per_row: Tensor,
    cocoercivity: float | None = None,
    lipschitz: float | None = None,
    strong_monotonicity: float | None = None,
    averagedness: float | None = None,
) -> Operator:
    """The operator T z = function(z, *per_row).

    Args:
        function: takes z of shape (batch, *shape) and the per-row tensors; returns T z, same shape.
            Or a tuple or dict of such tensors, to one of the same structure.
        per_row: tensors with the batch first that belong to the rows (data, targets). Declared
            here they leave the batch together with their rows; a tensor that `function` merely
            closes over keeps finished rows in every evaluation.
        cocoercivity, lipschitz, strong_monotonicity, averagedness: constants, where known.

    Raises:
        TypeError: `function` is not callable. ValueError: a constant is out of range, or they
            contradict each other.
    """
    from fixpoint.constants.region import Region

    constants = Constants(cocoercivity, lipschitz, strong_monotonicity, averagedness)
    Region.of(constants)  # refuses constants that contradict each other
    if isinstance(function, Operator):
        if per_row or constants != Constants():
            raise TypeError(
                "this is an Operator already: per-row tensors and constants belong to the "
                "function it was made from"
            )
        return function
    if not callable(function):
        raise TypeError(f"as_operator takes a callable, got {type(function).__name__}")
    return FunctionOperator(function, per_row, constants)


def fixed_point_of(
    function: Callable[..., Tensor], *per_row: Tensor, lipschitz: float | None = None
) -> Operator:
    """T = I - G: the zeros of T are the fixed points of the map G.

    Args:
        function: G, from z of shape (batch, *shape) and the per-row tensors to the shape of z.
        per_row: see `as_operator`.
        lipschitz: Lipschitz constant L of G, where known. For L <= 1, T is 1/(1 + L)-cocoercive
            and (1 - L)-strongly monotone (Ryu & Yin, Large-Scale Convex Optimization, 2022,
            section 2.2: the disc of radius L about 1).
    """
    if lipschitz is not None and not lipschitz >= 0:
        raise ValueError(f"lipschitz must be at least 0, got {lipschitz}")
    if not callable(function):
        raise TypeError(f"fixed_point_of takes a callable, got {type(function).__name__}")
    constants: dict[str, float] = {}
    if lipschitz is not None:
        constants["lipschitz"] = 1 + lipschitz
        if lipschitz <= 1:
            constants["cocoercivity"] = 1 / (1 + lipschitz)
            constants["strong_monotonicity"] = 1 - lipschitz
            constants["averagedness"] = (1 + lipschitz) / 2

    def residual(z: Any, *data: Tensor) -> Any:
        value = function(z, *data)
        if isinstance(z, Tensor) and value.shape != z.shape:  # z - value would broadcast
            raise ValueError(
                f"G returned shape {tuple(value.shape)} for z of shape {tuple(z.shape)}: it must "
                "return the shape of its argument"
            )
        return z - value

    return as_operator(residual, *per_row, **constants)
