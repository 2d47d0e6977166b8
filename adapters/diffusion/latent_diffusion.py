"""Latent diffusion models: a pipeline of diffusers, ready to draw and to be inverted."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.folder import MODELS
from fixpoint.adapters.diffusion.networks import Condition, ToldNetwork
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
UNCHECKED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of pipelines that have no share in drawing from a prompt; they are not loaded."""


class LatentDiffusion:
    """A diffusion model on the latents of an autoencoder, with what tells it what to draw.

    The pipeline is never changed: its scheduler is copied, its weights, dtype and device stay.

    Attributes:
        pipeline: of diffusers.
        autoencoder: E and D around it.
        velocity: where a flow's network points; of no meaning for other networks.
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
        """(channels, rows, columns), or of videos (channels, frames, rows, columns): what the
        pipeline draws unless told otherwise."""
        return self.convention.latent_shape(self.pipeline)

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

        Row after row is drawn from one generator on the CPU, so that a row is the same for every
        count and device. The pipeline's schedulers scale noise themselves.

        Args:
            count: rows.
            seed: of the generator.
            height, width: of the pictures, in pixels; by default what the pipeline draws.
            frames: of videos, in the same way.

        Raises:
            ValueError: a size that the autoencoder cannot give, or frames of a picture.
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
        """The sampler under a prompt, with the pipeline's scheduler as it is now.

        Args:
            prompt: one for all rows, or one for each.
            steps: of the sampler (`num_inference_steps`).
            guidance: weight of classifier-free guidance (`guidance_scale`); 1 for none.
            negative_prompt: to be led away from, in the same way; None for the pipeline's default.

        Raises:
            TypeError, ValueError: an option is not usable; nothing was encoded yet.
        """
        prompts = _texts(prompt, "prompt")
        negatives = (
            [None] if negative_prompt is None else _texts(negative_prompt, "negative_prompt")
        )
        self.check_sampling(prompt, guidance=guidance, negative_prompt=negative_prompt)
        schedule = schedule_of(self.pipeline.scheduler, steps, velocity=self.velocity)
        guided = guidance > 1
        rows = max(len(prompts), len(negatives) if guided else 1)
        pairs = list(zip(_spread(prompts, rows), _spread(negatives, rows), strict=True))
        told, without = self._tell(pairs, guided)
        pipeline, network, call = self.pipeline, self.network, self.convention.call

        def function(x: Tensor, timestep: float, condition: Condition) -> Tensor:
            return call(pipeline, network, x, timestep, condition)

        return Sampling(
            ToldNetwork(function, told, without, float(guidance), self.dtype), schedule, self.device
        )

    def check_sampling(
        self,
        prompt: str | Sequence[str] = "",
        *,
        guidance: float = 1.0,
        negative_prompt: str | Sequence[str] | None = None,
        rows: int | None = None,
    ) -> None:
        """Refuse what `sampling` would refuse of these options, and prompts that do not fit rows.

        Raises:
            TypeError, ValueError: see there.
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
        untold = self.convention.tell is None
        if untold and (any(_texts(prompt, "prompt")) or guidance != 1):
            raise ValueError(f"{type(self.pipeline).__name__} takes neither a prompt nor guidance")
        if _is_random(self.network):
            raise ValueError(
                "the network is in training mode and drops values at random: call "
                f"pipeline.{self.convention.network}.eval()"
            )

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
    def _tell(
        self, pairs: list[tuple[str, str | None]], guided: bool
    ) -> tuple[Condition, Condition | None]:
        """What the network is told of every pair of prompts; each pair is encoded once, alone."""
        tell = self.convention.tell
        if tell is None:
            return {}, None
        known = {pair: tell(self.pipeline, *pair, guided) for pair in dict.fromkeys(pairs)}
        told = _joined([known[pair][0] for pair in pairs])
        if not guided:
            return told, None
        return told, _joined([known[pair][1] or {} for pair in pairs])

    @classmethod
    def from_diffusers(cls, pipeline: Any, *, velocity: Direction | None = None) -> LatentDiffusion:
        """Wrap a loaded diffusers pipeline, which keeps everything it has.

        Args:
            pipeline: of a class in `fixpoint.adapters.pipeline_classes.PIPELINES`, with a
                scheduler whose steps can be undone, see `schedule_of`.
            velocity: where the network of a rectified flow points: "to noise", as diffusers has
                it, or "to picture", as InstaFlow; by default the latter for
                `StableDiffusionPipeline`, the architecture of InstaFlow, and the former elsewhere.

        Raises:
            TypeError, ValueError: a pipeline, scheduler or autoencoder that is not supported.
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
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        velocity: Direction | None = None,
    ) -> LatentDiffusion:
        """Load a pipeline from a folder in diffusers' format; never from the network.

        Args:
            folder: holds `model_index.json` and a folder for every part, with safetensors weights.
            dtype, device: of the loaded models.
            velocity: as for `from_diffusers`.

        Raises:
            FileNotFoundError: the folder or a part is missing. ValueError: it holds something
                else. TypeError: an unsupported pipeline. ModuleNotFoundError: without
                transformers.
        """
        folder = Path(folder)
        name = _checked_folder(folder)
        pipeline = _load(folder, name, dtype).to(device)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
        return cls.from_diffusers(pipeline, velocity=velocity)

    @classmethod
    def embedded(
        cls,
        name: str = "diffusion",
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> LatentDiffusion:
        """A small trained model that ships inside the package, around the autoencoder "kl".

        Args:
            name: "diffusion" (noise prediction, DDIM) or "flow" (a rectified flow of one step,
                sampled with `steps=1`).
            dtype, device: of the loaded model.
        """
        if name not in EMBEDDED:
            raise ValueError(f"embedded diffusion models: {', '.join(EMBEDDED)}; got {name!r}")
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


def _checked_folder(folder: Path) -> str:
    """The class of the pipeline in a folder, once it is sure that its parts are there."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"model folder {folder} {what}")
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(
            f"{folder} is not a pipeline's folder: it holds no model_index.json"
        )
    try:
        parts = dict(json.loads(index.read_text()))
        name = str(parts["_class_name"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{index} names no diffusers pipeline") from error
    convention = pipeline_class(name)
    for part, listed in parts.items():
        present = isinstance(listed, list) and len(listed) == 2 and listed[1] is not None
        if present and part not in UNCHECKED and not (folder / part).is_dir():
            raise FileNotFoundError(f"{folder} holds no folder {part}, which its pipeline needs")
    for part in (convention.network, convention.autoencoder):
        if not any((folder / part).glob("*.safetensors")):
            raise FileNotFoundError(
                f"{folder / part} holds no safetensors weights (pickled ones are never loaded)"
            )
    return name


def _load(folder: Path, name: str, dtype: torch.dtype) -> Any:
    import diffusers

    from fixpoint.adapters.autoencoders.folder import quiet_diffusers

    _require_transformers()
    index = json.loads((folder / "model_index.json").read_text())
    unused = {part: None for part in UNCHECKED if part in index}
    if "requires_safety_checker" in index or "safety_checker" in index:
        unused["requires_safety_checker"] = False  # type: ignore[assignment]
    try:
        with quiet_diffusers(), _no_bars():
            return getattr(diffusers, name).from_pretrained(
                folder,
                torch_dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                **unused,
            )
    except Exception as error:  # diffusers lets everything through that its parts raise
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder} could not be loaded: {message}") from error


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "diffusion pipelines need transformers; "
            "pip install 'fixpoint-torch[diffusers]' brings it",
            name="transformers",
        ) from error


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars while models are loaded, and no warnings that ask nothing of the user."""
    import diffusers.utils.logging
    import transformers.utils.logging

    shown = [
        logging
        for logging in (diffusers.utils.logging, transformers.utils.logging)
        if logging.is_progress_bar_enabled()
    ]
    for logging in shown:
        logging.disable_progress_bar()
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # it misses torchvision, which is not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)
        for logging in shown:
            logging.enable_progress_bar()
