"""Encoders of diffusers: x to raw latents, by the mode of the posterior."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def posterior_mode(model: Any, x: Tensor) -> Tensor:
    return model.encode(x).latent_dist.mode()


def latent(model: Any, x: Tensor) -> Tensor:
    return model.encode(x).latent


def latents(model: Any, x: Tensor) -> Tensor:
    return model.encode(x).latents


def unsampled_latents(model: Any, x: Tensor) -> Tensor:
    return model.encode(x, sample_posterior=False).latents


def frame_by_frame(model: Any, x: Tensor) -> Tensor:
    """(batch, colours, frames, ...) by an encoder of pictures."""
    flat = model.encode(x.transpose(1, 2).flatten(0, 1)).latent_dist.mode()
    return flat.unflatten(0, (len(x), x.shape[2])).transpose(1, 2)


def one_frame(model: Any, x: Tensor) -> Tensor:
    """A picture by an encoder of videos; the latents keep the axis of frames, as in pipelines."""
    return model.encode(x.unsqueeze(2)).latent_dist.mode()


def after_repeated_start(model: Any, x: Tensor) -> Tensor:
    """The first frame is repeated in front, as by `forward` of a causal VidTok."""
    if model.is_causal:
        first = x[:, :, :1].expand(-1, -1, model.temporal_compression_ratio - 1, -1, -1)
        x = torch.cat((first, x), dim=2)
    return model.encode(x).latent_dist.mode()


def from_mel(model: Any, x: Tensor) -> Tensor:
    """The pair of mel spectrograms inside MMAudio, whose own `encode` takes a waveform."""
    hook = getattr(model, "_hf_hook", None)
    if hook is not None:  # brings the weights, as diffusers does before `encode`
        hook.pre_forward(model)
    return model.vae.encode(x).chunk(2, dim=1)[0]
