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
from fixpoint.adapters.inversion.compiled import evaluation
from fixpoint.adapters.pictures.observations import Observation, as_observation
from fixpoint.operator import Operator
from fixpoint.trees.rows import select_rows


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
        compile: run E(Q(D(z))) by torch.compile: the same values to rounding, in less time once it
            is compiled, which takes seconds to minutes at the first picture of a size and when
            rows first leave a batch. Clipping, rounding, cells and white noise are compiled with
            D; any other Q stays as it is, between D and E. Where compiling fails, one warning
            tells why and the operator goes on uncompiled. Other callables than an `Autoencoder`'s
            methods are compiled as they are, anew for every operator.
        dtype: that E and D compute in, where `encode` and `decode` are the methods of one
            `Autoencoder`; None for the model's own. With `dtype` or `compile` they work on a
            private copy of the model (`Autoencoder.copy`, in `torch.channels_last`), kept as long
            as the autoencoder lives and renewed when its weights change; the model itself is
            never touched. Latents and pictures stay in float32. float16 is taken at its word,
            also where the model's `config.force_upcast` is set, as it is by default: E(x) that
            overflows is refused, a row that overflows later ends as `NONFINITE`. bfloat16 has the
            range of float32.

    Attributes:
        compiled: whether evaluations are compiled.
        not_compiled_because: why not, where that was asked for; else None.

    Raises:
        TypeError: x is no floating-point tensor. ValueError: x or E(x) contain NaN or infinity;
            `dtype` without an `Autoencoder`, or one that cannot be copied; at the first
            evaluation, where D(z) has not the shape of x.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
        image: Float[Tensor, "batch *picture"],
        observation: Observation | Callable[[Tensor], Tensor] | None = None,
        *,
        compile: bool = False,
        dtype: torch.dtype | None = None,
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
        self._evaluation = evaluation(encode, decode, image, compile=compile, dtype=dtype)
        self._began_alone = len(image) == 1
        with torch.no_grad():
            self.start: Float[Tensor, "batch *latent"] = self._encode(image)
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
        seen, before_rounding = self._observe(z, self.observation)
        if seen.shape != self.image.shape:
            raise ValueError(
                f"{self.observation!r} made {tuple(seen.shape)} of pictures "
                f"{tuple(self.image.shape)}; an observation keeps their shape"
            )
        residual = self._encode(seen).to(z.dtype) - self.start.to(z.dtype)
        return residual, self._measured(seen, before_rounding)

    @property
    def compiled(self) -> bool:
        return self._evaluation.compiled

    @property
    def not_compiled_because(self) -> str | None:
        return self._evaluation.not_compiled_because

    def observing(self, observation: Observation) -> DecoderInversion:
        """The same pair and picture with another observation; nothing is encoded again."""
        other = copy.copy(self)
        other.observation = observation
        return other

    def _observe(self, z: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
        return self._evaluation.observe(z, self.image, observation, began_alone=self._began_alone)

    def _measured(self, seen: Tensor, before_rounding: Tensor) -> dict[str, Tensor]:
        deviation = seen - self.image
        values = math.sqrt(self.image[0].numel())
        return {
            "misfit": kernels.row_norm(before_rounding - self.image) / values,
            "deviation": deviation,
            "deviation_level": kernels.row_norm(deviation) / values,
        }

    def _encode(self, pictures: Tensor) -> Tensor:
        return self._evaluation.encode(pictures, began_alone=self._began_alone)

    def select(self, rows: Tensor) -> DecoderInversion:
        selected = copy.copy(self)
        selected.image = select_rows(self.image, rows)
        selected.start = select_rows(self.start, rows)
        selected.observation = self.observation.select(rows)
        return selected
