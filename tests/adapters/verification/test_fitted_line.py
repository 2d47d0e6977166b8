import math

import numpy as np
import pytest

from fixpoint.adapters.verification.fitted_line import fit_line, student_quantile

pytestmark = pytest.mark.usefixtures("no_network")


def test_a_line_is_that_of_least_squares_with_students_interval():
    x, y = np.array([0.0, 1, 2, 3, 5]), np.array([1.0, 0, 0.5, -2, -3])
    line = fit_line(x.tolist(), y.tolist())
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov="unscaled")
    left = ((y - slope * x - intercept) ** 2).sum() / 3
    half = 3.182446 * math.sqrt(left * covariance[0, 0])  # Student's t, 3 degrees of freedom
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    assert (line.low, line.high) == pytest.approx((slope - half, slope + half), rel=1e-6)
    assert line.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])
    noisy = fit_line([*x.tolist(), math.nan, 1.0], [*y.tolist(), 3.0, -math.inf])
    assert noisy == line
    assert line.points == 5


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (99, 1.98422)],
)
def test_students_quantile_is_that_of_the_tables(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, rel=1e-5)


def test_no_line_below_three_points_or_without_spread():
    assert fit_line([1, 2], [1, 2]) is None
    assert fit_line([1, 1, 1 + 1e-9], [1, 2, 3]) is None
    assert fit_line([], []) is None
    level = fit_line([1, 2, 3], [0.1, 0.1, 0.1])
    assert (level.slope, level.low, level.high, level.correlation) == (0, 0, 0, None)
