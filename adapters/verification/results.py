"""What `fixpoint verify` measured: crop by crop, method by method, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from fixpoint.adapters.reports.versions import versions
from fixpoint.adapters.verification.crops import Crop
from fixpoint.adapters.verification.fitted_line import Line
from fixpoint.adapters.verification.methods import StudiedMethod
from fixpoint.monitors.certificate import Certificate
from fixpoint.summary import Summarised

CONVERGED = 0.1
"""A crop has converged if its residual is below this part of its first value."""


@dataclass(frozen=True)
class Outcome:
    """The numbers of one method on one crop; NaN where the run ended early.

    Attributes:
        cocoercivity, cocoercivity_at: the minimum of (14) and its k; infinite and -1 if no two
            values of T differed.
        pairwise, pairwise_at: the least ratio of two successive points of the whole run, and its k.
        convergence_db: of z^n to z^inf, in dB.
        nmse_db, nmse_n_db: NMSE of z^inf and of z^n, in dB.
        residual, limit_residual: `||T z^n||` and `||T z^inf||` relative to `||T z^0||`.
        rate: the observed linear rate of the residual at the end of the whole run.
        status: of the solver.
        converged: the residual at z^n is below `CONVERGED`.
    """

    cocoercivity: float
    cocoercivity_at: int
    pairwise: float
    pairwise_at: int
    convergence_db: float
    nmse_db: float
    nmse_n_db: float
    residual: float
    limit_residual: float
    rate: float
    status: str
    converged: bool


@dataclass(frozen=True)
class ClaimCount:
    """The verdicts of all crops on one claim of a theorem, and the least margin."""

    theorem: str
    part: str
    name: str
    sentence: str
    basis: str
    certified: int
    supported: int
    refuted: int
    not_measured: int
    margin: float
    crop: int
    iteration: int


@dataclass(frozen=True)
class MethodResult(Summarised):
    """One method on all crops.

    Attributes:
        convergence_line: convergence (dB) against cocoercivity, as in figure 2.
        accuracy_line: NMSE (dB) against cocoercivity.
        agreement_line: NMSE (dB) against convergence (dB).
        claims: of its theorem, counted over the crops; none for Adam.
        certificate: the same claims, crop by crop.
        remarks: on crops where outcome and hypotheses disagree.
    """

    method: StudiedMethod
    outcomes: tuple[Outcome, ...]
    convergence_line: Line | None
    accuracy_line: Line | None
    agreement_line: Line | None
    claims: tuple[ClaimCount, ...]
    certificate: Certificate | None
    remarks: tuple[str, ...]

    @property
    def positive_fraction(self) -> float | None:
        """The share of the crops with a positive minimum of (14), among those where it is known."""
        known = [one.cocoercivity for one in self.outcomes if not math.isnan(one.cocoercivity)]
        return sum(value > 0 for value in known) / len(known) if known else None

    @property
    def positive_count(self) -> str:
        """The number of crops with a positive minimum of (14), and of those where it is known."""
        known = [one.cocoercivity for one in self.outcomes if not math.isnan(one.cocoercivity)]
        return f"{sum(value > 0 for value in known)} / {len(known)}" if known else "-"

    @property
    def least_ratio(self) -> float:
        """The least finite minimum of (14) over the crops; NaN if there is none."""
        finite = [one.cocoercivity for one in self.outcomes if math.isfinite(one.cocoercivity)]
        return min(finite) if finite else math.nan

    @property
    def refuted_crops(self) -> list[bool] | None:
        """For each crop, whether a hypothesis of the theorem is refuted; None without a theorem."""
        if self.certificate is None:
            return None
        hypotheses = [claim for claim in self.certificate.claims if claim.part == "hypothesis"]
        return [
            any(not bool(claim.holds[row]) for claim in hypotheses)
            for row in range(len(self.outcomes))
        ]


@dataclass(frozen=True)
class Verification(Summarised):
    """Every method on one batch of crops.

    Attributes:
        settings: of the run, by name.
        encoder_nmse_db: NMSE of z^0 = E(x), crop by crop.
        precision: the measured relative error of the values of T; see `precision_of`.
    """

    settings: dict[str, Any]
    crops: tuple[Crop, ...]
    encoder_nmse_db: tuple[float, ...]
    precision: float
    results: tuple[MethodResult, ...]

    @property
    def overlapping(self) -> bool:
        """Whether two crops share pixels, so that they are not independent."""
        return any(a.overlaps(b) for index, a in enumerate(self.crops) for b in self.crops[:index])


def typical(values: Sequence[float]) -> float:
    """The median of the finite values; NaN where there are none."""
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


def content(verification: Verification, findings: dict[str, list[str]]) -> dict[str, Any]:
    """Everything for the JSON report; numbers that are not finite become None.

    Args:
        verification: the results.
        findings: the sentences of each method, by its name.
    """
    result: dict[str, Any] = {
        "settings": verification.settings,
        "versions": versions(),
        "precision": verification.precision,
        "overlapping": verification.overlapping,
        "crops": [
            {
                "picture": crop.picture,
                "left": crop.left,
                "top": crop.top,
                "width": crop.width,
                "height": crop.height,
                "encoder_nmse_db": start,
            }
            for crop, start in zip(verification.crops, verification.encoder_nmse_db, strict=True)
        ],
        "methods": [
            {
                "name": shown.method.name,
                "settings": shown.method.words,
                "iterations": shown.method.iterations,
                "limit": shown.method.limit,
                "needed_cocoercivity": shown.method.needed,
                "positive_fraction": shown.positive_fraction,
                "convergence_line": shown.convergence_line and asdict(shown.convergence_line),
                "accuracy_line": shown.accuracy_line and asdict(shown.accuracy_line),
                "agreement_line": shown.agreement_line and asdict(shown.agreement_line),
                "crops": [asdict(outcome) for outcome in shown.outcomes],
                "claims": [asdict(claim) for claim in shown.claims],
                "certificate": shown.certificate and shown.certificate.to_dict(),
                "remarks": list(shown.remarks),
                "findings": findings[shown.method.name],
            }
            for shown in verification.results
        ],
    }
    return _finite(result)


def _finite(value: Any) -> Any:
    """The same tree with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
