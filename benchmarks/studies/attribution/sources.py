"""The kinds of pictures: those of the model, and others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.shared.pictures import held_out_crops
from benchmarks.shared.prompts import PROMPTS
from fixpoint.adapters import Autoencoder

MODEL, OTHER = "kl", "adversarial"
SIDE, SEED = 64, 81_000  # the score was chosen on draws from another seed
COUNTS = {"generated": 17, "encodings": 17, "photographs": 34, "other model": 34, "smooth": 34}
OURS = ("generated", "encodings")


def generated(autoencoder: Autoencoder, count: int) -> Tensor:
    """Pictures drawn by the embedded diffusion model, whose decoder this is: 25 steps."""
    from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion

    model = LatentDiffusion.embedded("diffusion")
    sampling = model.sampling(
        [PROMPTS[row % len(PROMPTS)] for row in range(count)], steps=25, guidance=3.0
    )
    noise = model.noise(count, seed=SEED, height=SIDE, width=SIDE)
    return autoencoder.decode(sampling.generate(noise))


def encodings(autoencoder: Autoencoder, count: int) -> Tensor:
    """D(E(x)) of held-out photographs."""
    return autoencoder.decode(autoencoder.encode(held_out_crops(count, SIDE, SEED)))


def photographs(autoencoder: Autoencoder, count: int) -> Tensor:
    return held_out_crops(count, SIDE, SEED + 1)


def other_model(autoencoder: Autoencoder, count: int) -> Tensor:
    """D(E(x)) of held-out photographs by the other embedded autoencoder."""
    return encodings(Autoencoder.embedded(OTHER), count)


def smooth(autoencoder: Autoencoder, count: int) -> Tensor:
    """Flat colours, gradients and slow waves, a third each."""
    generator = torch.Generator().manual_seed(SEED)
    across = torch.linspace(-1, 1, SIDE)
    down = across[:, None]
    drawn = []
    for index in range(count):
        colour, slopes = (
            torch.rand(3, 1, 1, generator=generator),
            torch.rand(3, 2, 1, 1, generator=generator),
        )
        picture = (1.4 * colour - 0.7).expand(3, SIDE, SIDE)
        if index % 3:
            tilt = 0.6 * (slopes - 0.5)
            picture = picture + tilt[:, 0] * across + tilt[:, 1] * down
        if index % 3 == 2:
            picture = picture + 0.2 * torch.sin(3 * across + index)
        drawn.append(picture)
    return torch.stack(drawn).clamp(-1, 1)


SOURCES: dict[str, Callable[[Autoencoder, int], Tensor]] = {
    "generated": generated,
    "encodings": encodings,
    "photographs": photographs,
    "other model": other_model,
    "smooth": smooth,
}
