"""The results of `fixpoint verify` as a table for the terminal."""

from __future__ import annotations

import math
from itertools import groupby

from fixpoint.adapters.verification.results import ClaimCount, Verification, typical
from fixpoint.adapters.verification.typesetting import as_interval, as_number


def table(verification: Verification) -> str:
    """The results as text: a line for each method and for each claim."""
    head = (
        f"{'method':<14}{'ratio > 0':>10}{'least':>8}{'residual':>10}{'conv. dB':>10}"
        f"{'NMSE dB':>9}{'slope dB':>10}  95 % interval"
    )
    lines = [head, "-" * len(head)]
    for result in verification.results:
        outcomes, line = result.outcomes, result.convergence_line
        lines.append(
            f"{result.method.name:<14}"
            f"{result.positive_count:>10}"
            f"{as_number(result.least_ratio, '.2f'):>8}"
            f"{as_number(typical([one.residual for one in outcomes]), '.2g'):>10}"
            f"{as_number(typical([one.convergence_db for one in outcomes]), '.1f'):>10}"
            f"{as_number(typical([one.nmse_db for one in outcomes]), '.1f'):>9}"
            + ("         -" if line is None else f"{line.slope:>10.1f}  {as_interval(line)}")
        )
    lines.append("(least: over all crops; residual, convergence and NMSE: medians)")
    for result in verification.results:
        for theorem, claims in groupby(result.claims, lambda claim: claim.theorem):
            lines += [
                "",
                f"{theorem:<34}{'certified':>10}{'supported':>10}{'refuted':>9}"
                f"{'not measured':>14}  margin",
            ]
            lines += [
                f"  {claim.name:<32}{claim.certified:>10}{claim.supported:>10}{claim.refuted:>9}"
                f"{claim.not_measured:>14}  {_margin(claim)}"
                for claim in claims
            ]
    return "\n".join(lines)


def _margin(claim: ClaimCount) -> str:
    if claim.margin == math.inf:  # of no crop
        return "–"
    at = f"crop {claim.crop}" + (f", k = {claim.iteration}" if claim.iteration >= 0 else "")
    return f"{as_number(claim.margin, '.3g')} ({at})"
