"""Whether the fixed-point iteration is the method for a row, seen from its first steps.

Where E(D(.)) is near the identity, as theorem 1 wants it, the residual falls at once: after three
evaluations about a twentieth of it is left on pairs that were trained as one. On pairs whose halves
were trained apart half of it is left, D keeps what E cannot see, and every further step moves the
latent along those directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from fixpoint.loop.iterate import Iterate
from fixpoint.status import Status
from fixpoint.stop import StopRule


@dataclass(frozen=True, kw_only=True)
class Look(StopRule):
    """Ends a row whose residual has not once fallen to `share` of its first within `steps`.

    Args:
        share: of `||T z^0||`, in (0, 1).
        steps: after which the row is judged, at least 1.
    """

    share: float = 0.25
    steps: int = 3
    status: ClassVar = Status.REFUTED

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie in (0, 1), got {self.share}")
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ValueError(f"steps must be a whole number above 0, got {self.steps}")

    def start(self, iterate: Iterate) -> Any:
        return {"first": iterate.residual_norm, "least": iterate.residual_norm}

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        least = torch.minimum(memory["least"], iterate.residual_norm)
        judged = torch.as_tensor(iterate.iteration == self.steps, device=least.device)
        return judged & (least > self.share * memory["first"]), memory | {"least": least}


@dataclass(frozen=True, kw_only=True, eq=False)
class HandedOver(StopRule):
    """Ends rows at once that another method takes: of these E(Q(D(.))) is not continuous.

    Args:
        rows: which.
    """

    rows: Bool[Tensor, " batch"]
    status: ClassVar = Status.REFUTED

    def start(self, iterate: Iterate) -> Any:
        return self.rows.to(iterate.residual_norm.device)

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        return memory, memory
