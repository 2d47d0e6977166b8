"""Squared norms and functions made of them; all smooth."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels import row_dot
from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import (
    Parameter,
    RowParameter,
    check_elements,
    check_finite,
    check_numbers,
    elements,
    is_zero,
    limits,
    map_parameter,
    numbers,
    values_of,
)
from fixpoint.proximal.row_algebra import flat, indicator, largest, product, total
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class SquaredL2(Function):
    """weight/2 ||z - center||^2.

    prox: z + s weight/(1 + s weight) (center - z).
    Proof: (z - u)/s = weight (u - center), the gradient.

    Args:
        weight: above 0; a number, or `RowParameter` of (batch,).
        center: finite; broadcasts against a row, or `RowParameter`.
    """

    weight: Parameter = 1.0
    center: Parameter = 0.0

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0, strict=True)
        check_finite("center", self.center)
        least, most = limits("weight", self.weight)
        self._set(strong_convexity=least, smoothness=most)

    @property
    def conjugate(self) -> Function:
        """||y||^2 / (2 weight) + <center, y>."""
        inverse = SquaredL2(map_parameter(torch.reciprocal, self.weight))
        return inverse if is_zero(self.center) else inverse.plus_linear(self.center)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        offset = z - elements("center", self.center, z)
        return numbers("weight", self.weight, z) / 2 * row_dot(offset, offset)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        pull = step * numbers("weight", self.weight, z)
        return z + expand_rows(pull / (1 + pull), z) * (elements("center", self.center, z) - z)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        weight = expand_rows(numbers("weight", self.weight, z), z)
        return weight * (z - elements("center", self.center, z))


@dataclass(frozen=True, eq=False)
class GaussianPrior(Function):
    """sum_i (z_i - mean_i)^2 / (2 std_i^2), up to a constant -log N(z; mean, std^2).

    It is also the part of KL(N(z, t^2) || N(mean, std^2)) that depends on z: the prior of a latent
    that an encoder of a variational autoencoder was trained with.

    prox: z + s/(s + std^2) (mean - z).
    Proof: (z - u)/s = (u - mean)/std^2, the gradient.

    Args:
        mean: finite; broadcasts against a row, or `RowParameter`.
        std: above 0, in the units of z; broadcasts against a row, or `RowParameter`.
    """

    mean: Parameter = 0.0
    std: Parameter = 1.0

    def __post_init__(self) -> None:
        check_finite("mean", self.mean)
        check_elements("std", self.std, 0, strict=True)
        least, most = limits("std", self.std)
        self._set(strong_convexity=1 / most**2, smoothness=1 / least**2)

    @property
    def conjugate(self) -> Function:
        """sum std^2 y^2/2 + <mean, y>."""
        inverse = GaussianPrior(0.0, map_parameter(torch.reciprocal, self.std))
        return inverse if is_zero(self.mean) else inverse.plus_linear(self.mean)

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        mean, std = elements("mean", self.mean, z), elements("std", self.std, z)
        standard = (z - mean) / std
        return row_dot(standard, standard) / 2

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        mean, std = elements("mean", self.mean, z), elements("std", self.std, z)
        steps = expand_rows(step, z)
        return z + steps / (steps + std * std) * (mean - z)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        std = elements("std", self.std, z)
        return (z - elements("mean", self.mean, z)) / (std * std)


@dataclass(frozen=True, eq=False)
class Huber(Function):
    """weight sum_i h(z_i), h(t) = t^2/2 for |t| <= delta, delta |t| - delta^2/2 beyond.

    prox: with a = s weight, z/(1 + a) where |z| <= delta (1 + a), z - a delta sign(z) beyond.
    Proof: (z - u)/s = weight clamp(u, -delta, delta), the gradient.

    Args:
        delta: above 0, in the units of z; broadcasts against a row, or `RowParameter`.
        weight: above 0; a number, or `RowParameter` of (batch,).
    """

    delta: Parameter = 1.0
    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_elements("delta", self.delta, 0, strict=True)
        check_numbers("weight", self.weight, 0, strict=True)
        self._set(smoothness=limits("weight", self.weight)[1])

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        near, delta = self._clamped(z)
        beyond = delta * (z.abs() - near.abs())
        return numbers("weight", self.weight, z) * total(near * near / 2 + beyond)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        pull = expand_rows(step * numbers("weight", self.weight, z), z)
        near, _ = self._clamped(z / (1 + pull))
        return z - pull * near

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return expand_rows(numbers("weight", self.weight, z), z) * self._clamped(z)[0]

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # ||y||^2 / (2 weight) where |y_i| <= weight delta_i.
        weight = numbers("weight", self.weight, y)
        slope = expand_rows(weight, y) * elements("delta", self.delta, y)
        return indicator(largest(y.abs() - slope), tolerance) + row_dot(y, y) / (2 * weight)

    def _clamped(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        delta = elements("delta", self.delta, z)
        return z.clamp(-delta, delta), delta


@dataclass(frozen=True, eq=False)
class Quadratic(Function):
    """1/2 <z, P z> + <q, z>, z a row as a vector.

    prox: (I + s P)^{-1} (z - s q), through the eigenvectors of P (float64, once): exact for every
    step, at two products with a matrix.
    Proof: (z - u)/s = P u + q, the gradient.

    Rounding may make an eigenvalue negative; up to 8 eps of the dtype of the matrix times the
    largest sum of absolute values in a row of P, it is taken for 0. The conjugate, and
    `strong_convexity`, also take for 0 what is below size * eps of float64 times the largest.

    Args:
        matrix: P, symmetric positive semidefinite, (size, size), or `RowParameter` of
            (batch, size, size).
        slope: q, finite, (size,), or `RowParameter` of (batch, size); None for 0.

    Raises:
        ValueError: P is not symmetric, or has an eigenvalue below 0, beyond rounding.
    """

    matrix: Tensor | RowParameter
    slope: Tensor | RowParameter | None = None
    values: Tensor | RowParameter = field(init=False, repr=False)  # eigenvalues of P, at least 0
    vectors: Tensor | RowParameter = field(init=False, repr=False)  # in columns

    def __post_init__(self) -> None:
        check_finite("matrix", self.matrix)
        if self.slope is not None:
            check_finite("slope", self.slope)
        given = values_of("matrix", self.matrix)
        owned = isinstance(self.matrix, RowParameter)
        if given.dim() != 2 + owned or given.shape[-1] != given.shape[-2]:
            raise ValueError(
                f"need matrix (size, size), batch first as RowParameter, got {tuple(given.shape)}"
            )
        matrix = given.to(torch.float64)
        eps = torch.finfo(given.dtype if given.is_floating_point() else torch.float64).eps
        room = 8 * eps * matrix.abs().sum(-1).amax(-1)  # of every matrix its own
        skew = (matrix - matrix.mT).abs().amax((-2, -1))
        if bool((skew > room).any()):
            worst = float(skew[skew > room].max())
            raise ValueError(
                f"need matrix = matrix', but their entries differ by up to {worst:.2g}"
            )
        values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        least = values.amin(-1)
        if bool((least < -room).any()):
            worst = float(least[least < -room].min())
            raise ValueError(f"need the eigenvalues of matrix >= 0, the least is {worst:.2g}")
        values = values.clamp(min=0)
        self._set(
            values=RowParameter(values) if owned else values,
            vectors=RowParameter(vectors) if owned else vectors,
            strong_convexity=float(_told_from_zero(values).min()),
            smoothness=float(values.max()),
        )

    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        x = flat(z)
        return row_dot(x, product(self._matrix(x), x)) / 2 + row_dot(self._slope(x), x)

    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        steps = step.unsqueeze(1)
        values, vectors = self._eigen(z)
        along = product(vectors.mT, flat(z) - steps * self._slope(flat(z)))
        return product(vectors, along / (1 + steps * values)).reshape(z.shape)

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        x = flat(z)
        return (product(self._matrix(x), x) + self._slope(x)).reshape(z.shape)

    # The sup of <y, z> - g(z) is attained where P z = y - q, if y - q is in the range of P.

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        values, along = self._attained(y)
        off = largest(torch.where(values > 0, 0, along.abs()))
        squares = torch.where(values > 0, along * along, 0) / torch.where(values > 0, values, 1)
        return indicator(off, tolerance * flat(y).shape[1]) + total(squares) / 2

    def _conjugate_gradient(
        self, y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        if self.strong_convexity == 0:
            return super()._conjugate_gradient(y)
        values, along = self._attained(y)
        return product(self._eigen(y)[1], along / values).reshape(y.shape)

    def _attained(self, y: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """The eigenvalues, rounding about 0 set to 0, and y - q in the eigenvectors."""
        values, vectors = self._eigen(y)
        return _told_from_zero(values), product(vectors.mT, flat(y) - self._slope(flat(y)))

    def _matrix(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, "... size size"]:
        return _of_rows(self.matrix, x)

    def _eigen(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        vectors = _of_rows(self.vectors, flat(z))
        return elements("matrix", self.values, flat(z)), vectors

    def _slope(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
        if self.slope is None:
            return torch.zeros_like(x)
        return elements("slope", self.slope, x) + torch.zeros_like(x)


def _told_from_zero(values: Float[Tensor, "... size"]) -> Float[Tensor, "... size"]:
    """Eigenvalues, with 0 for those that an eigensolver in float64 cannot tell from it."""
    cutoff = values.shape[-1] * torch.finfo(torch.float64).eps
    return torch.where(values > cutoff * values.amax(-1, keepdim=True), values, 0)


def _of_rows(
    matrix: Tensor | RowParameter, x: Float[Tensor, "batch size"]
) -> Float[Tensor, "... size size"]:
    """The matrix for rows of this size."""
    values = values_of("matrix", matrix)
    if values.shape[-1] != x.shape[1]:
        raise ValueError(
            f"the matrix takes rows of {values.shape[-1]} numbers, a row of z has {x.shape[1]}"
        )
    if isinstance(matrix, RowParameter) and len(values) != len(x):
        raise ValueError(f"matrix has {len(values)} rows, z has {len(x)}")
    return values.to(x)
