"""Functions of matrices: the last two dimensions of a row.

The decompositions are torch's. They work on one matrix after the other, and on a GPU torch itself
waits for them to see whether they converged. A row with NaN or infinity would make them raise
for all rows: it is left out, and comes back as NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import Parameter, check_numbers, numbers
from fixpoint.proximal.row_algebra import flat, indicator, largest, total
from fixpoint.proximal.spectral import positive_part, singular_values_thresholded
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class NuclearNorm(Function):
    """weight times the sum of singular values; over leading dimensions of a row it is summed.

    prox: z = U diag(sigma) V' becomes U diag(max(sigma - s weight, 0)) V' (Cai, Candes & Shen 2010,
    theorem 2.1; Parikh & Boyd, section 6.7). Exact.
    Proof: (z - u)/s is weight times U_1 V_1' + W, with U_1, V_1 the singular vectors of u, and W
    orthogonal to them with a spectral norm of at most 1.

    Args:
        weight: at least 0; a number, or `RowParameter` of (batch,).
    """

    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0)

    def _value(
        self, z: Float[Tensor, "batch *shape m n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return numbers("weight", self.weight, z) * total(_singular_values(z))

    def _prox(
        self, z: Float[Tensor, "batch *shape m n"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape m n"]:
        known, finite = _set_aside(z)
        threshold = expand_rows(step * numbers("weight", self.weight, z), z).squeeze(-1)
        return torch.where(finite, singular_values_thresholded(known, threshold), torch.nan)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape m n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # 0 where the spectral norm is at most the weight.
        excess = largest(_singular_values(y)) - numbers("weight", self.weight, y)
        return indicator(excess, tolerance * math.sqrt(y.shape[-1] * y.shape[-2]))


@dataclass(frozen=True, eq=False)
class PositiveSemidefinite(Function):
    """The indicator of the symmetric positive semidefinite matrices, among all square ones.

    prox: the symmetric part of z with its negative eigenvalues set to 0 (Higham 1988, theorem 2.1;
    Parikh & Boyd, section 6.3). Exact.
    Proof: z - u is a skew part, orthogonal to all symmetric w, plus a negative semidefinite part
    with <z - u, u> = 0 and <z - u, w> <= 0.
    """

    def _value(
        self, z: Float[Tensor, "batch *shape n n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        skew = largest((z - _square(z).mT).abs()) / 2
        return indicator(torch.maximum(skew, largest(-_eigenvalues(z))), tolerance * z.shape[-1])

    def _prox(
        self, z: Float[Tensor, "batch *shape n n"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape n n"]:
        known, finite = _set_aside(_square(z))
        return torch.where(finite, positive_part((known + known.mT) / 2), torch.nan)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape n n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # The polar cone: 0 where the symmetric part is negative semidefinite.
        return indicator(largest(_eigenvalues(_square(y))), tolerance * y.shape[-1])


@dataclass(frozen=True, eq=False)
class UnitDiagonal(Function):
    """The indicator of the square matrices with ones on the diagonal.

    With `PositiveSemidefinite` it makes the correlation matrices (Higham 2002).

    prox: the diagonal is set to 1. Proof: z - u is diagonal, w - u is 0 there.
    """

    def _value(
        self, z: Float[Tensor, "batch *shape n n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return indicator(largest((_square(z).diagonal(dim1=-2, dim2=-1) - 1).abs()), tolerance)

    def _prox(
        self, z: Float[Tensor, "batch *shape n n"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape n n"]:
        return torch.where(_diagonal(_square(z)), 1, z)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape n n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # The trace, where all else is 0.
        diagonal = _diagonal(_square(y))
        off = largest(torch.where(diagonal, 0, y.abs()))
        return indicator(off, tolerance) + total(torch.where(diagonal, y, 0))


def _square(z: Float[Tensor, "batch *shape m n"]) -> Float[Tensor, "batch *shape n n"]:
    if z.dim() < 3 or z.shape[-1] != z.shape[-2]:
        raise ValueError(f"need rows of square matrices, got rows of shape {tuple(z.shape[1:])}")
    return z


def _diagonal(z: Float[Tensor, "batch *shape n n"]) -> Tensor:
    return torch.eye(z.shape[-1], dtype=torch.bool, device=z.device)


def _set_aside(z: Float[Tensor, "batch *shape m n"]) -> tuple[Tensor, Tensor]:
    """`z` with zeros for the rows that are not finite, and which are."""
    if z.dim() < 3:
        raise ValueError(f"need rows of matrices, got rows of shape {tuple(z.shape[1:])}")
    finite = expand_rows(flat(z.isfinite()).all(1), z)
    return torch.where(finite, z, 0), finite


def _singular_values(
    z: Float[Tensor, "batch *shape m n"],
) -> Float[Tensor, "batch *shape k"]:
    known, finite = _set_aside(z)
    return torch.where(finite.squeeze(-1), torch.linalg.svdvals(known), torch.nan)


def _eigenvalues(z: Float[Tensor, "batch *shape n n"]) -> Float[Tensor, "batch *shape n"]:
    """Of the symmetric part."""
    known, finite = _set_aside(z)
    values = torch.linalg.eigvalsh((known + known.mT) / 2)
    return torch.where(finite.squeeze(-1), values, torch.nan)
