"""What a user prints takes a few lines, and no wall of numbers."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import fixpoint
from fixpoint import monitors, proximal, splittings, stop
from fixpoint.iterators import (
    Adam,
    AdaptiveForwardStep,
    Anderson,
    Broyden,
    Extragradient,
    ForwardStep,
    Halpern,
    InertialKM,
    NewtonKrylov,
)
from fixpoint.summary import WIDTH, Summarised, described, summary, tensor_summary

LINES = 6
ITERATORS = (
    Adam(),
    AdaptiveForwardStep(),
    Anderson(),
    Broyden(),
    Extragradient(),
    ForwardStep(),
    Halpern(),
    InertialKM(),
    NewtonKrylov(),
)


def few_lines(thing) -> bool:
    """Neither printing it nor showing it at the prompt fills the screen."""
    shown = [repr(thing), str(thing)]
    return all(
        text.count("\n") < LINES
        and max(map(len, text.splitlines())) <= 2 * WIDTH
        and "tensor(" not in text
        for text in shown
    )


@pytest.fixture(scope="module")
def solution():
    operator = fixpoint.as_operator(lambda z: z - 1, cocoercivity=1.0)
    zero = torch.ones(7, 3, 5)
    return fixpoint.solve(
        operator,
        torch.zeros(7, 3, 5),
        ForwardStep(step_size=0.5),
        monitors=(
            monitors.Cocoercivity(),
            monitors.Convergence(),
            monitors.Fejer(zero=zero),
            monitors.ForwardStepTheorem(step_size=0.5, cocoercivity=1.0, zero=zero),
        ),
    )


def test_a_solution_prints_in_a_few_lines(solution):
    assert few_lines(solution)
    assert str(solution).startswith("7 rows, ")
    assert "largest residual" in str(solution)
    assert "CONVERGED" in repr(solution)


def test_a_history_prints_its_shape(solution):
    assert few_lines(solution.history)
    iterations = len(solution.history.residual_norm)
    assert f"residual_norm=float32[{iterations}, 7]" in repr(solution.history)


def test_the_reports_of_monitors_print_in_a_few_lines(solution):
    cocoercivity, convergence, fejer, theorem = solution.monitors
    for report in (cocoercivity, convergence, fejer):
        assert few_lines(report)
        assert repr(report).startswith(type(report).__name__)
    assert repr(theorem) == "TheoremReport(theorem 1 (forward step): 7 claims, 7 certified)"


def test_a_certificate_shows_its_verdicts_at_the_prompt_and_its_claims_in_print(solution):
    certificate = solution.certificate
    assert (
        repr(certificate)
        == "Certificate(theorem 1 (forward step): 7 claims, 7 certified; 0 remarks)"
    )
    assert "0 < rho < 2 beta" in str(certificate)
    assert str(solution.monitors[3]) == str(certificate)
    assert repr(fixpoint.Certificate(())) == "Certificate(no theorem: 0 claims; 0 remarks)"


def test_a_claim_prints_in_a_line(solution):
    claim = solution.certificate["step size"]
    assert few_lines(claim)
    assert repr(claim).startswith(
        "Claim(theorem 1 (forward step), hypothesis, step size: certified (7 rows); least margin"
    )


@pytest.mark.parametrize("iterator", ITERATORS, ids=lambda each: type(each).__name__)
def test_the_state_of_every_iterator_prints_in_a_few_lines(iterator):
    operator = fixpoint.as_operator(lambda z: torch.atan(2 * z))
    state = iterator.init(operator, torch.ones(5, 4, 3))
    for _ in range(4):
        state = iterator.step(operator, state)
    assert few_lines(state)
    assert repr(state).startswith(f"{type(state).__name__}(")
    assert "z=float32[5, 4, 3]" in repr(state)


def test_an_iterate_prints_in_a_line():
    seen = []
    operator = fixpoint.as_operator(lambda z: z - 1)
    fixpoint.solve(operator, torch.zeros(5, 3), ForwardStep(step_size=0.5), callback=seen.append)
    assert few_lines(seen[1])
    assert repr(seen[1]).startswith("Iterate(iteration 1, 5 rows, z float32[5, 3], residual norms")


def test_a_recommendation_and_a_checkpoint_print_in_a_few_lines(tmp_path):
    operator = fixpoint.as_operator(lambda z: torch.atan(z - 1))
    recommendation = fixpoint.recommend(operator, torch.zeros(6, 50))
    assert few_lines(recommendation)
    assert "z=float32[6, 50]" in repr(recommendation)
    assert few_lines(fixpoint.Checkpoint(path=tmp_path / "run.safetensors"))


def test_what_holds_tensors_of_the_user_prints_their_shapes():
    data = proximal.RowParameter(torch.ones(8, 40))
    for thing in (
        data,
        proximal.L1(data),
        splittings.ForwardBackward(proximal.SquaredL2(1.0, data), proximal.L1(0.1), 0.5),
        monitors.Fejer(zero=torch.ones(8, 40)),
        stop.Stagnation(),
    ):
        assert few_lines(thing)
    assert "float32[8, 40]" in repr(proximal.L1(data))


@pytest.mark.parametrize(
    ("tensor", "shown"),
    [
        (torch.zeros(2, 4, 8, 8), "float32[2, 4, 8, 8]"),
        (torch.zeros(0, 3), "float32[0, 3]"),
        (torch.tensor(0.123456), "0.1235"),
        (torch.tensor([1, 2, 3]), "[1, 2, 3]"),
        (torch.tensor([]), "[]"),
        (torch.arange(10), "int64[10] from 0 to 9"),
        (torch.tensor([True] * 3 + [False] * 4), "bool[7] with 3 true"),
        (torch.zeros(9, dtype=torch.bfloat16), "bfloat16[9] from 0 to 0"),
        (torch.zeros(9, dtype=torch.complex64), "complex64[9]"),
        (torch.zeros(9, device="meta"), "float32[9] on meta"),
        (torch.tensor([1.0, float("nan")]), "[1, nan]"),
    ],
)
def test_a_tensor_is_its_dtype_and_shape_or_its_few_numbers(tensor, shown):
    assert tensor_summary(tensor) == shown


def test_a_tensor_inside_of_a_transform_is_its_shape():
    shown = []

    def function(x: Tensor) -> Tensor:
        shown.append(tensor_summary(x))
        return x.sum()

    torch.func.vmap(function)(torch.ones(3, 9))
    assert shown == ["float32[9]"]


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Report(Summarised):
    number: float
    parts: tuple
    named: dict


def test_a_summary_is_short_whatever_the_fields_are():
    pair = Pair(torch.ones(2, 9), torch.ones(2, 9))
    report = Report(1 / 3, (pair, "x" * 1000), {"a": torch.ones(5, 5), "b": [torch.ones(9, 9)] * 7})
    assert repr(report) == summary(report)
    assert few_lines(report)
    assert "number=0.333333" in repr(report)
    assert "Pair(...)" in repr(report)
    assert "'b': 7 x float32[9, 9]" in repr(report)
    assert described((1, 2, 3, 4, 5)) == "(1, 2, 3, 4, 5 in all)"
    assert described((1,)) == "(1,)"


@dataclass(frozen=True)
class Wide(Summarised):
    a: str
    b: str
    c: str
    d: str
    e: str
    f: str
    g: str
    h: str


def test_fields_that_do_not_fit_are_counted():
    wide = Wide(*["x" * 70] * 8)
    assert few_lines(wide)
    assert "and 4 more fields" in repr(wide)


class Spoken(Report):
    def __repr__(self) -> str:
        return "in its own words"


def test_a_class_may_have_a_repr_of_its_own():
    assert repr(Spoken(1.0, (), {})) == "in its own words"


def test_what_is_no_dataclass_keeps_the_repr_of_objects():
    class Rule(Summarised):
        pass

    assert "Rule object at" in repr(Rule())
