"""Runs outside a theorem lie outside it."""

import warnings

from fixpoint import ForwardStep, TheoremWarning
from fixpoint.testing import outside


def test_runs_outside_do_not_descend_as_the_theorem_says():
    for problem, iterator in outside(2.0):
        if isinstance(iterator, ForwardStep) and "exceeded" in problem.name:
            assert iterator.step_size > 4
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TheoremWarning)
                state = iterator.init(problem.operator, problem.start)
            following = iterator.step(problem.operator, state)
            before, after = (x.z - problem.zero for x in (state, following))
            assert (after.norm(dim=1) > before.norm(dim=1)).all()
