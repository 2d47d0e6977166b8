"""The gradient-based baseline (the paper, section 2.3), as strong as it is fair to make it:

    min_z ||D(z) - x||^2                                  (equation 2), from z = E(x)
    min_z ||D(z) - x||^2 + weight ||z - E(D(z))||^2       (section 2.2, (B))

by Adam, which the paper uses, or by L-BFGS, the other optimiser that its section 2.2 names; on
request with clipping or a mask between D(z) and x, which have derivatives, as rounding has not. The
paper prints (B) without squares; both terms are squared here, so that weight 0 is equation 2 and
the loss is smooth at a solution.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from fixpoint import kernels, schedules
from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.inversion.backward_pass import checkpointed, frozen
from fixpoint.adapters.inversion.judgement import InversionOutcome, Judgement
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.inversion.result import Inversion, finish, synchronize
from fixpoint.adapters.inversion.row_lbfgs import RowLBFGS
from fixpoint.adapters.inversion.rows import Rows
from fixpoint.adapters.pictures.composed_observations import Masked
from fixpoint.adapters.pictures.observations import (
    Observation,
    as_observation,
)
from fixpoint.trees.rows import where_rows

OPTIMIZERS = ("adam", "lbfgs")


@takes_models
def invert_by_gradient(
    autoencoder: Autoencoder,
    image: Any,
    *,
    steps: int = 100,
    optimizer: Literal["adam", "lbfgs"] = "adam",
    schedule: schedules.Schedule | None = None,
    encoder_weight: float = 0.0,
    observation: Observation | None = None,
    checkpointing: bool = False,
    value_range: tuple[float, float] | None = None,
    callback: Callable[[int, Tensor], object] | None = None,
    progress: bool = False,
) -> Inversion:
    """The gradient-based baseline: descent on `||D(z) - x||^2` from z = E(x) (equation 2).

    Args:
        autoencoder, image, value_range: as for `invert`.
        steps: evaluations of the loss and its gradient, each a pass through the decoder and
            back; of L-BFGS these include the trials that its line search refuses.
        optimizer: "adam", or "lbfgs" for limited-memory BFGS, each row on its own.
        schedule: Adam's learning rate by step; by default the paper's, 0.1 with warm-up and
            cosine.
        encoder_weight: of `||z - E(D(z))||^2`, added to the loss (section 2.2, (B)); where it is
            not 0, a step passes through the encoder and back, too.
        observation: stands between D(z) and the loss, up to its rounding: `Clip()`, say, or
            `Masked(known, Clip())`; by default nothing, as in the paper.
        checkpointing: keep the input of every block of the model only, and run the blocks again
            on the way back: less memory, more time, the same latents.
        callback: called after each step with its number and the iterates.
        progress: show a progress bar.

    Returns:
        The latents of least loss of each row among all that were evaluated.

    Raises:
        TypeError, ValueError: the picture or an option is not usable; no model ran.
    """
    _check_options(steps, optimizer, schedule, encoder_weight, checkpointing)
    observation = as_observation(observation)
    inner = observation.observation if isinstance(observation, Masked) else observation
    if not inner.pixelwise:
        raise ValueError(f"{observation!r} has no derivative; Clip() has one")
    pictures = readable(autoencoder, image, value_range)
    _check_differentiable(autoencoder, encoder_weight)
    method: _Method = (
        RowLBFGS()
        if optimizer == "lbfgs"
        else _Adam(schedule or schedules.warmup_cosine(0.1, steps))
    )
    values = pictures.values.to(autoencoder.device)

    def loss(z: Tensor) -> Float[Tensor, " batch"]:
        decoded = autoencoder.decode(z)
        error = observation.observe(decoded, values)[1] - values
        misfit = kernels.row_dot(error, error)
        if encoder_weight == 0:
            return misfit
        drift = z - autoencoder.encode(decoded)
        return misfit + encoder_weight * kernels.row_dot(drift, drift)

    started = time.perf_counter()
    with ExitStack() as changes:
        changes.enter_context(frozen(autoencoder.parameters()))
        if checkpointing:
            changes.enter_context(checkpointed(autoencoder))
        with torch.no_grad():
            state = method.init(autoencoder.encode(values))
        best = state.trial
        best_loss = torch.full((len(best),), math.inf, device=best.device)
        for step in tqdm(range(steps), disable=not progress, desc="gradient descent"):
            trial = state.trial
            value, gradient = _value_and_gradient(loss, trial)
            better = value < best_loss  # never, where it is NaN
            best, best_loss = where_rows(better, (trial, value), (best, best_loss))
            state = method.advance(state, value, gradient)
            if callback is not None:
                callback(step, state.iterate.clone())
        with torch.no_grad():
            best = where_rows(loss(state.trial) < best_loss, state.trial, best)
    synchronize(autoencoder)
    seconds = time.perf_counter() - started
    count = torch.full((len(values),), steps, dtype=torch.long)
    name = f"gradient descent by {'L-BFGS' if optimizer == 'lbfgs' else 'Adam'}"
    verdict = Judgement(InversionOutcome.UNJUDGED, name, f"not judged: {steps} steps of {name}")
    return finish(
        autoencoder, values, Rows(best, count, [verdict] * len(best)), seconds, observation
    )


def _check_options(
    steps: int, optimizer: str, schedule: object, encoder_weight: float, checkpointing: bool
) -> None:
    if not (isinstance(steps, int) and steps >= 1):
        raise ValueError(f"steps must be a whole number above 0, got {steps}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizers: {', '.join(OPTIMIZERS)}; got {optimizer!r}")
    if schedule is not None and optimizer == "lbfgs":
        raise ValueError(
            "schedule goes with optimizer='adam'; L-BFGS finds its step lengths by line search"
        )
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"schedule must be a function of the step's number, as schedules.constant(0.01), "
            f"got {schedule!r}"
        )
    if isinstance(encoder_weight, bool) or not isinstance(encoder_weight, int | float):
        raise TypeError(f"encoder_weight must be a number, got {encoder_weight!r}")
    if not 0 <= encoder_weight < math.inf:
        raise ValueError(f"encoder_weight must be at least 0 and finite, got {encoder_weight}")
    if not isinstance(checkpointing, bool):
        raise TypeError(f"checkpointing must be True or False, got {checkpointing!r}")


def _check_differentiable(autoencoder: Autoencoder, encoder_weight: float) -> None:
    if not autoencoder.differentiable:
        raise ValueError(
            f"autograd does not go through the decoder of {autoencoder.name}, so there is no "
            "gradient to descend; invert() needs none"
        )
    if encoder_weight and not autoencoder.encoder_differentiable:
        raise ValueError(
            f"autograd does not go through the encoder of {autoencoder.name}: leave "
            "encoder_weight out"
        )


@torch.enable_grad()
def _value_and_gradient(
    loss: Callable[[Tensor], Tensor], z: Tensor
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch *shape"]]:
    z = z.detach().requires_grad_(True)
    value = loss(z)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient


class _State(Protocol):
    @property
    def trial(self) -> Tensor:
        """Where the loss and its gradient are wanted next."""

    @property
    def iterate(self) -> Tensor:
        """What has been reached."""


class _Method(Protocol):
    def init(self, z: Tensor) -> Any:
        """A `_State` whose trial is `z`."""

    def advance(self, state: Any, value: Tensor, gradient: Tensor) -> Any:
        """The next one, from the loss and its gradient at the trial."""


@dataclass(frozen=True)
class _AdamState:
    trial: Tensor
    first_moment: Tensor
    second_moment: Tensor
    count: int

    @property
    def iterate(self) -> Tensor:
        return self.trial


@dataclass(frozen=True)
class _Adam:
    """Adam with the settings of torch.optim.Adam and a learning rate by step."""

    schedule: schedules.Schedule

    def init(self, z: Tensor) -> _AdamState:
        return _AdamState(z, torch.zeros_like(z), torch.zeros_like(z), 0)

    def advance(self, state: _AdamState, value: Tensor, gradient: Tensor) -> _AdamState:
        trial, first, second = kernels.adam(
            state.trial,
            gradient,
            state.first_moment,
            state.second_moment,
            count=state.count + 1,
            rate=self.schedule(state.count),
            betas=(0.9, 0.999),
            eps=1e-8,
        )
        return _AdamState(trial, first, second, state.count + 1)
