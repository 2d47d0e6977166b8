"""The interface: a splitting is the operator T = I - S of a fixed-point map S."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator
from fixpoint.splittings.bounds import Bounds
from fixpoint.splittings.steps import select_part
from fixpoint.summary import Summarised


class Splitting(Summarised, Operator):
    """T = I - S, whose zeros are the fixed points of S and give solutions of the problem.

    Forward steps of size lambda, z - lambda T z, are the iteration of S with relaxation lambda.
    The constants of `Operator` are those of T in the Euclidean norm. Besides:

    - `star_cocoercivity` c: `<T z, z - z*> >= c ||T z||^2` at every zero z*, in the norm of the
      splitting: the Euclidean one, except for the primal-dual splittings. `ForwardStep`
      (step_size < 2 c) and `InertialKM` need no more. Equal to `cocoercivity` where that is known.
    - `metric_averagedness`: the averagedness in the norm of the splitting.
    - `rate` q: `||S z - z*|| <= q ||z - z*||` at every fixed point, in the norm of the splitting;
      None where no linear rate is known.

    `evaluate` measures `solution` at no cost: it is computed on the way to T z.
    """

    star_cocoercivity: float | None = None
    metric_averagedness: float | None = None
    rate: float | None = None

    @abstractmethod
    def split(self, z: Float[Tensor, "batch *shape"]) -> tuple[Tensor, Tensor]:
        """T z, and the solution that belongs to z."""

    def solution(self, z: Float[Tensor, "batch *shape"]) -> Tensor:
        """The point of the problem that belongs to z; a solution if T z = 0."""
        return self.split(z)[1]

    def fixed_point_map(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """S z."""
        return z - self(z)

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.split(z)[0]

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        residual, solution = self.split(z)
        return residual, {"solution": solution}

    def select(self, rows: Tensor) -> Self:
        selected = copy.copy(self)
        for name, value in vars(self).items():
            object.__setattr__(selected, name, select_part(value, rows))
        return selected

    def _set(self, **values: Any) -> None:
        """Set attributes of a frozen dataclass, in its `__post_init__`."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_averaged(
        self,
        averagedness: float,
        contraction: float = 1.0,
        strong_monotonicity: float = 0.0,
        *,
        of: tuple[Bounds, ...] = (),
    ) -> None:
        """Constants of the T of an S that is averaged, and a contraction if that is below 1.

        ||S|| <= q makes S (1 + q)/2-averaged and T (1 - q)-strongly monotone. This holds for
        monotone backward parts; if one is not known to be monotone, all constants are None.
        """
        if not all(part.monotone for part in of):
            return
        theta = min(averagedness, (1 + contraction) / 2)
        cocoercivity = 1 / (2 * theta) if theta > 0 else float("inf")
        self._set(
            averagedness=theta,
            metric_averagedness=theta,
            cocoercivity=cocoercivity,
            star_cocoercivity=cocoercivity,
            lipschitz=2 * theta,
            strong_monotonicity=max(strong_monotonicity, 1 - contraction),
            rate=contraction if contraction < 1 else None,
        )
