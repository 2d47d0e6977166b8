"""Certificates of short runs, and what must be true of each of them."""

import math
import warnings

import torch

from fixpoint import ForwardStep, InertialKM, TheoremWarning, Verdict, solve
from fixpoint.monitors import ForwardStepTheorem, InertialKMTheorem

RANK = {
    Verdict.CERTIFIED: 3,
    Verdict.SUPPORTED: 2,
    Verdict.NOT_MEASURED: 1,
    Verdict.REFUTED: 0,
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def monitor_of(iterator, operator, zero=None):
    theorem = ForwardStepTheorem if isinstance(iterator, ForwardStep) else InertialKMTheorem
    return theorem.of(iterator, operator, zero)


def certificate_of(operator, z0, iterator, monitor, steps=25):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TheoremWarning)
        solution = solve(
            operator, z0, iterator, rtol=0, atol=0, max_iterations=steps, monitors=(monitor,)
        )
    consistent(solution.certificate)
    return solution.certificate


def consistent(certificate):
    """No NaN, and no conclusion above its weakest hypothesis."""
    hypotheses = [claim for claim in certificate.claims if claim.part == "hypothesis"]
    certificate.to_dict()
    str(certificate)
    for claim in certificate.claims:
        assert not claim.margin.isnan().any(), claim.name
        for row, verdict in enumerate(claim.verdicts):
            if verdict is Verdict.NOT_MEASURED:
                assert claim.margin[row] == math.inf
                assert claim.iteration[row] == -1
            if verdict is Verdict.REFUTED:
                assert claim.margin[row] <= 0, claim.name
            if claim.part == "conclusion" and verdict is not Verdict.REFUTED:
                words = [hypothesis.verdicts[row] for hypothesis in hypotheses]
                least = min(words, key=RANK.get)
                limit = Verdict.SUPPORTED if least is Verdict.REFUTED else least
                assert RANK[verdict] <= RANK[limit], (claim.name, words)


def words(certificate, part):
    return {word for claim in certificate.claims if claim.part == part for word in claim.verdicts}


def iterators(scale=1.0):
    """Well inside both theorems for an operator that is scale-cocoercive."""
    return (
        ForwardStep(step_size=1.2 * scale),
        ForwardStep(step_size=0.05 * scale),
        InertialKM(inertia=0.3, relaxation=0.4, cocoercivity=scale),
    )
