"""A tiny random instance of every encoder/decoder class of diffusers, for the tests and the table
of docs/autoencoders.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2


@dataclass(frozen=True)
class Tiny:
    """A configuration and the shape of one row of x that comes back from it."""

    shape: tuple[int, ...]
    config: dict[str, Any] = field(default_factory=dict)


TINY = {
    "AsymmetricAutoencoderKL": Tiny(
        (3, 8, 8),
        {
            "down_block_types": DOWN,
            "up_block_types": UP,
            "down_block_out_channels": (8, 8),
            "up_block_out_channels": (8, 8),
            "norm_num_groups": 4,
        },
    ),
    "AutoencoderDC": Tiny(
        (3, 8, 8),
        {
            "latent_channels": 8,
            "attention_head_dim": 4,
            "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": (1, 1),
            "encoder_qkv_multiscales": ((), (5,)),
            "decoder_qkv_multiscales": ((), (5,)),
            "scaling_factor": 0.4,
        },
    ),
    "AutoencoderKL": Tiny(
        (3, 8, 8),
        {
            "down_block_types": DOWN,
            "up_block_types": UP,
            "block_out_channels": (8, 8),
            "norm_num_groups": 4,
            "scaling_factor": 0.37,
            "shift_factor": 0.11,
        },
    ),
    "AutoencoderKLAllegro": Tiny(
        (3, 24, 16, 16),
        {
            "down_block_types": ("AllegroDownBlock3D",) * 3,
            "up_block_types": ("AllegroUpBlock3D",) * 3,
            "block_out_channels": (8, 8, 8),
            "temporal_downsample_blocks": (True, True, False),
            "temporal_upsample_blocks": (False, True, True),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "sample_size": 16,
        },
    ),
    "AutoencoderKLCogVideoX": Tiny(
        (3, 9, 16, 16),
        {
            "down_block_types": ("CogVideoXDownBlock3D",) * 4,
            "up_block_types": ("CogVideoXUpBlock3D",) * 4,
            "block_out_channels": (8, 8, 8, 8),
            "latent_channels": 4,
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "sample_height": 16,
            "sample_width": 16,
        },
    ),
    "AutoencoderKLCosmos": Tiny(
        (3, 9, 32, 32),
        {
            "latent_channels": 2,
            "encoder_block_out_channels": (8, 8, 8, 8),
            "decode_block_out_channels": (8, 8, 8, 8),
            "attention_resolutions": (8,),
            "resolution": 32,
            "num_layers": 1,
            "latents_mean": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            "latents_std": [1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
        },
    ),
    "AutoencoderKLFlux2": Tiny(
        (3, 8, 8),
        {
            "down_block_types": DOWN,
            "up_block_types": UP,
            "block_out_channels": (8, 8),
            "layers_per_block": 1,
            "latent_channels": 4,
            "norm_num_groups": 4,
        },
    ),
    "AutoencoderKLHunyuanImage": Tiny(
        (3, 8, 8),
        {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "block_out_channels": (32, 32),
            "layers_per_block": 1,
            "spatial_compression_ratio": 2,
            "sample_size": 16,
        },
    ),
    "AutoencoderKLHunyuanImageRefiner": Tiny(
        (3, 8, 8),
        {
            "latent_channels": 4,
            "block_out_channels": (32, 32, 32),
            "layers_per_block": 1,
            "spatial_compression_ratio": 4,
            "temporal_compression_ratio": 4,
        },
    ),
    "AutoencoderKLHunyuanVideo": Tiny(
        (3, 5, 16, 16),
        {
            "latent_channels": 4,
            "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
            "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
    ),
    "AutoencoderKLHunyuanVideo15": Tiny(
        (3, 5, 8, 8),
        {
            "latent_channels": 4,
            "block_out_channels": (32, 32, 32),
            "layers_per_block": 1,
            "spatial_compression_ratio": 4,
            "temporal_compression_ratio": 4,
        },
    ),
    "AutoencoderKLKVAE": Tiny(
        (3, 8, 8),
        {
            "channels": 32,
            "num_enc_blocks": 1,
            "num_dec_blocks": 1,
            "z_channels": 4,
            "ch_mult": (1, 1),
            "sample_size": 16,
        },
    ),
    "AutoencoderKLKVAEAudio": Tiny(
        (1, 48),
        {
            "encoder_dim": 8,
            "encoder_rates": [2, 3],
            "latent_dim": 16,
            "codebook_dim": 4,
            "decoder_dim": 16,
            "decoder_rates": [3, 2],
            "attn_num_heads": 2,
        },
    ),
    "AutoencoderKLKVAEVideo": Tiny(
        (3, 5, 16, 16),
        {"ch": 32, "ch_mult": (1, 1, 1), "num_res_blocks": 1, "z_channels": 4},
    ),
    "AutoencoderKLLTXVideo": Tiny(
        (3, 9, 32, 32),
        {
            "latent_channels": 8,
            "block_out_channels": (8, 8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8, 8),
            "layers_per_block": (1, 1, 1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1, 1, 1),
            "scaling_factor": 0.7,
        },
    ),
    "AutoencoderKLLTX2Video": Tiny(
        (3, 9, 64, 64),
        {
            "latent_channels": 8,
            "block_out_channels": (8, 16, 32, 64),
            "decoder_block_out_channels": (8, 16, 32),
            "layers_per_block": (1, 1, 1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1, 1),
        },
    ),
    "AutoencoderKLLTX2Audio": Tiny(
        (2, 9, 16),
        {
            "base_channels": 16,
            "latent_channels": 4,
            "num_res_blocks": 1,
            "mel_bins": 16,
            "resolution": 16,
        },
    ),
    "AutoencoderKLMagvit": Tiny(
        (3, 9, 16, 16),
        {
            "latent_channels": 4,
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
    ),
    "AutoencoderKLMiniMaxH3": Tiny(
        (3, 6, 8, 8),
        {
            "clip_length": 5,
            "token_drop": 1,
            "latent_channels": 4,
            "block_out_channels": (8, 8, 8),
            "layers_per_block": 1,
            "spatial_downsample_factors": (2, 2, 1),
            "temporal_downsample_factors": (2, 2, 1),
            "norm_num_groups": 4,
            "decoder_num_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_attention_head_dim": 16,
            "decoder_num_register_tokens": 1,
            "decoder_ffn_mult": 2,
            "latents_mean": (0.1, 0.2, 0.3, 0.4),
            "latents_std": (1.1, 1.2, 1.3, 1.4),
        },
    ),
    "AutoencoderKLMiniMaxH3Audio": Tiny(
        (1, 32),
        {
            "encoder_dim": 8,
            "encoder_rates": (2, 2),
            "latent_dim": 32,
            "latent_channels": 4,
            "num_attention_heads": 2,
            "decoder_dim": 16,
            "decoder_rates": (2, 2),
            "decoder_kernel_sizes": (4, 4),
            "resblock_kernel_sizes": (3,),
            "resblock_dilation_sizes": ((1, 3),),
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [1.1, 1.2, 1.3, 1.4],
        },
    ),
    "AutoencoderKLMochi": Tiny(
        (3, 7, 16, 16),
        {
            "encoder_block_out_channels": (32, 32, 32, 32),
            "decoder_block_out_channels": (32, 32, 32, 32),
            "latent_channels": 4,
            "layers_per_block": (1, 1, 1, 1, 1),
            "latents_mean": (0.1, 0.2, 0.3, 0.4),
            "latents_std": (1.1, 1.2, 1.3, 1.4),
            "scaling_factor": 0.9,
        },
    ),
    "AutoencoderKLQwenImage": Tiny(
        (3, 16, 16),
        {
            "base_dim": 4,
            "z_dim": 4,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [1.1, 1.2, 1.3, 1.4],
        },
    ),
    "AutoencoderKLQwenImage21": Tiny(
        (4, 16, 16),
        {
            "base_dim": 4,
            "decoder_base_dim": 4,
            "z_dim": 4,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [1.1, 1.2, 1.3, 1.4],
            "scale_factor_temporal": 4,
            "scale_factor_spatial": 8,
        },
    ),
    "AutoencoderKLTemporalDecoder": Tiny(
        (3, 4, 8, 8),
        {
            "down_block_types": DOWN,
            "block_out_channels": (32, 32),
            "layers_per_block": 1,
        },
    ),
    "AutoencoderKLWan": Tiny(
        (3, 5, 16, 16),
        {
            "base_dim": 4,
            "z_dim": 4,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [1.1, 1.2, 1.3, 1.4],
        },
    ),
    "AutoencoderOobleck": Tiny(
        (2, 64),
        {
            "encoder_hidden_size": 8,
            "downsampling_ratios": [2, 4],
            "channel_multiples": [1, 2],
            "decoder_channels": 8,
            "decoder_input_channels": 4,
        },
    ),
    "AutoencoderRAE": Tiny(
        (3, 16, 16),
        {
            "encoder_hidden_size": 64,
            "encoder_patch_size": 4,
            "encoder_num_hidden_layers": 1,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 32,
            "patch_size": 4,
            "encoder_input_size": 16,
            "scaling_factor": 0.8,
        },
    ),
    "AutoencoderSAME": Tiny(
        (2, 64),
        {
            "patch_size": 4,
            "encoder_channels": 8,
            "encoder_c_mults": [2],
            "encoder_strides": [2],
            "encoder_transformer_depths": [1],
            "latent_dim": 8,
            "dim_heads": 8,
            "ff_mult": 2,
        },
    ),
    "AutoencoderTiny": Tiny(
        (3, 8, 8),
        {
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
        },
    ),
    "AutoencoderVidTok": Tiny(
        (3, 5, 16, 16),
        {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1},
    ),
    "ConsistencyDecoderVAE": Tiny(
        (3, 8, 8),
        {
            "encoder_block_out_channels": (8, 8),
            "encoder_down_block_types": DOWN,
            "encoder_layers_per_block": 1,
            "encoder_norm_num_groups": 4,
            "decoder_block_out_channels": (8, 8),
            "decoder_down_block_types": ("ResnetDownsampleBlock2D",) * 2,
            "decoder_up_block_types": ("ResnetUpsampleBlock2D",) * 2,
            "decoder_layers_per_block": 1,
            "decoder_norm_num_groups": 4,
        },
    ),
    "Cosmos3AVAEAudioTokenizer": Tiny(
        (2, 64),
        {
            "vocoder_input_dim": 4,
            "dec_dim": 8,
            "dec_c_mults": (1, 2),
            "dec_strides": (4, 8),
            "enc_dim": 8,
            "enc_intermediate_dim": 16,
            "enc_num_layers": 1,
            "enc_num_blocks": 1,
            "enc_n_fft": 16,
            "enc_hop_length": 4,
            "enc_latent_dim": 8,
            "enc_c_mults": (1, 2),
            "enc_strides": (2, 4),
        },
    ),
    "Kandinsky6SRVAE": Tiny(
        (3, 5, 16, 16),
        {
            "latent_channels": 4,
            "encoder_block_out_channels": (32, 32, 32, 32),
            "decoder_block_out_channels": (32, 32, 32, 32),
            "layers_per_block": 1,
        },
    ),
    "LongCatAudioDiTVae": Tiny(
        (1, 64),
        {
            "channels": 8,
            "c_mults": [1, 2],
            "strides": [2, 4],
            "latent_dim": 4,
            "encoder_latent_dim": 8,
            "downsampling_ratio": 8,
        },
    ),
    "MMAudioVAE": Tiny(
        (16, 8),
        {
            "mel_bins": 16,
            "latent_channels": 4,
            "hidden_channels": 16,
            "layers_per_block": 1,
            "n_fft": 64,
            "hop_length": 16,
        },
    ),
    "VQModel": Tiny(
        (3, 8, 8),
        {
            "down_block_types": DOWN,
            "up_block_types": UP,
            "block_out_channels": (8, 8),
            "norm_num_groups": 4,
            "num_vq_embeddings": 16,
        },
    ),
}


def tiny(name: str, *, seed: int = 0) -> Any:
    """The random model of a class, in evaluation mode; the same for the same seed."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(diffusers, name)(**TINY[name].config).eval()
        if name == "AutoencoderSAME":  # it begins with a constant E and D
            for weight in model.parameters():
                weight.data += 0.5 * torch.randn(weight.shape)
    if name == "AutoencoderKLAllegro":
        model.enable_tiling()  # it computes in no other way
    return model


