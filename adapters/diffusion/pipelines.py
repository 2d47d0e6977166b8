"""How the parts of each diffusion pipeline of diffusers work together.

The classes differ in what their networks are told and how they are called, in the autoencoder
around them and in the shape of latents. `PIPELINES` holds one entry for each, made of the small
functions below. Source: diffusers 0.42.1, the `__call__` of these pipelines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.diffusion.networks import Condition
from fixpoint.adapters.diffusion.sampler_steps import Direction


@dataclass(frozen=True)
class PipelineClass:
    """How a pipeline works.

    Attributes:
        network, autoencoder: the names of these parts.
        wrap: the autoencoder as an `Autoencoder`.
        tell: (pipeline, prompt, negative prompt or None, whether there is guidance) to what the
            network is told under either, for one row. None: it takes no prompt.
        call: (pipeline, network, x, timestep, condition) to the network's output.
        latent_shape: of a pipeline, what it draws unless told otherwise.
        latent_frames: (pipeline, frames) to frames of latents; None for pictures.
        velocity: where a flow's network points, see `schedule_of`.
        refuse: why a pipeline of this class cannot be taken; None where it can.
    """

    network: str
    autoencoder: str
    wrap: Callable[[Any], Autoencoder]
    tell: Callable[[Any, str, str | None, bool], tuple[Condition, Condition | None]] | None
    call: Callable[[Any, Any, Tensor, float, Condition], Tensor]
    latent_shape: Callable[[Any], tuple[int, ...]]
    latent_frames: Callable[[Any, int], int] | None = None
    velocity: Direction = "to noise"
    refuse: Callable[[Any], str | None] = lambda pipeline: None


def pipeline_class(name: str) -> PipelineClass:
    """The entry of a class.

    Raises:
        TypeError: there is none.
    """
    if name not in PIPELINES:
        raise TypeError(
            f"{name} is not supported; supported pipelines: {', '.join(sorted(PIPELINES))}. For "
            "any other network use BackwardEuler(network, latent, step) with its function"
        )
    return PIPELINES[name]


# Prompts: each alone, so that a row does not depend on the others.


def stable_diffusion_prompt(
    pipeline: Any, prompt: str, negative: str | None, guided: bool
) -> tuple[Condition, Condition | None]:
    told, without = pipeline.encode_prompt(
        prompt, pipeline._execution_device, 1, guided, negative_prompt=negative
    )
    return (
        {"encoder_hidden_states": told},
        {"encoder_hidden_states": without} if guided else None,
    )


def sdxl_prompt(
    pipeline: Any, prompt: str, negative: str | None, guided: bool
) -> tuple[Condition, Condition | None]:
    told, without, pooled, pooled_without = pipeline.encode_prompt(
        prompt=prompt,
        device=pipeline._execution_device,
        do_classifier_free_guidance=guided,
        negative_prompt=negative,
    )
    return (
        {"encoder_hidden_states": told, "text_embeds": pooled},
        {"encoder_hidden_states": without, "text_embeds": pooled_without} if guided else None,
    )


WAN_TOKENS = 512


def wan_prompt(
    pipeline: Any, prompt: str, negative: str | None, guided: bool
) -> tuple[Condition, Condition | None]:
    told, without = pipeline.encode_prompt(
        prompt=prompt,
        negative_prompt=negative,
        do_classifier_free_guidance=guided,
        max_sequence_length=WAN_TOKENS,
        device=pipeline._execution_device,
    )
    dtype = pipeline.transformer.dtype
    return (
        {"encoder_hidden_states": told.to(dtype)},
        {"encoder_hidden_states": without.to(dtype)} if guided else None,
    )


# Calls of the network.


def unet(pipeline: Any, network: Any, x: Tensor, timestep: float, condition: Condition) -> Tensor:
    return network(x, timestep, **condition, return_dict=False)[0]


def sdxl_unet(
    pipeline: Any, network: Any, x: Tensor, timestep: float, condition: Condition
) -> Tensor:
    """It is also told the size of the picture, and that nothing was cut off it."""
    height, width = (side * pipeline.vae_scale_factor for side in x.shape[-2:])
    told = condition["encoder_hidden_states"]
    times = torch.tensor([[height, width, 0, 0, height, width]], dtype=told.dtype)
    added = {
        "text_embeds": condition["text_embeds"],
        "time_ids": times.to(x.device).expand(len(x), -1),
    }
    return network(
        x, timestep, encoder_hidden_states=told, added_cond_kwargs=added, return_dict=False
    )[0]


def wan_transformer(
    pipeline: Any, network: Any, x: Tensor, timestep: float, condition: Condition
) -> Tensor:
    times = torch.full((len(x),), timestep, device=x.device)
    return network(hidden_states=x, timestep=times, **condition, return_dict=False)[0]


# Autoencoders.


def upcast_autoencoder(model: Any) -> Autoencoder:
    """As SDXL's pipeline: float16 is worked in float32 where `config.force_upcast` says so."""
    return Autoencoder.from_diffusers(model, upcast=True)


