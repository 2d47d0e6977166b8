"""How each encoder/decoder class of diffusers is called, and what its pipelines do around it.

The classes differ in what `encode` returns, in arguments that `encode` and `decode` want, in the
range of pixels, in the scaling of latents and in the sizes that come back. `CLASSES` holds one
entry for each: a `Convention`, made of the small functions below, or the reason why there is none.
Source: diffusers 0.42.1, the classes themselves and the pipelines that use them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders.sizes import (
    Rule,
    Sizes,
    any_size,
    exactly,
    multiples_of,
    one_more_than_multiples_of,
    tiles,
)

Medium = Literal["picture", "video", "audio"]
SIDES = ("height", "width")
FRAMES = "the number of frames"
SAMPLES = "the number of samples"


@dataclass(frozen=True)
class Settings:
    """What a user chooses of a decoder, where its class has it.

    Attributes:
        decode_chunk_size: frames that are decoded together, as pipelines of Stable Video Diffusion
            do; None for all.
        decode_timestep: of a decoder that is conditioned on one, as LTX pipelines take it.
        seed: of the noise in a decoder, the same for every call and every row.
    """

    decode_chunk_size: int | None = None
    decode_timestep: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        size = self.decode_chunk_size
        if size is not None and not (isinstance(size, int) and size >= 1):
            raise ValueError(f"decode_chunk_size must be a whole number above 0, got {size!r}")
        if not 0 <= self.decode_timestep <= 1:
            raise ValueError(f"decode_timestep must lie in [0, 1], got {self.decode_timestep}")
        if not (isinstance(self.seed, int) and self.seed >= 0):
            raise ValueError(f"seed must be a whole number from 0 on, got {self.seed!r}")


@dataclass(frozen=True)
class Pixels:
    """Values v on [-1, 1] as the model takes them: gain * v + offset, per colour or for all."""

    gain: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)

    def to_model(self, values: Tensor) -> Tensor:
        return (
            values
            if self == SIGNED
            else values * self._of(self.gain, values) + self._of(self.offset, values)
        )

    def from_model(self, values: Tensor) -> Tensor:
        return (
            values
            if self == SIGNED
            else (values - self._of(self.offset, values)) / self._of(self.gain, values)
        )

    @staticmethod
    def _of(numbers: tuple[float, ...], values: Tensor) -> Tensor:
        tensor = torch.tensor(numbers, dtype=torch.float32, device=values.device)
        return tensor.reshape(1, -1, *[1] * (values.dim() - 2))


SIGNED = Pixels()
UNIT = Pixels((0.5,), (0.5,))
IMAGENET = Pixels(
    tuple(0.5 / std for std in (0.229, 0.224, 0.225)),
    tuple(
        (0.5 - mean) / std
        for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ),
)
BY_128 = Pixels((127.5 / 128,), (127.5 / 128 - 1,))
"""levels / 128 - 1, where [-1, 1] is levels / 127.5 - 1 (Kandinsky 6's K-VAE)."""


@dataclass(frozen=True)
class Layout:
    """The arrangement of latents in pipelines, and back to the model's own.

    Attributes:
        channels: of the pipeline's latents for every one of the model's.
    """

    to_pipeline: Callable[[Tensor], Tensor]
    to_model: Callable[[Tensor], Tensor]
    channels: int


@dataclass(frozen=True)
class Convention:
    """How a class is called.

    Attributes:
        medium: "picture" (batch, colours, height, width), "video" (batch, colours, frames, height,
            width) or "audio" (batch, channels, samples), or (batch, channels, frames, mel bins).
        channels: the name in the configuration of the number of latent channels.
        colours: of a model, what channels go in and come out.
        encode: x to raw latents, by the mode of the posterior.
        decode: raw latents to x.
        factor: of a model: pixels, or samples, per latent cell along a side.
        rules: of a model, the sizes that come back, for each axis after the channels.
        axes: names of these axes.
        statistics: of a model, (shift, scale) of its pipelines: (raw - shift) * scale.
        pixels: the range that the model takes.
        layout: of latents in its pipelines, where that is not the model's own.
        upcast: whether pipelines run a float16 model in float32 where `config.force_upcast` says
            so.
        alone: rows go through the model one by one: it mixes, or does not take, several.
        settings: fields of `Settings` that it has.
        needs_tiling: whether it computes in tiles alone.
        tidy: called after every pass, whatever happened: drops what the pass left on the model.
        refuse: why a configuration cannot be taken; None where it can.
    """

    medium: Medium
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor, Settings], Tensor]
    factor: Callable[[Any], int]
    rules: Callable[[Any], tuple[Rule, ...]]
    axes: tuple[str, ...]
    statistics: Callable[[Any, int], tuple[Tensor, Tensor]]
    channels: str = "latent_channels"
    colours: Callable[[Any], tuple[int, int]] = lambda model: (
        model.config.in_channels,
        model.config.out_channels,
    )
    pixels: Pixels = SIGNED
    layout: Layout | None = None
    upcast: bool = False
    alone: bool = False
    settings: tuple[str, ...] = ()
    needs_tiling: bool = False
    tidy: Callable[[Any], object] | None = None
    refuse: Callable[[Any], str | None] = lambda model: None

    def sizes(self, model: Any) -> Sizes:
        return Sizes(self.axes, self.rules(model))


