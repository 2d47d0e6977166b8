"""The anchor of a method that refuses some of its points.

Every row keeps an anchor: the last accepted point, with T there. The next point is proposed from
the anchor, T is evaluated once, and the point is accepted and becomes the anchor, or is refused and
the anchor stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.iterator import State

_RISE = 2.0  # residual of a forward step over the least one, at most


@dataclass(frozen=True)
class AnchoredState(State):
    """The state of such a method. Subclasses name in `counters` what `statistics` shows of it."""

    anchor: Float[Tensor, "batch *shape"]  # last accepted point
    anchor_residual: Float[Tensor, "batch *shape"]  # T at the anchor
    anchor_norm: Float[Tensor, " batch"]  # the norm there of what is compared
    least_norm: Float[Tensor, " batch"]  # the least of all anchors

    counters: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def first(
        cls,
        z: Float[Tensor, "batch *shape"],
        residual: Float[Tensor, "batch *shape"],
        norm: Float[Tensor, " batch"],
        **own: Any,
    ) -> Self:
        """The state at the start, which is accepted; all counters are 0.

        Args:
            z, residual: the start, and T there.
            norm: of what is compared, mostly T.
            own: the other fields of the subclass.
        """
        none = torch.zeros_like(norm, dtype=torch.long)
        counters: dict[str, Any] = dict.fromkeys(cls.counters, none)
        return cls(
            z=z,
            point=z,
            residual=residual,
            accepted=torch.ones_like(norm, dtype=torch.bool),
            anchor=z,
            anchor_residual=residual,
            anchor_norm=norm,
            least_norm=norm,
            **counters,
            **own,
        )

    def forward_step_stands(
        self, norm: Float[Tensor, " batch"], rounding: float = 0.0
    ) -> Bool[Tensor, " batch"]:
        """Where a forward step is accepted that led to a residual of this norm.

        It may double the least residual, since T need not be cocoercive.
        """
        bound = torch.maximum(_RISE * self.least_norm, self.anchor_norm)
        return norm <= (1 + rounding) * bound

    def statistics(self) -> dict[str, Tensor]:
        """The counters by name."""
        return {name: getattr(self, name) for name in self.counters}
