"""Background-preserving editing (the paper, appendix A.2.3): one part of a picture drawn anew.

First the whole trajectory of the picture is recovered: z_0 by decoder inversion, then z_1, ..., z_T
by inverting the sampling. Then the sampler draws from z_T with another prompt. After every step the
latents of the background are replaced by those of the recovered trajectory:

    z_t <- where(background, z_t of the picture, z_t of the drawing)

At the end the background's latents are as exact as the decoder inversion. The paper stops here.
However, a decoder normalises over the whole picture and mixes neighbours, so that the same latents
decode to another background once something else is drawn beside them. This error is far larger
than that of an exact inversion. Therefore z_0 is refined: starting from it, the decoder is inverted
again on a picture with the original background and unknown pixels under the mask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from fixpoint import kernels
from fixpoint._keywords import suggests
from fixpoint._solve import solve
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion, as_model
from fixpoint.adapters.diffusion.noise_recovery import (
    DecoderInverter,
    RecoveredNoise,
    recover_noise,
)
from fixpoint.adapters.diffusion.sampling import Method
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.pictures.composed_observations import Masked, PerRow
from fixpoint.adapters.pictures.pictures import Pictures, read_picture, to_pil
from fixpoint.iterators import ForwardStep
from fixpoint.solution import Solution
from fixpoint.stop import Divergence
from fixpoint.summary import Summarised

REFINEMENT = 8
"""Iterations of the last inversion. Most of the gain comes in the first few."""


@dataclass(frozen=True)
class Edit(Summarised):
    """Edited pictures; rows in the order of the pictures.

    Attributes:
        picture: on [-1, 1], clipped.
        original: the picture before editing, on [-1, 1].
        background: True where the picture is kept: (batch, height, width).
        latent: z_0 of the edited picture, in the pipeline's scaling.
        recovered: noise, latent and trajectory of the original.
        refinement: the solution of the last inversion; None without refinement.
        evaluations: of the diffusion network per row, for inversion and drawing together.
        seconds: for the whole batch.
    """

    picture: Float[Tensor, "batch 3 height width"]
    original: Float[Tensor, "batch 3 height width"]
    background: Bool[Tensor, "batch height width"]
    latent: Float[Tensor, "batch *latent"]
    recovered: RecoveredNoise = field(repr=False)
    evaluations: Int[Tensor, " batch"]
    seconds: float
    refinement: Solution | None = None

    @property
    def background_nmse_db(self) -> Float[Tensor, " batch"]:
        """`10 log10(||picture - original||^2 / ||original||^2)` outside the mask, per row, in dB.

        Pictures are taken on [0, 1], so that black has norm 0.
        """
        kept = self.background[:, None].double()
        error = (self.picture - self.original).double() / 2 * kept
        whole = (self.original.double() + 1) / 2 * kept
        return 20 * (kernels.row_norm(error) / kernels.row_norm(whole)).log10()

    @property
    def background_psnr_db(self) -> Float[Tensor, " batch"]:
        """Peak signal-to-noise ratio of the background, per row, in dB."""
        kept = self.background[:, None].expand_as(self.picture).double()
        error = (self.picture - self.original).double() / 2 * kept
        return 10 * (kept.flatten(1).sum(1) / kernels.row_dot(error, error)).log10()

    def to_pil(self) -> list[Any]:
        """The edited pictures as 8-bit PIL images."""
        return [to_pil(row) for row in self.picture]


@suggests
def edit(
    model: Any,
    image: Any,
    mask: Any,
    prompt: str | Sequence[str] = "",
    *,
    new_prompt: str | Sequence[str],
    steps: int = 50,
    guidance: float = 3.0,
    inversion_guidance: float = 1.0,
    negative_prompt: str | Sequence[str] | None = None,
    method: Method = "naive",
    decoder_inversion: str | DecoderInverter = "ours",
    refine: int = REFINEMENT,
    value_range: tuple[float, float] | None = None,
    callback: Callable[[int, Tensor], object] | None = None,
    progress: bool = False,
) -> Edit:
    """Draw the part of the picture under the mask anew, and keep the rest.

    Args:
        model: a `LatentDiffusion`, or a pipeline of diffusers.
        image: one picture or several of one size, as for `invert`; never resized.
        mask: the pixels to draw anew: a boolean tensor (height, width) or (batch, height, width),
            or a path or PIL image in grey, where values of at least 128 are drawn anew. A latent
            cell is background if all its pixels are.
        prompt: the prompt of the picture, or a description of it.
        new_prompt: the prompt to draw with; one for all rows, or one for each.
        steps: of the sampler, in both directions.
        guidance: of the new prompt.
        inversion_guidance: of the old prompt; the guidance of the picture, or 1 for none.
        negative_prompt: of the drawing.
        method: of inverting the sampling, see `Sampling.invert`.
        decoder_inversion: as for `recover_noise`.
        refine: iterations of the last inversion, one E(D(.)) each; 0 is the paper's method.
        value_range: of float input, see `as_pictures`.
        callback: called after every step of the drawing with its index and latent.
        progress: show progress bars.

    Raises:
        TypeError, ValueError: an argument cannot be used, or the mask leaves no background or
            nothing to draw; no model ran.
    """
    model = as_model(model)
    _check_medium(model)
    pictures = readable(model.autoencoder, image, value_range)
    original = pictures.values
    if isinstance(refine, bool) or not isinstance(refine, int) or refine < 0:
        raise ValueError(f"refine must be a whole number of iterations, got {refine!r}")
    edited = read_mask(mask, original.shape)
    cells = ~latent_mask(edited, model.autoencoder.factor)
    if not bool(edited.flatten(1).any(1).all()):
        raise ValueError("the mask marks nothing to draw anew")
    if not bool(cells.flatten(1).any(1).all()):
        raise ValueError(
            "the mask leaves no latent cell of background: draw a new picture with "
            "sampling(new_prompt).generate(noise)"
        )
    model.check_sampling(
        new_prompt,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        rows=len(original),
    )

    started = time.perf_counter()
    recovered = recover_noise(
        model,
        image,
        prompt,
        steps=steps,
        guidance=inversion_guidance,
        method=method,
        decoder_inversion=decoder_inversion,
        value_range=value_range,
        progress=progress,
    )
    sampling = model.sampling(
        new_prompt, steps=steps, guidance=guidance, negative_prompt=negative_prompt
    )
    kept = cells[:, None].to(model.device)
    latent = recovered.trajectory.latents[0]
    for index in tqdm(range(len(sampling.timesteps)), disable=not progress, desc="drawing"):
        latent = sampling.step(latent, index)
        latent = torch.where(kept, recovered.trajectory.latents[index + 1], latent)
        if callback is not None:
            callback(index, latent.clone())
    refinement = None
    if refine:
        refinement = _refined(model, latent, pictures, edited, refine, progress)
        latent = refinement.z
    picture = model.decode(latent)
    drawn = sampling.network.evaluations * len(sampling.timesteps)
    return Edit(
        picture=picture,
        original=original.to(picture.device),
        background=~edited.to(picture.device),
        latent=latent,
        recovered=recovered,
        evaluations=recovered.evaluations + drawn,
        seconds=time.perf_counter() - started,
        refinement=refinement,
    )


def _refined(
    model: LatentDiffusion,
    latent: Float[Tensor, "batch *latent"],
    pictures: Pictures,
    edited: Bool[Tensor, "batch height width"],
    iterations: int,
    progress: bool,
) -> Solution:
    """Invert the decoder from z_0 where only the background is known.

    Forward steps hardly change the latents under the mask; accelerated methods change them more.
    """
    autoencoder = model.autoencoder
    background = ~edited.to(latent.device)
    original = pictures.values.to(latent.device)
    target = torch.where(background[:, None], original, model.decode(latent))
    seen = default_observation(pictures.observation, autoencoder.dtype)
    of_rows = seen.observations if isinstance(seen, PerRow) else (seen,) * len(target)
    observation = PerRow(
        [Masked(known, each) for known, each in zip(background, of_rows, strict=True)]
    )
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, target, observation)
    return solve(
        operator,
        latent,
        ForwardStep(),
        max_iterations=iterations,
        stop=(Divergence(factor=10),),
        keep="deviation_level",
        progress=progress,
    )


def read_mask(mask: Any, shape: torch.Size) -> Bool[Tensor, "batch height width"]:
    """The mask of every picture of a batch of this shape, (batch, 3, height, width).

    Args:
        mask: as for `edit`.

    Raises:
        TypeError, ValueError: it is no mask, or of another size.
    """
    if isinstance(mask, Tensor):
        if mask.dtype != torch.bool or mask.dim() not in (2, 3):
            raise TypeError(
                "a mask is a boolean tensor (height, width) or (batch, height, width), got "
                f"{mask.dtype} of {tuple(mask.shape)}"
            )
        values = mask
    else:
        opened = mask if hasattr(mask, "getbands") else read_picture(mask)
        levels = torch.tensor(list(opened.convert("L").tobytes()), dtype=torch.uint8)
        values = levels.reshape(opened.height, opened.width) >= 128
    batch, _, height, width = shape
    if values.shape[-2:] != (height, width) or (values.dim() == 3 and len(values) != batch):
        raise ValueError(
            f"the mask has {' x '.join(map(str, values.shape))} (height x width), the pictures "
            f"{batch} x {height} x {width}; a mask has their size (do not resize the pictures)"
        )
    return values.expand(batch, height, width)


def latent_mask(
    mask: Bool[Tensor, "batch height width"], factor: int
) -> Bool[Tensor, "batch rows columns"]:
    """Latent cells that have a pixel under the mask."""
    batch, height, width = mask.shape
    cells = mask.reshape(batch, height // factor, factor, width // factor, factor)
    return cells.any(4).any(2)


def _check_medium(model: LatentDiffusion) -> None:
    if model.autoencoder.medium != "picture" or len(model.latent_shape) != 3:
        raise ValueError(f"only pictures can be edited; {model!r} draws something else")
