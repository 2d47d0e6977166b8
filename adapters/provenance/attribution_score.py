"""The score of attribution: how much better D(z) explains a picture than its low frequencies do.

    20 log10(||Q(L x) - x|| / ||Q(D(z)) - x||)    in dB

`attribution` explains it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from fixpoint import kernels
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.adapters.pictures.composed_observations import Masked, PerRow
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE, WhiteNoise
from fixpoint.adapters.provenance.observed_pictures import as_applied

FLOOR = EIGHT_BIT_NOISE / 3
"""Root mean square that an exact inversion of an 8-bit picture may leave, about that of cells of
rounding."""
LOWEST = -100.0
"""Score in dB of an inversion that failed."""


@torch.no_grad()
def attribution_score(inversion: Inversion) -> Float[Tensor, " batch"]:
    """The score of each row in dB, from an inversion and its observation Q.

    Both errors are mean squares over the values that Q looks at. White noise cannot be repeated, so
    its variance is subtracted from both, over the values that are not clipped. To both is added
    the error that an exact inversion may leave: `FLOOR` squared and, for white noise, three
    standard deviations of the mean of its squares. A picture that L explains as well as D, an empty
    one for example, scores 0.

    Raises:
        ValueError: rows have different observations.
    """
    observation = as_applied(inversion.observation)
    if isinstance(observation, PerRow):
        raise ValueError("scores compare pictures of one observation: invert the others apart")
    image, count = inversion.picture, inversion.latent[0].numel()
    inner, known, counted = observation, None, torch.ones_like(image, dtype=torch.bool)
    if isinstance(observation, Masked):
        inner, known = observation.observation, observation.known
        counted = counted & known.to(image.device)
    if isinstance(inner, WhiteNoise):
        counted = counted & (image.abs() < 1)
    values = counted.flatten(1).double().sum(1).clamp(min=1)
    noise = inner.level**2 if isinstance(inner, WhiteNoise) else 0.0
    allowed = FLOOR**2 + 3 * noise * (2 / values).sqrt()

    def error(pictures: Tensor) -> Float[Tensor, " batch"]:
        seen, before = observation.observe(pictures, image)
        left = ((before if noise else seen) - image).double() * counted
        return (kernels.row_dot(left, left) / values - noise).clamp(min=0) + allowed

    code = low_frequencies(image, count, known)
    score = 10 * (error(code) / error(inversion.reconstruction)).log10()
    return score.nan_to_num(nan=LOWEST, neginf=LOWEST).cpu()


def low_frequencies(
    pictures: Float[Tensor, "batch 3 height width"],
    count: int,
    known: Bool[Tensor, "height width"] | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """The code L: pictures shrunk to about `count` numbers each and enlarged again.

    Unknown pixels are replaced by the mean of the known ones around them, so that their values do
    not matter.
    """
    height, width = sides = list(pictures.shape[-2:])
    side = math.sqrt(count / (3 * height * width))
    small = [max(1, round(side * length)) for length in sides]
    if known is not None:
        weight = known.to(pictures)[None, None]
        mean = (weight * pictures).sum((2, 3), keepdim=True) / weight.sum()
        around, share = (
            interpolate(values, small, mode="bilinear", antialias=True)
            for values in (weight * (pictures - mean), weight)
        )
        filling = mean + interpolate(around / share.clamp(min=1e-3), sides, mode="bilinear")
        pictures = torch.where(known.to(pictures.device), pictures, filling)
    shrunk = interpolate(pictures, small, mode="bicubic", antialias=True)
    return interpolate(shrunk, sides, mode="bicubic").clamp(-1, 1)
