"""Confusion matrix, and accuracy with its 95 % interval."""

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
        counts: (keys, keys): the number of pictures with the row's true label and the column's
            found label.
    """

    keys: tuple[str, ...]
    counts: Int[Tensor, "keys keys"]

    @property
    def pictures(self) -> int:
        """The number of pictures."""
        return int(self.counts.sum())

    @property
    def right(self) -> int:
        """The number of pictures whose true label was found."""
        return int(self.counts.diagonal().sum())

    @property
    def accuracy(self) -> float:
        """The share of pictures whose true label was found."""
        return self.right / self.pictures

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval of the accuracy (Clopper and Pearson, 1934)."""
        from scipy.stats import binomtest

        found = binomtest(self.right, self.pictures).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """A table: a line for each label embedded, a column for each label found."""
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
    """The confusion matrix of true and found labels.

    Args:
        truth, found: the labels of each picture.
        keys: all labels, in the order of rows and columns.

    Raises:
        ValueError: `truth` and `found` differ in length or are empty, or a label is not in `keys`.
    """
    if len(truth) != len(found) or not truth:
        raise ValueError(f"one true label a picture is needed: {len(truth)} for {len(found)}")
    index = {key: position for position, key in enumerate(keys)}
    if len(index) < len(keys):
        raise ValueError(f"two keys have one name: {', '.join(keys)}")
    unknown = sorted({label for label in (*truth, *found) if label not in index})
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not among the keys: {', '.join(keys)}")
    counts = torch.zeros(len(keys), len(keys), dtype=torch.long)
    for true, label in zip(truth, found, strict=True):
        counts[index[true], index[label]] += 1
    return Confusion(tuple(keys), counts)
