"""Operators with exactly known constants:

    T z = Q^T S(Q (z - zero)) / beta

with Q orthogonal and S 1-cocoercive, S 0 = 0. With the nonexpansive map N = I - 2 Q^T S Q this is
T = (I - N) / (2 beta). Every beta-cocoercive operator has this form (Bauschke & Combettes, Convex
Analysis and Monotone Operator Theory, proposition 4.11). The code computes S, not N, because I - N
would lose digits where S is small.

S acts coordinate by coordinate (`Separable`, the gradient of a convex function) or plane by plane
(`Planes`, linear and not symmetric).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Constants, Operator
from fixpoint.trees.rows import select_rows

# Odd functions with slopes of at most 1, and the infimum of their slopes.
SHAPES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (lambda d: d, 1.0),
    "softening": (lambda d: (d + d.tanh()) / 2, 0.5),
    "tanh": (lambda d: d.tanh(), 0.0),
    "clamp": (lambda d: d.clamp(-1, 1), 0.0),
    "dead zone": (lambda d: d - d.clamp(-1, 1), 0.0),
}


@dataclass(frozen=True)
class Separable:
    """S d = spectrum * shape(d), coordinate by coordinate.

    Args:
        spectrum: the largest slope of every coordinate. Not monotone where one is below 0.
        shape: a key of `SHAPES`; the zeros of "dead zone" are a box around the known zero.
    """

    spectrum: tuple[float, ...]
    shape: str = "linear"

    @property
    def size(self) -> int:
        return len(self.spectrum)

    def __call__(self, d: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        function, _ = SHAPES[self.shape]
        return torch.tensor(self.spectrum, dtype=torch.float64).to(d) * function(d)

    def constants(self, beta: float) -> Constants:
        """Of S / beta, all sharp."""
        least, largest = min(self.spectrum), max(map(abs, self.spectrum))
        monotone = least >= 0 and largest > 0
        cocoercivity = beta / largest if monotone else None
        return Constants(
            cocoercivity=cocoercivity,
            lipschitz=largest / beta,
            strong_monotonicity=least * SHAPES[self.shape][1] / beta if monotone else None,
            averagedness=_averagedness(cocoercivity),
        )

    def refutation(self) -> Float[Tensor, " size"] | None:
        """A direction d with <S d, d> <= 0 < ||S d||; None where S is cocoercive."""
        least = min(self.spectrum)
        if least >= 0:
            return None
        return torch.eye(self.size, dtype=torch.float64)[self.spectrum.index(least)]


@dataclass(frozen=True)
class Planes:
    """S d = m (cos a, -sin a; sin a, cos a) d in the planes of consecutive coordinate pairs.

    A plane is cos(a)/m-cocoercive, with equality for every pair of points. With m = cos a it
    is (I - R) / 2 for the rotation R by pi - 2 a.

    Args:
        angles: a of every plane, from 0 to a quarter turn; at a quarter turn S is not cocoercive.
        moduli: m of every plane; None for cos a, or 1 at a quarter turn.
    """

    angles: tuple[float, ...]
    moduli: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        return 2 * len(self.angles)

    def __call__(self, d: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        real, imaginary = (values.to(d) for values in self._eigenvalues())
        a, b = d.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((real * a - imaginary * b, imaginary * a + real * b), -1).flatten(-2)

    def constants(self, beta: float) -> Constants:
        """Of S / beta, all sharp."""
        real, imaginary = self._eigenvalues()
        squared = real.square() + imaginary.square()
        moves = squared > 0
        least = float(real.min())
        cocoercive = bool((real[moves] > 0).all()) and bool(moves.any())
        cocoercivity = beta * float((real / squared)[moves].min()) if cocoercive else None
        return Constants(
            cocoercivity=cocoercivity,
            lipschitz=float(squared.max().sqrt()) / beta,
            strong_monotonicity=least / beta if least >= 0 else None,
            averagedness=_averagedness(cocoercivity),
        )

    def refutation(self) -> Float[Tensor, " size"] | None:
        """A direction d with <S d, d> <= 0 < ||S d||; None where S is cocoercive."""
        real, imaginary = self._eigenvalues()
        bad = ((real <= 0) & ((real != 0) | (imaginary != 0))).nonzero().flatten()
        if len(bad) == 0:
            return None
        return torch.eye(self.size, dtype=torch.float64)[2 * int(bad[0])]

    def _eigenvalues(self) -> tuple[Float[Tensor, " planes"], Float[Tensor, " planes"]]:
        """Real and imaginary part of m exp(i a) for every plane."""
        angles = torch.tensor(self.angles, dtype=torch.float64)
        # cos(pi / 2) is 6e-17 in float64; the cosine of a quarter turn is 0.
        quarter = angles == torch.pi / 2
        cosine = torch.where(quarter, 0.0, angles.cos())
        if self.moduli is None:
            moduli = torch.where(quarter, 1.0, cosine)
        else:
            moduli = torch.tensor(self.moduli, dtype=torch.float64)
        return moduli * cosine, moduli * angles.sin()


class KnownOperator(Operator):
    """T z = Q^T S(Q (z - zero)) / beta, with its exact constants and a known zero.

    Args:
        beta: above 0; the cocoercivity of T where S is exactly 1-cocoercive.
        zero: (batch, size).
        form: S, a `Separable` or `Planes`.
        basis: seed of the orthogonal Q; 0 for the identity.
    """

    def __init__(
        self,
        beta: float,
        zero: Float[Tensor, "batch size"],
        form: Separable | Planes,
        basis: int = 0,
    ) -> None:
        if not beta > 0:
            raise ValueError(f"beta must be above 0, got {beta}")
        if zero.dim() != 2 or zero.shape[1] != form.size:
            raise ValueError(f"zero must be (batch, {form.size}), got {tuple(zero.shape)}")
        self.beta, self.zero, self.form, self.basis = beta, zero, form, basis
        constants = form.constants(beta)
        self.cocoercivity = constants.cocoercivity
        self.lipschitz = constants.lipschitz
        self.strong_monotonicity = constants.strong_monotonicity
        self.averagedness = constants.averagedness
        self.orthogonal = orthogonal(form.size, basis)
        self.transposed = self.orthogonal.T.contiguous()

    @property
    def refutation(self) -> Float[Tensor, " size"] | None:
        """A direction h with <T(zero + h), h> <= 0 < ||T(zero + h)||; None where T is cocoercive.

        No cocoercivity admits such a direction.
        """
        direction = self.form.refutation()
        return None if direction is None else direction @ self.orthogonal

    def __call__(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        offset = z - self.zero.to(z)
        if self.basis == 0:
            return self.form(offset) / self.beta
        turned = _apply(self.orthogonal.to(z), offset)
        return _apply(self.transposed.to(z), self.form(turned)) / self.beta

    def select(self, rows: Tensor) -> KnownOperator:
        return KnownOperator(self.beta, select_rows(self.zero, rows), self.form, self.basis)

    def __repr__(self) -> str:
        return (
            f"KnownOperator(beta={self.beta:.6g}, form={self.form}, basis={self.basis}, "
            f"rows={len(self.zero)})"
        )


def orthogonal(size: int, seed: int) -> Float[Tensor, "size size"]:
    """A random orthogonal matrix in float64; the identity for seed 0."""
    if seed == 0:
        return torch.eye(size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix: Tensor = torch.linalg.qr(noise)[0]
    return matrix


def _apply(
    matrix: Float[Tensor, "size size"], z: Float[Tensor, "batch size"]
) -> Float[Tensor, "batch size"]:
    # Sums of each row, not a matrix product: in BLAS their order may depend on the batch size.
    return (matrix * z.unsqueeze(1)).sum(2)


def _averagedness(cocoercivity: float | None) -> float | None:
    """theta = 1/(2 beta): I - T is theta-averaged exactly where T is 1/(2 theta)-cocoercive."""
    return 1 / (2 * cocoercivity) if cocoercivity is not None and cocoercivity >= 0.5 else None
