"""Decoders of diffusers: raw latents to x, and what a pass leaves on the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.convention import Settings


def sample(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    return model.decode(raw).sample


def bare(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    return model.decode(raw)


def frames_first(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """Allegro decodes to (batch, frames, colours, height, width)."""
    return model.decode(raw).sample.transpose(1, 2)


def unquantised(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """Quantised latents would make E(D(.)) piecewise constant; Kandinsky's pipelines do not
    quantise either."""
    return model.decode(raw, force_not_quantize=True).sample


def first_frame(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    return model.decode(raw).sample.squeeze(2)


def in_chunks(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """The frames of every video, `decode_chunk_size` at a time; chunks are independent."""
    decoded = [
        model.decode(part.transpose(1, 2).flatten(0, 1), num_frames=part.shape[2])
        .sample.unflatten(0, (len(raw), part.shape[2]))
        .transpose(1, 2)
        for part in raw.split(settings.decode_chunk_size or raw.shape[2], dim=2)
    ]
    return torch.cat(decoded, dim=2)


def at_timestep(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """LTX decoders take a timestep, and add noise, where the configuration says so."""
    time = None
    if model.config.timestep_conditioning:
        time = raw.new_full((len(raw),), settings.decode_timestep)
    noisy = any(_as_list(model.config.decoder_inject_noise))
    with repeated_noise(raw.device, settings.seed) if noisy else nullcontext():
        return model.decode(raw, time).sample


def from_repeated_noise(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """The consistency decoder starts from noise, here the same for every row of every batch."""
    scheduler = model.decoder_scheduler
    kept = dict(vars(scheduler))
    try:
        noise = [torch.Generator().manual_seed(settings.seed) for _ in range(len(raw))]
        return model.decode(raw, generator=noise).sample
    finally:
        vars(scheduler).clear()
        vars(scheduler).update(kept)


@contextmanager
def repeated_noise(device: torch.device, seed: int) -> Iterator[None]:
    """The global generators start from `seed` inside the block and are restored after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


# What a pass leaves on a model.


def clear_cache(model: Any) -> None:
    model.clear_cache()


def clear_conv_cache(model: Any) -> None:
    model._clear_conv_cache()


def empty_causal_caches(model: Any) -> None:
    model._empty_causal_cached(model)
    model._set_first_chunk(True)
