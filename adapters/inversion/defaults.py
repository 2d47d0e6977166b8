"""What `invert` does where the caller does not say: observation, method and stop rules."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from fixpoint.adapters.inversion.regularised import unshrunk
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import EightBit, Observation, RoundingCells
from fixpoint.adapters.pictures.pictures import Pictures
from fixpoint.adapters.pictures.webp import WebP
from fixpoint.iterator import Iterator
from fixpoint.iterators import Anderson, ForwardStep
from fixpoint.stop import Divergence, NoiseFloor, Stagnation, StopRule


def default_observation(observation: Observation, dtype: torch.dtype) -> Observation:
    """What `invert` puts into the operator for what the pictures show.

    Rounding is repeated as it is by models in 16 bits, whose own noise fills the cells; in 32 bits
    its cells are more accurate.
    """
    if isinstance(observation, PerRow):
        return PerRow([default_observation(each, dtype) for each in observation.observations])
    sixteen = dtype in (torch.float16, torch.bfloat16)
    return RoundingCells() if type(observation) is EightBit and not sixteen else observation


def repeatable(observation: Observation, dtype: torch.dtype) -> Observation:
    """What the operator repeats of it. WebP's decisions jump with every pixel; what they did to the
    picture is noise to the iteration."""
    if isinstance(observation, PerRow):
        return PerRow([repeatable(each, dtype) for each in observation.observations])
    return default_observation(EightBit(), dtype) if isinstance(observation, WebP) else observation


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
