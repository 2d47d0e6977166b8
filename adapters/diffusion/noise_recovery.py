"""From a picture back to the noise that a diffusion model made it of.

First the decoder is inverted, from x to z_0, then the sampling, from z_0 to z_T. The second cannot
undo the errors of the first (the paper, section 5.2).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from fixpoint._keywords import suggests
from fixpoint.adapters.diffusion.latent_diffusion import as_model
from fixpoint.adapters.diffusion.sampling import Method, Trajectory, check_method
from fixpoint.adapters.inversion.methods import METHODS
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.inversion.result import Inversion, nmse_db, synchronize
from fixpoint.iterator import Iterator
from fixpoint.summary import Summarised

DecoderInverter = Callable[..., Inversion | Tensor]
"""A function of (autoencoder, image)."""
DECODER_INVERSIONS = {
    "ours": METHODS["auto"],
    "encoder": METHODS["encoder"],
    "gradient": METHODS["gradient"],
}


@dataclass(frozen=True)
class RecoveredNoise(Summarised):
    """The noise behind a batch of pictures; rows in the order of the pictures.

    Attributes:
        noise: z_T, of variance 1: what `pipe(latents=...)` takes.
        latent: z_0, in the pipeline's scaling.
        inversion: of the decoder; None if the latent was given, or a function returned it alone.
        trajectory: of the inverted sampling.
        seconds: for the whole batch.
    """

    noise: Float[Tensor, "batch *latent"]
    latent: Float[Tensor, "batch *latent"]
    inversion: Inversion | None
    trajectory: Trajectory
    seconds: float

    @property
    def evaluations(self) -> Int[Tensor, " batch"]:
        """Of the diffusion network, per row; `inversion.evaluations` counts those of E(D(.))."""
        return self.trajectory.evaluations

    def nmse_db(self, truth: Float[Tensor, "batch *latent"]) -> Float[Tensor, " batch"]:
        """`10 log10(||noise - truth||^2 / ||truth||^2)` per row, in dB."""
        return nmse_db(self.noise, truth)


@suggests
def recover_noise(
    model: Any,
    image: Any = None,
    prompt: str | Sequence[str] = "",
    *,
    steps: int = 50,
    guidance: float = 1.0,
    negative_prompt: str | Sequence[str] | None = None,
    method: Method = "naive",
    decoder_inversion: str | DecoderInverter = "ours",
    latent: Float[Tensor, "batch *latent"] | None = None,
    iterator: Iterator[Any] | None = None,
    value_range: tuple[float, float] | None = None,
    callback: Callable[[int, Tensor], object] | None = None,
    progress: bool = False,
) -> RecoveredNoise:
    """The noise z_T that the model made the picture of, with the settings that made it.

    Args:
        model: a `LatentDiffusion`, or a pipeline of diffusers.
        image: one picture or several of one size, as for `invert`; never resized.
        prompt, steps, guidance, negative_prompt: as for `LatentDiffusion.sampling`. If the prompt
            is not known, an empty prompt without guidance works best.
        method: of inverting the sampling, see `Sampling.invert`.
        decoder_inversion: "ours" (`invert`), "encoder" (E(x) alone), "gradient"
            (`invert_by_gradient`), or a function of (autoencoder, image) that returns an
            `Inversion` or the latent.
        latent: z_0, in place of a picture.
        iterator: of `method="backward-euler"`.
        value_range: of float input, see `as_pictures`.
        callback: called after every step of the inverted sampling with its index and latent.
        progress: show progress bars.

    Raises:
        TypeError, ValueError: an argument cannot be used; no model ran.
    """
    model = as_model(model)
    check_method(method, {} if iterator is None else {"iterator": iterator})
    if (image is None) == (latent is None):
        raise ValueError("give an image, or its latent in place of it")
    _check_decoder_inversion(decoder_inversion)
    if latent is not None:
        _check_latent(model.latent_shape, latent)
        rows = len(latent)
    else:
        pictures = readable(model.autoencoder, image, value_range)
        rows = len(pictures.values)
    model.check_sampling(
        prompt, steps=steps, guidance=guidance, negative_prompt=negative_prompt, rows=rows
    )

    started = time.perf_counter()
    sampling = model.sampling(
        prompt, steps=steps, guidance=guidance, negative_prompt=negative_prompt
    )
    inversion: Inversion | None = None
    if latent is None:
        if isinstance(decoder_inversion, str):
            named = DECODER_INVERSIONS[decoder_inversion]
            found: Inversion | Tensor = named(model.autoencoder, pictures, progress=progress)
        else:
            options = {} if value_range is None else {"value_range": value_range}
            found = decoder_inversion(model.autoencoder, image, **options)
        inversion = found if isinstance(found, Inversion) else None
        latent = found.latent if isinstance(found, Inversion) else found
    trajectory = sampling.invert(
        latent, method, iterator=iterator, callback=callback, progress=progress
    )
    synchronize(model.autoencoder)
    return RecoveredNoise(
        noise=trajectory.noise,
        latent=trajectory.latents[-1],
        inversion=inversion,
        trajectory=trajectory,
        seconds=time.perf_counter() - started,
    )


def _check_decoder_inversion(chosen: Any) -> None:
    if isinstance(chosen, str):
        if chosen not in DECODER_INVERSIONS:
            raise ValueError(f"decoder inversions: {', '.join(DECODER_INVERSIONS)}; got {chosen!r}")
    elif not callable(chosen):
        raise TypeError(f"decoder_inversion must be a name or a function, got {chosen!r}")


def _check_latent(shape: tuple[int, ...], latent: Any) -> None:
    if not isinstance(latent, Tensor) or not latent.is_floating_point():
        kind = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
        raise TypeError(f"the latent must be a floating-point tensor, got {kind}")
    if latent.dim() != len(shape) + 1 or latent.shape[1] != shape[0]:
        raise ValueError(
            f"latents of this model are (batch, {', '.join(map(str, shape))}) or of other sizes, "
            f"got {tuple(latent.shape)}"
        )
    if not latent.numel():
        raise ValueError(f"the latent is empty: it has shape {tuple(latent.shape)}")
    if not bool(latent.isfinite().all()):
        raise ValueError("the latent contains NaN or infinity")
