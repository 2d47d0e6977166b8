"""The least margin of an inequality that is checked at many iterations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Tightest:
    """Per row; infinite, at iteration -1, before the first finite margin."""

    margin: Float[Tensor, " batch"]
    iteration: Int[Tensor, " batch"]  # where it first failed, or was tightest
    failed: Bool[Tensor, " batch"]
    measured: Bool[Tensor, " batch"]

    @classmethod
    def unseen(cls, like: Float[Tensor, " batch"]) -> Tightest:
        """No margin yet, in rows of the dtype of `like`."""
        no = torch.zeros_like(like, dtype=torch.bool)
        never = torch.full_like(like, -1, dtype=torch.long)
        return cls(torch.full_like(like, torch.inf), never, no, no)

    def seen(
        self, margin: Float[Tensor, " batch"], iteration: int | Tensor, slack: float = 0.0
    ) -> Tightest:
        """With one more margin, which fails below `-slack` if that is finite; NaN is ignored."""
        margin = margin.to(self.margin.dtype)
        lower = margin < self.margin
        failed, dates = self.failed, lower
        if slack != torch.inf:
            fails = margin < -slack
            dates = (lower | fails) & ~failed
            failed = failed | fails
        return Tightest(
            margin=torch.where(lower, margin, self.margin),
            iteration=torch.where(dates, iteration, self.iteration),
            failed=failed,
            measured=self.measured | ~margin.isnan(),
        )
