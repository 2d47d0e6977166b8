"""Tiny random diffusion pipelines of diffusers, for the tests.

Their networks are random, but their last layer is scaled, so that the output is of the order of
the noise and varies slowly with x, as that of a trained network does.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    TextToVideoSDPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    UNet3DConditionModel,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH = 16  # of what the networks are told per token
TOKENS = 8


def scheduler(**config: Any) -> DDIMScheduler:
    """Stable Diffusion's schedule."""
    options = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**(options | config))


def mild_scheduler() -> DDIMScheduler:
    """So little noise that a random network leaves latents of the size of pictures'."""
    return scheduler(beta_start=0.0005, beta_end=0.002)


def autoencoder(**config: Any) -> AutoencoderKL:
    """Of factor 2."""
    options = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 16,
        "scaling_factor": 0.5,
    }
    return _ready(AutoencoderKL(**(options | config)))


def tokenizer() -> CLIPTokenizer:
    """Every letter is a token."""
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def text_encoder(kind: Any = CLIPTextModel) -> Any:
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return _ready(kind(config))


def network(*, smoothness: float = 1.0, **config: Any) -> UNet2DConditionModel:
    options = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return _smooth(UNet2DConditionModel(**(options | config)), smoothness)


def stable_diffusion(
    *, seed: int = 0, smoothness: float = 1.0, scheduled: Any = None
) -> StableDiffusionPipeline:
    torch.manual_seed(seed)
    return _silent(
        StableDiffusionPipeline(
            vae=autoencoder(),
            text_encoder=text_encoder(),
            tokenizer=tokenizer(),
            unet=network(smoothness=smoothness),
            scheduler=scheduled or scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def flow(*, seed: int = 0, smoothness: float = 1.0) -> StableDiffusionPipeline:
    """A one-step rectified flow in Stable Diffusion's architecture, as InstaFlow."""
    return stable_diffusion(
        seed=seed, smoothness=smoothness, scheduled=FlowMatchEulerDiscreteScheduler()
    )


def sdxl(*, seed: int = 0) -> StableDiffusionXLPipeline:
    torch.manual_seed(seed)
    told = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
        "cross_attention_dim": 2 * WIDTH,
    }
    return _silent(
        StableDiffusionXLPipeline(
            vae=autoencoder(),
            text_encoder=text_encoder(),
            text_encoder_2=text_encoder(CLIPTextModelWithProjection),
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            unet=network(**told),
            scheduler=scheduler(),
            add_watermarker=False,
        )
    )


def text_to_video(*, seed: int = 0) -> TextToVideoSDPipeline:
    torch.manual_seed(seed)
    unet = UNet3DConditionModel(
        sample_size=4,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return _silent(
        TextToVideoSDPipeline(
            vae=autoencoder(),
            text_encoder=text_encoder(),
            tokenizer=tokenizer(),
            unet=_smooth(unet, 1.0),
            scheduler=scheduler(),
        )
    )


def unconditional(*, seed: int = 0) -> LDMPipeline:
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return _silent(LDMPipeline(vqvae=autoencoder(), unet=_smooth(unet, 1.0), scheduler=scheduler()))


def wan(*, seed: int = 0) -> WanPipeline:
    torch.manual_seed(seed)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -2.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    text = UMT5Config(
        vocab_size=len(pieces),
        d_model=WIDTH,
        d_kv=4,
        d_ff=WIDTH,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
    )
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
    )
    return _silent(
        WanPipeline(
            tokenizer=T5Tokenizer(vocab=pieces, extra_ids=0),
            text_encoder=_ready(UMT5EncoderModel(text)),
            vae=_ready(vae),
            transformer=_ready(transformer),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    )


def _ready(model: Any) -> Any:
    return model.eval().requires_grad_(False)


def _smooth(unet: Any, smoothness: float) -> Any:
    """The last layer scaled to noise of variance about `smoothness ** -2`."""
    _ready(unet)
    unet.conv_out.weight.mul_(1 / smoothness)
    return unet


def _silent(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
