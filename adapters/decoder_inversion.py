"""Decoder inversion as an operator (the paper, equations 4 to 8):

    T z = E(Q(D(z))) - E(x)

with an encoder E, a decoder D, the picture x and the observation Q that made x out of D(z).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.adapters.observations import Observation, as_observation
from fixpoint.operator import Operator
from fixpoint.rows import select_rows


class DecoderInversion(Operator):
    """The operator whose zero is the latent behind a picture. Any pair of callables will do.

    `operator.start` is E(x), the point to start from. Every evaluation also measures "misfit", the
    root mean square of D(z) - x per value, D(z) taken through Q before its rounding;
    "deviation", the picture Q(D(z)) - x; and "deviation_level", its root mean square.

    Args:
        encode: E, from pictures (batch, *picture) to latents (batch, *latent).
        decode: D, from latents to pictures. Neither has to be differentiable.
        image: x, (batch, *picture), on the range that `decode` returns.
        observation: Q; `Identity()` is the paper's operator.

    Raises:
        TypeError: x is no floating-point tensor. ValueError: x or E(x) contain NaN or infinity;
            at the first evaluation, where D(z) has not the shape of x.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
        image: Float[Tensor, "batch *picture"],
        observation: Observation | Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not isinstance(image, Tensor) or not image.is_floating_point():
            kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise TypeError(
                f"the image must be a floating-point tensor on the range of decode, got {kind}; "
                "adapters.as_pictures reads other kinds"
            )
        if not bool(image.isfinite().all()):
            raise ValueError("the image contains NaN or infinity")
        self.encode = encode
        self.decode = decode
        self.image = image
        self.observation = as_observation(observation)
        with torch.no_grad():
            self.start: Float[Tensor, "batch *latent"] = encode(image)
        if not bool(self.start.isfinite().all()):
            raise ValueError(
                "E(x) contains NaN or infinity; where the autoencoder runs in float16, load it "
                "in bfloat16 or float32"
            )

    def __call__(self, z: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        return self.evaluate(z)[0]

    @torch.no_grad()
    def evaluate(
        self, z: Float[Tensor, "batch *latent"]
    ) -> tuple[Float[Tensor, "batch *latent"], dict[str, Tensor]]:
        decoded = self.decode(z)
        if decoded.shape != self.image.shape:
            raise ValueError(
                f"D(z) has shape {tuple(decoded.shape)} but the picture {tuple(self.image.shape)}: "
                "the autoencoder does not give back the sides of this picture"
            )
        seen, before_rounding = self.observation.observe(decoded, self.image)
        if seen.shape != self.image.shape:
            raise ValueError(
                f"{self.observation!r} made {tuple(seen.shape)} of pictures "
                f"{tuple(self.image.shape)}; an observation keeps their shape"
            )
        residual = self.encode(seen).to(z.dtype) - self.start.to(z.dtype)
        deviation = seen - self.image
        values = math.sqrt(self.image[0].numel())
        return residual, {
            "misfit": kernels.row_norm(before_rounding - self.image) / values,
            "deviation": deviation,
            "deviation_level": kernels.row_norm(deviation) / values,
        }

    def select(self, rows: Tensor) -> DecoderInversion:
        selected = copy.copy(self)
        selected.image = select_rows(self.image, rows)
        selected.start = select_rows(self.start, rows)
        selected.observation = self.observation.select(rows)
        return selected
