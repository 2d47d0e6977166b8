"""Which keys were found where which were embedded, counted, and how sure the share is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from fixpoint.summary import Summarised


@dataclass(frozen=True)
class Confusion(Summarised):
    """A confusion matrix.

    Attributes:
        keys: the labels, in the order of rows and columns.
        counts: (keys, keys): of pictures with the row's label, how many were given the column's.
    """

    keys: tuple[str, ...]
    counts: Int[Tensor, "keys keys"]

    @property
    def pictures(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    @property
    def right(self) -> int:
        """How many were given their own label."""
        return int(self.counts.diagonal().sum())

    @property
    def accuracy(self) -> float:
        """The share of pictures that were given their own label."""
        return self.right / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the accuracy (Clopper and Pearson, 1934)."""
        from scipy.stats import binomtest

        found = binomtest(self.right, self.pictures).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """A table: one line a label that was embedded, one column a label that was found."""
        cells = [["embedded \\ found", *self.keys]]
        for key, row in zip(self.keys, self.counts.tolist(), strict=True):
            cells.append([key, *map(str, row)])
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in cells
        ]
        low, high = self.interval
        lines.append(
            f"{self.right} of {self.pictures} right: {self.accuracy:.1%} "
            f"(95 % interval {low:.1%} to {high:.1%})"
        )
        return "\n".join(lines)


def confusion_matrix(truth: Sequence[str], found: Sequence[str], keys: Sequence[str]) -> Confusion:
    """Count labels that were embedded against those that were found, one of each a picture.

    Raises:
        ValueError: not as many of each, none at all, or a label that is not among the keys.
    """
    if len(truth) != len(found) or not truth:
        raise ValueError(f"one true label a picture is needed: {len(truth)} for {len(found)}")
    index = {key: position for position, key in enumerate(keys)}
    if len(index) < len(keys):
        raise ValueError(f"two keys have one name: {', '.join(keys)}")
    unknown = sorted({label for label in (*truth, *found) if label not in index})
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of the keys: {', '.join(keys)}")
    counts = torch.zeros(len(keys), len(keys), dtype=torch.long)
    for true, label in zip(truth, found, strict=True):
        counts[index[true], index[label]] += 1
    return Confusion(tuple(keys), counts)
