"""Outcomes of `fixpoint verify` for the tests, and the options of a small run."""

import math
from dataclasses import replace

from fixpoint.adapters.verification.fitted_line import fit_line
from fixpoint.adapters.verification.methods import methods
from fixpoint.adapters.verification.results import MethodResult, Outcome

SMALL = ["--crops", "4", "--crop-size", "32", "--iterations", "4"]
"""Options of a small run of `fixpoint verify`."""


def outcome(ratio=1.0, convergence=-40.0, nmse=-35.0, residual=0.01, **changes):
    one = Outcome(
        cocoercivity=ratio,
        cocoercivity_at=0,
        pairwise=0.8,
        pairwise_at=1,
        convergence_db=convergence,
        nmse_db=nmse,
        nmse_n_db=nmse,
        residual=residual,
        limit_residual=residual / 10,
        rate=0.9,
        status="MAX_ITERATIONS",
        converged=residual < 0.1,
    )
    return replace(one, **changes)


def result(outcomes, method=None):
    ratios = [one.cocoercivity for one in outcomes]
    convergence = [one.convergence_db for one in outcomes]
    nmse = [one.nmse_db for one in outcomes]
    return MethodResult(
        method=method or methods()[2],
        outcomes=tuple(outcomes),
        convergence_line=fit_line(ratios, convergence),
        accuracy_line=fit_line(ratios, nmse),
        agreement_line=fit_line(convergence, nmse),
        claims=(),
        certificate=None,
        remarks=(),
    )


def line_of(noise, slope):
    return [
        outcome(ratio=x, convergence=slope * x - 40 + noise * (-1) ** x, nmse=-30 + slope * x)
        for x in range(1, 9)
    ]


CASES = {  # name: (outcomes, words in the findings)
    "falling": (line_of(0.5, -3), ["has a negative slope (-3", "the better it converged"]),
    "rising": (line_of(0.5, 3), ["has a positive slope (+3", "the worse it converged"]),
    "lost in noise": (line_of(30, -1), ["no slope can be told from zero"]),
    "level": ([outcome(ratio=x) for x in (1, 2, 3)], ["no slope can be told from zero (+0.0"]),
    "two crops": ([outcome(1), outcome(2)], ["takes 3 crops with finite values, and there are 2"]),
    "one ratio": ([outcome()] * 5, ["No line was fitted: the ratio is the same"]),
    "one crop": ([outcome()], ["stays above 0 for the one crop", "there are 1"]),
    "negative": (
        [outcome(-0.1), outcome(0.0), outcome(2)],
        ["stays above 0 for 1 of 3 crops"],
    ),
    "none positive": ([outcome(-1), outcome(-2)], ["stays above 0 for none of 2 crops"]),
    "all positive": ([outcome(1), outcome(2)], ["stays above 0 for all 2 crops"]),
    "local": (
        [outcome(pairwise=-1), outcome(pairwise=-1, residual=0.5), outcome()],
        ["Locally not cocoercive, yet converged: 1 of 3 crops (2 of 3 crops had"],
    ),
    "on the way": (
        [outcome(residual=0.9, limit_residual=0.7)] * 3,
        ["for none of 3 crops", "Even at k = 150 it is 0.7 of its first value"],
    ),
    "worse later": ([outcome(nmse=-30, nmse_n_db=-40)], ["iterating on made the latents worse"]),
    "exact": (
        [outcome(convergence=-math.inf), outcome(2), outcome(3)],
        ["z^n is exactly z^inf for 1 of 3 crops", "there are 2"],
    ),
    "still": (
        [outcome(ratio=math.inf, cocoercivity_at=-1)] * 4,
        ["No two values of T differed on all 4 crops", "there are 0"],
    ),
    "lost": (
        [
            outcome(
                math.nan,
                math.nan,
                math.nan,
                math.nan,
                nmse_n_db=math.nan,
                limit_residual=math.nan,
                status="NONFINITE",
            ),
            outcome(),
        ],
        ["1 of 2 crops ended in NaN or infinity", "stays above 0 for the one crop"],
    ),
    "all lost": (
        [outcome(*[math.nan] * 4, nmse_n_db=math.nan, status="DIVERGED")] * 3,
        [
            "known for no crop",
            "all 3 crops ended as diverged",
            "there are 0",
            "accuracy is known for no crop",
        ],
    ),
}
