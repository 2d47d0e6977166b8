"""Weights of an extrapolation, from the Gram matrix of its columns:

    gamma = argmin ||r - D gamma||,    G = D^T D,    b = D^T r

The columns are scaled to unit length and factorized from the newest on, G = L L^T. If a pivot falls
below `_DEPENDENT`, the column lies in the span of newer ones, as far as the Gram matrix can resolve
it. It is left out with all older ones: the weights then come from the newest columns, which
describe T best near the present point.

Why not QR: to update Q takes one more pass over all columns to make it orthogonal, another one to
make it orthogonal to rounding, and 2 (m - 1) reads and writes to drop the oldest column. The Gram
matrix takes only the m + 3 elements per element of its new row. It loses accuracy beyond a
condition of 1e8; as it is formed in float64, columns in 32 and 16 bits do not come near that.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_DEPENDENT = 1e-6  # least pivot, of columns of unit length


def weights_of(
    gram: Float[Tensor, "batch memory memory"],
    right_hand_side: Float[Tensor, "batch memory"],
    regularization: float,
    largest_weight: float,
) -> tuple[Float[Tensor, "batch memory"], Bool[Tensor, " batch"]]:
    """gamma of every row, newest column first; and whether columns were left out.

    Args:
        gram: G; zeros in the row and column of an empty column, which gets the weight 0.
        right_hand_side: b.
        regularization: added to the unit diagonal.
        largest_weight: columns are left out, the oldest first, until no weight is above it.
    """
    memory = gram.shape[1]
    if memory == 0:
        return right_hand_side, torch.zeros(len(gram), dtype=torch.bool, device=gram.device)
    gram, right_hand_side = gram.double(), right_hand_side.double()
    scale = gram.diagonal(dim1=1, dim2=2).sqrt()
    inverse = torch.where(scale > 0, 1 / scale, 0)
    unit = torch.eye(memory, dtype=torch.bool, device=gram.device)
    scaled = gram * inverse.unsqueeze(1) * inverse.unsqueeze(2)
    # The unit diagonal is set, not added: empty columns have a diagonal of 0.
    system = torch.where(unit, 1 + regularization, scaled)
    factor, failed = torch.linalg.cholesky_ex(system)
    pivots = factor.diagonal(dim1=1, dim2=2)
    order = torch.arange(memory, device=gram.device)
    sound = (pivots > _DEPENDENT) & ((failed == 0).unsqueeze(1) | (order < failed.unsqueeze(1) - 1))
    kept = sound.long().cumprod(1) > 0
    target = right_hand_side * inverse
    weights = _solved(factor, target, kept, unit) * inverse
    empty = scale == 0
    if largest_weight < float("inf"):
        for _ in range(memory):
            large = (weights.abs() > largest_weight).any(1)
            count = torch.where(large, kept.sum(1) - 1, kept.sum(1))
            kept = kept & (order < count.unsqueeze(1))
            weights = _solved(factor, target, kept, unit) * inverse
    return weights, (~kept & ~empty).any(1)


def bordered(
    row: Float[Tensor, "batch memory"], gram: Float[Tensor, "batch old old"]
) -> Float[Tensor, "batch memory memory"]:
    """The Gram matrix with `row` as its first row and column, and the oldest dropped."""
    kept = gram[:, : row.shape[1] - 1, : row.shape[1] - 1]
    below = torch.cat((row[:, 1:].unsqueeze(2), kept), 2)
    return torch.cat((row.unsqueeze(1), below), 1)


def model_norm(
    gram: Float[Tensor, "batch memory memory"],
    right_hand_side: Float[Tensor, "batch memory"],
    weights: Float[Tensor, "batch memory"],
    norm: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """`||r - D gamma||` from the products that are known; `norm` is ||r||.

    It is lost in rounding below 1e-8 ||r||.
    """
    squared = norm.square()
    if weights.shape[1]:
        image = (gram * weights.unsqueeze(1)).sum(2)
        squared = squared - 2 * (weights * right_hand_side).sum(1) + (weights * image).sum(1)
    return squared.clamp(min=0).sqrt()


def without_columns(
    gram: Float[Tensor, "batch memory memory"],
    right_hand_side: Float[Tensor, "batch memory"],
    all_of: Bool[Tensor, " batch"],
    older_of: Bool[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch memory memory"], Float[Tensor, "batch memory"]]:
    """G and b with columns emptied: all of those of some rows, and all but the newest of others."""
    newest = torch.arange(gram.shape[1], device=gram.device) == 0
    kept = ~all_of.unsqueeze(1) & (newest | ~older_of.unsqueeze(1))
    both = kept.unsqueeze(1) & kept.unsqueeze(2)
    return torch.where(both, gram, 0), torch.where(kept, right_hand_side, 0)


def _solved(factor: Tensor, target: Tensor, kept: Tensor, unit: Tensor) -> Tensor:
    """The solution with the leading columns that are kept, 0 for the others."""
    rows = kept.unsqueeze(2)
    leading = torch.where(rows, factor, unit.to(factor.dtype))
    right = torch.where(kept, target, 0).unsqueeze(2)
    return torch.cholesky_solve(right, leading).squeeze(2)