def latent_shape(autoencoder: Any, name: str) -> tuple[int, ...]:
    """Of one row of the tiny x."""
    with torch.no_grad():
        return tuple(autoencoder.encode(torch.zeros(1, *TINY[name].shape)).shape[1:])


def taught(autoencoder: Any, name: str, steps: int) -> Any:
    """The pair after a little training towards E(D(z)) = z with D(z) on [-1, 1]: a random pair is
    no near-inverse, and has no latent that an inversion could be expected to find."""
    shape = latent_shape(autoencoder, name)
    generator = torch.Generator().manual_seed(0)
    weights = [weight for weight in autoencoder.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 10) * (1 - step / steps)
        z = torch.randn(8, *shape, generator=generator)
        x = autoencoder.decode(z)
        loss = (autoencoder.encode(x) - z).square().mean()
        loss = loss + 10 * (x.abs() - 0.95).clamp(min=0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return autoencoder


def decoded(autoencoder: Any, name: str, rows: int = 2) -> torch.Tensor:
    """An x that a latent lies behind, but for clipping."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        x = autoencoder.decode(
            torch.randn(rows, *latent_shape(autoencoder, name), generator=generator)
        )
    return x if autoencoder.medium == "audio" else x.clamp(-1, 1)


@torch.no_grad()
def residuals(autoencoder: Any, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """||E(D(z)) - E(x)|| of every row, computed by the pair alone."""
    return (
        (autoencoder.encode(autoencoder.decode(z)) - autoencoder.encode(x)).flatten(1).norm(dim=1)
    )
