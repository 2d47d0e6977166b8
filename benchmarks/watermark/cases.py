"""Models and keys, and the pictures that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.shared.prompts import PROMPTS
from fixpoint.adapters import Clip, EightBit, invert, invert_by_encoder, invert_by_gradient
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.noise_recovery import DecoderInverter
from fixpoint.adapters.diffusion.sampling import Method
from fixpoint.adapters.provenance.tree_ring import TreeRing

KEYS = (1, 2, 3)
BATCH = 10  # pictures at a time
SEED = 0
METHODS: dict[str, DecoderInverter] = {
    "encoder": invert_by_encoder,
    "ours": invert,
    "gradient, L-BFGS": partial(
        invert_by_gradient, steps=40, optimizer="lbfgs", observation=Clip()
    ),
    "gradient, Adam": partial(invert_by_gradient, steps=100),
}
SLOW = ("gradient, L-BFGS", "gradient, Adam")  # they get only the first pictures


@dataclass(frozen=True)
class Mark:
    """Mask and channel of the keys, the methods that look for them, and the share of pictures."""

    mask: str
    channel: int
    methods: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """A model, and the settings of its sampling and of the inversion of its sampling."""

    model: str
    steps: int
    guidance: float
    method: Method  # of inverting the sampling
    marks: dict[str, Mark]

    def load(self) -> LatentDiffusion:
        return LatentDiffusion.embedded(self.model)

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "steps": self.steps,
            "guidance": self.guidance,
            "method": self.method,
        }


FIRST = Mark("centred", 0, tuple(METHODS))
LAST = Mark("centred", 3, ("encoder", "ours"))
OFFICIAL = Mark("official", 0, ("encoder", "ours"), share=0.1)
CASES = {
    "diffusion": Case(
        "diffusion", 25, 3.0, "naive", {"channel 0": FIRST, "channel 0, official mask": OFFICIAL}
    ),
    "diffusion_channel_3": Case("diffusion", 25, 3.0, "naive", {"channel 3": LAST}),
    "flow": Case("flow", 1, 1.0, "backward-euler", {"channel 0": FIRST}),
}


@dataclass(frozen=True)
class KnownPictures:
    """Pictures with the noise that they were made from; `labels` number their keys."""

    noise: Tensor
    latent: Tensor
    picture: Tensor
    prompts: tuple[str, ...]
    labels: Tensor
    keys: tuple[TreeRing, ...]

    def rows(self, rows: slice) -> KnownPictures:
        noise, latent, picture = (part[rows] for part in (self.noise, self.latent, self.picture))
        return KnownPictures(
            noise, latent, picture, self.prompts[rows], self.labels[rows], self.keys
        )

    def batches(self) -> list[KnownPictures]:
        return [self.rows(slice(at, at + BATCH)) for at in range(0, len(self.noise), BATCH)]


def make(model: LatentDiffusion, case: Case, mark: Mark, count: int) -> KnownPictures:
    """`count` pictures a key, saved with 8 bits."""
    keys = tuple(
        TreeRing.paper(model.latent_shape, key=key, mask=mark.mask, channel=mark.channel)
        for key in KEYS
    )
    noise = model.noise(count * len(keys), seed=SEED)
    labels = torch.arange(len(noise)) % len(keys)
    for label, key in enumerate(keys):
        noise[labels == label] = key.embed(noise[labels == label])
    return drawn(model, case, noise, labels, keys)


def drawn(
    model: LatentDiffusion, case: Case, noise: Tensor, labels: Tensor, keys: tuple[TreeRing, ...]
) -> KnownPictures:
    prompts = tuple(PROMPTS[(row // len(keys)) % len(PROMPTS)] for row in range(len(noise)))
    latents, pictures = [], []
    for at in range(0, len(noise), BATCH):
        given = prompts[at : at + BATCH]
        sampling = model.sampling(given, steps=case.steps, guidance=case.guidance)
        latents.append(sampling.generate(noise[at : at + BATCH]))
        pictures.append(EightBit()(model.decode(latents[-1])))
    return KnownPictures(noise, torch.cat(latents), torch.cat(pictures), prompts, labels, keys)
