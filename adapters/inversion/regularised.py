"""Regularised inversion: a prior g beside the picture, 0 in T z + w dg(z), without gradients.

With one function, forward-backward splitting (Lions & Mercier, SIAM J. Numer. Anal. 1979):

    R z = (z - prox_{s w g}(z - s T z)) / s

With a second one, h, Davis-Yin splitting (Set-Valued Var. Anal. 2017):

    x = prox_{s w g}(z),    R z = (x - prox_{s w h}(2 x - z - s T x)) / s

A forward step of size s on R is one step of the splitting; a zero of R solves the inclusion, at z,
or at x. E(D(.)) is near the identity, so that T z = E(Q(D(z))) - E(x) is about z - z_hat with
z_hat off by the noise of the picture as E sees it. With its variance for w, and g = -log p, the
inclusion is that of the most probable latent; T is no gradient, so this is a model and no theorem.
A function of the picture acts where D(z) is, before E: `PictureSplitting`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.pictures.composed_observations import Masked, PerRow
from fixpoint.adapters.pictures.observations import (
    Clip,
    Identity,
    Observation,
    RoundingCells,
    WhiteNoise,
)
from fixpoint.adapters.pictures.pictures import as_pictures, check_sides
from fixpoint.operator import Operator
from fixpoint.proximal import Box, Function, GaussianPrior, RowParameter


@dataclass(frozen=True)
class EncoderPrior:
    """A Gaussian around E(x), as wide as the encoder is wrong; each row has its own.

    Along directions in which the picture tells little, the encoder, which was trained to know
    which latents occur, knows more than the noise that T would fit there. Its variance is `spread`
    times the mean square of T E(x), an estimate of E(x) - z*.

    Args:
        spread: above 0.
    """

    spread: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.spread < math.inf:
            raise ValueError(f"need 0 < spread < inf, got {self.spread}")

    @torch.no_grad()
    def at(self, inversion: DecoderInversion) -> GaussianPrior:
        """The prior of these rows: one evaluation of T.

        Raises:
            ValueError: T E(x) is zero, and leaves nothing to be found.
        """
        start = inversion.start
        square = _mean_square(inversion(start))
        if not bool((square > 0).all()):
            raise ValueError("E(x) already is a zero of T: a prior has nothing to weigh")
        std = (self.spread * square).sqrt().reshape(-1, *[1] * (start.dim() - 1))
        return GaussianPrior(RowParameter(start), RowParameter(std))


@dataclass(frozen=True)
class OnPicture:
    """A function of the decoded picture, as `TotalVariation2D`, in the units of [-1, 1].

    Args:
        function: closed and convex, on (batch, 3, height, width); weighed as it is.
    """

    function: Function

    def __post_init__(self) -> None:
        if not isinstance(self.function, Function):
            raise TypeError(f"OnPicture takes a proximal.Function, got {self.function!r}")


Prior = Function | EncoderPrior | OnPicture


class PictureSplitting(DecoderInversion):
    """A forward-backward step on the picture, as the encoder sees it; two encodings each.

        y = D(z),    T z = E(y) - E(prox_g(y - p)),    p = the deviation Q(y) - x

    Zero where y minimises the misfit plus g, and wherever E cannot tell y from the step. Without g
    it is the plain operator, but for the point that E is linearised at. Where nothing is hidden
    or cut off, y - p = x: denoise first, then invert. Hidden pixels are those of D(z).

    Args:
        inversion: the plain operator, whose pair, picture, observation and E(x) it shares.
        function: g, on pictures.
    """

    def __init__(self, inversion: DecoderInversion, function: Function) -> None:
        vars(self).update(vars(inversion))
        self.function = function

    @torch.no_grad()
    def evaluate(
        self, z: Float[Tensor, "batch *latent"]
    ) -> tuple[Float[Tensor, "batch *latent"], dict[str, Tensor]]:
        decoded, _ = self._observe(z, Identity())
        seen, before_rounding = self.observation.observe(decoded, self.image)
        moved = self.function.prox(decoded - (seen - self.image), 1.0)
        residual = self._encode(decoded).to(z.dtype) - self._encode(moved).to(z.dtype)
        return residual, self._measured(seen, before_rounding)

    def select(self, rows: Tensor) -> PictureSplitting:
        selected = super().select(rows)
        assert isinstance(selected, PictureSplitting)
        selected.function = self.function.select(rows)
        return selected


class RegularisedInversion(Operator):
    """R of forward-backward, or with a second function of Davis-Yin, on T + w dg (+ w dh).

    Everything that T measures is measured at the point where T is evaluated.

    Args:
        inversion: T; any operator with `start`, as `DecoderInversion`.
        prior: g, on latents (batch, *latent).
        second: h, likewise.
        step: s, above 0; forward-backward and Davis-Yin want it below 2 beta, and T has beta
            about 1.
        weight: w, above 0; a number, or (batch,). None: the variance of the
            noise of the picture in the latent, see `latent_noise`. Sets do not depend on it.

    Raises:
        TypeError, ValueError: an argument is not usable, or the noise is not known.
    """

    def __init__(
        self,
        inversion: DecoderInversion,
        prior: Function,
        second: Function | None = None,
        *,
        step: float = 1.0,
        weight: float | Float[Tensor, " batch"] | None = None,
    ) -> None:
        functions = (prior,) if second is None else (prior, second)
        for function in functions:
            if not isinstance(function, Function):
                raise TypeError(f"a prior is a proximal.Function on latents, got {function!r}")
        if not 0 < step < math.inf:
            raise ValueError(f"need 0 < step < inf, got {step}")
        if weight is None and not all(isinstance(function, Box) for function in functions):
            weight = latent_noise(inversion)
        values = torch.as_tensor(1.0 if weight is None else weight)
        if not bool((values > 0).all() and values.isfinite().all()):
            raise ValueError(
                f"need 0 < weight < inf, got {values.tolist()}: where the observation tells of no "
                "noise, give the weight"
            )
        if values.dim() and values.shape != (len(inversion.start),):
            raise ValueError(
                f"weight is one number or one a row, ({len(inversion.start)},), got "
                f"{tuple(values.shape)}"
            )
        factor = RowParameter(values) if values.dim() else float(values)
        self.inversion = inversion
        self.functions = tuple(function.scaled(factor) for function in functions)
        self.step = step
        self.start: Float[Tensor, "batch *latent"] = inversion.start
        self.weight = values

    def __call__(self, z: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        return self.evaluate(z)[0]

    @torch.no_grad()
    def evaluate(
        self, z: Float[Tensor, "batch *latent"]
    ) -> tuple[Float[Tensor, "batch *latent"], dict[str, Tensor]]:
        x = self.latent(z)
        residual, measured = self.inversion.evaluate(x)
        moved = self.functions[-1].prox(2 * x - z - self.step * residual, self.step)
        return (x - moved) / self.step, measured

    def latent(self, z: Float[Tensor, "batch *latent"]) -> Float[Tensor, "batch *latent"]:
        """The latent that a point of the iteration stands for: z, or x of Davis-Yin."""
        return z if len(self.functions) == 1 else self.functions[0].prox(z, self.step)

    def select(self, rows: Tensor) -> RegularisedInversion:
        selected = copy.copy(self)
        selected.inversion = self.inversion.select(rows)
        selected.start = selected.inversion.start
        selected.functions = tuple(function.select(rows) for function in self.functions)
        if self.weight.dim():
            selected.weight = self.weight.index_select(0, rows.to(self.weight.device))
        return selected


def regularised(
    encode: Any,
    decode: Any,
    image: Float[Tensor, "batch *picture"],
    observation: Observation,
    prior: Prior | Sequence[Prior],
    weight: float | None = None,
    **options: Any,
) -> DecoderInversion | RegularisedInversion:
    """The operator of `invert(prior=...)`: at most two priors on latents, one on pictures.

    A prior weighs against all of the picture, so that `WhiteNoise` comes down to clipping in T and
    speaks through the weight alone; not so beside sets, which have none.

    Raises:
        TypeError, ValueError: the priors are not usable.
    """
    priors = (prior,) if isinstance(prior, Function | EncoderPrior | OnPicture) else tuple(prior)
    for each in priors:
        if not isinstance(each, Function | EncoderPrior | OnPicture):
            raise TypeError(
                f"a prior is a proximal.Function on latents, EncoderPrior() or OnPicture(...), "
                f"got {each!r}"
            )
    on_pictures = [each.function for each in priors if isinstance(each, OnPicture)]
    on_latents = [each for each in priors if not isinstance(each, OnPicture)]
    if not priors or len(on_pictures) > 1 or len(on_latents) > 2:
        raise ValueError("give one or two priors on latents, one on pictures, or both kinds")
    if weight is not None and not on_latents:
        raise ValueError("prior_weight weighs priors on latents; scale a function of the picture")
    plain = DecoderInversion(encode, decode, image, observation, **options)
    only_sets = not on_pictures and all(isinstance(each, Box) for each in on_latents)
    inside = observation if only_sets else unshrunk(observation)
    base = plain.observing(inside)
    functions = [each.at(base) if isinstance(each, EncoderPrior) else each for each in on_latents]
    if weight is None and not only_sets and functions:
        noise: Any = latent_noise(plain)
    else:
        noise = weight
    if on_pictures:
        base = PictureSplitting(base, on_pictures[0])
    return RegularisedInversion(base, *functions, weight=noise) if functions else base


@torch.no_grad()
def latent_noise(inversion: DecoderInversion) -> Float[Tensor, " batch"]:
    """The variance per number of the latent that the noise of the observation leaves in E(x).

    Simulated: D(E(x)) is observed once more, with fresh noise where the observation cannot repeat
    it, and both are encoded. The same draw for every row, from a fixed seed. 0 where the
    observation adds nothing.
    """
    decoded = inversion.decode(inversion.start)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(decoded.shape[1:], generator=generator, dtype=decoded.dtype)
    seen = _observed_anew(inversion.observation, decoded, draw.to(decoded.device))
    return _mean_square(inversion.encode(seen) - inversion.encode(decoded))


def _observed_anew(observation: Observation, decoded: Tensor, draw: Tensor) -> Tensor:
    if isinstance(observation, PerRow):
        rows = zip(observation.observations, decoded.split(1), strict=True)
        return torch.cat([_observed_anew(each, row, draw) for each, row in rows])
    if isinstance(observation, Masked):
        seen = _observed_anew(observation.observation, decoded, draw)
        return torch.where(observation.known.to(decoded.device), seen, decoded)
    if isinstance(observation, WhiteNoise | RoundingCells):
        return decoded + observation.noise_level * draw
    return observation(decoded)


def unshrunk(observation: Observation) -> Observation:
    """The observation with all that it would leave out as noise."""
    if isinstance(observation, WhiteNoise):
        return Clip()
    if isinstance(observation, PerRow):
        return PerRow([unshrunk(each) for each in observation.observations])
    if isinstance(observation, Masked):
        inner = unshrunk(observation.observation)
        return observation if inner is observation.observation else Masked(observation.known, inner)
    return observation


@torch.no_grad()
@takes_models
def latent_prior(autoencoder: Autoencoder, pictures: Any) -> GaussianPrior:
    """Mean and standard deviation of every channel over the latents of example pictures.

    Args:
        pictures: of one size, as for `invert`; at least two numbers a channel.

    Raises:
        TypeError, ValueError: the pictures are not usable, or all alike.
    """
    std, mean = torch.std_mean(_latents(autoencoder, pictures), (0, 2, 3), keepdim=True)
    return GaussianPrior(mean[0], std[0])


@torch.no_grad()
@takes_models
def latent_box(autoencoder: Autoencoder, pictures: Any, *, margin: float = 0.1) -> Box:
    """The range of every channel over the latents of example pictures.

    Args:
        pictures: of one size, as for `invert`.
        margin: by how much of its width each range is widened at both ends, at least 0.

    Raises:
        TypeError, ValueError: the pictures or the margin are not usable.
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"need 0 <= margin < inf, got {margin}")
    latents = _latents(autoencoder, pictures)
    lower, upper = latents.amin((0, 2, 3)), latents.amax((0, 2, 3))
    wider = margin * (upper - lower)
    return Box((lower - wider).reshape(-1, 1, 1), (upper + wider).reshape(-1, 1, 1))


def _latents(autoencoder: Autoencoder, pictures: Any) -> Float[Tensor, "batch channels h w"]:
    values = as_pictures(pictures).values
    check_sides(values, autoencoder.factor)
    autoencoder.check_shape(values.shape)
    return autoencoder.encode(values)


def _mean_square(values: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    return kernels.row_dot(values, values) / values[0].numel()
