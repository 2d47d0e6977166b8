"""Factors, sizes that come back and numbers of colours, from the configurations of diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fixpoint.adapters.autoencoders.sizes import (
    Rule,
    any_size,
    exactly,
    multiples_of,
    one_more_than_multiples_of,
    tiles,
)

# Factors and the sizes that come back.


def halvings(name: str) -> Callable[[Any], int]:
    """A factor of 2 for every block except the last."""
    return lambda model: 2 ** (len(model.config[name]) - 1)


def attribute(name: str) -> Callable[[Any], int]:
    return lambda model: int(getattr(model, name))


def temporal_ratio(model: Any) -> int:
    """Frames of a latent frame, by the configuration, else by the model."""
    ratio = model.config.get("temporal_compression_ratio")
    return int(model.temporal_compression_ratio if ratio is None else ratio)


def in_fours(model: Any) -> int:
    """Wan takes frames in fours, whatever its configuration says."""
    return 4


def longcat_factor(model: Any) -> int:
    """LongCat pads or cuts the strides to the number of multipliers."""
    blocks = len(model.config.c_mults or (1, 2, 4, 8, 16))
    strides = list(model.config.strides or [2])
    return math.prod((strides + [strides[-1]] * blocks)[:blocks])


def squares(factor: Callable[[Any], int]) -> Callable[[Any], tuple[Rule, ...]]:
    def rules(model: Any) -> tuple[Rule, ...]:
        return (multiples_of(factor(model)),) * 2

    return rules


def clips(
    factor: Callable[[Any], int], frames: Callable[[Any], Rule]
) -> Callable[[Any], tuple[Rule, ...]]:
    def rules(model: Any) -> tuple[Rule, ...]:
        return frames(model), *squares(factor)(model)

    return rules


def samples(factor: Callable[[Any], int]) -> Callable[[Any], tuple[Rule, ...]]:
    return lambda model: (multiples_of(factor(model)),)


def causal(step: Callable[[Any], int]) -> Callable[[Any], Rule]:
    return lambda model: one_more_than_multiples_of(step(model))


def every_frame(model: Any) -> Rule:
    return any_size()


def cogvideo_frames(model: Any) -> Rule:
    """CogVideoX takes eight frames, or two latent frames, at a time; one left over is alone."""
    return Rule("8k or 8k + 1", lambda frames: frames >= 1 and frames % 8 in (0, 1))


def cosmos_frames(model: Any) -> Rule:
    """8k + 1, at most as many as there are statistics: every latent frame has its own."""
    step, mean = model.config.temporal_compression_ratio, model.config.latents_mean
    known = None if mean is None else len(mean) // model.config.latent_channels
    return one_more_than_multiples_of(step, most=None if known is None else (known - 1) * step + 1)


def allegro_rules(model: Any) -> tuple[Rule, ...]:
    """Allegro decodes in windows, and leaves black what no window covers."""
    return tuple(tiles(*pair) for pair in zip(model.kernel, model.stride, strict=True))


def minimax_frames(model: Any) -> Rule:
    """Clips of `clip_length` frames; where tokens are dropped, the last clip comes back shorter."""
    clip, drop = model.config.clip_length, model.config.token_drop
    cut = clip - model.frame_overlap if drop > 0 else 0
    if not drop:
        return Rule(
            f"1 or {clip}k", lambda frames: frames == 1 or (frames > 0 and frames % clip == 0)
        )
    return Rule(
        f"{clip}k - {cut}, from {2 * clip - cut} on",
        lambda frames: frames > clip and (frames + cut) % clip == 0,
    )


def minimax_rules(model: Any) -> tuple[Rule, ...]:
    """Padding by reflection needs a second latent cell."""
    reflects = model.config.spatial_padding_mode == "reflect"
    side = multiples_of(model.spatial_compression_ratio, least=2 if reflects else 1)
    return minimax_frames(model), side, side


def vidtok_frames(model: Any) -> Rule:
    if model.is_causal:
        return one_more_than_multiples_of(model.temporal_compression_ratio)
    return multiples_of(model.num_sample_frames_batch_size)


def ltx_side(model: Any) -> int:
    """Pixels per cell of LTX, counted block by block: `spatial_compression_ratio` takes all blocks
    for halvings of both time and space, unless the configuration sets it."""
    return model.config.patch_size * 2 ** _ltx_halvings(model, "spatial")


def ltx_frames(model: Any) -> int:
    return model.config.patch_size_t * 2 ** _ltx_halvings(model, "temporal")


def _ltx_halvings(model: Any, axis: str) -> int:
    config = model.config
    blocks = len(config.down_block_types)
    scaling = config.spatio_temporal_scaling
    scales = [scaling] * blocks if isinstance(scaling, bool) else list(scaling)
    kinds = [
        "conv" if block == "LTXVideoDownBlock3D" else kind
        for block, kind in zip(config.down_block_types, config.downsample_type, strict=False)
    ]
    halving = ("conv", axis, "spatiotemporal")
    return sum(scale and kind in halving for scale, kind in zip(scales, kinds, strict=False))


def ltx_rules(model: Any) -> tuple[Rule, ...]:
    """Padding by reflection needs a second latent cell."""
    reflects = model.config.get("decoder_spatial_padding_mode") == "reflect"
    side = multiples_of(ltx_side(model), least=2 if reflects else 1)
    return one_more_than_multiples_of(ltx_frames(model)), side, side


def mel_rules(model: Any) -> tuple[Rule, ...]:
    return one_more_than_multiples_of(model.temporal_compression_ratio), exactly(
        model.config.mel_bins
    )


def rae_rules(model: Any) -> tuple[Rule, ...]:
    """The encoder resizes every x to one size, and the decoder returns one size."""
    cells = model.encoder_input_size // model.config.encoder_patch_size
    return (exactly(cells * model.config.patch_size),) * 2


# Colours, or channels of sound: in and out.


def patched_colours(model: Any) -> tuple[int, int]:
    area = (model.config.get("patch_size") or 1) ** 2
    return model.config.in_channels // area, model.config.out_channels // area


def named(inward: str, outward: str | None = None) -> Callable[[Any], tuple[int, int]]:
    return lambda model: (model.config[inward], model.config[outward or inward])


def fixed(channels: int) -> Callable[[Any], tuple[int, int]]:
    return lambda model: (channels, channels)
