"""The hard set: known latents of seven contents, seen through seven observations.

Contents are held-out photographs, dead leaves, text, flat areas, saturated pixels, noise, and
latents between two of those. Every latent is decoded and observed; each pair of a latent and an
observation is a case. With four latents a content there are 28 x 7 = 196 cases an autoencoder.
Photographs are held out; dead leaves, text and noise are drawn as some of the training pictures
were, from other seeds; flat and saturated pictures are of kinds that training never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.shared.pictures import dead_leaves, held_out_crops, power_law_noise, written_page
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    EightBit,
    Jpeg,
    Masked,
    Observation,
    WhiteNoise,
    as_pictures,
    nmse_db,
)

SIZE = 64
SEED = 90_000  # far from the seeds of training
CONTENTS = (
    "photographs",
    "dead leaves",
    "text",
    "flat areas",
    "saturated",
    "noise",
    "interpolations",
)
NOISE = 0.02  # standard deviation of the Gaussian noise on [-1, 1]: 2.5 of 255 levels
OBSERVATIONS = ("8-bit", "clipped", "JPEG 95", "JPEG 75", "JPEG 50", "Gaussian noise", "crop")


@dataclass(frozen=True)
class Group:
    """The cases of one observation.

    Attributes:
        name: of `OBSERVATIONS`.
        truth: z*, (cases, channels, rows, columns).
        pictures: x, (cases, 3, height, width), on [-1, 1].
        observation: passed to `invert`; None where the pictures show it themselves.
        known: latents whose pixels the picture shows, (rows, columns): the error is theirs.
    """

    name: str
    truth: Tensor
    pictures: Tensor
    observation: Observation | None
    known: Tensor

    def nmse_db(self, latent: Tensor, truth: Tensor | None = None) -> Tensor:
        """The error of each row in dB, over the latents that are known."""
        truth = self.truth if truth is None else truth
        return nmse_db(latent * self.known, truth * self.known)


def contents(each: int, size: int = SIZE) -> Tensor:
    """The pictures that are encoded, `each` of every content but the last: (n, 3, size, size)."""
    generator = np.random.default_rng(SEED)
    drawn = [held_out_crops(each, size, seed=SEED)]
    drawn += [as_pictures([dead_leaves(size, generator) for _ in range(each)]).values]
    drawn += [as_pictures([written_page(size, generator) for _ in range(each)]).values]
    drawn += [torch.from_numpy(np.stack([_flat(size, generator) for _ in range(each)]))]
    drawn += [(3 * held_out_crops(each, size, seed=SEED + 1)).clamp(-1, 1)]
    noise = np.stack([power_law_noise(size, generator) for _ in range(each)])
    drawn += [torch.from_numpy(0.35 * noise).permute(0, 3, 1, 2).clamp(-1, 1)]
    return torch.cat([pictures.float() for pictures in drawn])


@torch.no_grad()
def latents(autoencoder: Autoencoder, each: int = 4, size: int = SIZE) -> Tensor:
    """z* of every content: (7 each, channels, rows, columns), in the order of `CONTENTS`."""
    encoded = autoencoder.encode(contents(each, size).to(autoencoder.device))
    order = torch.from_numpy(np.random.default_rng(SEED).permutation(len(encoded))[: 2 * each])
    first, second = encoded[order].chunk(2)
    between = (first + second) / 2
    return torch.cat((encoded, between))


@torch.no_grad()
def group(autoencoder: Autoencoder, name: str, truth: Tensor) -> Group:
    """The latents seen through one observation."""
    decoded = autoencoder.decode(truth)
    known = torch.ones(truth.shape[2:], device=truth.device)
    observation: Observation | None = None
    if name == "8-bit":
        pictures = EightBit()(decoded)
    elif name == "clipped":
        pictures = Clip()(decoded)
    elif name.startswith("JPEG"):
        observation = Jpeg(quality=int(name.split()[1]))
        pictures = observation(decoded)
    elif name == "Gaussian noise":
        observation = WhiteNoise(level=NOISE)
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(decoded.shape, generator=generator).to(decoded.device)
        pictures = (decoded + NOISE * noise).clamp(-1, 1)
    elif name == "crop":
        pictures = EightBit()(decoded)
        height, width = pictures.shape[2:]
        edge = autoencoder.factor * (height // 8 // autoencoder.factor or 1)
        inside = torch.zeros(height, width, dtype=torch.bool, device=truth.device)
        inside[edge : height - edge, edge : width - edge] = True
        cut = pictures[:, :, edge : height - edge, edge : width - edge]
        pictures = torch.nn.functional.pad(cut, (edge,) * 4, mode="replicate")
        observation = Masked(inside)
        known = inside[:: autoencoder.factor, :: autoencoder.factor].float()
    else:
        raise ValueError(f"observations: {', '.join(OBSERVATIONS)}; got {name!r}")
    return Group(name, truth, pictures, observation, known)


def _flat(size: int, generator: np.random.Generator) -> np.ndarray:
    """A few areas of one colour each, some of them black or white: (3, size, size)."""
    pixels = np.empty((3, size, size), np.float32)
    pixels[:] = generator.uniform(-1, 1, 3)[:, None, None]
    for _ in range(int(generator.integers(0, 4))):
        top, left = generator.integers(0, size, 2)
        colour = generator.choice([-1.0, 1.0]) if generator.random() < 0.4 else None
        values = np.full(3, colour) if colour is not None else generator.uniform(-1, 1, 3)
        pixels[:, top : top + size // 2, left : left + size // 2] = values[:, None, None]
    return pixels
