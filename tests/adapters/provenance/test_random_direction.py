import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc
from tree_ring_cases import laws

from fixpoint.adapters.provenance.random_direction import log_p_value


def test_a_coordinate_on_the_sphere_has_the_right_density():
    """The integral over all of a sphere is 1, and half of it lies on either side."""
    length = np.array([3.0])
    everything = log_p_value(np.array([100.0]), length, 4.0, 5, 9)
    assert everything[0] == pytest.approx(0, abs=1e-9)
    assert float(betainc(2.5, 2.0, 0.5)) == pytest.approx(
        math.exp(log_p_value(length**2 / 2, length, 0.0, 5, 9)[0])
    )


@laws
@given(
    share=st.floats(1e-9, 1 - 1e-9),
    length=st.floats(0.1, 100),
    sizes=st.tuples(st.integers(2, 120), st.integers(1, 4000)),
)
def test_with_a_zero_key_the_chance_is_that_of_the_beta_distribution(share, length, sizes):
    tested, rest = sizes
    squared = np.array([share * length**2])
    log = log_p_value(squared, np.array([length]), 0.0, tested, tested + rest)
    expected = mpmath.log(mpmath.betainc(tested / 2, rest / 2, 0, share, regularized=True))
    # The quadrature is good to about 1e-6 of the logarithm: 1.1e-6 has been seen.
    assert log[0] == pytest.approx(float(expected), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("squared_distance", [1e-6, 1.0, 30.0, 200.0, 333.0])
def test_the_chance_is_the_integral_also_where_it_underflows(squared_distance):
    tested, dimension, length, key = 113, 4096, 64.0, 15.0
    reach = squared_distance**0.5
    a, b = mpmath.mpf(tested - 1) / 2, mpmath.mpf(dimension - tested) / 2
    constant = mpmath.gamma(mpmath.mpf(dimension) / 2)
    constant /= mpmath.gamma(mpmath.mpf(dimension - 1) / 2) * mpmath.sqrt(mpmath.pi) * length

    def integrand(along):
        room = 1 - (along / length) ** 2
        share = (squared_distance - (along - key) ** 2) / (length**2 * room)
        # The first terms of the series suffice: the share is far below its mean.
        chance = mpmath.betainc(a, b, 0, share, regularized=True)
        return constant * room ** (mpmath.mpf(dimension - 3) / 2) * chance

    places = mpmath.linspace(key - reach, key + reach, 9)
    expected = float(mpmath.log(mpmath.quad(integrand, places)))
    log = log_p_value(np.array([squared_distance]), np.array([length]), key, tested, dimension)
    assert log[0] == pytest.approx(expected, rel=1e-5)
