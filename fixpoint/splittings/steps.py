"""What a splitting is made of: the backward and forward parts, and their steps.

A backward part A enters through its resolvent J_{sA} = (I + s A)^{-1}: a `proximal.Function` g, of
which A is the subdifferential and J_{sA} = prox_{s g}, any object with `prox(z, step)`, or, for a
monotone A that is no subdifferential, an `Operator` whose resolvent is known or any object with
`resolvent(step)`. A forward part B is evaluated: a smooth `Function`, through its gradient, or an
`Operator`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator
from fixpoint.proximal import Function, RowParameter


@runtime_checkable
class Proximable(Protocol):
    """`prox(z, step)`; may carry `strong_convexity`, `smoothness` and `select(rows)`."""

    def prox(self, z: Tensor, step: float, /) -> Tensor: ...


@runtime_checkable
class Resolvable(Protocol):
    """`resolvent(step)`, which returns the map J_{sA}; may carry `strong_monotonicity` and
    `cocoercivity`. If that map holds data of rows, it has a `select(rows)`."""

    def resolvent(self, step: float, /) -> Callable[[Tensor], Tensor]: ...


BackwardPart: TypeAlias = Function | Operator | Proximable | Resolvable
BackwardStep: TypeAlias = Callable[[Tensor], Tensor]
ForwardPart: TypeAlias = Function | Operator


@dataclass(frozen=True, eq=False)
class ProximalStep:
    """z -> prox_{s g}(z)."""

    part: Proximable
    step: float

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.part.prox(z, self.step)

    def select(self, rows: Tensor) -> ProximalStep:
        return ProximalStep(select_part(self.part, rows), self.step)


def backward_step(part: BackwardPart, step: float) -> BackwardStep:
    """J_{sA}, computed once: a resolvent may need a decomposition."""
    return ProximalStep(part, step) if isinstance(part, Proximable) else part.resolvent(step)


def forward(part: ForwardPart, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """B z."""
    return part.gradient(z) if isinstance(part, Function) else part(z)


def select_part(part: Any, rows: Tensor) -> Any:
    """A part on some rows; a tensor, or a part without `select`, holds no data of rows."""
    if isinstance(part, RowParameter):
        return RowParameter(part.tensor.index_select(0, rows.to(part.tensor.device)))
    if isinstance(part, tuple):
        return tuple(select_part(each, rows) for each in part)
    if isinstance(part, Tensor) or not hasattr(part, "select"):
        return part
    return part.select(rows)
