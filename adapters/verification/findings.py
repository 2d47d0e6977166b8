"""The findings of `fixpoint verify`: sentences that its numbers decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fixpoint.adapters.verification.results import CONVERGED, MethodResult, Outcome, typical
from fixpoint.adapters.verification.typesetting import as_db, as_interval, as_part, as_signed


def findings(result: MethodResult, overlapping: bool = False) -> list[str]:
    """The findings on one method, one sentence each.

    Args:
        result: of the method.
        overlapping: the crops share pixels, so that the intervals are too narrow.
    """
    lines = [
        _cocoercivity(result),
        _slope(result, overlapping),
        _accuracy(result),
        _converged(result),
        *_disagreements(result),
        *_lost(result.outcomes),
    ]
    return [line for line in lines if line]


def _cocoercivity(result: MethodResult) -> str:
    known = [one.cocoercivity for one in result.outcomes if not math.isnan(one.cocoercivity)]
    if not known:
        return "The ratio (14) is known for no crop."
    positive = sum(value > 0 for value in known)
    needed = result.method.needed
    text = f"The ratio (14) stays above 0 for {as_part(positive, len(known))}."
    if needed is not None:
        enough = sum(value > needed for value in known)
        text += f" The theorem asks for {needed:g}: it exceeds that for "
        text += f"{as_part(enough, len(known))}."
    return text


def _slope(result: MethodResult, overlapping: bool) -> str:
    line = result.convergence_line
    if line is None:
        usable = sum(
            math.isfinite(one.cocoercivity) and math.isfinite(one.convergence_db)
            for one in result.outcomes
        )
        if usable < 3:
            return (
                f"No line was fitted: it takes 3 crops with finite values, and there are {usable}."
            )
        return "No line was fitted: the ratio is the same for every crop."
    interval = f"{as_signed(line.slope)} dB per unit, 95 % interval {as_interval(line)}"
    if line.low <= 0 <= line.high:
        text = f"Between cocoercivity and convergence no slope can be told from zero ({interval})."
    elif line.high < 0:
        text = (
            f"The fitted line has a negative slope ({interval}): the more cocoercive the path, "
            "the better it converged."
        )
    else:
        text = (
            f"The fitted line has a positive slope ({interval}): the more cocoercive the path, "
            "the worse it converged."
        )
    if overlapping:
        text += " The crops overlap and are not independent: the true interval is wider."
    return text


def _accuracy(result: MethodResult) -> str:
    judged = typical([one.nmse_n_db for one in result.outcomes])
    limit = typical([one.nmse_db for one in result.outcomes])
    if math.isnan(judged) or math.isnan(limit):
        return "The accuracy is known for no crop."
    n, m = result.method.iterations, result.method.limit
    text = f"The median NMSE is {as_db(judged)} at k = {n} and {as_db(limit)} at k = {m}"
    if limit > judged + 1:
        text += ": iterating on made the latents worse"
    line = result.agreement_line
    if line is not None and line.low > 0:
        text += "; crops that converged better are closer to z*"
    elif line is not None and line.high < 0:
        text += "; crops that converged better are further from z*"
    elif line is not None:
        text += "; that crops that converged better are closer to z* cannot be told"
    return text + "."


def _converged(result: MethodResult) -> str:
    outcomes, m = result.outcomes, result.method.limit
    count = sum(one.converged for one in outcomes)
    text = (
        f"The residual fell below a tenth of its first value within n = "
        f'{result.method.iterations} iterations ("converged") for {as_part(count, len(outcomes))}.'
    )
    rest = typical([one.limit_residual for one in outcomes])
    if rest > CONVERGED:
        text += (
            f" Even at k = {m} it is {rest:.2g} of its first value (median): z^inf is a point on "
            'the way and no limit, and "convergence" shows short steps as much as progress.'
        )
    return text


def _disagreements(result: MethodResult) -> list[str]:
    """Crops where outcome and hypotheses disagree."""
    lines = []
    outcomes = result.outcomes
    local = [one for one in outcomes if one.pairwise <= 0]
    if local:
        yet = sum(one.converged for one in local)
        lines.append(
            f"Locally not cocoercive, yet converged: {as_part(yet, len(outcomes))} "
            f"({as_part(len(local), len(outcomes))} had a pair of successive points with a ratio "
            "of at most 0)."
        )
    refuted = result.refuted_crops
    if refuted is None:
        return [*lines, "No theorem covers this method: only the ratios are measured."]
    if any(refuted):
        yet = sum(no and one.converged for no, one in zip(refuted, outcomes, strict=True))
        lines.append(
            f"Along the whole run to k = {result.method.limit}, a hypothesis of the theorem is "
            f"refuted for {as_part(sum(refuted), len(outcomes))}, of which {yet} converged all the "
            "same."
        )
    else:
        lines.append("No hypothesis of the theorem is refuted on any crop.")
    return lines


def _lost(outcomes: Sequence[Outcome]) -> list[str]:
    lines = []
    for status, words in (("NONFINITE", "in NaN or infinity"), ("DIVERGED", "as diverged")):
        count = sum(one.status == status for one in outcomes)
        if count:
            lines.append(f"{as_part(count, len(outcomes))} ended {words} and left the figures.")
    exact = sum(one.convergence_db == -math.inf for one in outcomes)
    if exact:
        lines.append(
            f"z^n is exactly z^inf for {as_part(exact, len(outcomes))}; -inf dB cannot be drawn."
        )
    still = sum(one.cocoercivity == math.inf for one in outcomes)
    if still:
        lines.append(
            f"No two values of T differed on {as_part(still, len(outcomes))}: there is no ratio."
        )
    return lines