def per_frame(model: Any) -> Autoencoder:
    """An autoencoder of pictures on the frames of videos."""
    return PerFrame(Autoencoder.from_diffusers(model))


# Shapes of latents.


def unet_shape(pipeline: Any) -> tuple[int, ...]:
    config = pipeline.unet.config
    size = config.sample_size
    rows, columns = (size, size) if isinstance(size, int) else size
    return config.in_channels, rows, columns


def unet_video_shape(pipeline: Any) -> tuple[int, ...]:
    channels, *sides = unet_shape(pipeline)
    return channels, 16, *sides


def wan_shape(pipeline: Any) -> tuple[int, ...]:
    spatial = pipeline.vae_scale_factor_spatial
    frames = wan_frames(pipeline, 81)
    return pipeline.transformer.config.in_channels, frames, 480 // spatial, 832 // spatial


def every_frame(pipeline: Any, frames: int) -> int:
    return frames


def wan_frames(pipeline: Any, frames: int) -> int:
    step = pipeline.vae_scale_factor_temporal
    if (frames - 1) % step:
        raise ValueError(f"frames must be {step}k + 1, got {frames}")
    return (frames - 1) // step + 1


# What cannot be taken.


def _distilled_guidance(pipeline: Any) -> str | None:
    if pipeline.unet.config.get("time_cond_proj_dim") is not None:
        return "its network takes the guidance as an input (time_cond_proj_dim), as LCM's do"
    return None


def _two_transformers(pipeline: Any) -> str | None:
    if pipeline.transformer is None or pipeline.config.get("boundary_ratio") is not None:
        return "it changes between two transformers (Wan 2.2)"
    if pipeline.config.get("expand_timesteps"):
        return "it gives every frame a timestep of its own (expand_timesteps)"
    return None


PIPELINES = {
    "StableDiffusionPipeline": PipelineClass(
        network="unet",
        autoencoder="vae",
        wrap=Autoencoder.from_diffusers,
        tell=stable_diffusion_prompt,
        call=unet,
        latent_shape=unet_shape,
        velocity="to picture",  # a rectified flow in this architecture is InstaFlow's
        refuse=_distilled_guidance,
    ),
    "StableDiffusionXLPipeline": PipelineClass(
        network="unet",
        autoencoder="vae",
        wrap=upcast_autoencoder,
        tell=sdxl_prompt,
        call=sdxl_unet,
        latent_shape=unet_shape,
        refuse=_distilled_guidance,
    ),
    "TextToVideoSDPipeline": PipelineClass(
        network="unet",
        autoencoder="vae",
        wrap=per_frame,
        tell=stable_diffusion_prompt,
        call=unet,
        latent_shape=unet_video_shape,
        latent_frames=every_frame,
    ),
    "LDMPipeline": PipelineClass(
        network="unet",
        autoencoder="vqvae",
        wrap=Autoencoder.from_diffusers,
        tell=None,
        call=unet,
        latent_shape=unet_shape,
    ),
    "WanPipeline": PipelineClass(
        network="transformer",
        autoencoder="vae",
        wrap=Autoencoder.from_diffusers,
        tell=wan_prompt,
        call=wan_transformer,
        latent_shape=wan_shape,
        latent_frames=wan_frames,
        refuse=_two_transformers,
    ),
}
