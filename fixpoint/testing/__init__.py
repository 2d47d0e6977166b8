"""Test a solver by its properties: drawn problems, and checks that every implementation must pass.

    from fixpoint.testing import check_iterator, iterator_checks
    check_iterator(MyIterator(step_size=0.5))

`check_operator`, `check_iterator` and `check_monitor` return None, or raise a `BrokenProperty` (an
AssertionError) that names the property and the smallest example that was found to break it.

    @pytest.mark.parametrize("check", iterator_checks(MyIterator(step_size=0.5)))
    def test_my_iterator(check):
        check()

`operator_checks`, `iterator_checks` and `monitor_checks` return the same checks one by one, so that
a broken property does not hide the others.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise ImportError(
        "fixpoint.testing draws its problems with Hypothesis, which is not installed: "
        "pip install 'fixpoint-torch[test]' (or: pip install hypothesis)"
    ) from error

from fixpoint.testing._check_iterator import check_iterator, iterator_checks
from fixpoint.testing._check_monitor import check_monitor, monitor_checks
from fixpoint.testing._check_operator import check_operator, operator_checks
from fixpoint.testing.broken_property import BrokenProperty
from fixpoint.testing.check import Check
from fixpoint.testing.known_operator import KnownOperator, Planes, Separable
from fixpoint.testing.linear_autoencoder import LinearAutoencoder
from fixpoint.testing.problems import Problem, ladder, outside, runaways
from fixpoint.testing.strategies import autoencoder_pairs, iterators, operators, starting_points

__all__ = [
    "BrokenProperty",
    "Check",
    "KnownOperator",
    "LinearAutoencoder",
    "Planes",
    "Problem",
    "Separable",
    "autoencoder_pairs",
    "check_iterator",
    "check_monitor",
    "check_operator",
    "iterator_checks",
    "iterators",
    "ladder",
    "monitor_checks",
    "operator_checks",
    "operators",
    "outside",
    "runaways",
    "starting_points",
]
