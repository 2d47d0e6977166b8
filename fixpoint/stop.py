"""Stop rules: each decides, row by row, whether the iteration ends.

`solve` always applies `NonFinite`, the rules of `fixpoint.loop.residual` and `Divergence`; others
are passed as `stop=(Stagnation(), ...)`, and a `Divergence` among them takes the place of the
default one. Rules see accepted iterates: a trial that a method refuses changes nothing. A rule is a
frozen dataclass; what it remembers is a tree of per-row tensors that `solve` carries for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.loop.iterate import Iterate
from fixpoint.status import Status
from fixpoint.summary import Summarised


class StopRule(Summarised, ABC):
    """Ends rows with `status`. `accepts`: the present point is returned instead of the best one.
    `pairs`: the rule uses `Iterate.change` at every iteration, see `Monitor`."""

    status: ClassVar[Status]
    pairs: ClassVar[bool] = False
    accepts: ClassVar[bool] = False

    def start(self, iterate: Iterate) -> Any:
        """The memory after the first iterate: a tree of per-row tensors."""
        return ()

    @abstractmethod
    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        """The rows that end here, and the new memory."""

    def confirm(
        self, iterate: Iterate, memory: Any, fires: Bool[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, " batch"], Any]:
        """A second look at the rows that `check` would end: those that do, and the new memory.

        Called after `check`, with the memory that it returned, when any rule fires.
        """
        return fires, memory

    def at_the_limit(self, iterate: Iterate, memory: Any) -> Bool[Tensor, " batch"]:
        """The rows at the limit on iterations that end with this rule's status instead."""
        return torch.zeros_like(iterate.residual_norm, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True)
class NonFinite(StopRule):
    """The residual, or the point itself, contains NaN or infinity.

    A method that refuses such points goes on; a row ends where `patience` in a row were refused.
    """

    patience: int = 64
    status: ClassVar = Status.NONFINITE

    def start(self, iterate: Iterate) -> Any:
        return {"refused": torch.zeros_like(iterate.residual_norm, dtype=torch.long)}

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        if iterate.evaluated_norm is None:  # every point is accepted
            return ~iterate.finite, memory
        bad = ~iterate.evaluated_norm.isfinite()
        refused = torch.where(bad, memory["refused"] + 1, 0)
        return ~iterate.finite | (refused >= self.patience), {"refused": refused}


@dataclass(frozen=True, kw_only=True)
class Divergence(StopRule):
    """The residual exceeds `factor` times its first value.

    If the second residual is over a thousand times larger, the start lay next to a zero and says
    nothing of T's scale: the second one takes its place.

    `solve` applies one with the default factor unless `stop` holds another.

    Args:
        factor: above 1; infinity to let no row end like this.
    """

    factor: float = 1e4
    status: ClassVar = Status.DIVERGED

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise ValueError(f"factor must be above 1, got {self.factor}")

    def start(self, iterate: Iterate) -> Any:
        norm = iterate.residual_norm
        return {"reference": norm, "accepted": torch.zeros_like(norm)}

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        norm, reference = iterate.residual_norm, memory["reference"]
        if isinstance(iterate.iteration, int) and iterate.accepted is None:
            if iterate.iteration == 1:
                reference = _scale(reference, norm)
            return norm > self.factor * reference, memory | {"reference": reference}
        new = torch.ones_like(norm) if iterate.accepted is None else iterate.accepted.to(norm)
        accepted = memory["accepted"] + torch.where(iterate.iteration > 0 + new * 0, new, 0)
        second = (accepted == 1) & (new > 0)
        reference = torch.where(second, _scale(reference, norm), reference)
        return norm > self.factor * reference, {"reference": reference, "accepted": accepted}


