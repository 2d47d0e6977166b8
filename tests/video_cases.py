"""A small video, and autoencoders of videos that cost nothing, for the tests."""

import numpy as np
import torch

from fixpoint import Anderson
from fixpoint.adapters import Autoencoder, EightBit
from fixpoint.adapters.autoencoders.parts import PastFirst
from fixpoint.adapters.autoencoders.sizes import Sizes, any_size, one_more_than_multiples_of
from fixpoint.adapters.commands.demonstration import photograph
from fixpoint.adapters.pictures.observations import from_levels

LEVELS = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
VALUES = from_levels(torch.from_numpy(LEVELS).permute(3, 0, 1, 2).unsqueeze(0).float())

EXACT = {"iterator": Anderson(), "rtol": 1e-7, "max_iterations": 60, "stop": (), "keep": "best"}


def moving_camera(per_frame):
    """The latents of six frames of a camera that moves over the photograph, and their decoding."""
    wide = photograph(64)
    frames = [wide[:, :, 2 * k : 32 + 2 * k, 4 * k : 32 + 4 * k] for k in range(6)]
    with torch.no_grad():
        truth = per_frame.encode(torch.stack(frames, 2))
        return truth, EightBit()(per_frame.decode(truth))


class Toy(Autoencoder):
    """An autoencoder of a few sums, which computes rows and frames apart to the last bit."""

    name = "Toy"
    dtype = torch.float32
    device = torch.device("cpu")
    parts = PastFirst(group=1, step=4)

    def __init__(self, medium):
        self.medium = medium
        self.sample_channels = 3
        self.channels = 3
        self.factor = 1
        rules = (any_size(), any_size())
        frames = (one_more_than_multiples_of(4),) if medium == "video" else ()
        self.sizes = Sizes(("frames", "height", "width")[-2 - len(frames) :], frames + rules)

    def copy(self, dtype=None, *, channels_last=False):
        raise ValueError("a toy has no weights to copy")


class OfPictures(Toy):
    def __init__(self):
        super().__init__("picture")

    def encode(self, x):
        return x + 0.3 * x.sin()

    def decode(self, latents):
        return latents - 0.2 * latents.cos()


class LookingBack(Toy):
    """A latent frame stands for four frames, the first for one; D looks two latent frames back."""

    def __init__(self):
        super().__init__("video")

    def encode(self, x):
        first, rest = x[:, :, :1], x[:, :, 1:]
        groups = rest.unflatten(2, (-1, 4)).mean(3) if rest.shape[2] else rest
        means = torch.cat((first, groups), 2)
        return means + 0.2 * _earlier(means, 1)

    def decode(self, latents):
        seen = latents + 0.3 * _earlier(latents, 1) + 0.25 * _earlier(latents, 2)
        return torch.cat((seen[:, :, :1], seen[:, :, 1:].repeat_interleave(4, 2)), 2)


def _earlier(latents, steps):
    return torch.cat((torch.zeros_like(latents[:, :, :steps]), latents), 2)[
        :, :, : latents.shape[2]
    ]
