"""The steps of a deterministic sampler, computed from the scheduler of a pipeline.

With x = alpha x_0 + sigma eps at every noise level, a step from level s to the cleaner t is

    Phi(x_s) = alpha_t x_0 + sigma_t eps,    x_0 and eps from the network's output at (x_s, s)

This is DDIM without noise (Song et al., ICLR 2021, equation 12), DPM-Solver-1 (Lu et al., NeurIPS
2022, section 4.1), and Euler's method for a rectified flow (Liu et al., ICLR 2023). For every kind
of prediction, x_0 and eps are linear in x_s and the output m, so that every step is

    Phi(x_s) = keep x_s + take m(scale x_s, timestep)

The naive inversion calls the network at x_t instead of x_s, and steps from t to s.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.diffusion.networks import Network

Direction = Literal["to noise", "to picture"]
DIRECTIONS = ("to noise", "to picture")


@dataclass(frozen=True)
class Level:
    """A noise level: x = alpha x_0 + sigma eps; the scheduler stores `stretch` times x."""

    alpha: float
    sigma: float
    stretch: float = 1.0


@dataclass(frozen=True)
class Step:
    """One step, x_t = keep x_s + take m(scale x_s, timestep), and its naive inversion.

    Attributes:
        timestep: of x_s, for the network.
        keep, take, scale: the coefficients above.
        source_timestep: of x_t; 0 if x_t is the clean latent.
        back_keep, back_take, back_scale: the naive inverse is x_s = back_keep x_t + back_take
            m(back_scale x_t); infinite or NaN if x_t does not determine x_s.
    """

    timestep: float
    keep: float
    take: float
    scale: float = 1.0
    source_timestep: float = 0
    back_keep: float = math.nan
    back_take: float = math.nan
    back_scale: float = 1.0

    @classmethod
    def between(
        cls, s: Level, t: Level, prediction: str, timestep: float, source_timestep: float
    ) -> Step:
        """The step from level s to level t."""
        keep, take = _coefficients(s, t, prediction)
        back_keep, back_take = _coefficients(t, s, prediction)
        return cls(
            timestep=timestep,
            keep=keep,
            take=take,
            scale=1 / s.stretch,
            source_timestep=source_timestep,
            back_keep=back_keep,
            back_take=back_take,
            back_scale=1 / t.stretch,
        )

    def __call__(
        self, network: Network, x: Float[Tensor, "batch *latent"]
    ) -> Float[Tensor, "batch *latent"]:
        """Phi(x_s) = x_t: one call of the network."""
        return self.keep * x + self.take * network(self.scale * x, self.timestep)

    @property
    def invertible(self) -> bool:
        """Whether x_t determines x_s."""
        return math.isfinite(self.back_keep) and math.isfinite(self.back_take)

    def naive(
        self, network: Network, x: Float[Tensor, "batch *latent"], *, at_source: bool = False
    ) -> Float[Tensor, "batch *latent"]:
        """An estimate of x_s from x_t by one call of the network, with the timestep of x_s or, with
        `at_source`, that of x_t."""
        timestep = self.source_timestep if at_source else self.timestep
        return self.back_keep * x + self.back_take * network(self.back_scale * x, timestep)


@dataclass(frozen=True)
class NoiseSchedule:
    """All steps from the noise to the clean latent.

    Attributes:
        steps: beginning with the noisiest.
        noise_scale: the factor that maps noise of variance 1 to the first latent.
    """

    steps: tuple[Step, ...]
    noise_scale: float


def schedule_of(scheduler: Any, steps: int, *, velocity: Direction = "to noise") -> NoiseSchedule:
    """The steps of a diffusers scheduler, which is not changed.

    Args:
        scheduler: a `DDIMScheduler`, a `DPMSolverMultistepScheduler` of order 1, an
            `EulerDiscreteScheduler` or a `FlowMatchEulerDiscreteScheduler`.
        steps: their number, `num_inference_steps` of a pipeline.
        velocity: the direction of the output of a flow's network: "to noise", x_1 - x_0, as in
            diffusers, or "to picture", x_0 - x_1, as in InstaFlow.

    Raises:
        TypeError: the scheduler is not supported. ValueError: its steps are not deterministic or
            cannot be inverted, or `steps` is out of range.
    """
    check_scheduler(scheduler)
    most = scheduler.config.num_train_timesteps
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= most:
        raise ValueError(f"steps must be a whole number from 1 to {most}, got {steps!r}")
    if velocity not in DIRECTIONS:
        raise ValueError(f"velocity must be one of {DIRECTIONS}, got {velocity!r}")
    own = copy.deepcopy(scheduler)
    own.set_timesteps(steps)
    levels, prediction = _SCHEDULERS[type(scheduler).__name__].levels(own)
    if prediction == "flow_prediction" and velocity == "to picture":
        prediction = "flow_to_picture"
    timesteps = own.timesteps.tolist()
    taken = tuple(
        Step.between(s, t, prediction, timestep, source)
        for (s, t), timestep, source in zip(levels, timesteps, [*timesteps[1:], 0], strict=True)
    )
    if not all(math.isfinite(step.keep) and math.isfinite(step.take) for step in taken):
        raise ValueError(
            f"a network that predicts {prediction} says nothing about x_0 where all is noise "
            "(rescale_betas_zero_snr); such schedules belong to v_prediction"
        )
    return NoiseSchedule(taken, float(getattr(own, "init_noise_sigma", 1.0)))


def check_scheduler(scheduler: Any) -> None:
    """Check that the steps of a scheduler are those of this file.

    Raises:
        TypeError, ValueError: as for `schedule_of`.
    """
    name = type(scheduler).__name__
    if name not in _SCHEDULERS:
        why = _REFUSED.get(name, "it is not known here")
        raise TypeError(f"{name} is not supported: {why}; {_INSTEAD}")
    _SCHEDULERS[name].check(scheduler.config)


def _coefficients(s: Level, t: Level, prediction: str) -> tuple[float, float]:
    """(keep, take) of the step from s to t, for latents in the scheduler's scaling."""
    try:
        (x0_x, x0_m), (eps_x, eps_m) = _split(prediction, s)
    except ZeroDivisionError:
        return math.nan, math.nan
    keep = t.alpha * x0_x + t.sigma * eps_x
    take = t.alpha * x0_m + t.sigma * eps_m
    return keep * t.stretch / s.stretch, take * t.stretch


