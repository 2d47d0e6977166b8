"""The interface: a closed convex function of one row with its proximal operator.

For g closed, proper and convex, `prox_{s g}(z) = argmin_u g(u) + ||u - z||^2 / (2 s)` is the one
point u with

    (z - u) / s  in  the subdifferential of g at u                                      (1)

(Parikh & Boyd, Proximal Algorithms, 2014, section 1.1; Bauschke & Combettes, Convex Analysis and
Monotone Operator Theory in Hilbert Spaces, 2nd edition, proposition 16.44; chapter 24 has the
calculus). Every class proves its formula by (1): its docstring has a line "Proof" that
names the subgradient. For the indicator of a convex set, (1) says that z - u is in the normal cone
of the set at u: the proximal operator is the projection, whatever the step.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.kernels import accumulation_dtype
from fixpoint.proximal.parameter import Parameter, RowParameter
from fixpoint.proximal.row_algebra import rounding
from fixpoint.summary import Summarised
from fixpoint.trees.rows import expand_rows


class Function(Summarised, ABC):
    """g, a closed proper convex function of one row; `z` holds one point per row.

    A row is all of its `shape`, taken as one vector, unless a class says otherwise. Computations
    run in float32, in float64 for float64; points come back in the dtype of `z`, values in the
    dtype of the computation. Nothing is read back to the host, except by the decompositions of
    `NuclearNorm` and `PositiveSemidefinite` inside torch.

    - `strong_convexity` mu: the largest known with g - mu/2 ||.||^2 convex, for every row. Then
      `prox` contracts with 1 / (1 + s mu).
    - `smoothness` L: a Lipschitz constant of the gradient, for every row; None: not smooth, or
      not known.

    A function of your own implements `_value` and `_prox`, and `_gradient` where it is smooth.
    They get `z` in the dtype of the computation. Keep data that belong to rows as `RowParameter`:
    then `select` need not be written.
    """

    strong_convexity: float = 0.0
    smoothness: float | None = None

    def __call__(
        self,
        z: Float[Tensor, "batch *shape"],
        tolerance: float | Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """g(z) of every row, +inf outside its domain.

        Args:
            z: (batch, *shape).
            tolerance: a point counts as inside when moving each of its coordinates by this much
                could bring it inside. None: by 8 eps of the dtype of `z` times the largest
                coordinate of the row, what rounding makes unavoidable.
        """
        x = _widened(z)
        if tolerance is None:
            slack = rounding(z).to(x)
        elif isinstance(tolerance, Tensor):
            slack = tolerance.to(x).expand(z.shape[0])
        else:
            slack = x.new_full((z.shape[0],), tolerance)
        return self._value(x, slack)

    def prox(
        self, z: Float[Tensor, "batch *shape"], step: float | Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch *shape"]:
        """argmin_u g(u) + ||u - z||^2 / (2 step), per row, in the dtype of `z`.

        Args:
            z: (batch, *shape).
            step: above 0, one number or (batch,). The values of a tensor are not read back to be
                checked: a row whose step is not above 0 comes back as NaN.

        Raises:
            ValueError: a number that is not above 0 and finite; a tensor of another shape.
        """
        x, steps = self._prepared(z, step)
        found = self._prox(x, steps)
        if isinstance(step, Tensor):
            found = torch.where(expand_rows(steps > 0, found), found, torch.nan)
        return found.to(z.dtype)

    def gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The gradient of g, in the dtype of `z`.

        Raises:
            TypeError: g is not smooth.
        """
        return self._gradient(_widened(z)).to(z.dtype)

    def select(self, rows: Tensor) -> Self:
        """The same function on the rows with these indices, in that order."""
        selected = copy.copy(self)
        for name, value in vars(self).items():
            object.__setattr__(selected, name, _select(value, rows))
        return selected

    @property
    def conjugate(self) -> Function:
        """g*(y) = sup_z <y, z> - g(z).

        A class of its own where it has one; elsewhere its proximal operator is Moreau's identity,
        `prox_{s g*}(z) = z - s prox_{g/s}(z/s)`, whose subtraction costs digits where the result
        is much smaller than z.
        """
        from fixpoint.proximal.conjugate import Conjugate

        return Conjugate(self)

    def scaled(self, factor: Parameter) -> Function:
        """factor * g, with a factor above 0: a number, or `RowParameter` of (batch,)."""
        from fixpoint.proximal.algebra import Scaled

        return Scaled(self, factor)

    def __rmul__(self, factor: Parameter) -> Function:
        return self.scaled(factor)

    def translated(self, shift: Parameter) -> Function:
        """z -> g(z - shift)."""
        from fixpoint.proximal.algebra import TranslatedFunction

        return TranslatedFunction(self, shift)

    def plus_linear(self, slope: Parameter) -> Function:
        """z -> g(z) + <slope, z>."""
        from fixpoint.proximal.algebra import PlusLinear

        return PlusLinear(self, slope)

    def plus_squared(self, weight: Parameter, center: Parameter = 0.0) -> Function:
        """z -> g(z) + weight/2 ||z - center||^2, with a weight above 0."""
        from fixpoint.proximal.algebra import PlusSquared

        return PlusSquared(self, weight, center)

    # What a class implements.

    @abstractmethod
    def _value(
        self, z: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """g(z); `tolerance` as in `__call__`."""

    @abstractmethod
    def _prox(
        self, z: Float[Tensor, "batch *shape"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape"]:
        """The proximal point; `step` is (batch,), or (1,) for all rows."""

    def _gradient(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        raise TypeError(f"{type(self).__name__} is not smooth: it has no gradient")

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """g*(y), for a conjugate that is no class of its own."""
        raise TypeError(
            f"the conjugate of {type(self).__name__} has no values in closed form, only a prox"
        )

    def _conjugate_gradient(
        self, y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch *shape"]:
        raise TypeError(f"the conjugate of {type(self).__name__} is not smooth: it has no gradient")

    def _prepared(
        self, z: Float[Tensor, "batch *shape"], step: float | Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " rows"]]:
        """`z` and `step` as `_prox` takes them, checked."""
        x = _widened(z)
        if isinstance(step, Tensor):
            if step.shape not in ((), z.shape[:1]):
                raise ValueError(
                    f"step must be a number or of shape ({z.shape[0]},), got {tuple(step.shape)}"
                )
            return x, step.to(x).reshape(-1)
        if not 0 < step < float("inf"):
            raise ValueError(f"need 0 < step < inf, got {step}")
        return x, x.new_full((1,), step)

    def _set(self, **values: Any) -> None:
        """Set attributes of a frozen dataclass, in its `__post_init__`."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _widened(z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    if not z.is_floating_point() or z.dim() < 1:
        raise TypeError(
            f"z must be a floating-point tensor with the batch first, got {z.dtype} of shape "
            f"{tuple(z.shape)}"
        )
    # Contiguous, so that the order of every sum is that of the row and not of its strides.
    return z.to(accumulation_dtype(z.dtype)).contiguous()


def _select(value: Any, rows: Tensor) -> Any:
    if isinstance(value, RowParameter):
        return RowParameter(value.tensor.index_select(0, rows.to(value.tensor.device)))
    if isinstance(value, Function):
        return value.select(rows)
    if isinstance(value, tuple):
        return tuple(_select(part, rows) for part in value)
    return value
