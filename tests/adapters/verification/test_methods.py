import pytest

import fixpoint
from fixpoint.adapters.verification.methods import methods

pytestmark = pytest.mark.usefixtures("no_network")


def test_the_papers_settings_are_the_papers():
    forward, inertial, adam = methods(paper=True)
    assert [(m.iterations, m.limit) for m in (forward, inertial, adam)] == [
        (100, 300),
        (100, 300),
        (50, 300),
    ]
    assert forward.iterator.step_size == 0.001
    assert inertial.iterator.inertia == 0.9
    assert inertial.iterator.step_size == pytest.approx(0.001)
    assert adam.iterator.schedule == fixpoint.schedules.warmup_cosine(0.01, 50)
    assert methods()[0].iterator.step_size == 1
