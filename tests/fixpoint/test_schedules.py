import math

import pytest

from fixpoint import schedules


@pytest.mark.parametrize("steps", [10, 20, 50, 70, 100, 200])
def test_warmup_cosine_is_the_papers_schedule(steps):
    schedule = schedules.warmup_cosine(0.01, steps)
    w = steps // 10
    held = None
    for i in range(2 * steps):
        if i < w:
            expected = (i + 1) / w * 0.01
        elif i < 0.8 * steps:
            expected = held = 0.01 * (1 + math.cos(math.pi * (i - w) / (steps - w))) / 2
        else:
            expected = held
        assert schedule(i) == pytest.approx(expected, rel=1e-12)


def test_the_papers_hundred_steps_end_at_its_published_rate():
    schedule = schedules.warmup_cosine(0.01, 100)
    assert schedule(99) == pytest.approx(1.28e-3, rel=5e-3)
    assert schedule(9) == schedule(10) == 0.01


def test_short_schedules_have_no_warmup():
    assert schedules.warmup_cosine(1.0, 5)(0) == 1.0
    assert schedules.warmup_cosine(1.0, 1)(7) == 1.0


def test_constant_is_constant():
    assert {schedules.constant(0.3)(step) for step in range(5)} == {0.3}


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.constant(0.0),
        lambda: schedules.warmup_cosine(-1.0, 10),
        lambda: schedules.warmup_cosine(1.0, 0),
        lambda: schedules.warmup_cosine(1.0, 10, warmup=0.9, hold=0.8),
    ],
)
def test_schedules_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"must be|need"):
        make()
