"""What an inversion is asked for, and how pictures are compared where their drawing is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.inversion.structural_similarity import ssim
from fixpoint.adapters.pictures.observations import from_levels, to_levels

Goal = Literal["latent", "picture", "auto"]
GOALS = ("latent", "picture", "auto")

Perceptual = Callable[[Tensor, Tensor], Float[Tensor, " batch"]]
"""A distance of two batches of pictures on [-1, 1], row by row, with a derivative by the first."""

PERCEPTUAL_WEIGHT = 0.01
"""Mean squared error, on [-1, 1], that a perceptual distance of 1 weighs as much as."""

HALF_CELL = 1 / 255
"""Half a level of 8 bits on [-1, 1]."""


@dataclass(frozen=True)
class Comparison:
    """How far a decoding is from the picture, per row and value:

        mean of w |D(z) - x|^2  +  weight * perceptual(D(z), x)

    with D(z) clipped.

    Args:
        perceptual: a distance besides; `structural_distance`, or any function like it.
        weight: its weight.

    Raises:
        TypeError, ValueError: the distance is no function, or the weight no number from 0 on.
    """

    perceptual: Perceptual | None = None
    weight: float = PERCEPTUAL_WEIGHT

    def __post_init__(self) -> None:
        if self.perceptual is not None and not callable(self.perceptual):
            raise TypeError(
                "perceptual must be 'ssim' or a function of two batches of pictures, got "
                f"{self.perceptual!r}"
            )
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float):
            raise TypeError(f"perceptual_weight must be a number, got {self.weight!r}")
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"perceptual_weight must be at least 0 and finite, got {self.weight}")

    def distance(
        self,
        image: Float[Tensor, "batch 3 height width"],
        weights: Float[Tensor, "batch 1 height width"] | None = None,
    ) -> Callable[[Tensor], Float[Tensor, " batch"]]:
        """The sum over values, as a function of D(z)."""

        def of(decoded: Tensor) -> Tensor:
            seen = decoded.clamp(-1, 1)
            squares = (seen - image).square()
            if weights is not None:
                squares = squares * weights
            far = squares.double().flatten(1).sum(1)
            if self.perceptual is not None:
                far = far + self.weight * image[0].numel() * self.perceptual(seen, image)
            return far

        return of


def comparison(perceptual: Perceptual | str | None, weight: float | None) -> Comparison:
    """The comparison that a caller names.

    Raises:
        TypeError, ValueError: there is none of this name, or a weight of nothing.
    """
    if perceptual is None and weight is not None:
        raise ValueError("perceptual_weight weighs a perceptual distance, and none is given")
    if isinstance(perceptual, str):
        if perceptual != "ssim":
            raise ValueError(f"perceptual must be 'ssim' or a function, got {perceptual!r}")
        perceptual = structural_distance
    return Comparison(perceptual, PERCEPTUAL_WEIGHT if weight is None else weight)


def structural_distance(pictures: Tensor, image: Tensor) -> Float[Tensor, " batch"]:
    """1 - SSIM."""
    return 1 - ssim(pictures, image)


def beyond_cells(
    image: Float[Tensor, "batch 3 height width"],
    tolerance: float,
    weights: Float[Tensor, "batch 1 height width"] | None = None,
) -> Callable[[Tensor], Float[Tensor, " batch"]]:
    """The sum of squares of what lies outside the cells that x was rounded from: 0 where the
    decoding rounds to x.

    Args:
        image: x, on the 8-bit grid.
        tolerance: half width of the cells, in half levels; below 1 they are left with room.
        weights: of the pixels.
    """
    half = tolerance * HALF_CELL

    def of(decoded: Tensor) -> Tensor:
        squares = ((decoded.clamp(-1, 1) - image).abs() - half).clamp(min=0).square()
        if weights is not None:
            squares = squares * weights
        return squares.double().flatten(1).sum(1)

    return of


def on_the_grid(image: Tensor) -> bool:
    """Whether all values are levels of 8 bits."""
    return bool(((from_levels(to_levels(image)) - image).abs() < 1e-5).all())


def check_goal(goal: str) -> None:
    """Refuse what is no goal.

    Raises:
        ValueError: with the goals.
    """
    if goal not in GOALS:
        raise ValueError(f"goal must be one of {', '.join(GOALS)}; got {goal!r}")
