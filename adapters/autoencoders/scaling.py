"""Scaling and arrangement of latents in the pipelines of diffusers: (raw - shift) * scale."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.convention import Layout


def unscaled(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    return torch.tensor(0.0), torch.tensor(1.0)


def scaled(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """z * scaling_factor; a factor of None counts as 1."""
    return torch.tensor(0.0), numbers(model.config, "scaling_factor", 1.0, channels, positive=True)


def shifted_or_standardised(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """(z - shift_factor) * scaling_factor, or (z - latents_mean) * scaling_factor / latents_std."""
    config = model.config
    scale = numbers(config, "scaling_factor", 1.0, channels, positive=True)
    shift = numbers(config, "shift_factor", 0.0, channels)
    if config.get("latents_mean") is not None:
        shift = numbers(config, "latents_mean", 0.0, channels)
    return shift, scale / numbers(config, "latents_std", 1.0, channels, positive=True)


def standardised(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """(z - latents_mean) / latents_std."""
    shift = numbers(model.config, "latents_mean", 0.0, channels)
    return shift, 1 / numbers(model.config, "latents_std", 1.0, channels, positive=True)


def standardised_by_buffers(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """LTX keeps the statistics in buffers, and a scaling factor in the configuration."""
    buffers = {name: getattr(model, name).tolist() for name in ("latents_mean", "latents_std")}
    return shifted_or_standardised(_With(model, buffers), channels)


def standardised_by_frame(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Cosmos 1 has statistics of every channel and latent frame. Its pipelines also multiply by
    `sigma_data` of their scheduler, which the autoencoder does not know."""
    config = model.config
    if config.latents_mean is None:
        return unscaled(model, channels)
    frames = len(config.latents_mean) // channels
    shift = numbers(config, "latents_mean", 0.0, channels * frames)
    scale = 1 / numbers(config, "latents_std", 1.0, channels * frames, positive=True)
    shape = (1, channels, frames, 1, 1)
    return shift.expand(channels * frames).reshape(shape), scale.expand(channels * frames).reshape(
        shape
    )


def standardised_by_mel_bin(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """The sound of LTX 2 has statistics of every channel and latent mel bin."""
    bins = model.config.mel_bins // model.mel_compression_ratio
    mean, std = (getattr(model, name).detach().float() for name in ("latents_mean", "latents_std"))
    if len(mean) != channels * bins:
        raise ValueError(
            f"the statistics of the latents must be {channels * bins} numbers, for {channels} "
            f"channels and {bins} mel bins, got {len(mean)}"
        )
    return mean.reshape(1, channels, 1, bins), 1 / std.reshape(1, channels, 1, bins)


def batch_normalised(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Flux 2 scales cells of 2 x 2 by the running statistics of a batch normalisation."""
    variance = model.bn.running_var.detach().float() + model.config.batch_norm_eps
    return model.bn.running_mean.detach().float(), variance.rsqrt()


def numbers(
    config: Any, name: str, default: float, channels: int, *, positive: bool = False
) -> Tensor:
    """A number, or one per latent channel, of a configuration: () or (channels,).

    Raises:
        ValueError: something else.
    """
    value = config.get(name)
    value = default if value is None else value
    try:
        tensor = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        tensor = torch.tensor(torch.nan)
    fits = tensor.dim() == 0 or tensor.shape == (channels,)
    if not fits or not bool(tensor.isfinite().all()) or (positive and bool((tensor <= 0).any())):
        raise ValueError(
            f"{name} of the autoencoder's configuration must be a number"
            f"{' above 0' if positive else ''}, or {channels} of them; got {value!r}"
        )
    return tensor


class _With:
    """A model with further entries in its configuration."""

    def __init__(self, model: Any, more: dict[str, Any]) -> None:
        self.config = {**model.config, **more}


# Arrangement of latents.


def _cells_of_4(raw: Tensor) -> Tensor:
    batch, channels, height, width = raw.shape
    cells = raw.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 1, 3, 5, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


def _cells_of_1(packed: Tensor) -> Tensor:
    batch, channels, height, width = packed.shape
    cells = packed.reshape(batch, channels // 4, 2, 2, height, width)
    return cells.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // 4, 2 * height, 2 * width)


def _frames_in_pairs(raw: Tensor) -> Tensor:
    """Frame 0 twice, then every two frames as one with twice the channels."""
    doubled = torch.cat((raw[:, :, :1], raw), dim=2)
    batch, channels, frames, height, width = doubled.shape
    pairs = doubled.transpose(1, 2).reshape(batch, frames // 2, 2 * channels, height, width)
    return pairs.transpose(1, 2)


def _frames_apart(paired: Tensor) -> Tensor:
    batch, channels, frames, height, width = paired.shape
    single = paired.transpose(1, 2).reshape(batch, 2 * frames, channels // 2, height, width)
    return single.transpose(1, 2)[:, :, 1:]


PATCHES = Layout(_cells_of_4, _cells_of_1, channels=4)
FRAME_PAIRS = Layout(_frames_in_pairs, _frames_apart, channels=2)