@dataclass(frozen=True)
class Refused:
    """A class that is no encoder/decoder pair of ours, and why."""

    reason: str


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


# Encoding: x to raw latents.


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
    """A causal VidTok wants the first frame repeated in front, as its `forward` does."""
    if model.is_causal:
        first = x[:, :, :1].expand(-1, -1, model.temporal_compression_ratio - 1, -1, -1)
        x = torch.cat((first, x), dim=2)
    return model.encode(x).latent_dist.mode()


def from_mel(model: Any, x: Tensor) -> Tensor:
    """MMAudio's `encode` takes a waveform, its `decode` gives a mel spectrogram: the pair is that
    of mel spectrograms, inside."""
    hook = getattr(model, "_hf_hook", None)
    if hook is not None:  # what diffusers does in front of `encode`: bring the weights
        hook.pre_forward(model)
    return model.vae.encode(x).chunk(2, dim=1)[0]


# Decoding: raw latents to x.


def sample(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    return model.decode(raw).sample


def bare(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    return model.decode(raw)


def frames_first(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """Allegro decodes to (batch, frames, colours, height, width)."""
    return model.decode(raw).sample.transpose(1, 2)


def unquantised(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """Quantising would make E(D(.)) constant piece by piece; Kandinsky's pipelines do not."""
    return model.decode(raw, force_not_quantize=True).sample


def first_frame(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    return model.decode(raw).sample.squeeze(2)


def in_chunks(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """Frames of every video, `decode_chunk_size` at a time: chunks do not see each other."""
    decoded = [
        model.decode(part.transpose(1, 2).flatten(0, 1), num_frames=part.shape[2])
        .sample.unflatten(0, (len(raw), part.shape[2]))
        .transpose(1, 2)
        for part in raw.split(settings.decode_chunk_size or raw.shape[2], dim=2)
    ]
    return torch.cat(decoded, dim=2)


def at_timestep(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """LTX: conditioned on a timestep and with noise injected, where the configuration says so."""
    time = None
    if model.config.timestep_conditioning:
        time = raw.new_full((len(raw),), settings.decode_timestep)
    noisy = any(_as_list(model.config.decoder_inject_noise))
    with repeated_noise(raw.device, settings.seed) if noisy else nullcontext():
        return model.decode(raw, time).sample


def from_repeated_noise(model: Any, raw: Tensor, settings: Settings) -> Tensor:
    """The consistency decoder starts from noise: every row from the same, whatever the batch."""
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
    """The global generators start from `seed` inside, and are left as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# What a pass leaves on a model.


def clear_cache(model: Any) -> None:
    model.clear_cache()


def clear_conv_cache(model: Any) -> None:
    model._clear_conv_cache()


def empty_causal_caches(model: Any) -> None:
    model._empty_causal_cached(model)
    model._set_first_chunk(True)


# Colours, or channels of sound: in and out.


def patched_colours(model: Any) -> tuple[int, int]:
    area = (model.config.get("patch_size") or 1) ** 2
    return model.config.in_channels // area, model.config.out_channels // area


def named(inward: str, outward: str | None = None) -> Callable[[Any], tuple[int, int]]:
    return lambda model: (model.config[inward], model.config[outward or inward])


def fixed(channels: int) -> Callable[[Any], tuple[int, int]]:
    return lambda model: (channels, channels)


# Factors and the sizes that come back.


def halvings(name: str) -> Callable[[Any], int]:
    """2 for every block but the last."""
    return lambda model: 2 ** (len(model.config[name]) - 1)


def attribute(name: str) -> Callable[[Any], int]:
    return lambda model: int(getattr(model, name))


def longcat_factor(model: Any) -> int:
    """Its constructor lengthens or cuts the strides to one for every multiplier."""
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
    """Frames go in eights, latents in twos, and an odd one out stands for a single frame."""
    return Rule("8k or 8k + 1", lambda frames: frames >= 1 and frames % 8 in (0, 1))


def cosmos_frames(model: Any) -> Rule:
    """8k + 1, as far as the statistics of the latents reach: they differ from frame to frame."""
    step, mean = model.config.temporal_compression_ratio, model.config.latents_mean
    known = None if mean is None else len(mean) // model.config.latent_channels
    return one_more_than_multiples_of(step, most=None if known is None else (known - 1) * step + 1)


def allegro_rules(model: Any) -> tuple[Rule, ...]:
    """It decodes in windows only, and leaves what they do not cover black."""
    return tuple(tiles(*pair) for pair in zip(model.kernel, model.stride, strict=True))


def minimax_frames(model: Any) -> Rule:
    """Clips of `clip_length`; with tokens dropped at the end, the last one comes back cut."""
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
    """Padding by reflection wants a second latent cell."""
    reflects = model.config.spatial_padding_mode == "reflect"
    side = multiples_of(model.spatial_compression_ratio, least=2 if reflects else 1)
    return minimax_frames(model), side, side


def vidtok_frames(model: Any) -> Rule:
    if model.is_causal:
        return one_more_than_multiples_of(model.temporal_compression_ratio)
    return multiples_of(model.num_sample_frames_batch_size)


def ltx_side(model: Any) -> int:
    """LTX: counted block by block, for `spatial_compression_ratio` takes every block for one that
    halves everything, unless the configuration says otherwise."""
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
    """Padding by reflection wants a second latent cell."""
    reflects = model.config.get("decoder_spatial_padding_mode") == "reflect"
    side = multiples_of(ltx_side(model), least=2 if reflects else 1)
    return one_more_than_multiples_of(ltx_frames(model)), side, side


def mel_rules(model: Any) -> tuple[Rule, ...]:
    return one_more_than_multiples_of(model.temporal_compression_ratio), exactly(
        model.config.mel_bins
    )


def rae_rules(model: Any) -> tuple[Rule, ...]:
    """Its encoder resizes whatever it is given to one size, its decoder knows one size."""
    cells = model.encoder_input_size // model.config.encoder_patch_size
    return (exactly(cells * model.config.patch_size),) * 2


# Scaling of latents: (raw - shift) * scale.


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
    """LTX: the statistics are buffers, beside a scaling factor in the configuration."""
    buffers = {name: getattr(model, name).tolist() for name in ("latents_mean", "latents_std")}
    return shifted_or_standardised(_With(model, buffers), channels)


def standardised_by_frame(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Cosmos 1: statistics of every channel and latent frame. The pipelines multiply by their
    scheduler's `sigma_data` besides, which no autoencoder knows."""
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
    """LTX 2's sound: statistics of every channel and latent mel bin."""
    bins = model.config.mel_bins // model.mel_compression_ratio
    mean, std = (getattr(model, name).detach().float() for name in ("latents_mean", "latents_std"))
    if len(mean) != channels * bins:
        raise ValueError(
            f"the statistics of the latents must be {channels * bins} numbers, for {channels} "
            f"channels and {bins} mel bins, got {len(mean)}"
        )
    return mean.reshape(1, channels, 1, bins), 1 / std.reshape(1, channels, 1, bins)


def batch_normalised(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """Flux 2: the running statistics of a batch normalisation, on cells of 2 x 2."""
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
    """A model whose configuration has more in it."""

    def __init__(self, model: Any, more: dict[str, Any]) -> None:
        self.config = {**model.config, **more}


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


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


# The table.

SPATIAL = attribute("spatial_compression_ratio")
TEMPORAL = attribute("temporal_compression_ratio")


def _picture(factor: Callable[[Any], int], **rest: Any) -> Convention:
    defaults: dict[str, Any] = {
        "encode": posterior_mode,
        "decode": sample,
        "rules": squares(factor),
        "statistics": scaled,
    }
    return Convention(medium="picture", axes=SIDES, factor=factor, **(defaults | rest))


def _video(
    frames: Callable[[Any], Rule],
    factor: Callable[[Any], int] = SPATIAL,
    **rest: Any,
) -> Convention:
    defaults: dict[str, Any] = {
        "encode": posterior_mode,
        "decode": sample,
        "rules": clips(factor, frames),
        "statistics": scaled,
    }
    return Convention(medium="video", axes=(FRAMES, *SIDES), factor=factor, **(defaults | rest))


def _audio(factor: Callable[[Any], int], **rest: Any) -> Convention:
    defaults: dict[str, Any] = {
        "encode": posterior_mode,
        "decode": sample,
        "rules": samples(factor),
        "statistics": unscaled,
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
    "AsymmetricAutoencoderKL": _picture(halvings("down_block_out_channels")),
    "AutoencoderDC": _picture(
        attribute("spatial_compression_ratio"), colours=named("in_channels"), encode=latent
    ),
    "AutoencoderKL": _picture(
        halvings("block_out_channels"), statistics=shifted_or_standardised, upcast=True
    ),
    "AutoencoderKLAllegro": _video(
        every_frame,  # of the windows that `rules` asks for
        decode=frames_first,
        rules=allegro_rules,
        alone=True,
        needs_tiling=True,
    ),
    "AutoencoderKLCogVideoX": _video(cogvideo_frames, halvings("block_out_channels")),
    "AutoencoderKLCosmos": _video(
        cosmos_frames,
        lambda model: model.config.spatial_compression_ratio,
        statistics=standardised_by_frame,
    ),
    "AutoencoderKLFlux2": _picture(
        lambda model: 2 * halvings("block_out_channels")(model),
        statistics=batch_normalised,
        layout=PATCHES,
    ),
    "AutoencoderKLHunyuanImage": _picture(lambda model: model.config.spatial_compression_ratio),
    "AutoencoderKLHunyuanImageRefiner": _picture(
        attribute("spatial_compression_ratio"),
        encode=one_frame,
        decode=first_frame,
        layout=FRAME_PAIRS,
    ),
    "AutoencoderKLHunyuanVideo": _video(causal(TEMPORAL)),
    "AutoencoderKLHunyuanVideo15": _video(causal(TEMPORAL), alone=True),
    "AutoencoderKLKVAE": _picture(
        halvings("ch_mult"),
        channels="z_channels",
        colours=named("in_channels"),
        statistics=unscaled,
    ),
    "AutoencoderKLKVAEAudio": _audio(
        attribute("hop_length"), channels="codebook_dim", colours=named("num_channels")
    ),
    "AutoencoderKLKVAEVideo": _video(
        causal(lambda model: model.config.temporal_compress_times),
        halvings("ch_mult"),
        channels="z_channels",
        colours=named("in_channels", "out_ch"),
        statistics=unscaled,
    ),
    "AutoencoderKLLTX2Audio": _audio(
        TEMPORAL,
        axes=(FRAMES, "the number of mel bins"),
        rules=mel_rules,
        colours=named("in_channels", "output_channels"),
        statistics=standardised_by_mel_bin,
    ),
    "AutoencoderKLLTX2Video": _video(
        causal(ltx_frames),
        ltx_side,
        rules=ltx_rules,
        decode=at_timestep,
        statistics=standardised_by_buffers,
        settings=("decode_timestep", "seed"),
    ),
    "AutoencoderKLLTXVideo": _video(
        causal(ltx_frames),
        ltx_side,
        rules=ltx_rules,
        decode=at_timestep,
        statistics=standardised_by_buffers,
        settings=("decode_timestep", "seed"),
    ),
    "AutoencoderKLMagvit": _video(causal(TEMPORAL), tidy=clear_conv_cache),
    "AutoencoderKLMiniMaxH3": _video(
        minimax_frames, rules=minimax_rules, statistics=standardised, pixels=IMAGENET
    ),
    "AutoencoderKLMiniMaxH3Audio": _audio(
        attribute("hop_length"), colours=fixed(1), statistics=standardised
    ),
    "AutoencoderKLMochi": _video(
        causal(TEMPORAL), colours=named("out_channels"), statistics=shifted_or_standardised
    ),
    "AutoencoderKLQwenImage": _picture(
        attribute("spatial_compression_ratio"),
        channels="z_dim",
        colours=named("input_channels"),
        encode=one_frame,
        decode=first_frame,
        statistics=standardised,
        tidy=clear_cache,
    ),
    "AutoencoderKLQwenImage21": _picture(
        attribute("spatial_compression_ratio"),
        channels="z_dim",
        colours=patched_colours,
        encode=one_frame,
        decode=first_frame,
        statistics=standardised,
        tidy=clear_cache,
    ),
    "AutoencoderKLTemporalDecoder": _video(
        every_frame,
        halvings("block_out_channels"),
        encode=frame_by_frame,
        decode=in_chunks,
        upcast=True,
        settings=("decode_chunk_size",),
    ),
    "AutoencoderKLWan": _video(
        causal(lambda model: 4),  # frames enter in fours, whatever the configuration says
        channels="z_dim",
        colours=patched_colours,
        statistics=standardised,
        tidy=clear_cache,
    ),
    "AutoencoderOobleck": _audio(
        attribute("hop_length"), channels="decoder_input_channels", colours=named("audio_channels")
    ),
    "AutoencoderRAE": _picture(
        lambda model: model.config.patch_size,
        channels="encoder_hidden_size",
        colours=named("num_channels"),
        encode=latent,
        rules=rae_rules,
        statistics=unscaled,  # the model scales itself
        pixels=UNIT,
    ),
    "AutoencoderSAME": _audio(
        attribute("downsampling_ratio"),
        channels="latent_dim",
        colours=named("audio_channels"),
        encode=latents,
    ),
    "AutoencoderTiny": _picture(
        halvings("encoder_block_out_channels"), encode=latents, statistics=shifted_or_standardised
    ),
    "AutoencoderVidTok": _video(
        vidtok_frames,
        lambda model: 2 ** len(model.encoder.spatial_ds),
        channels="z_channels",
        encode=after_repeated_start,
        decode=bare,
        statistics=unscaled,
        tidy=empty_causal_caches,
        refuse=_no_codes("regularizer", "fsq"),
    ),
    "ConsistencyDecoderVAE": _picture(
        halvings("encoder_block_out_channels"),
        colours=named("encoder_in_channels"),
        decode=from_repeated_noise,
        settings=("seed",),
    ),
    "Cosmos3AVAEAudioTokenizer": _audio(
        attribute("_hop_size"),
        channels="vocoder_input_dim",
        colours=named("dec_out_channels"),
        decode=bare,
        alone=True,  # it divides by the loudest sample of the whole batch
        refuse=_no_encoder,
    ),
    "Kandinsky6SRVAE": _video(causal(TEMPORAL), pixels=BY_128),
    "LTX2VideoDiffusionDecoderModel": Refused(
        "it decodes by diffusion and has no encoder; AutoencoderKLLTX2Video is the pair"
    ),
    "LongCatAudioDiTVae": _audio(
        longcat_factor,
        channels="latent_dim",
        colours=named("in_channels"),
        encode=unsampled_latents,
    ),
    "MMAudioVAE": _audio(
        lambda model: 2,
        axes=(FRAMES,),
        colours=named("mel_bins"),
        encode=from_mel,
        statistics=scaled,
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
        halvings("block_out_channels"),
        encode=latents,
        decode=unquantised,
        statistics=unscaled,
        upcast=True,
        refuse=_no_codes("lookup_from_codebook", True),
    ),
}