def _scale(
    first: Float[Tensor, " batch"], second: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """The residual that others are compared with."""
    return torch.where(second.isfinite() & (second > 1e3 * first), second, first)


@dataclass(frozen=True, kw_only=True, eq=False)
class Below(StopRule):
    """Converged: `||T z|| <= level`, for users who know what is small for their T.

    The tolerances of `solve` also require that the residual keeps falling; see
    `fixpoint.loop.residual`.

    Args:
        level: at least 0, in the units of T; a number or (batch,).
    """

    level: float | Tensor
    status: ClassVar = Status.CONVERGED
    accepts: ClassVar = True

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.level) >= 0).all()):
            raise ValueError(f"level must be at least 0, got {self.level}")

    def start(self, iterate: Iterate) -> Any:
        return per_row(self.level, iterate.residual_norm, "level")

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        return iterate.residual_norm <= memory, memory


@dataclass(frozen=True, kw_only=True)
class Stagnation(StopRule):
    """The watched quantity has not fallen by `improvement` (relative) for `window` iterations.

    Args:
        window: iterations without improvement that end a row, at least 1.
        improvement: in [0, 1); 0.01 asks for one per cent.
        quantity: what must fall: "residual", or the name of a number that `Operator.evaluate`
            measures.
    """

    window: int = 5
    improvement: float = 0.01
    quantity: str = "residual"
    status: ClassVar = Status.STALLED

    def __post_init__(self) -> None:
        if not (isinstance(self.window, int) and self.window >= 1):
            raise ValueError(f"window must be a whole number, at least 1, got {self.window}")
        if not 0 <= self.improvement < 1:
            raise ValueError(f"improvement must lie in [0, 1), got {self.improvement}")
        if not isinstance(self.quantity, str):
            raise TypeError(f"quantity must be a name, got {self.quantity!r}")

    def start(self, iterate: Iterate) -> Any:
        if self.quantity != "residual":
            _measured(self, self.quantity, iterate)
        reference = torch.full_like(iterate.residual_norm, float("inf"))
        return {"reference": reference, "since": torch.zeros_like(reference, dtype=torch.long)}

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        reference, since = memory["reference"], memory["since"]
        value = iterate.residual_norm
        if self.quantity != "residual":
            if self.quantity not in iterate.measured:  # T was last evaluated at another point
                return torch.zeros_like(since, dtype=torch.bool), memory
            value = iterate.measured[self.quantity].to(reference.dtype)
        improved = value < (1 - self.improvement) * reference
        since = torch.where(improved, 0, since + 1)
        memory = {"reference": torch.where(improved, value, reference), "since": since}
        return since >= self.window, memory


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseFloor(StopRule):
    """Discrepancy principle (Morozov 1966): the misfit has come down to the noise of the data.

    Args:
        level: the size of the noise, in the units of the measured quantity; a number or (batch,).
        quantity: the name under which `Operator.evaluate` reports the misfit per row.
    """

    level: float | Tensor
    quantity: str = "misfit"
    status: ClassVar = Status.NOISE_FLOOR
    accepts: ClassVar = True

    def __post_init__(self) -> None:
        if not bool((torch.as_tensor(self.level) >= 0).all()):
            raise ValueError(f"level must be at least 0, got {self.level}")

    def start(self, iterate: Iterate) -> Any:
        misfit = _measured(self, self.quantity, iterate)
        return per_row(self.level, misfit, "level")

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        misfit = iterate.measured.get(self.quantity)
        if misfit is None:  # T was last evaluated at another point
            return torch.zeros_like(iterate.residual_norm, dtype=torch.bool), memory
        return misfit <= memory, memory


def per_row(
    value: float | Tensor, like: Float[Tensor, " batch"], name: str
) -> Float[Tensor, " batch"]:
    """A number, or one per row, for every row.

    Raises:
        ValueError: it is neither.
    """
    numbers = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if numbers.dim() and numbers.shape != like.shape:
        raise ValueError(
            f"{name} must be a number or one per row, {tuple(like.shape)}; "
            f"got {tuple(numbers.shape)}"
        )
    return numbers.expand_as(like)


def _measured(rule: StopRule, quantity: str, iterate: Iterate) -> Float[Tensor, " batch"]:
    numbers = iterate.numbers
    if quantity not in numbers:
        raise ValueError(
            f"{type(rule).__name__} watches {quantity!r}, but the operator measures "
            f"{sorted(numbers) or 'nothing'}; report it from Operator.evaluate"
        )
    return numbers[quantity]
