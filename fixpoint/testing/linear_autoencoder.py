"""A linear decoder D and a linear encoder E whose composition E D is known.

    D = U diag(s),    E = S diag(1/s) U^T,    so that E D = S

with orthonormal columns U and a map S of known constants near the identity, or the identity.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator, as_operator
from fixpoint.testing.known_operator import Planes, Separable, orthogonal


class LinearAutoencoder:
    """A linear encoder and decoder, with a latent and the picture decoded from it, in float64.

    Args:
        latent: (batch, size), z*.
        scales: the singular values s of the decoder, above 0.
        pixels: number of values of a picture, at least `size`.
        composition: S = E D; None for the identity.
        basis: seed of U.

    Attributes:
        picture: (batch, pixels), D(z*).
        cocoercivity: of T z = E(D(z)) - E(picture); None where E D is not cocoercive.
    """

    def __init__(
        self,
        latent: Float[Tensor, "batch size"],
        scales: tuple[float, ...],
        pixels: int,
        composition: Separable | Planes | None = None,
        basis: int = 0,
    ) -> None:
        size = latent.shape[1]
        if len(scales) != size or pixels < size or not min(scales) > 0:
            raise ValueError(
                f"a latent of {size} values needs {size} scales above 0 and at least {size} "
                f"pixels, got scales {scales} and {pixels} pixels"
            )
        self.latent, self.scales, self.basis = latent, scales, basis
        self.composition = composition
        self.columns = orthogonal(pixels, basis)[:, :size].contiguous()
        self.rows = self.columns.T.contiguous()
        self.picture = self.decode(latent)
        constants = Separable((1.0,) * size) if composition is None else composition
        self.cocoercivity = constants.constants(1.0).cocoercivity

    def decode(self, z: Float[Tensor, "batch size"]) -> Float[Tensor, "batch pixels"]:
        """D z."""
        scaled = z * torch.tensor(self.scales, dtype=torch.float64).to(z)
        return (self.columns.to(z) * scaled.unsqueeze(1)).sum(2)

    def encode(self, picture: Float[Tensor, "batch pixels"]) -> Float[Tensor, "batch size"]:
        """E x."""
        inverse = 1 / torch.tensor(self.scales, dtype=torch.float64)
        latent = (self.rows.to(picture) * picture.unsqueeze(1)).sum(2) * inverse.to(picture)
        return latent if self.composition is None else self.composition(latent)

    def operator(self) -> Operator:
        """T z = E(D(z)) - E(picture), which is zero at `latent`."""

        def residual(z: Tensor, picture: Tensor) -> Tensor:
            return self.encode(self.decode(z)) - self.encode(picture)

        return as_operator(residual, self.picture, cocoercivity=self.cocoercivity)

    def __repr__(self) -> str:
        return (
            f"LinearAutoencoder(rows={len(self.latent)}, scales={self.scales}, "
            f"pixels={len(self.columns)}, composition={self.composition}, basis={self.basis})"
        )
