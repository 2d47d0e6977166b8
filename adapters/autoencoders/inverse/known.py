"""Latents that are known, with what an evaluation at the last pass showed of each.

z* = E(photograph) is a latent that occurs, x = Q(D(z*)) in 8 bits the picture it gives. Rows begin
at z_0 = E(x); some go on with the passes of the network itself, so that it learns from what it will
meet (ReStyle trains on its own unrolled passes, too; here each pass is an example of its own).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fixpoint.adapters.autoencoders.calibration import Pair
from fixpoint.adapters.pictures.observations import RoundingCells, from_levels, to_levels

SEEN_BY = RoundingCells()
"""Q of the training: what `invert` takes for 8 bits."""


@dataclass(frozen=True)
class Known:
    """Rows of latents that are known.

    Attributes:
        levels: x, in levels of 8 bits.
        truth: z*.
        start: z_0 = E(x).
        z: the latent of the last pass.
        seen: Q(D(z)) beside x.
        residual: T z = E(seen) - z_0.
        number: of the pass that comes, from 0.
    """

    levels: UInt8[Tensor, "batch 3 height width"]
    truth: Float[Tensor, "batch channels rows columns"]
    start: Float[Tensor, "batch channels rows columns"]
    z: Float[Tensor, "batch channels rows columns"]
    seen: Float[Tensor, "batch 3 height width"]
    residual: Float[Tensor, "batch channels rows columns"]
    number: Int[Tensor, " batch"]

    @property
    def image(self) -> Float[Tensor, "batch 3 height width"]:
        """x on [-1, 1]."""
        return from_levels(self.levels.float())

    def select(self, rows: Tensor) -> Known:
        """Some of the rows."""
        return Known(*(getattr(self, each.name)[rows] for each in fields(self)))

    def overwrite(self, rows: Tensor, other: Known) -> None:
        """Put the rows of another into these places."""
        for each in fields(self):
            getattr(self, each.name)[rows] = getattr(other, each.name)

    def joined(self, *others: Known) -> Known:
        """These rows and those."""
        names = [each.name for each in fields(self)]
        parts = (self, *others)
        return Known(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@torch.no_grad()
def made_of(pair: Pair, photographs: Float[Tensor, "batch 3 height width"]) -> Known:
    """The latents of photographs, before the first pass.

    Raises:
        ValueError: E or D returned NaN or infinity.
    """
    encode, decode = pair
    truth = encode(photographs)
    levels = to_levels(decode(truth)).to(torch.uint8)
    start = encode(from_levels(levels.float()))
    number = torch.zeros(len(truth), dtype=torch.long, device=truth.device)
    return at_latent(pair, Known(levels, truth, start, start, start, start, number), start, number)


@torch.no_grad()
def at_latent(pair: Pair, known: Known, z: Tensor, number: Tensor) -> Known:
    """The same rows with their latent at z, evaluated there.

    Raises:
        ValueError: E or D returned NaN or infinity.
    """
    encode, decode = pair
    seen = SEEN_BY.observe(decode(z), known.image)[0]
    residual = encode(seen) - known.start
    if not bool(residual.isfinite().all()):
        raise ValueError("the pair cannot be learned: it returned NaN or infinity")
    return Known(known.levels, known.truth, known.start, z, seen, residual, number)
