"""Checks one by one: each is a test case with an id of its own, and none hides another."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fixpoint
from fixpoint.monitors import Convergence
from fixpoint.testing import (
    BrokenProperty,
    Check,
    check_iterator,
    check_monitor,
    check_operator,
    iterator_checks,
    ladder,
    monitor_checks,
    operator_checks,
)

LIES_TWICE = """
import pytest
from fixpoint import ForwardStep, State
from fixpoint.testing import iterator_checks


class LiesTwice(ForwardStep):
    def step(self, operator, state):
        z = state.z - self.step_size * state.residual
        return State(z=z, point=z, residual=0.5 * operator(z))  # damped

    def statistics(self, state):
        return {"rows": state.z.mean()}  # not one value a row


@pytest.mark.parametrize("check", iterator_checks(LiesTwice()))
def test_my_iterator(check):
    check()
"""

ALL = {
    "iterator": lambda: iterator_checks(fixpoint.ForwardStep(), changes={"step_size": 0.5}),
    "operator": lambda: operator_checks(ladder()[0].operator),
    "monitor": lambda: monitor_checks(Convergence(), certified=lambda report: False),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Outcomes by test id of a file that a user would write, run by pytest."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_mine.py").write_text(LIES_TWICE, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(fixpoint.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^test_mine.py::test_my_iterator\[(\w+)\] (\w+)", run.stdout, re.MULTILINE)
    assert found, run.stdout + run.stderr
    return dict(found)


def test_every_property_is_a_test_case_of_its_own(outcomes):
    names = [check.__name__ for check in iterator_checks(fixpoint.ForwardStep())]
    assert list(outcomes) == names
    assert names[:2] == ["options_are_frozen", "init_starts_at_z"]


def test_a_broken_property_does_not_hide_another(outcomes):
    assert outcomes["residual_is_T_at_point"] == "FAILED"
    assert outcomes["state_has_the_batch_first"] == "FAILED"
    assert outcomes["options_are_frozen"] == outcomes["rows_are_independent"] == "PASSED"


@pytest.mark.parametrize("kind", ALL)
def test_ids_are_stable_unique_identifiers_of_the_properties(kind):
    checks, again = ALL[kind](), ALL[kind]()
    names = [check.__name__ for check in checks]
    assert names == [check.__name__ for check in again]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert names == [re.sub(r"\W+", "_", check.property) for check in checks]


@pytest.mark.parametrize(
    ("checks", "check"),
    [
        (iterator_checks, check_iterator),
        (operator_checks, check_operator),
        (monitor_checks, check_monitor),
    ],
    ids=["iterator", "operator", "monitor"],
)
def test_both_forms_take_the_same_arguments(checks, check):
    assert inspect.signature(checks).parameters == inspect.signature(check).parameters


def test_nothing_is_run_before_a_check_is_called():
    class Refuses(fixpoint.ForwardStep):
        def init(self, operator, z):
            raise RuntimeError("evaluated")

    def refuse(z):
        raise RuntimeError("evaluated")

    class RefusesToWatch(Convergence):
        def start(self, iterate):
            raise RuntimeError("watched")

    for checks in (
        iterator_checks(Refuses()),
        operator_checks(fixpoint.as_operator(refuse), torch.zeros(2, 1)),
        monitor_checks(RefusesToWatch()),
    ):
        with pytest.raises(RuntimeError, match=r"evaluated|watched"):
            checks[1]()


def test_only_declared_constants_and_known_zeros_and_rates_are_checked():
    b = torch.zeros(2, 1, dtype=torch.float64)
    plain = fixpoint.as_operator(torch.sin)
    names = [check.property for check in operator_checks(plain, b)]
    assert not [name for name in names if name.startswith("declared")]
    declared = fixpoint.as_operator(torch.sin, lipschitz=1.0)
    assert {check.property for check in operator_checks(declared, b)} - set(names) == {
        "declared lipschitz holds"
    }
    assert "declared zero is a zero" in [check.property for check in ALL["operator"]()]
    assert "proven rate" in [check.property for check in ALL["iterator"]()]
    anderson = iterator_checks(fixpoint.Anderson())
    assert "proven rate" not in [check.property for check in anderson]


def test_a_check_raises_what_it_finds_and_runs_without_gradients():
    def find():
        assert not torch.is_grad_enabled()
        return BrokenProperty("a b, c", 1, "detail", "example")

    check = Check("a b, c", find)
    assert (check.property, check.__name__, repr(check)) == ("a b, c", "a_b_c", "Check('a b, c')")
    with pytest.raises(BrokenProperty, match=r"^a b, c: broken by 1"):
        check()
    assert Check("a", lambda: None)() is None
