"""Classification: which of several tree-ring keys noise carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.summary import Summarised


class Key(Protocol):
    """What `classify` needs of a key; `TreeRing` has it."""

    @property
    def name(self) -> str: ...
    def distance(self, noise: Tensor) -> Tensor: ...
    def angle(self, noise: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Classification(Summarised):
    """The key of least distance, per row.

    Attributes:
        labels: (batch,), the index of the key in `keys`.
        distances: (batch, keys), the mean of |F - K| over each key's mask, or the angle to K.
        keys: the names of the keys, in the order of the columns.
    """

    labels: Int[Tensor, " batch"]
    distances: Float[Tensor, "batch keys"]
    keys: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the nearest key, per row."""
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
        keys: at least one, with different names. Of equal distances the first key is taken.
        by: "distance", the mean of |F - K| over the mask, as in the paper; or "angle", one minus
            the cosine between F and K, which does not depend on the strength of F: after an
            inexact inversion a key is often weaker than before.
    """
    check_names(keys)
    if by not in ("distance", "angle"):
        raise ValueError(f'by must be "distance" or "angle", got {by!r}')
    measured = [key.distance(noise) if by == "distance" else key.angle(noise) for key in keys]
    distances = torch.stack(measured, dim=1)
    return Classification(distances.argmin(1), distances, tuple(key.name for key in keys))


def check_names(keys: Sequence[Key]) -> None:
    """Check that there are keys and that their names differ.

    Raises:
        ValueError: there is none, or two have one name.
    """
    names = [key.name for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ValueError(f"two keys are called {twice[0]!r}" if twice else "no keys to choose from")
