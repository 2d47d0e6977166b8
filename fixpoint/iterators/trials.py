"""When a safeguarded method extrapolates, and when it leaves that for a while.

A refused extrapolation is followed by forward steps: one, then two, four and eight, where one is
refused after the other. Where extrapolations are accepted and get nowhere, `patience` evaluations
without one that lowers the least residual by a tenth, the row goes back to its best point, so that
no more than these evaluations are lost. There it tries bolder ones; where these get nowhere
either, it makes two forward steps before it tries again, and twice as many each time, from 256 on a
tenth more, until the residual has fallen to a tenth. So a row that acceleration cannot help spends
ever more of its evaluations on the forward steps that it would have made without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_PROGRESS = 0.9  # of the least residual, that counts as progress
_LONGEST_PENALTY = 8  # forward steps after a refused extrapolation, at most
_FIRST_BLOCK = 2  # forward steps when extrapolations are left for the first time
_LONG_BLOCK = 256  # forward steps from which blocks grow by a tenth only
_FALLEN = 0.1  # of the residual at which blocks are halved again


@dataclass(frozen=True)
class Trials:
    """What is remembered of a row's extrapolations."""

    wait: Int[Tensor, " batch"]  # forward steps to make before the next one
    penalty: Int[Tensor, " batch"]  # of the next one that is refused
    since: Int[Tensor, " batch"]  # evaluations without progress by an extrapolation
    block: Int[Tensor, " batch"]  # forward steps when they are left next
    bold: Bool[Tensor, " batch"]  # whether bolder ones are accepted
    resting: Bool[Tensor, " batch"]  # in a block of forward steps
    reference: Float[Tensor, " batch"]  # the least residual at the last progress
    milestone: Float[Tensor, " batch"]  # the one at which blocks were halved last

    @staticmethod
    def first(norm: Float[Tensor, " batch"]) -> Trials:
        """At the start, with the residual there."""
        none = torch.zeros_like(norm, dtype=torch.long)
        no = torch.zeros_like(norm, dtype=torch.bool)
        return Trials(none, none + 1, none, none + _FIRST_BLOCK, no, no, norm, norm)

    def after(
        self,
        extrapolated: Bool[Tensor, " batch"],
        accepted: Bool[Tensor, " batch"],
        norm: Float[Tensor, " batch"],
        patience: int,
    ) -> tuple[Trials, Bool[Tensor, " batch"]]:
        """The next ones, and the rows that go back to their best point.

        Args:
            extrapolated: the point was an extrapolation, and no forward step.
            accepted: the point was accepted. norm: its residual.
            patience: evaluations without progress.
        """
        progress = accepted & (norm < _PROGRESS * self.reference)
        reference = torch.where(progress, norm, self.reference)
        resting = self.resting & ~extrapolated
        since = torch.where(resting, self.since, self.since + 1)
        since = torch.where(progress & extrapolated, 0, since)
        fallen = reference < _FALLEN * self.milestone
        block = torch.where(fallen, (self.block // 2).clamp(min=_FIRST_BLOCK), self.block)

        refused = extrapolated & ~accepted
        wait = torch.where(refused, self.penalty, (self.wait - 1).clamp(min=0))
        penalty = torch.where(refused, (2 * self.penalty).clamp(max=_LONGEST_PENALTY), self.penalty)
        penalty = torch.where(extrapolated & accepted, 1, penalty)

        left = (since >= patience) & ~resting
        rests = left & self.bold
        wait = torch.where(left, torch.where(rests, block, 1), wait)
        growth = torch.where(block < _LONG_BLOCK, block, block // 10)
        return (
            replace(
                self,
                wait=wait,
                penalty=penalty,
                since=torch.where(left, 0, since),
                block=torch.where(rests, block + growth, block),
                bold=self.bold ^ left,
                resting=resting | rests,
                reference=reference,
                milestone=torch.where(fallen, reference, self.milestone),
            ),
            left,
        )


def forward_lengths(
    length: Float[Tensor, " batch"],
    failures: Int[Tensor, " batch"],
    forward: Bool[Tensor, " batch"],
    accepted: Bool[Tensor, " batch"],
    lowered: Bool[Tensor, " batch"],
    longest: float,
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Forward steps refused one after the other, and the length of the next one.

    A refused one shortens it by 1, 2, 4, ... powers of two, up to 32; one that lowered the residual
    doubles it, up to `longest`; other steps leave it.

    Args:
        length, failures: before this step. forward: the rows that made a forward step.
        accepted, lowered: the point was accepted; its residual is not above the anchor's.
    """
    refused = forward & ~accepted
    failures = torch.where(refused, failures + 1, torch.where(forward, 0, failures))
    shrunk = length * 2.0 ** -(2.0 ** (failures - 1).clamp(0, 5).double())
    fell = forward & accepted & lowered
    grown = torch.where(fell, (2 * length).clamp(max=longest), length)
    return failures, torch.where(refused, shrunk, grown)
