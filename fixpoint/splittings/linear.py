"""Linear maps K of a row with their adjoint and a bound on their norm."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from fixpoint.kernels import row_dot, row_norm
from fixpoint.proximal import RowParameter
from fixpoint.proximal.row_algebra import flat, product
from fixpoint.splittings.steps import select_part
from fixpoint.trees.rows import expand_rows


class Linear(ABC):
    """K from rows of shape `inputs` to rows of shape `outputs`.

    - `norm`: at least ||K||, the largest singular value, of every row.
    - `least`: at most the square root of the least eigenvalue of K K', above 0 only for a K that
      is known to be onto.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    norm: float
    least: float = 0.0

    @abstractmethod
    def __call__(self, x: Float[Tensor, "batch *inputs"]) -> Float[Tensor, "batch *outputs"]:
        """K x."""

    @abstractmethod
    def adjoint(self, y: Float[Tensor, "batch *outputs"]) -> Float[Tensor, "batch *inputs"]:
        """K' y."""

    def dense(self) -> Float[Tensor, "outputs inputs"]:
        """K as a matrix between rows as vectors, in float64.

        Raises:
            ValueError: rows have matrices of their own.
        """
        size = math.prod(self.inputs)
        basis = torch.eye(size, dtype=torch.float64).reshape(size, *self.inputs)
        return flat(self(basis)).T.contiguous()

    def select(self, rows: Tensor) -> Self:
        """The same map on the rows with these indices, in that order."""
        selected = copy.copy(self)
        for name, value in vars(self).items():
            setattr(selected, name, select_part(value, rows))
        return selected


