"""How well a score tells two kinds of pictures apart: the receiver operating characteristic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.summary import Summarised


@dataclass(frozen=True)
class Roc(Summarised):
    """The curve of true against false positives, as a threshold on the score falls.

    A picture is called positive where its score is at or above the threshold. Points lie at
    distinct scores only, so equal scores are called together; the first point calls nothing
    positive, the last one everything.

    Attributes:
        thresholds: (points,), falling; the first is infinite.
        false_positive_rate: (points,), of the negatives, rising from 0 to 1.
        true_positive_rate: (points,), of the positives, rising from 0 to 1.
        auc: the area under the curve: the chance that a positive scores above a negative, equal
            scores counting one half.
        best_accuracy: the best share of right calls over all thresholds where positives and
            negatives are equally frequent: the maximum of (TPR + 1 - FPR) / 2.
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
        """The curve of measured scores, one a picture; higher means positive.

        Raises:
            TypeError, ValueError: not two one-dimensional tensors of finite scores, none empty.
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
        """The threshold that finds most at a false positive rate of at most this one.

        Returns:
            The threshold (of all that find as many, the highest) and its true positive rate.
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
