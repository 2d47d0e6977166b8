"""An encoder and a decoder as a pair of functions on tensors: what all kinds have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint._nearest import did_you_mean
from fixpoint.adapters.autoencoders.calibration import PairCalibration, calibration_of
from fixpoint.adapters.autoencoders.convention import Medium
from fixpoint.adapters.autoencoders.hub import Source
from fixpoint.adapters.autoencoders.inverse.for_autoencoders import WithLearnedInverse
from fixpoint.adapters.autoencoders.parts import Parts, Whole
from fixpoint.adapters.autoencoders.placement import device_of, dtype_of, placed
from fixpoint.adapters.autoencoders.sizes import Sizes

EMBEDDED = ("kl", "adversarial", "distilled")


class Autoencoder(WithLearnedInverse, ABC):
    """An encoder/decoder pair: pictures, videos or sound x on [-1, 1], and their latents.

    `encode` is a function: where the encoder gives a distribution, it takes the mode. Both compute
    in `dtype` on `device` and return float32 there; the models themselves are never changed.
    Latents of a diffusers pipeline are those that its diffusion works on.

    Attributes:
        name: of the pair: the class of a diffusers model.
        medium: "picture": x is (batch, colours, height, width); "video": (batch, colours, frames,
            height, width); "audio": (batch, channels, samples), or of spectrograms (batch, mel
            bins, frames) or (batch, channels, frames, mel bins).
        sample_channels: colours or channels of x.
        channels: of the latents.
        factor: pixels, samples or frames of a spectrogram per latent cell along a side.
        sizes: which sizes of x come back from `decode(encode(x))`, axis by axis.
    """

    name: str
    medium: Medium
    sample_channels: int
    channels: int
    factor: int
    sizes: Sizes

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """That E and D compute in."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """That E and D compute on."""

    @abstractmethod
    def encode(self, x: Float[Tensor, "batch *sample"]) -> Float[Tensor, "batch channels *cells"]:
        """E: x to latents, float32."""

    @abstractmethod
    def decode(
        self, latents: Float[Tensor, "batch channels *cells"]
    ) -> Float[Tensor, "batch *sample"]:
        """D: latents to x, float32, not clipped."""

    @abstractmethod
    def copy(self, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Autoencoder:
        """A copy with weights of its own, in evaluation mode and without gradients.

        Args:
            dtype: of the copy; None for the pair's own. diffusers' `config.force_upcast` is not
                asked: it is True unless a model says otherwise, also for models that do well in
                float16. Where one does not, its latents overflow to infinity; bfloat16 has the
                range of float32, and `from_diffusers(model, upcast=True)` asks.
            channels_last: store the weights of convolutions as `torch.channels_last`, which the
                kernels for GPUs and 16 bits want.

        Raises:
            ValueError: the pair cannot be copied or converted, as where its weights are offloaded.
        """

    def to(
        self,
        device: str | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> Self:
        """Move or convert the model itself, as `torch.nn.Module.to` does; returns the autoencoder.

        Args:
            device: where to; None for where it is. A dtype may stand here alone.
            dtype: of its weights, or the name of it; None for the present one.

        Raises:
            ValueError: hooks move its weights, the device cannot be used, or the pair is one of
                functions, which stay where they are. TypeError: `dtype` is none.
        """
        place, numbers = placed(device, dtype)
        if place not in (None, self.device) or numbers not in (None, self.dtype):
            self._move(place or self.device, numbers or self.dtype)
        return self

    def _move(self, device: torch.device, dtype: torch.dtype) -> None:
        raise ValueError(
            f"{self.name} stays in {self.dtype} on {self.device}: move the modules behind its "
            "functions, and call from_functions again"
        )

    def calibrate(
        self, photographs: Float[Tensor, "count 3 height width"] | None = None
    ) -> PairCalibration:
        """Measure what `invert` has to know where the fixed-point iteration does not do.

        It takes seconds on a small model, and happens by itself at the first picture that needs
        it. The result is kept, see `calibration_of`.

        Args:
            photographs: on [-1, 1], of a size that the pair takes, at least two; by default crops
                of the one that comes with the package, or what was measured before.

        Raises:
            ValueError: the pair is none of RGB pictures, or returned NaN or infinity.
        """
        if self.medium != "picture" or self.sample_channels != 3:
            raise ValueError(f"only pairs of RGB pictures are calibrated, got {self!r}")
        return calibration_of(self, photographs=photographs)

    def raw(
        self, latents: Float[Tensor, "batch channels *cells"]
    ) -> Float[Tensor, "batch raw_channels *raw_cells"]:
        """Latents as the model's own `decode` takes them."""
        return latents

    def from_raw(self, raw: Tensor) -> Float[Tensor, "batch channels *cells"]:
        """Latents of the model's own `encode`, as `encode` here returns them."""
        return raw

    @property
    def module(self) -> torch.nn.Module | None:
        """What holds the weights; None where nothing is known of them."""
        return None

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The weights that are known."""
        return iter(()) if self.module is None else self.module.parameters()

    @property
    def parts(self) -> Parts:
        """What part of a video can be inverted by itself."""
        return Whole("its frames are not known to depend on their past alone")

    @property
    def differentiable(self) -> bool:
        """Whether autograd goes through D."""
        return True

    @property
    def encoder_differentiable(self) -> bool:
        """Whether autograd goes through E."""
        return True

    @property
    def uncompilable(self) -> str | None:
        """Why torch.compile had better not be given this pair; None where it may."""
        return None

    def check_shape(self, shape: torch.Size | tuple[int, ...]) -> None:
        """Refuse an x whose shape would not come back from `decode(encode(x))`.

        Raises:
            ValueError: with the sizes that would do.
        """
        if len(shape) != 2 + len(self.sizes.rules) or shape[1] != self.sample_channels:
            raise ValueError(
                f"{self.name} takes {self.medium}s of shape (batch, {self.sample_channels}, "
                f"{', '.join(self.sizes.names)}), got {tuple(shape)}"
            )
        self.sizes.check(shape, self.medium, self.name)

    def __repr__(self) -> str:
        medium = "" if self.medium == "picture" else f"{self.medium}, "
        return (
            f"Autoencoder({self.name}, {medium}factor {self.factor}, "
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
        return _constructors["from_diffusers"](
            model,
            decode_chunk_size=decode_chunk_size,
            decode_timestep=decode_timestep,
            seed=seed,
            upcast=upcast,
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        subfolder: str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = True,
        decode_chunk_size: int | None = None,
        decode_timestep: float | None = None,
        seed: int | None = None,
    ) -> Autoencoder:
        """Load an autoencoder in diffusers' format: from a folder, or by its name on the hub.

        Args:
            model: a folder, which holds `config.json` and safetensors weights, or a whole pipeline
                with a `vae` (or `movq`, `vqvae`) folder inside; or a name "org/name" on the hub of
                Hugging Face, whose files are taken from the local cache.
            subfolder: of the model, as "vae"; by default the first of those above that is there.
            torch_dtype, dtype: of the loaded model, by either name: a dtype of torch, or its name
                ("bfloat16"); float32 by default.
            device: of the loaded model.
            revision, variant, cache_dir: as for `from_pretrained` in diffusers.
            local_files_only: the default is not that of diffusers: False lets missing files be
                fetched from the network, which never happens otherwise.
            decode_chunk_size, decode_timestep, seed: as for `from_diffusers`.

        Raises:
            FileNotFoundError: the folder, its configuration or its weights are missing.
            ValueError: the folder holds something else, or the hub refuses. TypeError: an
                unsupported class, or dtype.
        """
        return _constructors["from_pretrained"](
            Source(model, subfolder, revision, variant, cache_dir, local_files_only),
            dtype=dtype_of(dtype, torch_dtype),
            device=device_of(device),
            decode_chunk_size=decode_chunk_size,
            decode_timestep=decode_timestep,
            seed=seed,
        )

    @classmethod
    def from_single_file(
        cls,
        path: str | Path,
        *,
        config: str | Path | None = None,
        subfolder: str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device = "cpu",
        local_files_only: bool = True,
        decode_chunk_size: int | None = None,
        decode_timestep: float | None = None,
        seed: int | None = None,
    ) -> Autoencoder:
        """Load the autoencoder of one .safetensors file: of its weights alone, or of a checkpoint.

        Args:
            path: the file, in the layout of diffusers or of the model's authors.
            config: says what the weights are: the folder of a model or a pipeline, or its name on
                the hub. By default the `config.json` beside the file, else what diffusers
                recognises in the weights, which is in the hub's cache or is fetched.
            subfolder: of `config`.
            torch_dtype, dtype, device, local_files_only: as for `from_pretrained`.
            decode_chunk_size, decode_timestep, seed: as for `from_diffusers`.

        Raises:
            FileNotFoundError: the file or its configuration is missing. ValueError: the weights do
                not fit. TypeError: an unsupported class, or dtype.
        """
        return _constructors["from_single_file"](
            Path(path).expanduser(),
            config=None if config is None else Source(config, subfolder),
            local_files_only=local_files_only,
            dtype=dtype_of(dtype, torch_dtype),
            device=device_of(device),
            decode_chunk_size=decode_chunk_size,
            decode_timestep=decode_timestep,
            seed=seed,
        )

    @classmethod
    def embedded(
        cls,
        name: str = "kl",
        *,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
    ) -> Autoencoder:
        """A small trained autoencoder that ships inside the package.

        Args:
            name: "kl" (factor 4, trained on pixel error), "adversarial" (factor 8, trained with
                a patch discriminator) or "distilled" (factor 8, encoder and decoder trained
                apart: theorem 1 does not hold). The model cards lie beside the weights.
            dtype, device: of the loaded model.
        """
        if name not in EMBEDDED:
            raise ValueError(
                f"embedded autoencoders: {', '.join(EMBEDDED)}; got {name!r}"
                f"{did_you_mean(str(name), EMBEDDED)}"
            )
        return _constructors["embedded"](name, dtype=dtype_of(dtype), device=device_of(device))

    @classmethod
    def from_functions(
        cls,
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Any],
        *,
        value_range: tuple[float, float] = (-1, 1),
        medium: Medium = "picture",
        modules: Iterable[torch.nn.Module] = (),
        size: int | tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        name: str | None = None,
    ) -> Autoencoder:
        """Take any two callables, of torch or not, once a few small inputs went through them.

        `autoencoder.probe` tells what was found: the factor and channels, which sizes come back,
        whether rows must be given one by one, whether autograd goes through.

        Args:
            encode: from RGB pictures (batch, 3, height, width) to latents (batch, channels, rows,
                columns); of videos (batch, 3, frames, height, width) to (batch, channels, latent
                frames, rows, columns). A function: of a distribution, its mode.
            decode: from latents to pictures or videos of the same shape as before.
            value_range: of the pictures that they take and return.
            medium: "picture" or "video".
            modules: the torch modules that hold the weights, for their dtype and device, for
                copies, digests and the gradient methods; by default those that the callables are,
                belong to or refer to by name.
            size: (height, width), or (frames, height, width), that comes back; by default it is
                looked for.
            dtype, device: of the tensors that the callables take; by default those of the
                modules' weights, else float32 on the CPU. Nothing is moved or converted.
            name: for messages and reports; it should tell one set of weights from another where
                no modules hold them.

        Raises:
            TypeError, ValueError: they are no such functions: with what they did, what is expected
                and how to mend it.
        """
        return _constructors["from_functions"](
            encode,
            decode,
            value_range=value_range,
            medium=medium,
            modules=modules,
            size=size,
            dtype=dtype,
            device=device,
            name=name,
        )


Constructor = TypeVar("Constructor", bound=Callable[..., Autoencoder])
_constructors: dict[str, Callable[..., Autoencoder]] = {}


def constructs(name: str) -> Callable[[Constructor], Constructor]:
    """Let a function be what `Autoencoder`'s method of this name calls: kinds register here."""

    def register(constructor: Constructor) -> Constructor:
        _constructors[name] = constructor
        return constructor

    return register
