"""The receiver operating characteristic of a score that distinguishes two kinds of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.summary import Summarised


@dataclass(frozen=True)
class Roc(Summarised):
    """The curve of true positive rate against false positive rate, for falling thresholds.

    A picture is classified as positive if its score is at least the threshold. There is one point
    for each distinct score. At the first point no picture is positive, at the last one every one.

    Attributes:
        thresholds: (points,), decreasing; the first is infinite.
        false_positive_rate: (points,), of the negatives, increasing from 0 to 1.
        true_positive_rate: (points,), of the positives, increasing from 0 to 1.
        auc: area under the curve: the probability that a positive scores above a negative, where
            equal scores count one half.
        best_accuracy: the largest accuracy over all thresholds if positives and negatives are
            equally frequent: the maximum of (TPR + 1 - FPR) / 2.
    """

    thresholds: Float[Tensor, " points"]
    false_positive_rate: Float[Tensor, " points"]
    true_positive_rate: Float[Tensor, " points"]
    auc: float
    best_accuracy: float

    @classmethod
    def of(
        cls, positive: Float[Tensor, " positives"], negative: Float[Tensor, " negatives"]
    ) -> Roc:
        """The curve of measured scores, one for each picture; positives should score higher.

        Raises:
            TypeError, ValueError: an argument is no tensor (pictures,) of finite scores, or empty.
        """
        kinds = {"positive": positive, "negative": negative}
        for name, scores in kinds.items():
            if not isinstance(scores, Tensor):
                raise TypeError(f"{name} must be a tensor of scores, got {type(scores).__name__}")
            if scores.dim() != 1 or len(scores) == 0:
                raise ValueError(
                    f"{name} must hold one score a picture and at least one, got shape "
                    f"{tuple(scores.shape)}"
                )
            if not bool(scores.isfinite().all()):
                raise ValueError(f"{name} holds a score that is not finite")
        high, low = (scores.detach().cpu().double() for scores in kinds.values())
        levels = torch.cat([high, low]).unique().flip(0)
        thresholds = torch.cat([torch.full((1,), torch.inf, dtype=torch.float64), levels])
        tpr, fpr = _share_above(high, thresholds), _share_above(low, thresholds)
        return cls(
            thresholds=thresholds,
            false_positive_rate=fpr,
            true_positive_rate=tpr,
            auc=float(torch.trapezoid(tpr, fpr)),
            best_accuracy=float(((tpr + 1 - fpr) / 2).max()),
        )

    def at(self, false_positive_rate: float) -> tuple[float, float]:
        """The threshold of largest true positive rate at a false positive rate of at most this.

        Returns:
            The threshold (the highest one, if several are equal) and its true positive rate.
        """
        if not 0 <= false_positive_rate <= 1:
            raise ValueError(f"a rate must lie in [0, 1], got {false_positive_rate}")
        allowed = self.true_positive_rate[self.false_positive_rate <= false_positive_rate]
        point = int((self.true_positive_rate == allowed[-1]).nonzero()[0])
        return float(self.thresholds[point]), float(self.true_positive_rate[point])

    def __str__(self) -> str:
        return (
            f"AUC {self.auc:.4f}, best accuracy {self.best_accuracy:.1%}, "
            f"TPR {self.at(0.01)[1]:.1%} at 1 % FPR"
        )


def _share_above(scores: Tensor, thresholds: Tensor) -> Tensor:
    """The share of scores at or above each threshold."""
    ordered = scores.sort().values
    below = torch.searchsorted(ordered, thresholds)
    return (len(scores) - below).double() / len(scores)
