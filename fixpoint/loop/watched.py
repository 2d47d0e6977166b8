"""The user's operator: its calls are counted, its results checked, its measurements kept."""

from __future__ import annotations

from torch import Tensor

from fixpoint.operator import Operator


class WatchedOperator(Operator):
    """T as the iterators of a run see it.

    Raises:
        TypeError, ValueError: T returns something else than a tensor of the shape, dtype and
            device of its argument.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.calls = 0  # since the last `new_calls`
        self.seen: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.cocoercivity = operator.cocoercivity
        self.star_cocoercivity = getattr(operator, "star_cocoercivity", None)
        self.lipschitz = operator.lipschitz
        self.strong_monotonicity = operator.strong_monotonicity
        self.averagedness = operator.averagedness

    def __call__(self, z: Tensor) -> Tensor:
        return self.evaluate(z)[0]

    def evaluate(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            value, measured = self.operator.evaluate(z)
        except Exception as error:
            error.add_note(
                f"T was evaluated on z of shape {tuple(z.shape)}, {z.dtype}, on {z.device}; the "
                "first axis is the batch"
            )
            raise
        if not isinstance(value, Tensor):
            raise TypeError(f"T must return a tensor, got {type(value).__name__}")
        if value.shape != z.shape or value.dtype != z.dtype or value.device != z.device:
            raise ValueError(
                f"T must return the shape, dtype and device of its argument: got "
                f"{tuple(value.shape)} {value.dtype} on {value.device} for "
                f"{tuple(z.shape)} {z.dtype} on {z.device}"
            )
        self.calls += 1
        self.seen.append((z, measured))
        return value, measured

    def select(self, rows: Tensor) -> WatchedOperator:
        return WatchedOperator(self.operator.select(rows))

    def new_calls(self) -> int:
        """Calls since the last one of this method."""
        calls, self.calls = self.calls, 0
        return calls

    def forget(self) -> None:
        """Drop the calls and measurements of an iteration that was not made."""
        self.calls = 0
        self.seen.clear()

    def measured_at(self, point: Tensor) -> dict[str, Tensor]:
        """What was measured at `point` since the last call of this method."""
        found = [measured for z, measured in self.seen if z is point]
        self.seen.clear()
        return found[-1] if found else {}
