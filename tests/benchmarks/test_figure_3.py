"""Figure 3: the Pareto front."""

from benchmarks.paper import (
    figure_3,
)


def test_the_pareto_front_is_what_no_other_point_beats():
    points = [(1, 0), (2, -1), (2, -3), (3, -2), (3, -3), (4, -5), (1, 1), (4, -5)]
    assert figure_3.pareto_front(points) == [(1, 0), (2, -3), (4, -5)]
    assert figure_3.pareto_front([]) == []
