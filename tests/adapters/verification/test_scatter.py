import math

import pytest

from fixpoint.adapters.verification.scatter import scatter

pytestmark = pytest.mark.usefixtures("no_network")


def test_points_of_one_place_and_without_accuracy_are_drawn():
    chart = scatter([(1.0, -3.0, math.nan, 0)] * 2, None, "x", "y")
    assert chart.count('fill="#888888"') == 2
    assert "nan" not in chart
