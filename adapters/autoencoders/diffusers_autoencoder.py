"""Autoencoders of diffusers, called as the table of its classes says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fixpoint.adapters.autoencoders import folder as model_folder
from fixpoint.adapters.autoencoders import single_file
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder, constructs
from fixpoint.adapters.autoencoders.convention import SIGNED, Convention, Refused, Settings
from fixpoint.adapters.autoencoders.copies import copied, offloaded
from fixpoint.adapters.autoencoders.diffusers_classes import CLASSES
from fixpoint.adapters.autoencoders.folder import quiet_diffusers
from fixpoint.adapters.autoencoders.hub import Source
from fixpoint.adapters.autoencoders.parts import Parts


class DiffusersAutoencoder(Autoencoder):
    """A diffusers model: `Autoencoder.from_diffusers(model)`.

    `encode` takes the mode of the posterior. Latents are those that the diffusion of a diffusers
    pipeline works on: `(raw - shift) * scale`, in the pipeline's arrangement.

    Attributes:
        model: the diffusers model.
        convention: how its class is called.
        settings: what was chosen of the decoder.
        shift, scale: of the latents.
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
        settings: Settings,
    ):
        self.model = model
        self.convention = convention
        self.settings = settings
        self.shift = shift.to(model.device)
        self.scale = scale.to(model.device)
        self.name = type(model).__name__
        self.medium = convention.medium
        self.sample_channels = sample_channels
        self.channels = channels
        self.factor = convention.factor(model)
        self.sizes = convention.sizes(model)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def module(self) -> torch.nn.Module:
        return self.model

    @property
    def parts(self) -> Parts:
        return self.convention.parts(self.model, self.settings)

    @property
    def uncompilable(self) -> str | None:
        for setting, parts in (("use_tiling", "tiles"), ("use_slicing", "rows")):
            if getattr(self.model, setting, False):
                return (
                    f"{setting} is on: its loop over {parts} would be unrolled, and compiled anew "
                    "for every size"
                )
        if self.convention.tidy is not None:
            return f"{self.name} keeps frames on the model from one part of a pass to the next"
        if self.convention.alone:
            return (
                f"{self.name} takes rows one by one: the loop would be compiled anew for every "
                "number"
            )
        if "seed" in self.convention.settings:
            return f"{self.name} has noise in it, which is drawn anew from its seed for every pass"
        return None

    def encode(self, x: Tensor) -> Tensor:
        x = x.to(self.device)
        if self.convention.pixels != SIGNED:
            x = self.convention.pixels.to_model(x.float())
        return self.from_raw(self._pass(self.convention.encode, x.to(self.dtype)).float())

    def decode(self, latents: Tensor) -> Tensor:
        raw = self.raw(latents.to(self.device)).to(self.dtype)

        def decoded(model: Any, rows: Tensor) -> Tensor:
            return self.convention.decode(model, rows, self.settings)

        return self.convention.pixels.from_model(self._pass(decoded, raw).float())

    def raw(self, latents: Tensor) -> Tensor:
        raw = latents / _beside(self.scale, latents) + _beside(self.shift, latents)
        return raw if self.convention.layout is None else self.convention.layout.to_model(raw)

    def from_raw(self, raw: Tensor) -> Tensor:
        if self.convention.layout is not None:
            raw = self.convention.layout.to_pipeline(raw)
        return (raw - _beside(self.shift, raw)) * _beside(self.scale, raw)

    def copy(
        self, dtype: torch.dtype | None = None, *, channels_last: bool = False
    ) -> DiffusersAutoencoder:
        other = copy.copy(self)
        other.model = copied(self.model, dtype, channels_last=channels_last)
        return other

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        if offloaded(self.model):
            raise ValueError(
                f"{self.name} stays where it is: hooks of accelerate or diffusers load, move or "
                "cast its weights"
            )
        with quiet_diffusers():
            self.model.to(device, dtype)

    def _pass(self, function: Callable[[Any, Tensor], Tensor], rows: Tensor) -> Tensor:
        """A pass through the model, which is left as it was found, also by an error."""
        try:
            if self.convention.alone and len(rows) > 1:
                return torch.cat([function(self.model, row) for row in rows.split(1)])
            return function(self.model, rows)
        finally:
            if self.convention.tidy is not None:
                self.convention.tidy(self.model)


@constructs("from_diffusers")
def from_diffusers(
    model: Any,
    *,
    decode_chunk_size: int | None = None,
    decode_timestep: float | None = None,
    seed: int | None = None,
    upcast: bool = False,
) -> DiffusersAutoencoder:
    """See `Autoencoder.from_diffusers`."""
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
    wrapped = DiffusersAutoencoder(
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


@constructs("from_pretrained")
def from_pretrained(
    source: Source, *, dtype: torch.dtype, device: torch.device, **settings: Any
) -> DiffusersAutoencoder:
    """See `Autoencoder.from_pretrained`."""
    folder = model_folder.autoencoder_folder(source.autoencoder())
    name = model_folder.class_name(folder)
    convention = _convention(name, f"{folder} holds a {name}, which is")
    model = model_folder.load(folder, name, dtype, source.variant)
    return _loaded(model, convention, device, settings)


@constructs("from_single_file")
def from_single_file(
    path: Path,
    *,
    config: Source | None,
    local_files_only: bool,
    dtype: torch.dtype,
    device: torch.device,
    **settings: Any,
) -> DiffusersAutoencoder:
    """See `Autoencoder.from_single_file`."""
    folder = single_file.config_folder(path, config, local_files_only)
    name = model_folder.class_name(folder)
    convention = _convention(name, f"{path} holds a {name}, which is")
    model = single_file.load(path, folder, name, dtype)
    return _loaded(model, convention, device, settings)


def _loaded(
    model: Any, convention: Convention, device: torch.device, settings: dict[str, Any]
) -> DiffusersAutoencoder:
    model = model.to(device).eval().requires_grad_(False)
    if convention.needs_tiling:
        model.enable_tiling()
    return from_diffusers(model, **settings)


@constructs("embedded")
def embedded(name: str, *, dtype: torch.dtype, device: torch.device) -> DiffusersAutoencoder:
    """See `Autoencoder.embedded`."""
    return from_pretrained(Source(model_folder.MODELS / name), dtype=dtype, device=device)


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
        f"{subject} not supported; fixpoint.adapters.autoencoder_classes() lists what is. Any "
        "other pair is taken by its functions: Autoencoder.from_functions(encode, decode)"
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
    if numbers.dim() == 5:  # by frame: those of the frames that are there
        return numbers[:, :, : latents.shape[2]]
    return numbers
