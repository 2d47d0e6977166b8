"""The Jacobians of D and of E(D(.)) at a latent, as matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from fixpoint.adapters import Autoencoder


@torch.no_grad()
def jacobians(autoencoder: Autoencoder, latent: Tensor) -> tuple[Tensor, Tensor]:
    """D' and (E D)' at one latent (channels, rows, columns), by one product for each unknown.

    Returns:
        Matrices of float64, with a column for each unknown: (pixel values, unknowns) and
        (unknowns, unknowns).
    """

    def both(z: Tensor) -> tuple[Tensor, Tensor]:
        picture = autoencoder.decode(z[None])
        return picture.flatten(), autoencoder.encode(picture).flatten()

    def column(direction: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.jvp(both, (latent,), (direction.view_as(latent),))[1]

    unknowns = latent.numel()
    decoder, both_ways = torch.vmap(column, chunk_size=32)(torch.eye(unknowns))
    return decoder.double().T, both_ways.double().T


def spectrum(autoencoder: Autoencoder, latents: Tensor) -> dict[str, list[float]]:
    """Per latent (latents, channels, rows, columns): what decides whether E D contracts.

    `negative` counts the eigenvalues of (E D)' with a negative real part; `real_part` has the
    least and the greatest one, `symmetric_part` the least eigenvalue of ((E D)' + (E D)'^T) / 2,
    `singular_value` the greatest and the least of D'.
    """
    found: dict[str, list[float]] = {
        name: []
        for name in (
            "negative",
            "least_real_part",
            "greatest_real_part",
            "least_of_symmetric_part",
            "greatest_singular_value_of_decoder",
            "least_singular_value_of_decoder",
        )
    }
    for latent in latents:
        decoder, both_ways = jacobians(autoencoder, latent)
        real = torch.linalg.eigvals(both_ways).real
        symmetric = torch.linalg.eigvalsh((both_ways + both_ways.T) / 2)
        singular = torch.linalg.svdvals(decoder)
        values = (
            int((real < 0).sum()),
            real.min(),
            real.max(),
            symmetric.min(),
            singular.max(),
            singular.min(),
        )
        for name, value in zip(found, values, strict=True):
            found[name].append(round(float(value), 4))
    return found
