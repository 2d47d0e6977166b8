"""An autoencoder in the shape of Stable Diffusion 2.1's, with random weights."""

from __future__ import annotations

import torch

from fixpoint.adapters import Autoencoder

CHANNELS = (128, 256, 512, 512)
GROUPS = 32
SMALL = 16  # pixels, enough to warm the libraries up


def build(channels: tuple[int, ...], dtype: torch.dtype, seed: int) -> Autoencoder:
    """An AutoencoderKL with these channels: 83.7 million weights with `CHANNELS`."""
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=min(GROUPS, channels[0]),
        sample_size=768,
        scaling_factor=0.18215,
    )
    return Autoencoder.from_diffusers(model.to(dtype).eval().requires_grad_(False))


def weights_bytes(autoencoder: Autoencoder) -> int:
    weights = autoencoder.parameters()
    return sum(weight.numel() * weight.element_size() for weight in weights)
