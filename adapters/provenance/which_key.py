"""Which of several tree-ring keys noise carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.summary import Summarised


class Key(Protocol):
    """What tells keys apart; `TreeRing` is one."""

    @property
    def name(self) -> str: ...
    def distance(self, noise: Tensor) -> Tensor: ...
    def angle(self, noise: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Classification(Summarised):
    """Which of several keys noise carries, per row: that of the least distance.

    Attributes:
        labels: (batch,), the place of the key among `keys`.
        distances: (batch, keys), mean of |F - K| over each key's mask, or the angle to it.
        keys: the names of the keys, in the order of the columns.
    """

    labels: Int[Tensor, " batch"]
    distances: Float[Tensor, "batch keys"]
    keys: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the key found, per row."""
        return tuple(self.keys[label] for label in self.labels.tolist())


def classify(
    noise: Float[Tensor, "batch channels rows columns"],
    keys: Sequence[Key],
    *,
    by: str = "distance",
) -> Classification:
    """Which key the noise carries, per row: the nearest, without a threshold (the paper, A.2.2).

    Args:
        noise: recovered from pictures.
        keys: at least one, names unlike. Of equal distances the first is taken.
        by: "distance", the mean of |F - K| over the mask, as in the paper, or "angle", one minus
            the cosine between F and K there, which asks nothing of the strength of F: what an
            inexact inversion brings back of a key is often weaker than it was.
    """
    check_names(keys)
    if by not in ("distance", "angle"):
        raise ValueError(f'by must be "distance" or "angle", got {by!r}')
    measured = [key.distance(noise) if by == "distance" else key.angle(noise) for key in keys]
    distances = torch.stack(measured, dim=1)
    return Classification(distances.argmin(1), distances, tuple(key.name for key in keys))


def check_names(keys: Sequence[Key]) -> None:
    """Make sure that keys can be told apart by name.

    Raises:
        ValueError: there are none, or two of one name.
    """
    names = [key.name for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ValueError(f"two keys are called {twice[0]!r}" if twice else "no keys to choose from")
