"""The properties that every iterator must have, as checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fixpoint.iterator import Iterator
from fixpoint.testing.check import Check
from fixpoint.testing.iterator_violations import (
    VIOLATIONS,
    Runs,
    check_options,
    does_not_converge,
    is_not_frozen,
    proven_bound,
    rate_is_missed,
    scale_equivariance_fails,
    search_unused_option,
    shape_or_dtype_changes,
    succeeds_without_a_zero,
)
from fixpoint.testing.problems import Problem, ladder, runaways


def iterator_checks(
    iterator: Iterator[Any],
    problems: Sequence[Problem] | None = None,
    *,
    cocoercivity: float | None = None,
    changes: Mapping[str, object] | None = None,
    scale_equivariant: bool = False,
    rtol: float = 1e-4,
    max_iterations: int = 5000,
) -> list[Check]:
    """Checks of an iterator, one a property, each on the smallest problems first.

        @pytest.mark.parametrize("check", iterator_checks(MyIterator(step_size=0.5)))
        def test_my_iterator(check):
            check()

    Nothing is run before a check is called. The properties, by the names that a failure gives:

    - "options are frozen": a frozen dataclass, which a run does not change
    - "init starts at z": `point` is z, and z is not modified
    - "old state is untouched" by a step, bit for bit
    - "steps are pure": the same state gives the same next one
    - "residual is T at point": bit for bit, undamped; `point` is the tensor T was given
    - "a refused trial is no iterate": if a state has `accepted`, then z is the point in accepted
      rows, and the z of the state before in the others
    - "no success without a zero": on `runaways()`, at tolerances from 1e-2 to 1e-8
    - "state has the batch first": every tensor, and none in a list
    - "rows are independent": a row alone runs as it does in the batch, bit for bit; a row of NaN
      changes no other row
    - "select and step commute": bit for bit
    - "shape, dtype and device are kept", in float64, float32, bfloat16 and float16
    - "rows may have any shape": (batch, 2, 2, 1) runs as (batch, 4) does, up to rounding
    - "shift equivariance": shifting zero and start shifts the iterates, up to rounding
    - "scale equivariance", if `scale_equivariant`: Adam, for example, does not have it
    - "option NAME changes the iterates", for every option in `changes`
    - "converges": on every problem, and the reported residual is the true one
    - "proven rate": on problems with known cocoercivity and zero, for `ForwardStep`, `InertialKM`
      and any iterator with a method `residual_bound(distance, cocoercivity, iterations)`. The
      method bounds the least `||T point||` of `iterations` steps from a start at `distance` from
      a zero

    Args:
        iterator: an instance, with admissible settings.
        problems: `ladder(cocoercivity)` unless given. The checks in other dtypes always take the
            ladder.
        cocoercivity: beta of the ladder's problems. Unless given, the iterator's own
            `cocoercivity`, or else its `step_size`, or else 1.
        changes: another admissible value for every option that must change the iterates.
        scale_equivariant: whether scaling zero, start and T must scale the iterates.
        rtol, max_iterations: for "converges"; see `solve`.

    Raises:
        TypeError, ValueError: the arguments are not usable.
    """
    if not isinstance(iterator, Iterator):
        raise TypeError(f"expected an Iterator instance, as ForwardStep(); got {iterator!r}")
    if cocoercivity is None:
        declared = getattr(iterator, "cocoercivity", getattr(iterator, "step_size", 1.0))
        cocoercivity = float(declared)
    default_problems = ladder(cocoercivity)
    problems = default_problems if problems is None else list(problems)
    if not problems:
        raise ValueError("there is no problem to check the iterator on")
    changes = changes or {}
    check_options(iterator, changes)

    runs = Runs(iterator, rtol, max_iterations)
    checks = [runs.check("options are frozen", is_not_frozen, problems[:1])]
    for name, violation in VIOLATIONS:
        known = violation is shape_or_dtype_changes  # a user's operator may have one dtype
        checks.append(runs.check(name, violation, default_problems if known else problems))
    if scale_equivariant:
        checks.append(runs.check("scale equivariance", scale_equivariance_fails, problems))
    for option, value in changes.items():
        search = partial(search_unused_option, iterator, problems, option, value)
        checks.append(Check(f"option {option} changes the iterates", search))
    checks.append(runs.check("no success without a zero", succeeds_without_a_zero, runaways()))
    checks.append(runs.check("converges", does_not_converge, problems))
    if any(proven_bound(iterator, problem) for problem in problems):
        checks.append(runs.check("proven rate", rate_is_missed, problems))
    return checks


def check_iterator(
    iterator: Iterator[Any],
    problems: Sequence[Problem] | None = None,
    *,
    cocoercivity: float | None = None,
    changes: Mapping[str, object] | None = None,
    scale_equivariant: bool = False,
    rtol: float = 1e-4,
    max_iterations: int = 5000,
) -> None:
    """Call all `iterator_checks`, which has the properties and the arguments.

    Raises:
        BrokenProperty: an AssertionError that names the first property that is broken, and the
            smallest problem.
        TypeError, ValueError: the arguments are not usable.
    """
    for check in iterator_checks(
        iterator,
        problems,
        cocoercivity=cocoercivity,
        changes=changes,
        scale_equivariant=scale_equivariant,
        rtol=rtol,
        max_iterations=max_iterations,
    ):
        check()
