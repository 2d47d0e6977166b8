"""When a safeguarded method extrapolates, and when it makes forward steps instead.

A refused extrapolation is followed by forward steps: by one, then by two, four and eight if
extrapolations are refused one after the other. If no extrapolation lowers the least residual by a
tenth within `patience` evaluations, the row returns to its best point: at most these evaluations
are lost. It then accepts bolder extrapolations. If these fail as well, it makes a block of two
forward steps before the next one. Blocks double each time, and grow by a tenth from 256 steps on,
until the residual has fallen to a tenth. So a row that acceleration cannot help spends more and
more of its evaluations on the forward steps that it would make without acceleration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_PROGRESS = 0.9  # of the least residual, that counts as progress
_LONGEST_PENALTY = 8  # forward steps after a refused extrapolation, at most
_FIRST_BLOCK = 2  # forward steps of the first block
_LONG_BLOCK = 256  # blocks from this length on grow by a tenth
_FALLEN = 0.1  # of the residual at which blocks are halved again


@dataclass(frozen=True)
class Trials:
    """What a row remembers of its extrapolations."""

    wait: Int[Tensor, " batch"]  # forward steps to make before the next one
    penalty: Int[Tensor, " batch"]  # of the next one that is refused
    since: Int[Tensor, " batch"]  # evaluations since an extrapolation made progress
    block: Int[Tensor, " batch"]  # forward steps of the next block
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
        """The trials after this point, and the rows that return to their best point.

        Args:
            extrapolated: the point was an extrapolation; else a forward step.
            accepted: the point was accepted. norm: its residual.
            patience: evaluations without progress before a row returns.
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
    """How many forward steps were refused one after the other, and the length of the next one.

    A refused step shortens it by 1, 2, 4, ... powers of two, up to 32. A step that lowered the
    residual doubles it, up to `longest`. Other steps do not change it.

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
