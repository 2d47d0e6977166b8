"""Autoencoders of latent diffusion models as a pair of plain functions on tensors."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

EMBEDDED = ("kl", "adversarial")
SUPPORTED = ("AutoencoderKL",)


class Autoencoder:
    """An encoder/decoder pair: pictures on [-1, 1], latents in the pipeline's scaling.

    `encode` takes the mode of the posterior. Both work in the model's dtype and on its device and
    return float32 there; the model itself is never changed. Latents are those that a diffusers
    pipeline takes as `latents=`: `(raw - shift) * scale`.

    Attributes:
        model: the diffusers model.
        factor: pixels per latent cell along a side; sides of pictures must be multiples of it.
        channels: of the latents.
    """

    def __init__(self, model: Any, *, factor: int, channels: int, shift: Tensor, scale: Tensor):
        self.model = model
        self.factor = factor
        self.channels = channels
        self.shift = shift.to(model.device)
        self.scale = scale.to(model.device)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(
        self, pictures: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """E: pictures on [-1, 1] to scaled latents, float32."""
        posterior = self.model.encode(pictures.to(self.device, self.dtype)).latent_dist
        raw = posterior.mode().float()
        return (raw - self.shift.to(raw.device)) * self.scale.to(raw.device)

    def decode(
        self, latents: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """D: scaled latents to pictures, float32, not clipped."""
        raw = self.raw(latents.to(self.device)).to(self.dtype)
        return self.model.decode(raw).sample.float()

    def raw(
        self, latents: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """Scaled latents as the model's own `decode` takes them."""
        return latents / self.scale.to(latents.device) + self.shift.to(latents.device)

    def copy(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Autoencoder:
        """A copy with weights of its own, in evaluation mode and without gradients.

        Args:
            dtype: of the copy; None for the model's own. diffusers' `config.force_upcast` is not
                asked: it is True unless a model says otherwise, also for models that do well in
                float16. Where one does not, its latents overflow to infinity; bfloat16 has the
                range of float32.
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
            with _quiet_diffusers():
                if dtype is not None:
                    model = model.to(dtype)
            if channels_last:
                model = model.to(memory_format=torch.channels_last)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            message = " ".join(str(error).split())
            raise ValueError(f"the model cannot be copied: {message}") from error
        copied = copy.copy(self)
        copied.model = model
        return copied

    def __repr__(self) -> str:
        return (
            f"Autoencoder({type(self.model).__name__}, factor {self.factor}, "
            f"{self.channels} channels, {str(self.dtype).removeprefix('torch.')}, {self.device})"
        )

    @classmethod
    def from_diffusers(cls, model: Any) -> Autoencoder:
        """Wrap a loaded diffusers autoencoder, which keeps its dtype, device and settings.

        Raises:
            TypeError: the class is not one of the supported family.
        """
        name = type(model).__name__
        if name not in SUPPORTED:
            raise TypeError(
                f"{name} is not supported; supported: {', '.join(SUPPORTED)}. For any other pair "
                "use DecoderInversion(encode, decode, image) with its functions"
            )
        config = model.config
        if (config.in_channels, config.out_channels) != (3, 3):
            raise ValueError(
                f"the autoencoder must take and give RGB pictures, but has in_channels "
                f"{config.in_channels} and out_channels {config.out_channels}"
            )
        channels = config.latent_channels
        scale = _numbers(config, "scaling_factor", 1.0, channels, positive=True)
        shift = _numbers(config, "shift_factor", 0.0, channels)
        if config.get("latents_mean") is not None:
            shift = _numbers(config, "latents_mean", 0.0, channels)
        std = _numbers(config, "latents_std", 1.0, channels, positive=True)
        factor = 2 ** (len(config.block_out_channels) - 1)
        return cls(model, factor=factor, channels=channels, shift=shift, scale=scale / std)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> Autoencoder:
        """Load an autoencoder from a folder in diffusers' format; never from the network.

        Args:
            folder: holds `config.json` and safetensors weights, or a whole pipeline with a `vae`
                folder inside.
            dtype, device: of the loaded model.

        Raises:
            FileNotFoundError: the folder, its configuration or its weights are missing.
            ValueError: the folder holds something else. TypeError: an unsupported class.
        """
        folder = _autoencoder_folder(Path(folder))
        name = _class_name(folder)
        if name not in SUPPORTED:
            raise TypeError(
                f"{folder} holds a {name}, which is not supported; "
                f"supported: {', '.join(SUPPORTED)}"
            )
        if not any(folder.glob("*.safetensors")):
            raise FileNotFoundError(
                f"{folder} holds no safetensors weights (pickled ones are never loaded); "
                "save the model again with save_pretrained(..., safe_serialization=True)"
            )
        import diffusers

        try:
            with _quiet_diffusers():
                model, found = getattr(diffusers, name).from_pretrained(
                    folder,
                    torch_dtype=dtype,
                    local_files_only=True,
                    use_safetensors=True,
                    low_cpu_mem_usage=False,
                    output_loading_info=True,
                )
        except Exception as error:  # diffusers lets everything through that its parts raise
            message = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{folder} could not be loaded: {message}") from error
        for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
            if found.get(kind):
                raise ValueError(
                    f"the weights in {folder} do not fit its config.json: "
                    f"{len(found[kind])} {kind.replace('_', ' ')}, {found[kind][0]!r} the first"
                )
        return cls.from_diffusers(model.to(device).eval().requires_grad_(False))

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
        return cls.from_pretrained(
            Path(__file__).parent / "models" / name, dtype=dtype, device=device
        )


def offloaded(model: torch.nn.Module) -> bool:
    """Whether hooks bring the weights of a model to where and how they are needed."""
    return any(
        hasattr(module, hook)
        for module in model.modules()
        for hook in ("_hf_hook", "_diffusers_hook")
    )


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """Errors alone are reported inside the block."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _autoencoder_folder(folder: Path) -> Path:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"model folder {folder} {what}")
    if (folder / "model_index.json").is_file() and not (folder / "config.json").is_file():
        folder = folder / "vae"
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is not a model folder: it holds neither config.json nor model_index.json "
            "with a vae folder"
        )
    return folder


def _class_name(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text())
        return str(config["_class_name"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'} names no diffusers class") from error


def _numbers(
    config: Any, name: str, default: float, channels: int, *, positive: bool = False
) -> Tensor:
    """A number, or one per latent channel, of a configuration: () or (1, channels, 1, 1)."""
    value = config.get(name)
    value = default if value is None else value
    try:
        numbers = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.tensor(torch.nan)
    fits = numbers.dim() == 0 or numbers.shape == (channels,)
    if not fits or not bool(numbers.isfinite().all()) or (positive and bool((numbers <= 0).any())):
        raise ValueError(
            f"{name} of the autoencoder's configuration must be a number"
            f"{' above 0' if positive else ''}, or {channels} of them; got {value!r}"
        )
    return numbers if numbers.dim() == 0 else numbers.reshape(1, channels, 1, 1)
