"""Linear and nonlinear operators whose constants and zeros are exactly known.

They are the library's test problems, and the shortest examples of an `Operator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator
from fixpoint.trees.rows import select_rows


class Affine(Operator):
    """T z = A (z - zero), with one matrix for all rows and a known zero.

    Args:
        matrix: (size, size).
        zero: (batch, size), the zero of every row; None for the origin.
        cocoercivity, lipschitz, strong_monotonicity: of `matrix`, where known.
    """

    def __init__(
        self,
        matrix: Float[Tensor, "size size"],
        zero: Float[Tensor, "batch size"] | None = None,
        *,
        cocoercivity: float | None = None,
        lipschitz: float | None = None,
        strong_monotonicity: float | None = None,
    ) -> None:
        self.matrix = matrix
        self.zero = zero
        self.cocoercivity = cocoercivity
        self.lipschitz = lipschitz
        self.strong_monotonicity = strong_monotonicity

    def __call__(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        if self.zero is not None and self.zero.shape != z.shape:
            raise ValueError(f"zero has shape {tuple(self.zero.shape)}, z {tuple(z.shape)}")
        offset = z if self.zero is None else z - self.zero.to(z)
        # A sum per row, not a matrix product: BLAS may order its sums by the size of the batch.
        return (self.matrix.to(z) * offset.unsqueeze(1)).sum(2)

    def select(self, rows: Tensor) -> Operator:
        return Affine(
            self.matrix,
            None if self.zero is None else select_rows(self.zero, rows),
            cocoercivity=self.cocoercivity,
            lipschitz=self.lipschitz,
            strong_monotonicity=self.strong_monotonicity,
        )


def diagonal(
    entries: Sequence[float] | Float[Tensor, " size"],
    zero: Float[Tensor, "batch size"] | None = None,
) -> Affine:
    """diag(entries): for entries >= 0 cocoercive with 1/max and strongly monotone with min."""
    values = torch.as_tensor(entries, dtype=torch.float64)
    largest, smallest = float(values.abs().max()), float(values.min())
    return Affine(
        torch.diag(values),
        zero,
        cocoercivity=1 / largest if smallest >= 0 and largest > 0 else None,
        lipschitz=largest,
        strong_monotonicity=smallest if smallest >= 0 else None,
    )


def dense(
    spectrum: Sequence[float] | Float[Tensor, " size"],
    zero: Float[Tensor, "batch size"] | None = None,
    *,
    seed: int = 0,
) -> Affine:
    """Q diag(spectrum) Q^T with a random orthogonal Q: the constants of `diagonal(spectrum)`."""
    operator = diagonal(spectrum, zero)
    size = operator.matrix.shape[0]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    orthogonal, _ = torch.linalg.qr(noise)
    operator.matrix = orthogonal @ operator.matrix @ orthogonal.T
    return operator


def rotation(
    angle: float, zero: Float[Tensor, "batch size"] | None = None, *, size: int = 2
) -> Affine:
    """Rotation by `angle` (radians) in the planes of consecutive coordinate pairs.

    `<T a, a> = cos(angle) ||a||^2` for every a: cocoercivity and strong monotonicity are exactly
    cos(angle) up to a quarter turn; beyond it T is not monotone and they are None.
    """
    if size % 2:
        raise ValueError(f"a rotation by planes needs an even size, got {size}")
    block = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=torch.float64,
    )
    cosine = math.cos(angle) if math.cos(angle) >= 0 else None
    return Affine(
        torch.block_diag(*[block] * (size // 2)),
        zero,
        cocoercivity=cosine,
        lipschitz=1.0,
        strong_monotonicity=cosine,
    )


def projection(
    directions: Float[Tensor, "rank size"], zero: Float[Tensor, "batch size"] | None = None
) -> Affine:
    """The orthogonal projection onto the span of `directions`: 1-cocoercive, with null
    directions wherever the rank is below the size."""
    rank, size = directions.shape
    if int(torch.linalg.matrix_rank(directions.to(torch.float64))) < rank:
        raise ValueError(f"the {rank} directions are linearly dependent")
    basis, _ = torch.linalg.qr(directions.to(torch.float64).T)
    return Affine(
        basis @ basis.T,
        zero,
        cocoercivity=1.0,
        lipschitz=1.0,
        strong_monotonicity=1.0 if basis.shape[1] == size else 0.0,
    )


class Cocoercive(Operator):
    """T z = (d - N d) / (2 beta), d = z - zero, with N nonexpansive and N 0 = 0.

    Every beta-cocoercive operator with that zero is of this form (Bauschke & Combettes, Convex
    Analysis and Monotone Operator Theory, proposition 4.11). The default N is the rotation by a
    quarter turn in consecutive coordinate pairs, for which the cocoercivity inequality is an
    equality for every pair of points.

    Args:
        beta: the cocoercivity constant, above 0.
        zero: (batch, *shape).
        nonexpansive: N, applied to tensors of the shape of `zero`, row by row.
    """

    def __init__(
        self,
        beta: float,
        zero: Float[Tensor, "batch *shape"],
        nonexpansive: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not beta > 0:
            raise ValueError(f"beta must be above 0, got {beta}")
        self.beta = beta
        self.zero = zero
        self.nonexpansive = nonexpansive or quarter_turn
        self.cocoercivity = beta
        self.lipschitz = 1 / beta

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        offset = z - self.zero.to(z)
        return (offset - self.nonexpansive(offset)) / (2 * self.beta)

    def select(self, rows: Tensor) -> Operator:
        return Cocoercive(self.beta, select_rows(self.zero, rows), self.nonexpansive)


def quarter_turn(z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """(a, b) -> (-b, a) on consecutive pairs of the last dimension, which must be even."""
    pairs = z.unflatten(-1, (-1, 2))
    return torch.stack((-pairs[..., 1], pairs[..., 0]), -1).flatten(-2)
