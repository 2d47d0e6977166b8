"""Real pairs of encoder and decoder that lie beside the repository, not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("FIXPOINT_SHARED", ROOT.parent / "shared"))
"""Where data lies that is not part of the repository."""

TAEF2 = SHARED / "models" / "taef2"

KODAK = SHARED / "pictures" / "kodak"

needs_taef2 = pytest.mark.skipif(
    not TAEF2.is_dir(), reason=f"{TAEF2} is missing; FIXPOINT_SHARED names another place"
)

needs_kodak = pytest.mark.skipif(
    not KODAK.is_dir(), reason=f"{KODAK} is missing; FIXPOINT_SHARED names another place"
)


class Block(nn.Module):
    """relu(f(x) + x), f three convolutions; first x + g(x) at the latents' resolution, where g
    sees every pixel by its statistics over the picture."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        three = [nn.Conv2d(64, 64, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(three[0], nn.ReLU(), three[1], nn.ReLU(), three[2])
        self.pool = None
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(64, 256, 1, bias=False),
                nn.GroupNorm(4, 256),
                nn.ReLU(),
                nn.Conv2d(256, 64, 1, bias=False),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Saturated(nn.Module):
    """z to 3 tanh(z / 3)."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(z / 3)


def encoder() -> nn.Sequential:
    """Pictures on [0, 1] to 32 channels, by three halvings."""
    layers = [nn.Conv2d(3, 64, 3, padding=1), Block(pooled=False)]
    for stage in range(3):
        layers.append(nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False))
        layers += [Block(pooled=stage == 2) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(64, 32, 3, padding=1))


def decoder() -> nn.Sequential:
    """32 channels to pictures on [0, 1], by three doublings."""
    layers = [Saturated(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
    for stage in range(3):
        layers += [Block(pooled=stage == 0) for _ in range(3)]
        layers.append(nn.Upsample(scale_factor=2))
        layers.append(nn.Conv2d(64, 64, 3, padding=1, bias=False))
    return nn.Sequential(*layers, Block(pooled=False), nn.Conv2d(64, 3, 3, padding=1))


def taef2(dtype: torch.dtype = torch.float32, device: str = "cpu"):
    """FLUX.2's tiny autoencoder as an `Autoencoder`; the weights are float16, as published."""
    from safetensors.torch import load_file

    from fixpoint.adapters import Autoencoder

    halves = encoder(), decoder()
    for half, name in zip(halves, ("encoder", "decoder"), strict=True):
        half.load_state_dict(load_file(TAEF2 / f"{name}.safetensors"))
        half.to(device, dtype).eval().requires_grad_(False)
    return Autoencoder.from_functions(*halves, value_range=(0, 1), name="TAEF2")
