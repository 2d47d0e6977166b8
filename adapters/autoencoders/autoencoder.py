"""Autoencoders of latent diffusion models as a pair of plain functions on tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders import folder as model_folder
from fixpoint.adapters.autoencoders.convention import (
    SIGNED,
    Convention,
    Medium,
    Refused,
    Settings,
)
from fixpoint.adapters.autoencoders.diffusers_classes import CLASSES
from fixpoint.adapters.autoencoders.parts import Parts

EMBEDDED = ("kl", "adversarial")


class Autoencoder:
    """An encoder/decoder pair: pictures and videos on [-1, 1], latents in the pipeline's scaling.

    `encode` takes the mode of the posterior. Both work in the model's dtype and on its device and
    return float32 there; the model itself is never changed. Latents are those that the diffusion
    of a diffusers pipeline works on: `(raw - shift) * scale`, in the pipeline's arrangement.

    Attributes:
        model: the diffusers model.
        medium: "picture": x is (batch, colours, height, width); "video": (batch, colours, frames,
            height, width); "audio": (batch, channels, samples), or of spectrograms (batch, mel
            bins, frames) or (batch, channels, frames, mel bins).
        sample_channels: colours or channels of x.
        factor: pixels, samples or frames of a spectrogram per latent cell along a side.
        sizes: which sizes of x come back from `decode(encode(x))`, axis by axis.
        channels: of the latents.
        settings: what was chosen of the decoder.
    """

    def __init__(
        self,
        model: Any,
        convention: Convention,
        *,
        channels: int,
        sample_channels: int,
        shift: Tensor,
        scale: Tensor,
        settings: Settings | None = None,
    ):
        self.model = model
        self.convention = convention
        self.channels = channels
        self.sample_channels = sample_channels
        self.factor = convention.factor(model)
        self.sizes = convention.sizes(model)
        self.settings = settings or Settings()
        self.shift = shift.to(model.device)
        self.scale = scale.to(model.device)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def medium(self) -> Medium:
        return self.convention.medium

    @property
    def parts(self) -> Parts:
        """What part of a video can be inverted by itself."""
        return self.convention.parts(self.model, self.settings)

    def encode(self, x: Float[Tensor, "batch *sample"]) -> Float[Tensor, "batch channels *cells"]:
        """E: x to scaled latents, float32."""
        x = x.to(self.device)
        if self.convention.pixels != SIGNED:
            x = self.convention.pixels.to_model(x.float())
        raw = self._pass(self.convention.encode, x.to(self.dtype)).float()
        if self.convention.layout is not None:
            raw = self.convention.layout.to_pipeline(raw)
        return (raw - _beside(self.shift, raw)) * _beside(self.scale, raw)

    def decode(
        self, latents: Float[Tensor, "batch channels *cells"]
    ) -> Float[Tensor, "batch *sample"]:
        """D: scaled latents to x, float32, not clipped."""
        raw = self.raw(latents.to(self.device)).to(self.dtype)

        def decoded(model: Any, rows: Tensor) -> Tensor:
            return self.convention.decode(model, rows, self.settings)

        return self.convention.pixels.from_model(self._pass(decoded, raw).float())

    def raw(
        self, latents: Float[Tensor, "batch channels *cells"]
    ) -> Float[Tensor, "batch raw_channels *raw_cells"]:
        """Scaled latents as the model's own `decode` takes them."""
        raw = latents / _beside(self.scale, latents) + _beside(self.shift, latents)
        return raw if self.convention.layout is None else self.convention.layout.to_model(raw)

    def check_shape(self, shape: torch.Size | tuple[int, ...]) -> None:
        """Refuse an x whose shape would not come back from `decode(encode(x))`.

        Raises:
            ValueError: with the sizes that would do.
        """
        name, axes = type(self.model).__name__, ", ".join(self.sizes.names)
        if len(shape) != 2 + len(self.sizes.rules) or shape[1] != self.sample_channels:
            raise ValueError(
                f"{name} takes {self.medium}s of shape (batch, {self.sample_channels}, {axes}), "
                f"got {tuple(shape)}"
            )
        self.sizes.check(shape, self.medium, name)

    def _pass(self, function: Callable[[Any, Tensor], Tensor], rows: Tensor) -> Tensor:
        """A pass through the model, which is left as it was found, also by an error."""
        try:
            if self.convention.alone and len(rows) > 1:
                return torch.cat([function(self.model, row) for row in rows.split(1)])
            return function(self.model, rows)
        finally:
            if self.convention.tidy is not None:
                self.convention.tidy(self.model)

    def copy(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Autoencoder:
        """A copy with weights of its own, in evaluation mode and without gradients.

        Args:
            dtype: of the copy; None for the model's own. diffusers' `config.force_upcast` is not
                asked: it is True unless a model says otherwise, also for models that do well in
                float16. Where one does not, its latents overflow to infinity; bfloat16 has the
                range of float32, and `from_diffusers(model, upcast=True)` asks.
            channels_last: store the weights of convolutions as `torch.channels_last`, which the
                kernels for GPUs and 16 bits want.

        Raises:
            ValueError: the model cannot be copied or converted, as where its weights are
                offloaded.
        """
        if offloaded(self.model):
            raise ValueError(
                "the model cannot be copied: hooks of accelerate or diffusers load, move or cast "
                "its weights"
            )
        try:
            model = copy.deepcopy(self.model).eval().requires_grad_(False)
            model.zero_grad(set_to_none=True)
            with model_folder.quiet_diffusers():
                if dtype is not None:
                    model = model.to(dtype)
            if channels_last:
                for parameter in model.parameters():  # those of 3-D convolutions have five axes
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.to(memory_format=torch.channels_last)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            message = " ".join(str(error).split())
            raise ValueError(f"the model cannot be copied: {message}") from error
        copied = copy.copy(self)
        copied.model = model
        return copied

    def __repr__(self) -> str:
        medium = "" if self.medium == "picture" else f"{self.medium}, "
        return (
            f"Autoencoder({type(self.model).__name__}, {medium}factor {self.factor}, "
            f"{self.channels} channels, {str(self.dtype).removeprefix('torch.')}, {self.device})"
        )

    @classmethod
    def from_diffusers(
        cls,
        model: Any,
        *,
        decode_chunk_size: int | None = None,
        decode_timestep: float | None = None,
        seed: int | None = None,
        upcast: bool = False,
    ) -> Autoencoder:
        """Wrap a loaded diffusers autoencoder, which keeps its dtype, device and settings.

        Args:
            model: of a class that `autoencoder_classes()` lists as taken.
            decode_chunk_size: AutoencoderKLTemporalDecoder: frames decoded together, as by the
                pipeline that made the video; None for all of them, the pipeline's default.
            decode_timestep: LTX decoders conditioned on a timestep: the pipeline's, by default 0.
            seed: of decoders with noise in them: the noise is the same for every call and row.
            upcast: do as pipelines do that honour `config.force_upcast`: where it is set, and the
                model is in float16, work in float32, on a private copy. By default float16 is
                taken at its word, as pipelines of Stable Diffusion 1 and 2 do with the same flag.

        Raises:
            TypeError: the class is none of these. ValueError: a configuration that cannot be
                taken, or an option that its class does not have.
        """
        name = type(model).__name__
        convention = _convention(name, f"{name} is")
        reason = convention.refuse(model)
        if convention.needs_tiling and not model.use_tiling:
            reason = "it works with tiling alone: call enable_tiling() on it first"
        if reason is not None:
            raise ValueError(f"this {name} cannot be taken: {reason}")
        given = {
            "decode_chunk_size": decode_chunk_size,
            "decode_timestep": decode_timestep,
            "seed": seed,
        }
        settings = _settings(name, convention, given)
        inward, outward = convention.colours(model)
        if inward != outward:
            raise ValueError(
                f"the autoencoder must take and give the same {_CHANNELS[convention.medium]}, but "
                f"has in_channels {inward} and out_channels {outward}"
            )
        channels = model.config[convention.channels]
        shift, scale = convention.statistics(model, channels)
        wrapped = cls(
            model,
            convention,
            channels=channels * (1 if convention.layout is None else convention.layout.channels),
            sample_channels=inward,
            shift=shift,
            scale=scale,
            settings=settings,
        )
        honoured = convention.upcast and model.config.get("force_upcast")
        if upcast and honoured and model.dtype == torch.float16:
            return wrapped.copy(torch.float32)
        return wrapped

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        decode_chunk_size: int | None = None,
        decode_timestep: float | None = None,
        seed: int | None = None,
    ) -> Autoencoder:
        """Load an autoencoder from a folder in diffusers' format; never from the network.

        Args:
            folder: holds `config.json` and safetensors weights, or a whole pipeline with a `vae`
                (or `movq`, `vqvae`) folder inside.
            dtype, device: of the loaded model.
            decode_chunk_size, decode_timestep, seed: as for `from_diffusers`.

        Raises:
            FileNotFoundError: the folder, its configuration or its weights are missing.
            ValueError: the folder holds something else. TypeError: an unsupported class.
        """
        folder = model_folder.autoencoder_folder(Path(folder))
        name = model_folder.class_name(folder)
        convention = _convention(name, f"{folder} holds a {name}, which is")
        model = model_folder.load(folder, name, dtype)
        model = model.to(device).eval().requires_grad_(False)
        if convention.needs_tiling:
            model.enable_tiling()
        return cls.from_diffusers(
            model, decode_chunk_size=decode_chunk_size, decode_timestep=decode_timestep, seed=seed
        )

    @classmethod
    def embedded(
        cls,
        name: str = "kl",
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> Autoencoder:
        """A small trained autoencoder that ships inside the package.

        Args:
            name: "kl" (factor 4, trained on pixel error) or "adversarial" (factor 8, trained
                with a patch discriminator). The model cards lie beside the weights.
            dtype, device: of the loaded model.
        """
        if name not in EMBEDDED:
            raise ValueError(f"embedded autoencoders: {', '.join(EMBEDDED)}; got {name!r}")
        return cls.from_pretrained(model_folder.MODELS / name, dtype=dtype, device=device)


def offloaded(model: torch.nn.Module) -> bool:
    """Whether hooks bring the weights of a model to where and how they are needed."""
    return any(
        hasattr(module, hook)
        for module in model.modules()
        for hook in ("_hf_hook", "_diffusers_hook")
    )


_CHANNELS = {"picture": "colours", "video": "colours", "audio": "channels"}


def _convention(name: str, subject: str) -> Convention:
    """How the class `name` is called.

    Raises:
        TypeError: it is not one of the table, or refused by it.
    """
    entry = CLASSES.get(name)
    if isinstance(entry, Convention):
        return entry
    if isinstance(entry, Refused):
        raise TypeError(f"{subject} not supported: {entry.reason}")
    raise TypeError(
        f"{subject} not supported; fixpoint.adapters.autoencoder_classes() lists what is. For any "
        "other pair use DecoderInversion(encode, decode, image) with its functions"
    )


def _settings(name: str, convention: Convention, given: dict[str, Any]) -> Settings:
    chosen = {option: value for option, value in given.items() if value is not None}
    for option in chosen:
        if option not in convention.settings:
            owners = [
                owner
                for owner, entry in sorted(CLASSES.items())
                if isinstance(entry, Convention) and option in entry.settings
            ]
            raise ValueError(f"{option} belongs to {', '.join(owners)}, not to {name}")
    return Settings(**chosen)


def _beside(numbers: Tensor, latents: Tensor) -> Tensor:
    """Statistics of latents, shaped to stand beside them."""
    numbers = numbers.to(latents.device)
    if numbers.dim() == 1:
        return numbers.reshape(1, -1, *[1] * (latents.dim() - 2))
    if numbers.dim() == 5:  # of single frames, the first ones of which there are
        return numbers[:, :, : latents.shape[2]]
    return numbers
