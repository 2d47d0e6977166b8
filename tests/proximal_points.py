"""Points and steps at which proximal operators are tried."""

from hypothesis import given, settings
from hypothesis import strategies as st

points = {"seed": st.integers(0, 2**16), "scale": st.sampled_from([0.01, 1.0, 30.0])}


steps = {"step": st.sampled_from([0.02, 0.3, 1.0, 4.0, 50.0])}


def with_points(**more):
    def decorate(test):
        return settings(max_examples=6, deadline=None)(given(**points, **more)(test))

    return decorate
