"""The one table of diffusers' encoder/decoder classes: how each is called, or why it is refused.

The classes differ in what `encode` returns, in arguments that `encode` and `decode` want, in the
range of pixels, in the scaling of latents and in the sizes that come back. `CLASSES` holds one
entry for each: a `Convention`, made of the small functions of the modules beside this one, or the
reason why there is none. Source: diffusers 0.42.1, the classes themselves and the pipelines that
use them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fixpoint.adapters.autoencoders import decoding, encoding, extents, scaling
from fixpoint.adapters.autoencoders.convention import (
    BY_128,
    IMAGENET,
    UNIT,
    Convention,
    Medium,
    Refused,
)
from fixpoint.adapters.autoencoders.sizes import Rule

SIDES = ("height", "width")
FRAMES = "the number of frames"
SAMPLES = "the number of samples"
SPATIAL = extents.attribute("spatial_compression_ratio")
TEMPORAL = extents.attribute("temporal_compression_ratio")


@dataclass(frozen=True)
class AutoencoderClass:
    """One line of the table: a class that diffusers exports.

    Attributes:
        name: of the class.
        taken: whether `Autoencoder.from_diffusers` takes it.
        medium: "picture", "video" or "audio"; None where it is refused.
        reason: why it is refused; None where it is taken.
    """

    name: str
    taken: bool
    medium: Medium | None = None
    reason: str | None = None


def autoencoder_classes() -> tuple[AutoencoderClass, ...]:
    """Every class of `diffusers.models.autoencoders` that is known, by name."""
    return tuple(
        AutoencoderClass(name, taken=False, reason=entry.reason)
        if isinstance(entry, Refused)
        else AutoencoderClass(name, taken=True, medium=entry.medium)
        for name, entry in sorted(CLASSES.items())
    )


def classes_that_look_back() -> tuple[str, ...]:
    """The classes whose videos are inverted in windows with the past held fixed."""
    return tuple(
        name
        for name, entry in sorted(CLASSES.items())
        if isinstance(entry, Convention) and entry.looks_back is not None
    )


def _picture(factor: Callable[[Any], int], **rest: Any) -> Convention:
    defaults: dict[str, Any] = {
        "encode": encoding.posterior_mode,
        "decode": decoding.sample,
        "rules": extents.squares(factor),
        "statistics": scaling.scaled,
    }
    return Convention(medium="picture", axes=SIDES, factor=factor, **(defaults | rest))


def _video(
    frames: Callable[[Any], Rule],
    factor: Callable[[Any], int] = SPATIAL,
    **rest: Any,
) -> Convention:
    defaults: dict[str, Any] = {
        "encode": encoding.posterior_mode,
        "decode": decoding.sample,
        "rules": extents.clips(factor, frames),
        "statistics": scaling.scaled,
    }
    return Convention(medium="video", axes=(FRAMES, *SIDES), factor=factor, **(defaults | rest))


def _audio(factor: Callable[[Any], int], **rest: Any) -> Convention:
    defaults: dict[str, Any] = {
        "encode": encoding.posterior_mode,
        "decode": decoding.sample,
        "rules": extents.samples(factor),
        "statistics": scaling.unscaled,
        "axes": (SAMPLES,),
    }
    return Convention(medium="audio", factor=factor, **(defaults | rest))


def _no_codes(name: str, discrete: object) -> Callable[[Any], str | None]:
    def refuse(model: Any) -> str | None:
        if model.config[name] != discrete:
            return None
        return f"its latents are codes ({name}={discrete!r}), and steps need numbers to go between"

    return refuse


def _no_encoder(model: Any) -> str | None:
    if model.encoder is not None:
        return None
    return "it was loaded without its encoder"


CLASSES: dict[str, Convention | Refused] = {
    "AsymmetricAutoencoderKL": _picture(extents.halvings("down_block_out_channels")),
    "AutoencoderDC": _picture(
        extents.attribute("spatial_compression_ratio"),
        colours=extents.named("in_channels"),
        encode=encoding.latent,
    ),
    "AutoencoderKL": _picture(
        extents.halvings("block_out_channels"),
        statistics=scaling.shifted_or_standardised,
        upcast=True,
    ),
    "AutoencoderKLAllegro": _video(
        extents.every_frame,  # of the windows that `rules` asks for
        decode=decoding.frames_first,
        rules=extents.allegro_rules,
        alone=True,
        needs_tiling=True,
    ),
    "AutoencoderKLCogVideoX": _video(
        extents.cogvideo_frames, extents.halvings("block_out_channels"), looks_back=2
    ),
    "AutoencoderKLCosmos": _video(
        extents.cosmos_frames,
        lambda model: model.config.spatial_compression_ratio,
        statistics=scaling.standardised_by_frame,
    ),
    "AutoencoderKLFlux2": _picture(
        lambda model: 2 * extents.halvings("block_out_channels")(model),
        statistics=scaling.batch_normalised,
        layout=scaling.PATCHES,
    ),
    "AutoencoderKLHunyuanImage": _picture(lambda model: model.config.spatial_compression_ratio),
    "AutoencoderKLHunyuanImageRefiner": _picture(
        extents.attribute("spatial_compression_ratio"),
        encode=encoding.one_frame,
        decode=decoding.first_frame,
        layout=scaling.FRAME_PAIRS,
    ),
    "AutoencoderKLHunyuanVideo": _video(extents.causal(TEMPORAL)),
    "AutoencoderKLHunyuanVideo15": _video(extents.causal(TEMPORAL), alone=True, looks_back=1),
    "AutoencoderKLKVAE": _picture(
        extents.halvings("ch_mult"),
        channels="z_channels",
        colours=extents.named("in_channels"),
        statistics=scaling.unscaled,
    ),
    "AutoencoderKLKVAEAudio": _audio(
        extents.attribute("hop_length"),
        channels="codebook_dim",
        colours=extents.named("num_channels"),
    ),
    "AutoencoderKLKVAEVideo": _video(
        extents.causal(lambda model: model.config.temporal_compress_times),
        extents.halvings("ch_mult"),
        channels="z_channels",
        colours=extents.named("in_channels", "out_ch"),
        statistics=scaling.unscaled,
    ),
    "AutoencoderKLLTX2Audio": _audio(
        TEMPORAL,
        axes=(FRAMES, "the number of mel bins"),
        rules=extents.mel_rules,
        colours=extents.named("in_channels", "output_channels"),
        statistics=scaling.standardised_by_mel_bin,
    ),
    "AutoencoderKLLTX2Video": _video(
        extents.causal(extents.ltx_frames),
        extents.ltx_side,
        rules=extents.ltx_rules,
        decode=decoding.at_timestep,
        statistics=scaling.standardised_by_buffers,
        settings=("decode_timestep", "seed"),
    ),
    "AutoencoderKLLTXVideo": _video(
        extents.causal(extents.ltx_frames),
        extents.ltx_side,
        rules=extents.ltx_rules,
        decode=decoding.at_timestep,
        statistics=scaling.standardised_by_buffers,
        settings=("decode_timestep", "seed"),
    ),
    "AutoencoderKLMagvit": _video(
        extents.causal(TEMPORAL), tidy=decoding.clear_conv_cache, looks_back=1
    ),
    "AutoencoderKLMiniMaxH3": _video(
        extents.minimax_frames,
        rules=extents.minimax_rules,
        statistics=scaling.standardised,
        pixels=IMAGENET,
    ),
    "AutoencoderKLMiniMaxH3Audio": _audio(
        extents.attribute("hop_length"), colours=extents.fixed(1), statistics=scaling.standardised
    ),
    "AutoencoderKLMochi": _video(
        extents.causal(TEMPORAL),
        colours=extents.named("out_channels"),
        statistics=scaling.shifted_or_standardised,
        looks_back=1,
    ),
    "AutoencoderKLQwenImage": _picture(
        extents.attribute("spatial_compression_ratio"),
        channels="z_dim",
        colours=extents.named("input_channels"),
        encode=encoding.one_frame,
        decode=decoding.first_frame,
        statistics=scaling.standardised,
        tidy=decoding.clear_cache,
    ),
    "AutoencoderKLQwenImage21": _picture(
        extents.attribute("spatial_compression_ratio"),
        channels="z_dim",
        colours=extents.patched_colours,
        encode=encoding.one_frame,
        decode=decoding.first_frame,
        statistics=scaling.standardised,
        tidy=decoding.clear_cache,
    ),
    "AutoencoderKLTemporalDecoder": _video(
        extents.every_frame,
        extents.halvings("block_out_channels"),
        encode=encoding.frame_by_frame,
        decode=decoding.in_chunks,
        upcast=True,
        settings=("decode_chunk_size",),
        chunks=True,
    ),
    "AutoencoderKLWan": _video(
        extents.causal(extents.in_fours),
        channels="z_dim",
        colours=extents.patched_colours,
        statistics=scaling.standardised,
        tidy=decoding.clear_cache,
        looks_back=1,
        frame_step=extents.in_fours,
    ),
    "AutoencoderOobleck": _audio(
        extents.attribute("hop_length"),
        channels="decoder_input_channels",
        colours=extents.named("audio_channels"),
    ),
    "AutoencoderRAE": _picture(
        lambda model: model.config.patch_size,
        channels="encoder_hidden_size",
        colours=extents.named("num_channels"),
        encode=encoding.latent,
        rules=extents.rae_rules,
        statistics=scaling.unscaled,  # the model scales itself
        pixels=UNIT,
    ),
    "AutoencoderSAME": _audio(
        extents.attribute("downsampling_ratio"),
        channels="latent_dim",
        colours=extents.named("audio_channels"),
        encode=encoding.latents,
    ),
    "AutoencoderTiny": _picture(
        extents.halvings("encoder_block_out_channels"),
        encode=encoding.latents,
        statistics=scaling.shifted_or_standardised,
    ),
    "AutoencoderVidTok": _video(
        extents.vidtok_frames,
        lambda model: 2 ** len(model.encoder.spatial_ds),
        channels="z_channels",
        encode=encoding.after_repeated_start,
        decode=decoding.bare,
        statistics=scaling.unscaled,
        tidy=decoding.empty_causal_caches,
        refuse=_no_codes("regularizer", "fsq"),
    ),
    "ConsistencyDecoderVAE": _picture(
        extents.halvings("encoder_block_out_channels"),
        colours=extents.named("encoder_in_channels"),
        decode=decoding.from_repeated_noise,
        settings=("seed",),
    ),
    "Cosmos3AVAEAudioTokenizer": _audio(
        extents.attribute("_hop_size"),
        channels="vocoder_input_dim",
        colours=extents.named("dec_out_channels"),
        decode=decoding.bare,
        alone=True,  # it divides by the loudest sample of the whole batch
        refuse=_no_encoder,
    ),
    "Kandinsky6SRVAE": _video(extents.causal(TEMPORAL), pixels=BY_128, looks_back=1),
    "LTX2VideoDiffusionDecoderModel": Refused(
        "it decodes by diffusion and has no encoder; AutoencoderKLLTX2Video is the pair"
    ),
    "LongCatAudioDiTVae": _audio(
        extents.longcat_factor,
        channels="latent_dim",
        colours=extents.named("in_channels"),
        encode=encoding.unsampled_latents,
    ),
    "MMAudioVAE": _audio(
        lambda model: 2,
        axes=(FRAMES,),
        colours=extents.named("mel_bins"),
        encode=encoding.from_mel,
        statistics=scaling.scaled,
    ),
    "MMAudioVocoder": Refused(
        "it makes sound of mel spectrograms and has no encoder; MMAudioVAE is the pair"
    ),
    "MiniMaxMusic3Vocoder": Refused("it makes sound of latents and has no encoder"),
    "RFD4ProteinaAutoencoder": Refused(
        "it encodes the atoms of proteins, with masks and types beside them: neither pictures, "
        "videos nor sound"
    ),
    "VQModel": _picture(
        extents.halvings("block_out_channels"),
        encode=encoding.latents,
        decode=decoding.unquantised,
        statistics=scaling.unscaled,
        upcast=True,
        refuse=_no_codes("lookup_from_codebook", True),
    ),
}
