"""ROC curves and rates with their intervals, from scores."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.studies.attribution.sources import OURS, SEED
from fixpoint.adapters.provenance.roc import Roc

RATE = 0.01


def roc_of(scores: dict[str, list[float]]) -> Roc:
    """The curve of one method behind one distortion: the model's pictures against all others."""
    sides: tuple[list[float], list[float]] = ([], [])
    for kind, values in scores.items():
        sides[kind not in OURS].extend(values)
    positive, negative = (torch.tensor(side, dtype=torch.float64) for side in sides)
    return Roc.of(positive, negative)


def auc_interval(scores: dict[str, list[float]], resamples: int = 1000) -> tuple[float, float]:
    """95 % interval of the AUC by resampling pictures within their kinds."""
    generator = torch.Generator().manual_seed(SEED)
    found = []
    for _ in range(resamples):
        drawn = {}
        for kind, values in scores.items():
            rows = torch.randint(len(values), (len(values),), generator=generator)
            drawn[kind] = [values[row] for row in rows.tolist()]
        found.append(roc_of(drawn).auc)
    low, high = torch.tensor(found, dtype=torch.float64).quantile(
        torch.tensor([0.025, 0.975], dtype=torch.float64)
    )
    return float(low), float(high)


def share_interval(count: int, total: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper and Pearson, 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def summarised(results: dict[str, Any]) -> dict[str, Any]:
    """AUC and true positive rate at 1 % false positives, with intervals, by distortion, method."""
    found: dict[str, Any] = {}
    for name, methods in results["scores"].items():
        found[name] = {}
        for method, scores in methods.items():
            roc = roc_of(scores)
            _, rate = roc.at(RATE)
            total = sum(len(values) for kind, values in scores.items() if kind in OURS)
            found[name][method] = {
                "auc": roc.auc,
                "auc_interval": auc_interval(scores),
                "tpr": rate,
                "tpr_interval": share_interval(round(rate * total), total),
            }
    return found
