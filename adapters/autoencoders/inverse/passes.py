"""The passes of a learned inverse over pictures, each kept only where it brings D(z) nearer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.calibration import Pair
from fixpoint.adapters.autoencoders.inverse.network import PASSES
from fixpoint.trees.rows import expand_rows

Seen = tuple[Tensor, Tensor]
"""Q(D(z)) beside x, and the same before rounding."""

Corrects = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""x, Q(D(z)), z, E(x), T z and the number of the pass to the correction of z."""


@torch.no_grad()
def guarded_passes(
    correction: Corrects,
    pair: Pair,
    image: Float[Tensor, "batch 3 height width"],
    start: Float[Tensor, "batch channels rows columns"],
    observe: Callable[[Tensor, Tensor], Seen],
    passes: int = PASSES,
) -> list[Float[Tensor, "batch channels rows columns"]]:
    """The latents after every pass, from E(x) on.

    A row takes a step only where the misfit, the root mean square of D(z) - x, falls; where it does
    not, the row stands still from then on. So no row ends with a larger misfit than E(x) has.

    Args:
        correction: of a `LearnedInverse`.
        pair: E and D.
        image, start: x and E(x).
        observe: Q, from D(z) and x, see `Observation.observe`.
        passes: how many, at most.

    Returns:
        `passes` + 1 latents, the first E(x).
    """
    encode, decode = pair
    z = start
    seen, before = observe(decode(z), image)
    misfit = _misfit(before, image)
    moving = misfit.isfinite()
    found = [z]
    for number in range(passes):
        if bool(moving.any()):
            step = correction(image, seen, z, start, encode(seen) - start, number)
            tried_seen, before = observe(decode(z + step), image)
            tried = _misfit(before, image)
            moving = moving & (tried < misfit)
            at = expand_rows(moving, z)
            z = torch.where(at, z + step, z)
            seen = torch.where(expand_rows(moving, seen), tried_seen, seen)
            misfit = torch.where(moving, tried, misfit)
        found.append(z)
    return found


def _misfit(decoded: Tensor, image: Tensor) -> Float[Tensor, " batch"]:
    """Row by row: the sums are in float64, and a row's bits must not depend on the others."""
    rows = zip(decoded.split(1), image.split(1), strict=True)
    squares = [(one - other).double().square().mean() for one, other in rows]
    return torch.stack(squares).sqrt() if squares else decoded.new_zeros(0, dtype=torch.float64)