class Matrix(Linear):
    """A matrix times a row as a vector; norms by a singular value decomposition in float64.

    Args:
        matrix: finite, (outputs, inputs), or `RowParameter` of (batch, outputs, inputs).
    """

    def __init__(self, matrix: Tensor | RowParameter) -> None:
        values = matrix.tensor if isinstance(matrix, RowParameter) else matrix
        if values.dim() != 2 + isinstance(matrix, RowParameter):
            raise ValueError(
                "need matrix (outputs, inputs), batch first as RowParameter, got "
                f"{tuple(values.shape)}"
            )
        if not bool(values.isfinite().all()):
            raise ValueError("need matrix finite")
        self.matrix = matrix
        outputs, inputs = values.shape[-2:]
        self.inputs, self.outputs = (inputs,), (outputs,)
        singular = torch.linalg.svdvals(values.to(torch.float64))
        self.norm = float(singular.max())
        self.least = float(singular.min()) if outputs <= inputs else 0.0

    def __call__(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        return product(self._values(x), x)

    def adjoint(self, y: Float[Tensor, "batch outputs"]) -> Float[Tensor, "batch inputs"]:
        return product(self._values(y).mT, y)

    def dense(self) -> Float[Tensor, "outputs inputs"]:
        if isinstance(self.matrix, RowParameter):
            raise ValueError("every row has a matrix of its own; this takes one for all rows")
        return self.matrix.to(torch.float64)

    def _values(self, z: Tensor) -> Tensor:
        return (self.matrix.tensor if isinstance(self.matrix, RowParameter) else self.matrix).to(z)


class Scaling(Linear):
    """x -> factor x; the identity by default.

    Args:
        inputs: the shape of a row.
        factor: not 0.
    """

    def __init__(self, inputs: Sequence[int], factor: float = 1.0) -> None:
        if not 0 < abs(factor) < math.inf:
            raise ValueError(f"need factor finite and not 0, got {factor}")
        self.inputs = self.outputs = tuple(inputs)
        self.factor = factor
        self.norm = self.least = abs(factor)

    def __call__(self, x: Float[Tensor, "batch *inputs"]) -> Float[Tensor, "batch *inputs"]:
        return self.factor * x

    def adjoint(self, y: Float[Tensor, "batch *inputs"]) -> Float[Tensor, "batch *inputs"]:
        return self.factor * y


class Difference1D(Linear):
    """x -> x_{i+1} - x_i along the last dimension: (..., n) to (..., n - 1).

    K K' has the eigenvalues 4 sin^2(k pi/(2 n)), 0 < k < n: both norms are exact.

    Args:
        inputs: the shape of a row, n >= 2 last.
    """

    def __init__(self, inputs: Sequence[int]) -> None:
        *shape, n = inputs
        if n < 2:
            raise ValueError(f"differences need at least 2 numbers in a line, got {n}")
        self.inputs, self.outputs = (*shape, n), (*shape, n - 1)
        self.norm = 2 * math.cos(math.pi / (2 * n))
        self.least = 2 * math.sin(math.pi / (2 * n))

    def __call__(self, x: Float[Tensor, "batch *shape n"]) -> Float[Tensor, "batch *shape m"]:
        return x.diff(dim=-1)

    def adjoint(self, y: Float[Tensor, "batch *shape m"]) -> Float[Tensor, "batch *shape n"]:
        return pad(y, (1, 0)) - pad(y, (0, 1))


class Gradient2D(Linear):
    """Differences to the pixel below and to the right, 0 across the border; (..., h, w) to
    (pixels, 2), so that `GroupL1("channels")` of the result is the isotropic total variation and
    `L1` the anisotropic one.

    ||K||^2 = 4 cos^2(pi/(2 h)) + 4 cos^2(pi/(2 w)), exact: the two differences commute.

    Args:
        inputs: the shape of a row, h and w last.
    """

    def __init__(self, inputs: Sequence[int]) -> None:
        if len(inputs) < 2 or min(inputs) < 1:
            raise ValueError(f"need rows of pictures (..., h, w), got {tuple(inputs)}")
        self.inputs = tuple(inputs)
        self.outputs = (math.prod(inputs), 2)
        h, w = inputs[-2:]
        self.norm = 2 * math.hypot(math.cos(math.pi / (2 * h)), math.cos(math.pi / (2 * w)))

    def __call__(self, x: Float[Tensor, "batch *shape h w"]) -> Float[Tensor, "batch pixels 2"]:
        down, right = pad(x.diff(dim=-2), (0, 0, 0, 1)), pad(x.diff(dim=-1), (0, 1))
        return torch.stack((down, right), -1).reshape(len(x), *self.outputs)

    def adjoint(self, y: Float[Tensor, "batch pixels 2"]) -> Float[Tensor, "batch *shape h w"]:
        down, right = y.reshape(len(y), *self.inputs, 2).unbind(-1)
        down, right = down[..., :-1, :], right[..., :-1]
        rows = pad(down, (0, 0, 1, 0)) - pad(down, (0, 0, 0, 1))
        return rows + pad(right, (1, 0)) - pad(right, (0, 1))


class FunctionLinear(Linear):
    """K from two callables; see `as_linear`."""

    def __init__(
        self,
        forward: Callable[..., Tensor],
        backward: Callable[..., Tensor],
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        per_row: tuple[RowParameter, ...],
        norm: float,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.forward, self.backward, self.per_row = forward, backward, per_row
        self.inputs, self.outputs, self.norm, self.dtype = inputs, outputs, norm, dtype

    def __call__(self, x: Float[Tensor, "batch *inputs"]) -> Float[Tensor, "batch *outputs"]:
        return self.forward(x, *(each.tensor for each in self.per_row))

    def adjoint(self, y: Float[Tensor, "batch *outputs"]) -> Float[Tensor, "batch *inputs"]:
        return self.backward(y, *(each.tensor for each in self.per_row))

    def dense(self) -> Float[Tensor, "outputs inputs"]:
        if self.per_row:
            raise ValueError("every row has a map of its own; this takes one for all rows")
        size = math.prod(self.inputs)
        basis = torch.eye(size, dtype=self.dtype).reshape(size, *self.inputs)
        return flat(self(basis)).T.contiguous().to(torch.float64)


def check_linear(splitting: str, linear: object) -> None:
    """Refuse what is no linear map: the arguments may be in another order."""
    if not isinstance(linear, Linear):
        raise TypeError(
            f"{splitting} needs a Linear as linear, got a {type(linear).__name__}; mind the order "
            "of the arguments, and wrap a matrix as Matrix, callables with as_linear"
        )


def as_linear(
    forward: Callable[..., Tensor],
    adjoint: Callable[..., Tensor],
    inputs: Sequence[int],
    *per_row: Tensor,
    norm: float | None = None,
    iterations: int = 200,
    dtype: torch.dtype = torch.float64,
) -> Linear:
    """K x = forward(x, *per_row), with K' y = adjoint(y, *per_row).

    Args:
        forward, adjoint: from (batch, *inputs) to (batch, *outputs) and back, linear, row by row.
        inputs: the shape of a row x.
        per_row: tensors with the batch first that belong to the rows.
        norm: an upper bound of ||K||; None: `norm_bound` of so many `iterations`.
        dtype: what both are tried on here; another one than float64 for callables that take no
            other.

    Raises:
        TypeError: `forward` or `adjoint` cannot be evaluated on `dtype`.
        ValueError: `adjoint` is not the adjoint of `forward`; the norm is not above 0.
    """
    data = tuple(RowParameter(tensor) for tensor in per_row)
    batch = len(per_row[0]) if per_row else 1
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, *inputs, generator=generator, dtype=dtype)
    if per_row:
        x = x.to(per_row[0].device)
    value = _tried("forward", forward, x, per_row)
    y = torch.randn(value.shape, generator=generator, dtype=dtype).to(value)
    back = _tried("adjoint", adjoint, y, per_row)
    if back.shape != x.shape:
        raise ValueError(f"adjoint returned {tuple(back.shape)}, not {tuple(x.shape)}")
    apart = (row_dot(value, y) - row_dot(x, back.to(x))).abs()
    scale = row_norm(value) * row_norm(y) + row_norm(x) * row_norm(back)
    if bool((apart > max(1e-6, 1e3 * torch.finfo(dtype).eps) * scale).any()):
        raise ValueError(
            f"need <K x, y> = <x, K' y>, but at random points they differ by {float(apart.max()):g}"
        )
    outputs = tuple(value.shape[1:])
    linear = FunctionLinear(forward, adjoint, tuple(inputs), outputs, data, 0.0, dtype)
    linear.norm = norm_bound(linear, x, iterations) if norm is None else norm
    if not 0 < linear.norm < math.inf:
        raise ValueError(f"need 0 < norm < inf, got {linear.norm}")
    return linear


def _tried(
    name: str, function: Callable[..., Tensor], x: Tensor, per_row: tuple[Tensor, ...]
) -> Tensor:
    try:
        return function(x, *per_row)
    except RuntimeError as error:
        if "dtype" not in str(error) and "type" not in str(error):
            raise
        raise TypeError(
            f"{name} cannot be evaluated on {x.dtype} ({error}): state dtype=, what it takes"
        ) from error


def norm_bound(linear: Linear, x: Float[Tensor, "batch *inputs"], iterations: int = 200) -> float:
    """A bound of ||K|| by power iteration that fails with a probability below 1e-10.

    For A = K' K of size n and x uniform on the sphere, ||A|| <= c (x' A^k x)^{1/k} with a
    probability of at least 1 - 0.8 sqrt(n) c^{-k/2} (Dixon, SIAM J. Numer. Anal. 1983, theorem 1).
    k = 2 `iterations`; 200 of them make the bound less than 10 % too large for n up to a billion.

    Args:
        linear: K.
        x: (batch, *inputs), normally distributed, a start for every row.
        iterations: products with K' K, at least 1.
    """
    size = max(2, math.prod(x.shape[1:]))
    x = x / expand_rows(row_norm(x), x)
    growth = x.new_zeros(len(x))
    for _ in range(iterations):
        x = linear.adjoint(linear(x))
        norm = row_norm(x)
        growth = growth + norm.log()
        x = x / expand_rows(norm.clamp(min=torch.finfo(norm.dtype).tiny), x)
    powers = 2 * iterations  # x' A^(2 j) x = ||A^j x||^2
    margin = 2 / powers * math.log(0.8 * math.sqrt(size) * len(x) / 1e-10)
    return math.exp((2 * float(growth.max()) / powers + margin) / 2)
