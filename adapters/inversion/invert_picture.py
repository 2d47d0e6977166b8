"""The headline job in one call: from a picture to the latent that decodes to it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint import kernels, schedules
from fixpoint._solve import solve
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.regularised import (
    Prior,
    RegularisedInversion,
    regularised,
    unshrunk,
)
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import (
    EightBit,
    Identity,
    Jpeg,
    Observation,
    RoundingCells,
    as_observation,
)
from fixpoint.adapters.pictures.pictures import Pictures, as_values, check_sides, to_pil
from fixpoint.iterator import Iterator
from fixpoint.iterators import Adam, Anderson, ForwardStep
from fixpoint.loop.iterate import Iterate
from fixpoint.solution import Solution
from fixpoint.status import Status
from fixpoint.stop import Below, Divergence, NoiseFloor, Stagnation, StopRule


@dataclass(frozen=True)
class Inversion:
    """The latents behind a batch of pictures; rows in the order of the pictures.

    Attributes:
        latent: (batch, channels, rows, columns), float32, in the pipeline's scaling: what
            `pipe(latents=...)` takes. `autoencoder.raw(latent)` is what the model decodes.
        picture: the pictures on [-1, 1].
        reconstruction: D(latent), clipped to [-1, 1].
        evaluations: per row: of E(D(.)), or gradient steps.
        seconds: of the whole batch, with E(x) and whatever had to be compiled, without the
            reconstruction.
        observation: what was taken to have happened to the decoder's output.
        solution: the solver's account of the run; None where no solver ran.
    """

    latent: Float[Tensor, "batch channels rows columns"]
    picture: Float[Tensor, "batch 3 height width"]
    reconstruction: Float[Tensor, "batch 3 height width"]
    evaluations: Int[Tensor, " batch"]
    seconds: float
    observation: Observation
    solution: Solution | None = None

    @property
    def psnr_db(self) -> Float[Tensor, " batch"]:
        """Peak signal-to-noise ratio of the reconstruction against the picture, in dB."""
        error = (self.reconstruction - self.picture).double().square().flatten(1).mean(1)
        return 10 * (4 / error).log10()

    @property
    def status(self) -> tuple[Status, ...]:
        """Why each row ended; empty where no solver ran."""
        return self.solution.status if self.solution else ()

    def nmse_db(
        self, truth: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, " batch"]:
        """`10 log10(||latent - truth||^2 / ||truth||^2)` per row, in dB (the paper, section 4)."""
        return nmse_db(self.latent, truth)

    def to_pil(self) -> list[Any]:
        """The reconstructions as 8-bit PIL images.

        Raises:
            ValueError: they are no RGB pictures.
        """
        if self.reconstruction.dim() != 4 or self.reconstruction.shape[1] != 3:
            raise ValueError(
                "only RGB pictures become PIL images; the reconstruction has shape "
                f"{tuple(self.reconstruction.shape)}"
            )
        return [to_pil(row) for row in self.reconstruction]


def nmse_db(
    latent: Float[Tensor, "batch *shape"], truth: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """Normalised mean squared error per row, in dB: -20 is an error of a tenth of the norm."""
    if not latent.numel():
        return latent.new_zeros(len(latent), dtype=torch.float64)
    error = kernels.row_norm(latent.double() - truth.double())
    return 20 * (error / kernels.row_norm(truth.double())).log10()


def invert(
    autoencoder: Autoencoder,
    image: Any,
    *,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    prior: Prior | Sequence[Prior] | None = None,
    prior_weight: float | None = None,
    iterator: Iterator[Any] | None = None,
    max_iterations: int = 50,
    rtol: float = 1e-6,
    stop: Sequence[StopRule] | None = None,
    keep: str | None = None,
    value_range: tuple[float, float] | None = None,
    compile: bool = False,
    callback: Callable[[Iterate], object] | None = None,
    progress: bool = False,
) -> Inversion:
    """The latent whose decoding is the picture, without gradients.

    Args:
        autoencoder: the encoder/decoder pair that made the picture.
        image: one picture or several of one size: paths, PIL images, arrays or tensors; see
            `as_pictures`. Never resized.
        observation: what happened to the decoder's output before it became this picture; by
            default what the picture shows: JPEG with the file's own settings, 8 bits for
            anything on the 8-bit grid (by its cells where the model computes in 32 bits), clipping
            where values touch -1 or 1, else nothing.
        prior: what is known of the latent besides: a `proximal.Function` on latents or
            `EncoderPrior()`, up to two of them, and `OnPicture(...)`; see `regularised`. Changes
            the defaults of `iterator`, `stop` and `keep`: forward steps to the least residual.
        prior_weight: of the priors on latents; by default the variance of the picture's noise in
            the latent, from the observation.
        iterator: the method; by default safeguarded Anderson acceleration with weights from the
            picture, or plain forward steps where the observation hides part of it.
        max_iterations: evaluations of E(D(.)) beyond the first, per picture, at most.
        rtol: tolerance on `||E(Q(D(z))) - E(x)||`, relative to the latent that the run starts from.
        stop: stop rules; by default divergence, stagnation of the residual and of the deviation
            from the picture, and noise floors where `observation` leaves noise to be fitted.
        keep: what a row that ends without success returns, see `solve`; by default its point of
            least deviation from the picture ("deviation_level"), with a prior that of least
            residual ("best").
        value_range: of float input, see `as_pictures`.
        compile: see `DecoderInversion`. Pictures that follow in the same size find the autoencoder
            compiled.
        callback: called with every `Iterate`.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: the picture or an option is not usable; no iteration was made.
    """
    if prior is None and prior_weight is not None:
        raise ValueError("prior_weight weighs a prior, and none is given")
    pictures = readable(autoencoder, image, value_range)
    values = pictures.values.to(autoencoder.device)
    started = time.perf_counter()
    seen = as_observation(
        default_observation(pictures.observation, autoencoder.dtype)
        if observation is None
        else observation
    )
    check_observation(autoencoder, seen)
    pair = autoencoder.encode, autoencoder.decode
    operator = (
        DecoderInversion(*pair, values, seen, compile=compile)
        if prior is None
        else regularised(*pair, values, seen, prior, prior_weight, compile=compile)
    )
    if stop is None:
        choose = default_stop if prior is None else regularised_stop
        stop = choose(seen, pictures, autoencoder.dtype)
    if iterator is None:
        iterator = default_iterator(seen, autoencoder.dtype) if prior is None else ForwardStep()
    if keep is None:
        keep = "deviation_level" if prior is None else "best"
    solution = solve(
        operator,
        operator.start,
        iterator,
        rtol=0.0,
        max_iterations=max_iterations,
        stop=(Below(level=rtol * kernels.row_norm(operator.start)), *stop),
        keep=keep,
        callback=callback,
        progress=progress,
    )
    latent = solution.z
    if isinstance(operator, RegularisedInversion):
        latent = operator.latent(latent)
    synchronize(autoencoder)
    seconds = time.perf_counter() - started
    return finish(
        autoencoder,
        values,
        latent,
        solution.evaluations,
        seconds,
        seen,
        solution,
    )


def invert_by_paper(
    autoencoder: Autoencoder,
    image: Any,
    *,
    steps: int = 100,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    value_range: tuple[float, float] | None = None,
    compile: bool = False,
    callback: Callable[[Iterate], object] | None = None,
    progress: bool = False,
) -> Inversion:
    """The paper's practical method (section 4): Adam on E(D(z)) - E(x), 0.01 with its schedule.

    Args:
        autoencoder, image, value_range, compile, callback, progress: as for `invert`.
        steps: evaluations of E(D(.)).
        observation: nothing in the paper.
    """
    if not (isinstance(steps, int) and steps >= 1):
        raise ValueError(f"steps must be a whole number above 0, got {steps}")
    eps = 1e-8 if autoencoder.dtype == torch.float32 else 1e-4
    return invert(
        autoencoder,
        image,
        observation=Identity() if observation is None else observation,
        iterator=Adam(schedule=schedules.warmup_cosine(0.01, steps), eps=eps),
        max_iterations=steps - 1,
        rtol=0.0,
        stop=(),
        keep="last",
        value_range=value_range,
        compile=compile,
        callback=callback,
        progress=progress,
    )


def default_observation(observation: Observation, dtype: torch.dtype) -> Observation:
    """What `invert` puts into the operator for what the pictures show.

    Rounding is repeated as it is by models in 16 bits, whose own noise fills the cells; in 32 bits
    its cells are more accurate.
    """
    if isinstance(observation, PerRow):
        return PerRow([default_observation(each, dtype) for each in observation.observations])
    sixteen = dtype in (torch.float16, torch.bfloat16)
    return RoundingCells() if type(observation) is EightBit and not sixteen else observation


def default_iterator(observation: Observation, dtype: torch.dtype = torch.float32) -> Iterator[Any]:
    """The method of `invert`: Anderson with weights from the picture.

    A longer memory fits the noise of bfloat16, and a longer step carries it off. Where whole
    regions go unseen every acceleration fits them to what is seen; forward steps leave them alone.
    """
    if observation.hides:
        if isinstance(observation, PerRow) and not all(
            each.hides for each in observation.observations
        ):
            raise ValueError(
                "rows that hide part of the picture and rows that do not want different methods: "
                "invert them apart, or name an iterator"
            )
        return ForwardStep()
    if dtype == torch.bfloat16:
        return Anderson(
            memory=5, mixing=1.0, minimize="deviation", largest_rise=1.0, regularization=1e-6
        )
    return Anderson(
        memory=10, mixing=1.3, minimize="deviation", largest_rise=1.0, regularization=1e-6
    )


def default_stop(
    observation: Observation, pictures: Pictures, dtype: torch.dtype = torch.float32
) -> tuple[StopRule, ...]:
    """Divergence and stagnation always, of the residual and, but for bfloat16, of the deviation;
    the noise floor where `observation` leaves out rounding that the pictures show, or some of it
    by design."""
    batch = len(pictures.values)
    rules: list[StopRule] = []
    of_all = observation.free_shares(pictures.values).cpu().sqrt()  # levels over all values
    shown, accounted = pictures.observation.noise_levels(batch), observation.noise_levels(batch)
    left_out = (shown.square() - accounted.square()).clamp(min=0).sqrt() * of_all
    if bool((left_out > 0).any()):
        rules.append(NoiseFloor(level=left_out))
    left = observation.deviation_levels(batch) * of_all
    if bool((left > 0).any()):
        rules.append(NoiseFloor(level=0.9 * left, quantity="deviation_level"))
    rules.append(Divergence(factor=10))
    if dtype == torch.bfloat16:
        return (*rules, Stagnation(window=3, improvement=0.1))
    slow = Stagnation(window=6, improvement=0.005, quantity="deviation_level")
    return (*rules, Stagnation(window=8, improvement=0.05), slow)


def regularised_stop(
    observation: Observation, pictures: Pictures, dtype: torch.dtype = torch.float32
) -> tuple[StopRule, ...]:
    """With a prior: as `default_stop`, but noise that `WhiteNoise` would leave out in T is a floor
    of the misfit, and the deviation, weighed against the prior, has none to reach."""
    shown = dataclasses.replace(pictures, observation=observation)
    rules: list[StopRule] = []
    for rule in default_stop(unshrunk(observation), shown, dtype):
        if getattr(rule, "quantity", "") == "deviation_level":
            continue
        if isinstance(rule, NoiseFloor):  # a fitted latent explains a little of the noise
            rule = dataclasses.replace(rule, level=0.98 * rule.level)
        rules.append(rule)
    return tuple(rules)


def invert_by_encoder(
    autoencoder: Autoencoder, image: Any, *, value_range: tuple[float, float] | None = None
) -> Inversion:
    """E(x) alone: where every inversion starts."""
    pictures = readable(autoencoder, image, value_range)
    values = pictures.values.to(autoencoder.device)
    started = time.perf_counter()
    with torch.no_grad():
        latent = autoencoder.encode(values)
    synchronize(autoencoder)
    seconds = time.perf_counter() - started
    none = torch.zeros(len(values), dtype=torch.long)
    return finish(autoencoder, values, latent, none, seconds, Identity())


def readable(
    autoencoder: Autoencoder, image: Any, value_range: tuple[float, float] | None
) -> Pictures:
    """The pictures, once it is sure that this autoencoder can take them."""
    if not isinstance(autoencoder, Autoencoder):
        raise TypeError(
            f"expected an Autoencoder, got {type(autoencoder).__name__}; wrap a diffusers model "
            "with Autoencoder.from_diffusers"
        )
    pictures = read(autoencoder, image, value_range)
    if autoencoder.medium == "picture":
        check_sides(pictures.values, autoencoder.factor)
    autoencoder.check_shape(pictures.values.shape)
    return pictures


def read(autoencoder: Autoencoder, image: Any, value_range: tuple[float, float] | None) -> Pictures:
    """x as a tensor, by the autoencoder's medium, and how it was observed."""
    video = autoencoder.medium == "video" and autoencoder.sample_channels == 3
    if video and not isinstance(image, Tensor):
        from fixpoint.adapters.pictures.videos import as_videos  # it needs this module's neighbours

        videos = as_videos(image, value_range)
        return Pictures(videos.values, videos.observation)
    return as_values(
        image,
        autoencoder.medium,
        autoencoder.sample_channels,
        len(autoencoder.sizes.rules),
        value_range,
    )


