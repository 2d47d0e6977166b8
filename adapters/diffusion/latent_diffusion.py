"""Latent diffusion models: a pipeline of diffusers, to sample from and to invert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint._nearest import did_you_mean
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.folder import MODELS, quiet_diffusers
from fixpoint.adapters.autoencoders.hub import Source
from fixpoint.adapters.autoencoders.placement import device_of, dtype_of, placed
from fixpoint.adapters.diffusion.networks import Condition, ConditionedNetwork
from fixpoint.adapters.diffusion.pipeline_folder import load_pipeline
from fixpoint.adapters.diffusion.pipelines import PipelineClass, pipeline_class
from fixpoint.adapters.diffusion.sampler_steps import (
    DIRECTIONS,
    Direction,
    check_scheduler,
    schedule_of,
)
from fixpoint.adapters.diffusion.sampling import Sampling

EMBEDDED = ("diffusion", "flow")
Embedded = Literal["diffusion", "flow"]


class LatentDiffusion:
    """A diffusion model on the latents of an autoencoder, with its text encoder.

    The pipeline is never changed: its scheduler is copied, its weights, dtype and device stay.

    Attributes:
        pipeline: of diffusers.
        convention: how the parts of the pipeline work together.
        autoencoder: the encoder E and the decoder D.
        velocity: the direction of the output of a flow's network; not used for other networks.
    """

    def __init__(
        self,
        pipeline: Any,
        convention: PipelineClass,
        autoencoder: Autoencoder,
        velocity: Direction,
    ) -> None:
        self.pipeline = pipeline
        self.convention = convention
        self.autoencoder = autoencoder
        self.velocity = velocity

    @property
    def network(self) -> Any:
        """The diffusers model that predicts noise, sample or velocity."""
        return getattr(self.pipeline, self.convention.network)

    @property
    def dtype(self) -> torch.dtype:
        return self.network.dtype

    @property
    def device(self) -> torch.device:
        return self.pipeline._execution_device

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The default shape of the pipeline: (channels, rows, columns), or for videos
        (channels, frames, rows, columns)."""
        return self.convention.latent_shape(self.pipeline)

    def to(
        self,
        device: str | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> Self:
        """Move or convert the pipeline itself, as its own `to` does; returns the model.

        Args:
            device, dtype: as for `Autoencoder.to`.

        Raises:
            ValueError: hooks move the weights, or the device cannot be used. TypeError: `dtype` is
                none.
        """
        place, numbers = placed(device, dtype)
        with quiet_diffusers():
            self.pipeline.to(place or self.device, numbers or self.dtype)
        self.autoencoder = self.convention.wrap(getattr(self.pipeline, self.convention.autoencoder))
        return self

    def noise(
        self,
        count: int,
        seed: int = 0,
        *,
        height: int | None = None,
        width: int | None = None,
        frames: int | None = None,
    ) -> Float[Tensor, "count *latent"]:
        """z_T: white noise of variance 1, float32.

        One generator on the CPU draws row after row, so that a row does not depend on the count
        or the device. The pipeline's schedulers scale noise themselves.

        Args:
            count: rows.
            seed: of the generator.
            height, width: of the pictures, in pixels; by default those of the pipeline.
            frames: of videos; by default that of the pipeline.

        Raises:
            ValueError: a size that the autoencoder cannot produce, or frames for pictures.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"count must be a whole number above 0, got {count!r}")
        shape = self._shape(height, width, frames)
        generator = torch.Generator().manual_seed(seed)
        rows = [torch.randn(shape, generator=generator) for _ in range(count)]
        return torch.stack(rows).to(self.device)

    def sampling(
        self,
        prompt: str | Sequence[str] = "",
        *,
        steps: int = 50,
        guidance: float = 1.0,
        negative_prompt: str | Sequence[str] | None = None,
    ) -> Sampling:
        """The sampler for a prompt, with the present scheduler of the pipeline.

        Args:
            prompt: one for all rows, or one for each row.
            steps: of the sampler (`num_inference_steps`).
            guidance: weight of classifier-free guidance (`guidance_scale`); 1 for none.
            negative_prompt: one for all rows, or one for each row; None for the pipeline's default.

        Raises:
            TypeError, ValueError: an option cannot be used; nothing was encoded yet.
        """
        prompts = _texts(prompt, "prompt")
        negatives = (
            [None] if negative_prompt is None else _texts(negative_prompt, "negative_prompt")
        )
        self.check_sampling(prompt, steps=steps, guidance=guidance, negative_prompt=negative_prompt)
        schedule = schedule_of(self.pipeline.scheduler, steps, velocity=self.velocity)
        guided = guidance > 1
        rows = max(len(prompts), len(negatives) if guided else 1)
        pairs = list(zip(_spread(prompts, rows), _spread(negatives, rows), strict=True))
        condition, negative = self._encode_prompts(pairs, guided)
        pipeline, network, call = self.pipeline, self.network, self.convention.call

        def function(x: Tensor, timestep: float, condition: Condition) -> Tensor:
            return call(pipeline, network, x, timestep, condition)

        conditioned = ConditionedNetwork(function, condition, negative, float(guidance), self.dtype)
        return Sampling(conditioned, schedule, self.device)

    def check_sampling(
        self,
        prompt: str | Sequence[str] = "",
        *,
        steps: int = 50,
        guidance: float = 1.0,
        negative_prompt: str | Sequence[str] | None = None,
        rows: int | None = None,
    ) -> None:
        """Check the options of `sampling`, and that there are as many prompts as rows.

        Raises:
            TypeError, ValueError: an option cannot be used.
        """
        if isinstance(guidance, bool) or not isinstance(guidance, int | float):
            raise TypeError(f"guidance must be a number, got {guidance!r}")
        if not 1 <= guidance < float("inf"):
            raise ValueError(f"guidance must be at least 1 (none), and finite, got {guidance}")
        lengths = {"prompt": len(_texts(prompt, "prompt"))}
        if negative_prompt is not None:
            lengths["negative_prompt"] = len(_texts(negative_prompt, "negative_prompt"))
            if guidance == 1:
                raise ValueError("negative_prompt goes with guidance above 1")
        several = {name: length for name, length in lengths.items() if length > 1}
        wanted = rows if rows is not None else max(lengths.values())
        for name, length in several.items():
            if length != wanted:
                raise ValueError(
                    f"{length} in {name}, but {wanted} rows: give one, or one for each row"
                )
        unconditional = self.convention.encode_prompt is None
        if unconditional and (any(_texts(prompt, "prompt")) or guidance != 1):
            raise ValueError(f"{type(self.pipeline).__name__} takes neither a prompt nor guidance")
        if _is_random(self.network):
            raise ValueError(
                "the network is in training mode and drops values at random: call "
                f"pipeline.{self.convention.network}.eval()"
            )
        schedule_of(self.pipeline.scheduler, steps, velocity=self.velocity)

    def decode(self, latent: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch 3 *size"]:
        """D: the pictures or videos on [-1, 1], clipped, float32."""
        with torch.no_grad():
            return self.autoencoder.decode(latent).clamp(-1, 1)

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"LatentDiffusion({type(self.pipeline).__name__}, "
            f"{type(self.pipeline.scheduler).__name__}, latents {self.latent_shape}, {dtype}, "
            f"{self.device})"
        )

    def _shape(self, height: int | None, width: int | None, frames: int | None) -> tuple[int, ...]:
        channels, *rest = self.latent_shape
        factor = self.autoencoder.factor
        sides = {"height": (height, -2), "width": (width, -1)}
        for name, (side, axis) in sides.items():
            if side is None:
                continue
            if side < factor or side % factor:
                raise ValueError(f"{name} must be a multiple of {factor}, got {side}")
            rest[axis] = side // factor
        if frames is not None:
            if self.convention.latent_frames is None:
                raise ValueError(f"{type(self.pipeline).__name__} draws pictures, without frames")
            if frames < 1:
                raise ValueError(f"frames must be at least 1, got {frames}")
            rest[0] = self.convention.latent_frames(self.pipeline, frames)
        return channels, *rest

    @torch.no_grad()
    def _encode_prompts(
        self, pairs: list[tuple[str, str | None]], guided: bool
    ) -> tuple[Condition, Condition | None]:
        """The conditions for prompts and negative prompts; each pair is encoded once, alone."""
        encode = self.convention.encode_prompt
        if encode is None:
            return {}, None
        known = {pair: encode(self.pipeline, *pair, guided) for pair in dict.fromkeys(pairs)}
        condition = _joined([known[pair][0] for pair in pairs])
        if not guided:
            return condition, None
        return condition, _joined([known[pair][1] or {} for pair in pairs])

    @classmethod
    def from_diffusers(cls, pipeline: Any, *, velocity: Direction | None = None) -> LatentDiffusion:
        """Wrap a loaded diffusers pipeline, which is not changed.

        Args:
            pipeline: of a class in `fixpoint.adapters.diffusion.pipelines.PIPELINES`, with a
                scheduler whose steps can be inverted, see `schedule_of`.
            velocity: the direction of the output of a rectified flow's network: "to noise", as in
                diffusers, or "to picture", as in InstaFlow. The default is "to picture" for
                `StableDiffusionPipeline`, the architecture of InstaFlow, and else "to noise".

        Raises:
            TypeError, ValueError: the pipeline, scheduler or autoencoder is not supported.
        """
        name = type(pipeline).__name__
        convention = pipeline_class(name)
        if velocity is not None and velocity not in DIRECTIONS:
            raise ValueError(f"velocity must be one of {DIRECTIONS}, got {velocity!r}")
        reason = convention.refuse(pipeline)
        if reason is not None:
            raise ValueError(f"this {name} cannot be taken: {reason}")
        check_scheduler(pipeline.scheduler)
        autoencoder = convention.wrap(getattr(pipeline, convention.autoencoder))
        return cls(pipeline, convention, autoencoder, velocity or convention.velocity)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        torch_dtype: torch.dtype | str | None = None,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        variant: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = True,
        velocity: Direction | None = None,
    ) -> LatentDiffusion:
        """Load a pipeline in diffusers' format: from a folder, or by its name on the hub.

        Args:
            model: a folder, which holds `model_index.json` and a folder for every part, with
                safetensors weights; or a name "org/name" on the hub of Hugging Face, whose files
                are taken from the local cache.
            torch_dtype, dtype, device, revision, variant, cache_dir, local_files_only: as for
                `Autoencoder.from_pretrained`; nothing is fetched by default.
            velocity: as for `from_diffusers`.

        Raises:
            FileNotFoundError: the folder or a part is missing. ValueError: it holds something
                else. TypeError: an unsupported pipeline. ModuleNotFoundError: without
                transformers.
        """
        numbers, place = dtype_of(dtype, torch_dtype), device_of(device)
        source = Source(model, None, revision, variant, cache_dir, local_files_only)
        pipeline = load_pipeline(source.pipeline(), numbers, variant).to(place)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
        return cls.from_diffusers(pipeline, velocity=velocity)

    @classmethod
    def embedded(
        cls,
        name: str = "diffusion",
        *,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
    ) -> LatentDiffusion:
        """A small trained model that ships inside the package, around the autoencoder "kl".

        Args:
            name: "diffusion" (predicts noise, DDIM) or "flow" (a rectified flow of one step, to
                be sampled with `steps=1`).
            dtype, device: of the loaded model.
        """
        if name not in EMBEDDED:
            raise ValueError(
                f"embedded diffusion models: {', '.join(EMBEDDED)}; got {name!r}"
                f"{did_you_mean(str(name), EMBEDDED)}"
            )
        velocity: Direction | None = "to picture" if name == "flow" else None
        return cls.from_pretrained(MODELS / name, dtype=dtype, device=device, velocity=velocity)


def as_model(model: Any) -> LatentDiffusion:
    """A `LatentDiffusion` as it is, or a diffusers pipeline wrapped."""
    return model if isinstance(model, LatentDiffusion) else LatentDiffusion.from_diffusers(model)


def _texts(prompt: Any, name: str) -> list[str]:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{name} must be a string, or one for each row, got {prompt!r}")
    if not texts:
        raise ValueError(f"{name} is an empty list")
    return list(texts)


def _spread(texts: Sequence[Any], rows: int) -> list[Any]:
    return list(texts) * rows if len(texts) == 1 else list(texts)


def _joined(conditions: list[Condition]) -> Condition:
    return {
        name: torch.cat([condition[name] for condition in conditions]) for name in conditions[0]
    }


def _is_random(network: torch.nn.Module) -> bool:
    return any(
        isinstance(module, torch.nn.Dropout) and module.training and module.p > 0
        for module in network.modules()
    )
