"""Operators that wrap another one: to record its calls, or to change its values or its rows."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows


class Wrapped(Operator):
    """The same map with the same constants; subclasses change a part."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.cocoercivity = operator.cocoercivity
        self.lipschitz = operator.lipschitz
        self.strong_monotonicity = operator.strong_monotonicity
        self.averagedness = operator.averagedness

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.operator(z)

    def select(self, rows: Tensor) -> Operator:
        return type(self)(self.operator.select(rows))


class Undeclared(Wrapped):
    """The same map without declared constants."""

    def __init__(self, operator: Operator) -> None:
        super().__init__(operator)
        self.cocoercivity = self.lipschitz = None
        self.strong_monotonicity = self.averagedness = None


class Recorded(Wrapped):
    """The same map; `calls` keeps the arguments of all calls."""

    def __init__(self, operator: Operator, calls: list[Tensor] | None = None) -> None:
        super().__init__(operator)
        self.calls: list[Tensor] = [] if calls is None else calls

    def __call__(self, z: Tensor) -> Tensor:
        self.calls.append(z)
        return self.operator(z)

    def select(self, rows: Tensor) -> Operator:
        return Recorded(self.operator.select(rows), self.calls)


class NaNRows(Wrapped):
    """The same map with NaN as the value in the rows of a mask (batch,)."""

    def __init__(self, operator: Operator, bad: Tensor) -> None:
        super().__init__(operator)
        self.bad = bad

    def __call__(self, z: Tensor) -> Tensor:
        return self.operator(z).masked_fill(expand_rows(self.bad, z), float("nan"))

    def select(self, rows: Tensor) -> Operator:
        return NaNRows(self.operator.select(rows), self.bad[rows])


class Reshaped(Wrapped):
    """The same map on rows of any shape; T is given rows of `shape`."""

    def __init__(self, operator: Operator, shape: tuple[int, ...]) -> None:
        super().__init__(operator)
        self.shape = shape

    def __call__(self, z: Tensor) -> Tensor:
        return self.operator(z.reshape(z.shape[0], *self.shape)).reshape(z.shape)

    def select(self, rows: Tensor) -> Operator:
        return Reshaped(self.operator.select(rows), self.shape)


class Moved(Wrapped):
    """scale T((z - shift) / scale): the zeros move with scale and shift, the constants stay."""

    def __init__(self, operator: Operator, shift: Tensor, scale: float = 1.0) -> None:
        super().__init__(operator)
        self.shift, self.scale = shift, scale

    def __call__(self, z: Tensor) -> Tensor:
        return self.operator((z - self.shift.to(z)) / self.scale) * self.scale

    def select(self, rows: Tensor) -> Operator:
        return Moved(self.operator.select(rows), self.shift[rows], self.scale)
