"""The network of a learned inverse: from what an evaluation shows to a correction of the latent.

In the manner of ReStyle (Alaluf, Patashnik, Cohen-Or, ICCV 2021): it is fed with the picture and
with what the latent of the last pass gives, and answers with what is to be added to that latent:

    z_{k+1} = z_k + N_k(x, Q(D(z_k)), z_k, z_0, T z_k),     z_0 = E(x).

The passes begin as the calibrated steps, z_k - M_{k+1} T z_k; what the network adds to them is zero
until it is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

PASSES = 4
"""That the network is told apart, and that an inversion makes at most."""

WIDTH = 96
BLOCKS_A_STAGE, BLOCKS = 2, 4
NARROWEST = 32


@dataclass(frozen=True)
class NetworkSizes:
    """The sizes of a network.

    Attributes:
        channels: of the latents.
        factor: pixels per latent cell along a side.
        width: channels at the latents' resolution; each stage before has half of them.
    """

    channels: int
    factor: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        for name in ("channels", "factor", "width"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")


class InverseNetwork(nn.Module):
    """Pictures, by stages, to the latents' resolution; there the latents join them.

    A stage takes the pixels of a square together and looks around itself. Nothing is normalised
    over a batch, and no size is built in.

    Args:
        sizes: of what it corrects, and its width.

    Attributes:
        scales: buffers of numbers to divide by, (1, channels, 1, 1): the mean and the deviation of
            latents, of the encoder's error and of T z_0; `picture_error`, of Q(D(z_0)) - x.
        linear: the matrices on T z_k, one a pass: at first minus M_1, M_2, ..., then zero.
    """

    mean: Tensor
    deviation: Tensor
    error: Tensor
    residual: Tensor
    picture_error: Tensor

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        channels, width = sizes.channels, sizes.width
        factors = _prime_factors(sizes.factor)
        widths = [
            max(min(NARROWEST, width), width // 2 ** (len(factors) - 1 - stage))
            for stage in range(len(factors))
        ]
        stages, into = [], 6
        for prime, out in zip(factors, widths, strict=True):
            stages.append(_Stage(into, out, prime))
            into = out
        self.stages = nn.Sequential(*stages)
        self.join = nn.Conv2d(into + 3 * channels + PASSES, width, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(width, surveys=True) for _ in range(BLOCKS)))
        self.head = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.linear = nn.Parameter(torch.zeros(PASSES, channels, channels))
        for name in ("mean", "deviation", "error", "residual"):
            self.register_buffer(name, torch.ones(1, channels, 1, 1))
        self.register_buffer("picture_error", torch.ones(()))

    @torch.no_grad()
    def fit_scales(
        self,
        truth: Float[Tensor, "batch channels rows columns"],
        start: Float[Tensor, "batch channels rows columns"],
        residual: Float[Tensor, "batch channels rows columns"],
        left: Float[Tensor, "batch 3 height width"],
        maps: Float[Tensor, "steps channels channels"],
    ) -> None:
        """Take the scales from latents that are known, and begin with the calibrated steps.

        Args:
            truth, start, residual: z*, E(x), T E(x).
            left: Q(D(E(x))) - x.
            maps: M_1, M_2, ...
        """
        self.mean.copy_(truth.mean((0, 2, 3), keepdim=True))
        self.deviation.copy_(_rms(truth - self.mean))
        self.error.copy_(_rms(start - truth))
        self.residual.copy_(_rms(residual))
        self.picture_error.copy_(left.square().mean().sqrt().clamp(min=1e-6))
        known = min(PASSES, len(maps))
        self.linear[:known] = -maps[:known]

    def forward(
        self,
        image: Float[Tensor, "batch 3 height width"],
        seen: Float[Tensor, "batch 3 height width"],
        z: Float[Tensor, "batch channels rows columns"],
        start: Float[Tensor, "batch channels rows columns"],
        residual: Float[Tensor, "batch channels rows columns"],
        number: Sequence[int] | Tensor,
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The correction of z.

        Args:
            image: x.
            seen: Q(D(z)).
            z: the latent of the last pass.
            start: z_0 = E(x).
            residual: T z.
            number: of the pass, from 0, of every row.
        """
        factor = self.sizes.factor
        size = [factor * side for side in z.shape[-2:]]
        pictures = torch.cat((image, (seen - image) / self.picture_error), 1)
        if list(pictures.shape[-2:]) != size:  # a model that pads its pictures
            pictures = interpolate(pictures, size, mode="bilinear", antialias=True)
        passes = torch.as_tensor(number, device=z.device).clamp(max=PASSES - 1)
        told = nn.functional.one_hot(passes, PASSES).to(z)[:, :, None, None]
        latents = (
            (z - self.mean) / self.deviation,
            (z - start) / self.error,
            residual / self.residual,
            told.expand(-1, -1, *z.shape[-2:]),
        )
        joined = self.join(torch.cat((self.stages(pictures), *latents), 1))
        correction = self.error * self.head(self.blocks(joined).relu()).to(z)
        return correction + torch.einsum("bcd,bdhw->bchw", self.linear[passes], residual)


class _Stage(nn.Module):
    """Squares of `prime` x `prime` pixels become one, with two blocks at the lower resolution."""

    def __init__(self, into: int, out: int, prime: int) -> None:
        super().__init__()
        self.prime = prime
        self.conv = nn.Conv2d(into * prime**2, out, 3, padding=1)
        self.blocks = nn.Sequential(*(_Block(out, surveys=False) for _ in range(BLOCKS_A_STAGE)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.conv(pixel_unshuffle(x, self.prime)))


class _Block(nn.Module):
    """x + f(x), zero at first; with `surveys` f sees the mean over all cells, too: decoders with
    GroupNorm draw by it."""

    def __init__(self, width: int, *, surveys: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.survey = nn.Linear(width, width) if surveys else None
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        at = x.relu()
        inside = self.first(at)
        if self.survey is not None:
            inside = inside + self.survey(at.mean((2, 3)))[:, :, None, None]
        return x + self.second(inside.relu())


def _prime_factors(number: int) -> list[int]:
    """In ascending order; none of 1."""
    found, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return found


def _rms(values: Tensor) -> Tensor:
    return values.square().mean((0, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
