"""Theorem 2: what is certified, supported and refuted."""

import pytest
import torch
from monitored_runs import start, watch

from fixpoint import InertialKM, TheoremWarning, Verdict, as_operator, synthetic, theory
from fixpoint.monitors import InertialKMTheorem

# Theorem 2


def inertial(alpha, fraction, beta):
    relaxation = fraction * theory.largest_relaxation(alpha)
    return InertialKM(inertia=alpha, relaxation=relaxation, cocoercivity=beta)


def test_theorem_2_holds_in_more_than_a_thousand_problems():
    count = 0
    for alpha in (0.05, 0.2, 0.4, 0.6, 0.9):
        for fraction in (0.2, 0.6, 0.99):
            for seed, beta in enumerate((0.2, 1.0, 3.0)):
                zero, z0 = start(seed, rows=24, size=8)
                maps = (None, torch.tanh, lambda z: z.clamp(-0.5, 0.5))
                operator = synthetic.Cocoercive(beta, zero, maps[seed])
                iterator = inertial(alpha, fraction, beta)
                monitor = InertialKMTheorem.of(iterator, operator, zero)
                certificate = watch(operator, z0, iterator, monitor, max_iterations=60).certificate
                for name in (
                    "(A) summability",
                    "(B) rate",
                    "(C) distance",
                    "(D) limit points",
                ):
                    assert set(certificate[name].verdicts) == {Verdict.CERTIFIED}, (name, alpha)
                count += len(z0)
    assert count > 1000


def test_the_lyapunov_sequence_rises_just_outside_star_cocoercivity():
    zero, z0 = start(rows=4)
    truth = synthetic.Cocoercive(1 / 1.02, zero)
    iterator = inertial(0.05, 0.999, 1.0)  # believes in 2 % more than there is
    monitor = InertialKMTheorem.of(iterator, as_operator(truth), zero)
    with pytest.warns(TheoremWarning, match=r"0\.980392-cocoercive"):
        solution = watch(truth, z0, iterator, monitor, max_iterations=60)
    claim = solution.certificate["(C) distance"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    assert set(solution.certificate["step size"].verdicts) == {Verdict.REFUTED}
    assert (claim.iteration > 0).all()


def test_without_known_constants_theorem_2_is_at_most_supported():
    zero, z0 = start()
    iterator = inertial(0.3, 0.9, 0.5)
    monitor = InertialKMTheorem(
        inertia=0.3, relaxation=iterator.relaxation, cocoercivity=0.5, zero=zero
    )
    certificate = watch(synthetic.Cocoercive(0.5, zero), z0, iterator, monitor).certificate
    for claim in certificate.claims:
        given = claim.name in ("zero", "inertia and relaxation (13)")
        expected = Verdict.CERTIFIED if given else Verdict.SUPPORTED
        assert set(claim.verdicts) == {expected}, claim.name
