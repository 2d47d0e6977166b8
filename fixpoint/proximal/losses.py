"""Losses of a linear classifier: the logistic loss and the hinge loss of margins y z."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import Parameter, check_elements, elements, limits, values_of
from fixpoint.proximal.row_algebra import indicator, largest, times_log, total
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class Logistic(Function):
    """sum_i weight_i log(1 + exp(-y_i z_i)).

    prox: u = y t with the t for which t = y z + s weight/(1 + exp(t)), by Newton's method in a
    fixed number of steps (`_logistic_root`). Exact. The problem is that of Parikh & Boyd, section
    6.1.2, for this function.
    Proof: (z - u)/s = -weight y/(1 + exp(y u)), the gradient at u.

    Args:
        labels: y, each -1 or 1; broadcasts against a row, or `RowParameter`.
        weight: above 0; broadcasts against a row, or `RowParameter`.

    Raises:
        ValueError: a label is neither -1 nor 1.
    """

    labels: Parameter = 1.0
    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        check_elements("weight", self.weight, 0, strict=True)
        self._set(smoothness=limits("weight", self.weight)[1] / 4)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        margin = elements("labels", self.labels, z) * z
        losses = torch.maximum(-margin, torch.zeros_like(margin)) + (-margin.abs()).exp().log1p()
        return total(elements("weight", self.weight, z) * losses)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        labels = elements("labels", self.labels, z)
        pull = expand_rows(step, z) * elements("weight", self.weight, z)
        return labels * _logistic_root(labels * z, pull)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        labels = elements("labels", self.labels, z)
        return -elements("weight", self.weight, z) * labels * _chance(-labels * z)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # With p = -y label/weight in [0, 1], weight (p log p + (1 - p) log(1 - p)).
        weight = elements("weight", self.weight, y)
        chance = -elements("labels", self.labels, y) * y / weight
        off = weight * torch.maximum(-chance, chance - 1)
        chance = chance.clamp(0, 1)
        terms = times_log(chance, chance) + times_log(1 - chance, 1 - chance)
        return indicator(largest(off), tolerance) + total(weight * terms)


def _logistic_root(
    a: Float[Tensor, "batch *shape"], k: Float[Tensor, "..."]
) -> Float[Tensor, "batch *shape"]:
    """The t with t = a + k/(1 + exp(t)).

    -t solves the same equation for -(a + k), and one of the two is not below 0: that one is sought.
    There k/(1 + exp(t)) is between k exp(-t)/2 and k exp(-t), so that a + W(exp(c)) is below the
    root by at most log 2, with c = log(k/2) - a and Lambert's W. For W stand the lower bounds
    1/(1 + exp(-c)) and c - log c of `NegativeEntropy`, off by less than 1/3: the start is less than
    1.03 below the root. From there t - a - k/(1 + exp(t)) is concave, with a second derivative at
    most as large as the first, and Newton's method stays below the root; a step takes the error e
    to e^2/2 at most: seven steps are enough for float64.
    """
    a, k = torch.broadcast_tensors(a, k.clamp(min=torch.finfo(a.dtype).tiny))
    mirrored = a + k / 2 < 0
    a = torch.where(mirrored, -(a + k), a)
    with torch.no_grad():
        high = (k / 2).log()
        c = high - a
        far = c > 1
        t = torch.where(far, high - torch.where(far, c, 1).log(), a + _chance(c)).clamp(min=0)
        for _ in range(5):
            t = _logistic_step(t, a, k)
    t = _logistic_step(_logistic_step(t, a, k), a, k)  # with the first two derivatives of the root
    return torch.where(mirrored, -t, t)


def _logistic_step(t: Tensor, a: Tensor, k: Tensor) -> Tensor:
    """A step of Newton's method, from t at least 0."""
    falling = (-t).exp()
    chance = falling / (1 + falling)
    return t - (t - a - k * chance) / (1 + k * chance / (1 + falling))


def _chance(x: Tensor) -> Tensor:
    """1/(1 + exp(-x)). torch.sigmoid differs in the last bit with the place in memory."""
    most = math.log(torch.finfo(x.dtype).max) - 1
    return 1 / (1 + (-x).clamp(max=most).exp())


@dataclass(frozen=True, eq=False)
class Hinge(Function):
    """sum_i weight_i max(1 - y_i z_i, 0).

    prox: u = y max(y z, min(y z + s weight, 1)): margins below 1 grow, by s weight at most, up to
    1. Exact.
    Proof: (z - u)/s = -weight y where y u < 1, 0 where y u > 1, and between where y u = 1.

    Args:
        labels: y, each -1 or 1; broadcasts against a row, or `RowParameter`.
        weight: at least 0; broadcasts against a row, or `RowParameter`.

    Raises:
        ValueError: a label is neither -1 nor 1.
    """

    labels: Parameter = 1.0
    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        check_elements("weight", self.weight, 0)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        margin = elements("labels", self.labels, z) * z
        return total(elements("weight", self.weight, z) * (1 - margin).clamp(min=0))

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        labels = elements("labels", self.labels, z)
        margin = labels * z
        pull = expand_rows(step, z) * elements("weight", self.weight, z)
        return labels * torch.maximum(margin, (margin + pull).clamp(max=1))

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # label y, where -weight <= label y <= 0.
        slope = elements("labels", self.labels, y) * y
        off = torch.maximum(slope, -slope - elements("weight", self.weight, y))
        return indicator(largest(off), tolerance) + total(slope)


def _check_labels(labels: Parameter) -> None:
    values = values_of("labels", labels)
    wrong = values.abs() != 1
    if bool(wrong.any()):
        raise ValueError(f"need labels -1 or 1, got {values[wrong].reshape(-1)[0].item():g}")