def _split(prediction: str, at: Level) -> tuple[tuple[float, float], tuple[float, float]]:
    """x_0 and eps, each as coefficients of x and of the network's output."""
    alpha, sigma = at.alpha, at.sigma
    if prediction == "epsilon":
        return (1 / alpha, -sigma / alpha), (0.0, 1.0)
    if prediction == "sample":
        return (0.0, 1.0), (1 / sigma, -alpha / sigma)
    if prediction == "v_prediction":
        return (alpha, -sigma), (sigma, alpha)
    if prediction == "flow_prediction":
        return (1.0, -sigma), (1.0, alpha)
    if prediction == "flow_to_picture":
        return (1.0, sigma), (1.0, -alpha)
    raise ValueError(
        f"prediction_type {prediction!r} is not supported; supported: epsilon, sample, "
        "v_prediction and, for flows, flow_prediction"
    )


# Schedulers: what is refused of a configuration, and the levels on both sides of every step.

_Sides = list[tuple[Level, Level]]


@dataclass(frozen=True)
class _Scheduler:
    check: Callable[[Any], None]
    levels: Callable[[Any], tuple[_Sides, str]]


def _refuse(config: Any, settings: Iterable[tuple[str, Any, str]]) -> None:
    for name, allowed, why in settings:
        value = config.get(name, allowed)
        if value is not None and value != allowed:
            raise ValueError(
                f"the scheduler has {name}={value!r}, {why}; set it to {allowed!r}: "
                f"type(scheduler).from_config(scheduler.config, {name}={allowed!r})"
            )


_CLIPPING = "which cuts values off, so that a step has no inverse"


def _check_ddim(config: Any) -> None:
    _refuse(config, (("clip_sample", False, _CLIPPING), ("thresholding", False, _CLIPPING)))


def _ddim(scheduler: Any) -> tuple[_Sides, str]:
    ratio = scheduler.config.num_train_timesteps // scheduler.num_inference_steps

    def level(timestep: int) -> Level:
        known = timestep >= 0
        power = float(scheduler.alphas_cumprod[timestep] if known else _final(scheduler))
        return Level(math.sqrt(power), math.sqrt(1 - power))

    times = scheduler.timesteps.tolist()
    return [(level(at), level(at - ratio)) for at in times], scheduler.config.prediction_type


def _final(scheduler: Any) -> Tensor:
    return scheduler.final_alpha_cumprod


