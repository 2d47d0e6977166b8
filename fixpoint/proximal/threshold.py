"""Clamping and thresholding, with the derivatives of what they compute.

Each map here is piecewise linear. The result shows on which piece a point lies, and the derivative
is that of this piece. A set that is a single point, and a threshold of 0, leave fewer pieces: the
derivative there is 0, and 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.row_algebra import flat, largest, size, total
from fixpoint.trees.rows import expand_rows


def clamp(
    z: Float[Tensor, "batch *shape"], lower: Float[Tensor, "..."], upper: Float[Tensor, "..."]
) -> Float[Tensor, "batch *shape"]:
    """`z` clamped to [lower, upper]; the derivative is 0 where the two are equal."""
    return torch.where((lower < upper) | z.isnan(), z.clamp(lower, upper), lower)


def soft_threshold(
    z: Float[Tensor, "batch *shape"], threshold: Float[Tensor, "..."]
) -> Float[Tensor, "batch *shape"]:
    """sign(z) max(|z| - threshold, 0); the derivative is 1 where the threshold is 0."""
    return torch.where(threshold == 0, z, z - z.clamp(-threshold, threshold))


def simplex_projection(
    z: Float[Tensor, "batch *shape"], radius: Float[Tensor, " rows"]
) -> Float[Tensor, "batch *shape"]:
    """max(z - tau, 0) with a sum of `radius`, which is at least 0, per row.

    The derivative takes from every positive coordinate the mean over these.
    """
    if size(z) == 0:
        return z.clone()
    top, below = _simplex_threshold(z.detach(), radius.detach())
    offset = z - expand_rows(top, z)
    active = offset.detach() > expand_rows(below, z)
    below = _with_derivative(below, _mean_excess(offset, active, radius))
    return torch.where(active | z.isnan(), offset - expand_rows(below, z), 0)


def clip_by_loss(
    z: Float[Tensor, "batch *shape"], lost: Float[Tensor, " rows"]
) -> Float[Tensor, "batch *shape"]:
    """`z` clamped to [-t, t], t at least 0, so that its l1 norm falls by `lost`, or to 0.

    z less its projection onto the l1 ball of radius `lost`.
    """
    if size(z) == 0:
        return z.clone()
    sizes = z.abs()
    top, below = _simplex_threshold(sizes.detach(), lost.detach())
    level = expand_rows((top + below).clamp(min=0), z)
    clipped = sizes.detach() >= level
    offset = sizes - expand_rows(top, z)
    derived = expand_rows(top + _mean_excess(offset, clipped, lost), z)
    moved = torch.where(clipped, z.detach().sign() * _with_derivative(level, derived), z)
    moved = torch.where(level > 0, moved, 0 * level)
    return torch.where(expand_rows(lost, z) == 0, z, moved)


def _simplex_threshold(
    z: Float[Tensor, "batch *shape"], radius: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """tau with sum max(z - tau, 0) = radius, per row, in two parts whose sum it is.

    The first is the largest coordinate. Nothing below it by more than the radius is active, so
    that measured from it all sums that matter are of numbers of the size of the radius; added up,
    the parts would lose digits again.
    """
    top = largest(z)
    ordered = (flat(z) - top.unsqueeze(1)).sort(1, descending=True).values
    count = torch.arange(1, ordered.shape[1] + 1, device=z.device)
    excess = ordered.cumsum(1) - radius.unsqueeze(1)
    active = (ordered * count > excess).sum(1, keepdim=True).clamp(min=1)  # none for radius 0
    return top, (excess.gather(1, active - 1) / active).squeeze(1)


def _mean_excess(
    z: Float[Tensor, "batch *shape"], active: Tensor, radius: Float[Tensor, " rows"]
) -> Float[Tensor, " batch"]:
    """The tau with sum of z - tau over the active coordinates = radius."""
    return (total(torch.where(active, z, 0)) - radius) / flat(active).sum(1).clamp(min=1)


def _with_derivative(
    value: Float[Tensor, "..."], twin: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The value of the first, with the derivative of the second; they differ by rounding alone."""
    return value.detach() + (twin - twin.detach())
