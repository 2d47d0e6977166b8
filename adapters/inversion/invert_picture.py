"""The headline job in one call: from a picture to the latent that decodes to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from fixpoint import kernels, schedules
from fixpoint._solve import solve
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.inversion.choice import (
    by_gradients_alone,
    can_be_settled,
    check_gradients,
    handed_over,
    judged,
    settled,
)
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.defaults import (
    default_iterator,
    default_observation,
    default_stop,
    regularised_stop,
    repeatable,
)
from fixpoint.adapters.inversion.drawn_rows import drawn, drawn_where_no_latent_was_found
from fixpoint.adapters.inversion.goal import Goal, Perceptual, check_goal, comparison
from fixpoint.adapters.inversion.gradient_plan import GradientPlan, Gradients
from fixpoint.adapters.inversion.judgement import InversionOutcome, Judgement
from fixpoint.adapters.inversion.look import HandedOver, Look
from fixpoint.adapters.inversion.problem import InversionProblem
from fixpoint.adapters.inversion.reading import check_observation, readable
from fixpoint.adapters.inversion.regularised import Prior, RegularisedInversion, regularised
from fixpoint.adapters.inversion.result import Inversion, finish, synchronize
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.pictures.observations import Identity, Observation, as_observation
from fixpoint.iterator import Iterator
from fixpoint.iterators import Adam, ForwardStep
from fixpoint.loop.iterate import Iterate
from fixpoint.solution import Solution
from fixpoint.stop import Below, StopRule


@takes_models
def invert(
    autoencoder: Autoencoder,
    image: Any,
    *,
    goal: Goal = "latent",
    perceptual: Perceptual | Literal["ssim"] | None = None,
    perceptual_weight: float | None = None,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    prior: Prior | Sequence[Prior] | None = None,
    prior_weight: float | None = None,
    iterator: Iterator[Any] | None = None,
    max_iterations: int = 50,
    rtol: float = 1e-6,
    stop: Sequence[StopRule] | None = None,
    keep: str | None = None,
    gradients: Gradients = "auto",
    memory_budget: int | None = None,
    value_range: tuple[float, float] | None = None,
    compile: bool = False,
    callback: Callable[[Iterate], object] | None = None,
    progress: bool = False,
) -> Inversion:
    """The latent whose decoding is the picture, by the method that fits the pair.

    Every row begins with the fixed-point iteration, without gradients. A row whose residual does
    not fall in the first steps as it does where the theorem holds, or that comes to rest far above
    what the observation leaves, is settled by another method; `Inversion.verdict` says which, and
    why. Where the caller names `iterator`, `stop`, `keep` or `prior`, his method is run to its end
    and only judged.

    Args:
        autoencoder: the encoder/decoder pair that made the picture, or the model of diffusers
            itself, as `pipe.vae`.
        image: one picture or several of one size: paths, PIL images, arrays or tensors; see
            `as_pictures`. Never resized.
        goal: "latent": which latent made this picture. "picture": which latent draws this picture
            best, whoever made it: photographs, edited pictures; see `inversion.drawing`. "auto":
            the first, and the second for rows of which the verdict says that no latent made them.
        perceptual: with goals other than "latent", a distance beside the squared error: "ssim" for
            1 - SSIM, or a function of two batches of pictures on [-1, 1] that returns (batch,).
        perceptual_weight: mean squared error that a perceptual distance of 1 weighs as much as; by
            default 0.01.
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
        gradients: "auto": rows that are settled by another method may use gradients of D, where
            it has them. "never": none do; they take steps that were calibrated on pictures that
            the pair makes itself. "always": every row goes by gradients, without the iteration.
        memory_budget: bytes that gradient steps may add to memory; rows share it. Where one row
            needs more, it is settled without gradients.
        value_range: of float input, see `as_pictures`.
        compile: see `DecoderInversion`. Pictures that follow in the same size find the autoencoder
            compiled.
        callback: called with every `Iterate`.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: the picture or an option is not usable; no iteration was made.
    """
    check_gradients(gradients, memory_budget)
    check_goal(goal)
    compared = comparison(perceptual, perceptual_weight)
    chosen = any(each is not None for each in (iterator, stop, keep, prior))
    if goal == "latent" and perceptual is not None:
        raise ValueError("a perceptual distance goes with goal='picture' or 'auto'")
    if chosen and goal != "latent":
        raise ValueError(f"goal={goal!r} chooses its method: give no iterator, stop, keep, prior")
    if chosen and gradients == "always":
        raise ValueError("gradients='always' runs no iterator: give no iterator, stop, keep, prior")
    problem = problem_of(
        autoencoder, image, observation, prior, prior_weight, value_range, compile=compile
    )
    settles = not chosen and max_iterations > 0 and can_be_settled(autoencoder, problem.observation)
    for option, given in (
        ("gradients='always'", gradients == "always"),
        (f"goal={goal!r}", goal != "latent"),
    ):
        if given and not settles:
            raise ValueError(f"{option} is for RGB pictures, and not for {problem.observation!r}")
    drawing = compared, gradients, memory_budget, progress
    if gradients == "always" and goal != "picture":
        rows, solution = by_gradients_alone(problem, memory_budget, progress), None
    else:
        hands_over = settles and goal != "picture"
        handed: tuple[Tensor, GradientPlan] | None = None
        if hands_over:
            handed = handed_over(problem, gradients, memory_budget)
        solution = _iterated(
            problem,
            iterator,
            max_iterations=max_iterations,
            rtol=rtol,
            stop=stop,
            looks=() if handed is None else (HandedOver(rows=handed[0]), Look()),
            keep=keep,
            callback=callback,
            progress=progress,
        )
        if goal == "picture":
            rows = drawn(problem, solution, *drawing)
        elif handed is not None:
            rows = settled(problem, solution, *handed, gradients, memory_budget, progress)
        else:
            rows = judged(problem, solution)
    if goal == "auto":
        rows = drawn_where_no_latent_was_found(problem, rows, *drawing)
    return _finished(problem, rows, solution)


@takes_models
def invert_by_iteration(
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
    """The fixed-point iteration alone, to its end: `invert` without a second method.

    The arguments are those of `invert`. What the iteration leaves is judged, and handed back as it
    is: for scores that compare pictures, and where memory has to stay within a plan.
    """
    problem = problem_of(
        autoencoder, image, observation, prior, prior_weight, value_range, compile=compile
    )
    solution = _iterated(
        problem,
        iterator,
        max_iterations=max_iterations,
        rtol=rtol,
        stop=stop,
        looks=(),
        keep=keep,
        callback=callback,
        progress=progress,
    )
    return _finished(problem, judged(problem, solution), solution)


def problem_of(
    autoencoder: Autoencoder,
    image: Any,
    observation: Observation | Callable[[Tensor], Tensor] | None,
    prior: Prior | Sequence[Prior] | None,
    prior_weight: float | None,
    value_range: tuple[float, float] | None,
    *,
    compile: bool,
) -> InversionProblem:
    """The pictures and the operator whose zero is sought, checked before any model runs."""
    if prior is None and prior_weight is not None:
        raise ValueError("prior_weight weighs a prior, and none is given")
    pictures = readable(autoencoder, image, value_range)
    values = pictures.values.to(autoencoder.device)
    started = time.perf_counter()
    history = as_observation(
        default_observation(pictures.observation, autoencoder.dtype)
        if observation is None
        else observation
    )
    seen = repeatable(history, autoencoder.dtype)
    check_observation(autoencoder, seen)
    pair = autoencoder.encode, autoencoder.decode
    operator = (
        DecoderInversion(*pair, values, seen, compile=compile)
        if prior is None
        else regularised(*pair, values, seen, prior, prior_weight, compile=compile)
    )
    return InversionProblem(autoencoder, pictures, values, seen, history, operator, started)


def _iterated(
    problem: InversionProblem,
    iterator: Iterator[Any] | None,
    *,
    max_iterations: int,
    rtol: float,
    stop: Sequence[StopRule] | None,
    looks: Sequence[StopRule],
    keep: str | None,
    callback: Callable[[Iterate], object] | None,
    progress: bool,
) -> Solution:
    seen, dtype = problem.observation, problem.autoencoder.dtype
    with_prior = isinstance(problem.operator, RegularisedInversion)
    if stop is None:
        choose = regularised_stop if with_prior else default_stop
        stop = choose(seen, problem.pictures, dtype)
    stop = (*looks, *stop)
    if iterator is None:
        iterator = ForwardStep() if with_prior else default_iterator(seen, dtype)
    start = problem.operator.start
    return solve(
        problem.operator,
        start,
        iterator,
        rtol=0.0,
        max_iterations=max_iterations,
        stop=(Below(level=rtol * kernels.row_norm(start)), *stop),
        keep=keep or ("best" if with_prior else "deviation_level"),
        callback=callback,
        progress=progress,
    )


def _finished(problem: InversionProblem, rows: Rows, solution: Solution | None) -> Inversion:
    synchronize(problem.autoencoder)
    seconds = time.perf_counter() - problem.started
    return finish(problem.autoencoder, problem.values, rows, seconds, problem.observation, solution)


@takes_models
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


@takes_models
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
    verdict = Judgement(InversionOutcome.UNJUDGED, "encoder", "the encoder's latent, as it is")
    return finish(
        autoencoder, values, Rows(latent, none, [verdict] * len(values)), seconds, Identity()
    )
