"""A model whose pictures show their noise, and the watermark commands run on it."""

import argparse
import json

import torch

from fixpoint.adapters.commands import main as main_command
from fixpoint.adapters.commands.watermark import embed as embed_command
from fixpoint.adapters.commands.watermark import recovery
from fixpoint.adapters.pictures.pictures import as_pictures

SCALE = 0.2  # of noise in the pictures of `Exact`


class Exact:
    """A model whose pictures show their noise, 8-bit rounding apart: 4 x 16 x 16 in 32 x 32."""

    def __init__(self):
        self.autoencoder = argparse.Namespace(factor=2, channels=4)
        self.calls = []

    def noise(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, 4, 16, 16, generator=generator)

    def check_sampling(self, prompt, **options):
        """Everything is taken."""

    def sampling(self, prompt, steps=50, guidance=1.0):
        self.calls.append({"prompt": prompt, "steps": steps, "guidance": guidance})
        return argparse.Namespace(generate=lambda noise, progress: noise)

    def decode(self, latent):
        shown = torch.pixel_shuffle(SCALE * latent, 2)
        return shown.expand(-1, 3, -1, -1).clamp(-1, 1)

    def recover(self, model, image, prompt="", *, progress, **options):
        assert model is self
        self.calls.append({"prompt": prompt} | options)
        grey = as_pictures(image).values.mean(1, keepdim=True)
        return argparse.Namespace(noise=torch.pixel_unshuffle(grey, 2) / SCALE)


def load(monkeypatch, model):
    """Make the commands load this model."""
    for command in (embed_command, recovery):
        monkeypatch.setattr(command, "load_diffusion", lambda options: model)


def run(*arguments):
    options = main_command.parser().parse_args(["watermark", *map(str, arguments)])
    return main_command.execute(options)


def embed(folder, key, *options, count=3):
    assert (
        run(
            "embed", "--prompt", "a hill", "--key", key, "--count", count, "--out", folder, *options
        )
        == 0
    )
    return sorted(folder.glob("*.png"))


def report_of(path):
    return json.loads(path.read_text())
