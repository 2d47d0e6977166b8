"""Entropies: the negative entropy, and the Kullback-Leibler divergence from data.

Their proximal points solve an equation in one unknown for every coordinate. Newton's method finds
the root from a start that is proved to be close, in a fixed number of steps. Autograd sees the last
two steps only: two steps of Newton's method from the root have the first two derivatives of the
root.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import Parameter, check_elements, elements
from fixpoint.proximal.row_algebra import indicator, largest, power_of_two, times_log, total
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class NegativeEntropy(Function):
    """sum_i weight_i z_i log z_i for z >= 0, with 0 log 0 = 0.

    The divergence sum z log(z/b) - z + b from a reference b is, up to the constant sum b, this
    function `.plus_linear(-(1 + log b))`.

    prox: the u > 0 with u + a log u = z - a, a = s weight, which is a W(exp(z/a - 1)/a) with
    Lambert's W (Corless, Gonnet, Hare, Jeffrey & Knuth 1996). Exact.
    Proof: (z - u)/s = weight (1 + log u), the gradient at u.

    Args:
        weight: above 0; broadcasts against a row, or `RowParameter`.
    """

    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_elements("weight", self.weight, 0, strict=True)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        inside = indicator(largest(-z), tolerance)
        return inside + total(elements("weight", self.weight, z) * times_log(z, z))

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        return _entropic_root(z, expand_rows(step, z) * elements("weight", self.weight, z))

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # The sup is attained at exp(y/weight - 1).
        weight = elements("weight", self.weight, y)
        return total(weight * (y / weight - 1).exp())


def _entropic_root(
    z: Float[Tensor, "batch *shape"], a: Float[Tensor, "..."]
) -> Float[Tensor, "batch *shape"]:
    """The u with u + a log u = z - a.

    With x = exp(z/a - 1)/a, u = a W(x). Below the root are a x/(1 + x), since exp(W) <= 1 + x, and
    for log x >= 1 also a (log x - log log x) (Hoorfar & Hassani 2008). The start is one of the two
    and off by less than a third of the root. As u + a log u is concave and increases, Newton's
    method stays below the root; a step takes the relative error r to r^2 / (2 - 2 r) at most: six
    steps are enough for float64.
    """
    tiny = torch.finfo(z.dtype).tiny
    z, a = torch.broadcast_tensors(z, a.clamp(min=tiny))
    with torch.no_grad():
        above = z - a * (1 + a.log())  # a log x
        far = above > a
        near = a / (1 + (-above / a).exp())
        u = torch.where(far, z - a * (1 + torch.where(far, above, 1).log()), near)
        for _ in range(4):
            u = _entropic_step(u, z, a)
    gone = u < tiny  # underflows: a constant, and the steps are those for a root of 1
    start, at = torch.where(gone, 1, u), torch.where(gone, 1 + a, z)
    return torch.where(gone, u, _entropic_step(_entropic_step(start, at, a), at, a))


def _entropic_step(u: Tensor, z: Tensor, a: Tensor) -> Tensor:
    """A step of Newton's method for u + a log u = z - a; from u = 0 it stays there."""
    return u / (u + a) * (z - a * u.clamp(min=torch.finfo(u.dtype).tiny).log())


@dataclass(frozen=True, eq=False)
class KullbackLeibler(Function):
    """sum_i weight_i (b_i log(b_i/z_i) - b_i + z_i), the divergence of z from data b.

    Up to a constant the negative logarithm of the probability of counts b under Poisson's law of
    means z. The terms are z_i for b_i = 0. The domain is z >= 0, and z_i > 0 where b_i > 0.

    prox: with a = s weight and d = z - a, (d + sqrt(d^2 + 4 a b))/2 (Combettes & Pesquet, Proximal
    splitting methods in signal processing, 2011, table 10.2). Exact.
    Proof: u^2 - d u - a b = 0, so that (z - u)/s = weight (1 - b/u), the gradient at u; for u = 0,
    b = 0 and z/s is at most the weight.

    Args:
        data: b, at least 0, in the units of z; broadcasts against a row, or `RowParameter`.
        weight: above 0; broadcasts against a row, or `RowParameter`.
    """

    data: Parameter
    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_elements("data", self.data, 0)
        check_elements("weight", self.weight, 0, strict=True)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        data = elements("data", self.data, z)
        inside = indicator(largest(-z), tolerance)
        # A point within the tolerance of the domain counts as the one that it may be moved to.
        moved = torch.where(z <= 0, expand_rows(tolerance, z), z)
        terms = times_log(data, data) - times_log(data, moved) - data + z.clamp(min=0)
        return inside + total(elements("weight", self.weight, z) * terms)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        data = elements("data", self.data, z)
        a = expand_rows(step, z) * elements("weight", self.weight, z)
        d = z - a
        with torch.no_grad():
            between = 2 * a.sqrt() * data.sqrt()
            scale = power_of_two(torch.maximum(d.abs(), between))
            distance = scale * ((d / scale).square() + (between / scale).square()).sqrt()
            larger = (d.abs() + distance) / 2  # in size; the product of the roots is -a b
            smaller = a / torch.where(larger > 0, larger, 1) * data
            u = torch.where(d < 0, smaller, larger)
        return _poisson_step(_poisson_step(u, d, a, data), d, a, data)

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # -weight b log(1 - y/weight), for y <= weight, below it where b > 0.
        data, weight = elements("data", self.data, y), elements("weight", self.weight, y)
        room = expand_rows(tolerance, y)
        left = weight - y
        terms = -weight * times_log(data, torch.where(left <= 0, room, left) / weight)
        return indicator(largest(-left), tolerance) + total(terms)


def _poisson_step(u: Tensor, d: Tensor, a: Tensor, data: Tensor) -> Tensor:
    """A step of Newton's method for u^2 - d u - a data = 0; for data 0 it stays at u = 0."""
    slope = 2 * u - d
    slope = torch.where(slope == 0, 1, slope)
    return u * (u / slope) + a / slope * data
