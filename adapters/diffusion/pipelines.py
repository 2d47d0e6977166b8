"""How the parts of each diffusion pipeline of diffusers work together.

The classes differ in the conditions and the call of their networks, in the autoencoder and in the
shape of latents. `PIPELINES` has one entry for each class, built from the small functions below.
Source: diffusers 0.42.1, the `__call__` of these pipelines.
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

PromptEncoder = Callable[[Any, str, str | None, bool], tuple[Condition, Condition | None]]


@dataclass(frozen=True)
class PipelineClass:
    """How a pipeline works.

    Attributes:
        network, autoencoder: the names of these parts.
        wrap: the autoencoder as an `Autoencoder`.
        encode_prompt: maps (pipeline, prompt, negative prompt or None, whether there is guidance)
            to the conditions of one row, for the prompt and for the negative prompt. None: the
            class takes no prompt.
        call: maps (pipeline, network, x, timestep, condition) to the network's output.
        latent_shape: maps a pipeline to its default shape of latents.
        latent_frames: maps (pipeline, frames) to frames of latents; None for pictures.
        velocity: the direction of a flow's output, see `schedule_of`.
        refuse: the reason why this pipeline is not supported; None if it is.
    """

    network: str
    autoencoder: str
    wrap: Callable[[Any], Autoencoder]
    encode_prompt: PromptEncoder | None
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


# Prompts, each encoded alone, so that no row depends on another.


def stable_diffusion_prompt(
    pipeline: Any, prompt: str, negative: str | None, guided: bool
) -> tuple[Condition, Condition | None]:
    positive, negative_states = pipeline.encode_prompt(
        prompt, pipeline._execution_device, 1, guided, negative_prompt=negative
    )
    return (
        {"encoder_hidden_states": positive},
        {"encoder_hidden_states": negative_states} if guided else None,
    )


def sdxl_prompt(
    pipeline: Any, prompt: str, negative: str | None, guided: bool
) -> tuple[Condition, Condition | None]:
    positive, negative_states, pooled, negative_pooled = pipeline.encode_prompt(
        prompt=prompt,
        device=pipeline._execution_device,
        do_classifier_free_guidance=guided,
        negative_prompt=negative,
    )
    condition = {"encoder_hidden_states": positive, "text_embeds": pooled}
    if not guided:
        return condition, None
    return condition, {"encoder_hidden_states": negative_states, "text_embeds": negative_pooled}


WAN_TOKENS = 512


def wan_prompt(
    pipeline: Any, prompt: str, negative: str | None, guided: bool
) -> tuple[Condition, Condition | None]:
    positive, negative_states = pipeline.encode_prompt(
        prompt=prompt,
        negative_prompt=negative,
        do_classifier_free_guidance=guided,
        max_sequence_length=WAN_TOKENS,
        device=pipeline._execution_device,
    )
    dtype = pipeline.transformer.dtype
    return (
        {"encoder_hidden_states": positive.to(dtype)},
        {"encoder_hidden_states": negative_states.to(dtype)} if guided else None,
    )


# Calls of the network.


def unet(pipeline: Any, network: Any, x: Tensor, timestep: float, condition: Condition) -> Tensor:
    return network(x, timestep, **condition, return_dict=False)[0]


def sdxl_unet(
    pipeline: Any, network: Any, x: Tensor, timestep: float, condition: Condition
) -> Tensor:
    """The network also takes the size of the picture and the position of its crop: none."""
    height, width = (side * pipeline.vae_scale_factor for side in x.shape[-2:])
    prompt = condition["encoder_hidden_states"]
    times = torch.tensor([[height, width, 0, 0, height, width]], dtype=prompt.dtype)
    added = {
        "text_embeds": condition["text_embeds"],
        "time_ids": times.to(x.device).expand(len(x), -1),
    }
    return network(
        x, timestep, encoder_hidden_states=prompt, added_cond_kwargs=added, return_dict=False
    )[0]


def wan_transformer(
    pipeline: Any, network: Any, x: Tensor, timestep: float, condition: Condition
) -> Tensor:
    times = torch.full((len(x),), timestep, device=x.device)
    return network(hidden_states=x, timestep=times, **condition, return_dict=False)[0]


# Autoencoders.


def upcast_autoencoder(model: Any) -> Autoencoder:
    """As in SDXL's pipeline: float16 models compute in float32 if `config.force_upcast` is set."""
    return Autoencoder.from_diffusers(model, upcast=True)


def per_frame(model: Any) -> Autoencoder:
    """An autoencoder of pictures, applied to each frame of a video."""
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


# What is not supported.


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
        encode_prompt=stable_diffusion_prompt,
        call=unet,
        latent_shape=unet_shape,
        velocity="to picture",  # a rectified flow in this architecture is InstaFlow's
        refuse=_distilled_guidance,
    ),
    "StableDiffusionXLPipeline": PipelineClass(
        network="unet",
        autoencoder="vae",
        wrap=upcast_autoencoder,
        encode_prompt=sdxl_prompt,
        call=sdxl_unet,
        latent_shape=unet_shape,
        refuse=_distilled_guidance,
    ),
    "TextToVideoSDPipeline": PipelineClass(
        network="unet",
        autoencoder="vae",
        wrap=per_frame,
        encode_prompt=stable_diffusion_prompt,
        call=unet,
        latent_shape=unet_video_shape,
        latent_frames=every_frame,
    ),
    "LDMPipeline": PipelineClass(
        network="unet",
        autoencoder="vqvae",
        wrap=Autoencoder.from_diffusers,
        encode_prompt=None,
        call=unet,
        latent_shape=unet_shape,
    ),
    "WanPipeline": PipelineClass(
        network="transformer",
        autoencoder="vae",
        wrap=Autoencoder.from_diffusers,
        encode_prompt=wan_prompt,
        call=wan_transformer,
        latent_shape=wan_shape,
        latent_frames=wan_frames,
        refuse=_two_transformers,
    ),
}