def check_observation(autoencoder: Autoencoder, observation: Observation) -> None:
    """Refuse JPEG of anything but RGB pictures.

    Raises:
        ValueError: x is something else.
    """
    parts = observation.observations if isinstance(observation, PerRow) else (observation,)
    of_pictures = autoencoder.medium == "picture" and autoencoder.sample_channels == 3
    if not of_pictures and any(isinstance(part, Jpeg) for part in parts):
        raise ValueError(
            f"JPEG is an observation of RGB pictures, not of a {autoencoder.medium} with "
            f"{autoencoder.sample_channels} channels"
        )


@torch.no_grad()
def finish(
    autoencoder: Autoencoder,
    values: Tensor,
    latent: Tensor,
    evaluations: Tensor,
    seconds: float,
    observation: Observation,
    solution: Solution | None = None,
) -> Inversion:
    decoded = autoencoder.decode(latent)
    return Inversion(
        latent=latent,
        picture=values,
        reconstruction=decoded if autoencoder.medium == "audio" else decoded.clamp(-1, 1),
        evaluations=evaluations,
        seconds=seconds,
        observation=observation,
        solution=solution,
    )


def synchronize(autoencoder: Autoencoder) -> None:
    if autoencoder.device.type == "cuda":
        torch.cuda.synchronize(autoencoder.device)