def _check_dpm(config: Any) -> None:
    kind = str(config.get("algorithm_type"))
    if kind.startswith("sde"):
        raise ValueError(
            f"the scheduler has algorithm_type={kind!r}, which adds noise at every step; "
            "use 'dpmsolver++'"
        )
    _refuse(
        config,
        (
            ("solver_order", 1, "which makes every step depend on the ones before it"),
            ("thresholding", False, _CLIPPING),
            ("variance_type", None, "which adds channels to the network's output"),
            ("use_dynamic_shifting", False, "which only its own pipelines can resolve"),
        ),
    )
    if config.get("variance_type") is not None:
        raise ValueError("the scheduler has a variance_type: its networks are not supported")


def _variance_preserving(sigmas: list[float]) -> list[Level]:
    """Levels of x = x_0 + sigma eps, scaled to alpha^2 + sigma^2 = 1."""
    stretches = [math.sqrt(1 + sigma * sigma) for sigma in sigmas]
    return [Level(1 / c, sigma / c, c) for sigma, c in zip(sigmas, stretches, strict=True)]


def _dpm(scheduler: Any) -> tuple[_Sides, str]:
    sigmas = scheduler.sigmas.tolist()
    if scheduler.config.get("use_flow_sigmas"):
        levels = [Level(1 - sigma, sigma) for sigma in sigmas]
    else:
        levels = [Level(at.alpha, at.sigma) for at in _variance_preserving(sigmas)]
    return _pairs(levels), scheduler.config.prediction_type


def _euler(scheduler: Any) -> tuple[_Sides, str]:
    levels = _variance_preserving(scheduler.sigmas.tolist())
    return _pairs(levels), scheduler.config.prediction_type


def _check_flow(config: Any) -> None:
    _refuse(
        config,
        (
            ("stochastic_sampling", False, "which adds noise at every step"),
            ("use_dynamic_shifting", False, "which only its own pipelines can resolve"),
            ("invert_sigmas", False, "which turns the time of the flow round"),
        ),
    )


def _flow(scheduler: Any) -> tuple[_Sides, str]:
    levels = [Level(1 - sigma, sigma) for sigma in scheduler.sigmas.tolist()]
    return _pairs(levels), "flow_prediction"


def _pairs(levels: list[Level]) -> _Sides:
    return list(pairwise(levels))


_SCHEDULERS = {
    "DDIMScheduler": _Scheduler(_check_ddim, _ddim),
    "DPMSolverMultistepScheduler": _Scheduler(_check_dpm, _dpm),
    "EulerDiscreteScheduler": _Scheduler(lambda config: None, _euler),
    "FlowMatchEulerDiscreteScheduler": _Scheduler(_check_flow, _flow),
}

_MULTISTEP = "its steps depend on earlier ones, and have no inverse of their own"
_STOCHASTIC = "it adds noise at every step, which the picture does not give back"
_TWO_STAGES = "its steps ask the network twice"
_REFUSED = {
    "DDIMInverseScheduler": "it inverts, and makes no pictures; invert() does its work",
    "DDPMScheduler": _STOCHASTIC,
    "DEISMultistepScheduler": _MULTISTEP,
    "DPMSolverSDEScheduler": _STOCHASTIC,
    "DPMSolverSinglestepScheduler": _MULTISTEP,
    "EDMDPMSolverMultistepScheduler": _MULTISTEP,
    "EulerAncestralDiscreteScheduler": _STOCHASTIC,
    "FlowMatchHeunDiscreteScheduler": _TWO_STAGES,
    "FlowMatchLCMScheduler": _STOCHASTIC,
    "HeunDiscreteScheduler": _TWO_STAGES,
    "IPNDMScheduler": _MULTISTEP,
    "KDPM2AncestralDiscreteScheduler": _STOCHASTIC,
    "KDPM2DiscreteScheduler": _TWO_STAGES,
    "LCMScheduler": _STOCHASTIC,
    "LMSDiscreteScheduler": _MULTISTEP,
    "PNDMScheduler": _MULTISTEP,
    "SASolverScheduler": _STOCHASTIC,
    "TCDScheduler": _STOCHASTIC,
    "UniPCMultistepScheduler": _MULTISTEP,
}
_INSTEAD = (
    "supported are DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler with "
    "solver_order=1 and FlowMatchEulerDiscreteScheduler: pipeline.scheduler = "
    "DDIMScheduler.from_config(pipeline.scheduler.config). A picture that another sampler made can "
    "only be inverted approximately"
)
