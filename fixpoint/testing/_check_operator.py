"""The properties that every operator must have.

A function that checks a property returns a description of its violation, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.operator import Operator
from fixpoint.testing.broken_property import BrokenProperty, format_tensor
from fixpoint.testing.check import Check
from fixpoint.testing.declared_constants import INEQUALITIES, PointPair, refutation
from fixpoint.testing.trees import first_difference, not_per_row
from fixpoint.trees.rows import expand_rows, select_rows


def operator_checks(
    operator: Operator,
    z: Float[Tensor, "batch *shape"] | None = None,
    *,
    scale: float = 1.0,
    row_tolerance: float = 0.0,
    rounding: float | None = None,
    examples: int = 36,
) -> list[Check]:
    """Checks of an operator, one a property, each at pairs of points a, b around `z`.

        @pytest.mark.parametrize("check", operator_checks(my_operator, z))
        def test_my_operator(check):
            check()

    The simplest pairs come first. Nothing is evaluated before a check is called. The properties,
    by the names that a failure gives:

    - "input is not modified"
    - "shape, dtype and device are kept"
    - "evaluations are repeatable": equal bit for bit; `evaluate` agrees with calling
    - "rows are independent": a row alone has the value that it has in the batch; a row that
      is changed from a to b, or to NaN, changes no other row
    - "declared cocoercivity holds", and likewise lipschitz, strong_monotonicity, averagedness,
      where they are declared: on sampled pairs of points, which power iteration turns towards the
      worst directions. Finitely many pairs can refute a constant, but never prove it
    - "select agrees": `select(rows)` is the same map, with the same constants, on those rows
    - "declared zero is a zero", if the operator has an attribute `zero`

    Args:
        operator: T.
        z: (batch, *shape), the points to sample around, at least two rows. Default: the
            operator's `zero`.
        scale: typical distance of the samples from `z`, as the Euclidean norm of a row.
        row_tolerance: allowed relative difference between a row alone and the row in a batch.
            0 asks for equality bit for bit; matrix products and convolutions need about 1e-5 in
            float32.
        rounding: relative error of a value of T. Default: 64 units in the last place of the dtype
            of `z`. A network that computes in 16 bits for a float32 `z` needs a larger one.
        examples: number of pairs for each property, first along the first axis, then in random
            directions.

    Raises:
        TypeError, ValueError: no points to sample around, or fewer than two rows.
    """
    if not isinstance(operator, Operator):
        raise TypeError(f"expected an Operator, got {operator!r}; wrap it with as_operator")
    center = getattr(operator, "zero", None) if z is None else z
    if not isinstance(center, Tensor):
        raise ValueError("give a point z, (batch, *shape): the operator has no attribute `zero`")
    if center.dim() < 2 or center.shape[0] < 2:
        raise ValueError(
            "row independence can be checked only with two rows or more: z must be "
            f"(batch, *shape) with batch >= 2, got {tuple(center.shape)}"
        )
    eps = torch.finfo(center.dtype).eps
    trial = _Trial(operator, center, scale, row_tolerance, rounding or 64 * eps)
    properties: list[tuple[str, _Violation]] = [
        ("input is not modified", _input_is_modified),
        ("shape, dtype and device are kept", _shape_or_dtype_changes),
        ("evaluations are repeatable", _value_is_not_repeatable),
        ("rows are independent", _rows_are_dependent),
        *(
            (f"declared {name} holds", partial(_constant_fails, name))
            for name in INEQUALITIES
            if getattr(operator, name) is not None
        ),
        ("select agrees", _select_is_another_map),
    ]
    checks = [
        Check(name, partial(_search, name, violation, trial, examples))
        for name, violation in properties
    ]
    zero = getattr(operator, "zero", None)
    if isinstance(zero, Tensor) and zero.shape == center.shape:
        checks.append(Check("declared zero is a zero", partial(_search_zero, trial, zero)))
    return checks


def check_operator(
    operator: Operator,
    z: Float[Tensor, "batch *shape"] | None = None,
    *,
    scale: float = 1.0,
    row_tolerance: float = 0.0,
    rounding: float | None = None,
    examples: int = 36,
) -> None:
    """Call all `operator_checks`, which has the properties and the arguments.

    Raises:
        BrokenProperty: an AssertionError that names the first property that is broken, and the
            simplest pair.
        TypeError, ValueError: no points to sample around, or fewer than two rows.
    """
    for check in operator_checks(
        operator,
        z,
        scale=scale,
        row_tolerance=row_tolerance,
        rounding=rounding,
        examples=examples,
    ):
        check()


@dataclass(frozen=True, eq=False)
class _Trial:
    operator: Operator
    center: Tensor
    scale: float
    row_tolerance: float
    rounding: float


@dataclass(frozen=True)
class _Sample:
    """Two points a and b = a + step * direction; seed 0 is the direction of the first axis."""

    seed: int
    offset: float
    step: float

    def points(self, trial: _Trial) -> tuple[Tensor, Tensor]:
        a = trial.center + trial.scale * self.offset * self._direction(trial.center, 0)
        return a, a + trial.scale * self.step * self._direction(trial.center, 1)

    def _direction(self, like: Tensor, which: int) -> Tensor:
        shape = (like.shape[0], like[0].numel())
        if self.seed == 0:
            flat = torch.eye(1, shape[1], dtype=torch.float64).expand(shape)
        else:
            generator = torch.Generator().manual_seed(2 * self.seed + which)
            flat = torch.randn(shape, generator=generator, dtype=torch.float64)
            flat = flat / flat.norm(dim=1, keepdim=True)
        return flat.reshape(like.shape).to(like)


_PAIRS = [(offset, step) for step in (1.0, 0.1, 0.001, 10.0) for offset in (0.0, 1.0, 10.0)]

_Violation = Callable[[_Trial, Tensor, Tensor], "str | None"]


def _search(
    name: str, violation: _Violation, trial: _Trial, examples: int
) -> BrokenProperty | None:
    """The failure at the first sample that violates the property, which is the simplest one."""
    for number in range(examples):
        seed, pair = divmod(number, len(_PAIRS))
        a, b = _Sample(seed, *_PAIRS[pair]).points(trial)
        detail = violation(trial, a, b)
        if detail:
            example = f"a = {format_tensor(a)}, b = {format_tensor(b)}"
            return BrokenProperty(name, trial.operator, detail, example)
    return None


def _input_is_modified(trial: _Trial, a: Tensor, b: Tensor) -> str | None:
    given = a.clone()
    trial.operator(given)
    trial.operator.evaluate(given)
    found = first_difference(a, given)
    return found and f"evaluating T changed its argument: {found}"


def _shape_or_dtype_changes(trial: _Trial, a: Tensor, b: Tensor) -> str | None:
    value = trial.operator(a)
    if (value.shape, value.dtype, value.device) == (a.shape, a.dtype, a.device):
        return None
    return (
        f"T returned {tuple(value.shape)} {value.dtype} on {value.device} for "
        f"{tuple(a.shape)} {a.dtype} on {a.device}"
    )


def _value_is_not_repeatable(trial: _Trial, a: Tensor, b: Tensor) -> str | None:
    value = trial.operator(a).clone()
    trial.operator(b)
    found = first_difference(value, trial.operator(a))
    if found:
        return f"T at one point, evaluated twice: {found}"
    evaluated, measured = trial.operator.evaluate(a)
    found = first_difference(value, evaluated)
    if found:
        return f"T(z) and evaluate(z): {found}"
    found = not_per_row(measured, a.shape[0])
    return found and f"of what evaluate measured, {found}"


def _rows_are_dependent(trial: _Trial, a: Tensor, b: Tensor) -> str | None:
    value = trial.operator(a)
    for row in range(len(a)):
        mask = expand_rows(torch.arange(len(a), device=a.device) == row, a)
        for other, words in ((b, "another point"), (torch.full_like(a, torch.nan), "NaN")):
            disturbed = trial.operator(torch.where(mask, other, a))
            found = first_difference(torch.where(mask, 0, value), torch.where(mask, 0, disturbed))
            if found:
                return f"row {row}, changed to {words}, changes another row: {found}"
    for row in range(len(a)):
        index = torch.tensor([row], device=a.device)
        alone = trial.operator.select(index)(a[index])
        text = _row_difference(trial, value[index], alone)
        if text:
            return f"row {row} of {len(a)}, in the batch and alone: {text}"
    return None


def _select_is_another_map(trial: _Trial, a: Tensor, b: Tensor) -> str | None:
    value = trial.operator(a)
    last = len(a) - 1
    for rows in ([*range(last, -1, -1)], [last], [last, 0]):
        index = torch.tensor(rows, device=a.device)
        selected = trial.operator.select(index)
        text = _row_difference(trial, select_rows(value, index), selected(select_rows(a, index)))
        if text:
            return f"T on the rows {rows}, selected after and before: {text}"
        again = torch.arange(len(rows) - 1, -1, -1, device=a.device)
        twice = selected.select(again)(select_rows(a, index[again]))
        text = _row_difference(trial, select_rows(value, index[again]), twice)
        if text:
            return f"T on the rows {rows}, reversed by a second select: {text}"
        for name in INEQUALITIES:
            after, before = getattr(selected, name), getattr(trial.operator, name)
            if after != before:
                return f"{name} is {before} on all rows and {after} on the rows {rows}"
    return None


def _row_difference(trial: _Trial, value: Tensor, other: Tensor) -> str | None:
    if trial.row_tolerance == 0 or value.shape != other.shape:
        return first_difference(value, other)
    difference = kernels.row_norm(value - other)
    allowed = trial.row_tolerance * (kernels.row_norm(value) + kernels.row_norm(other))
    if bool((difference <= allowed).all()):
        return None
    return f"they differ by {float(difference.max()):.3g}"


def _constant_fails(name: str, trial: _Trial, a: Tensor, b: Tensor) -> str | None:
    return refutation(trial.operator, name, a, b, trial.center, trial.rounding)


def _search_zero(trial: _Trial, zero: Tensor) -> BrokenProperty | None:
    pair = PointPair(trial.operator, zero, zero + trial.scale * torch.ones_like(zero))
    value = kernels.row_norm(pair.ta.double())
    if bool((value <= pair.error(trial.rounding, pair.slope, zero)).all()):
        return None
    return BrokenProperty(
        "declared zero is a zero",
        trial.operator,
        f"||T zero|| = {float(value.max()):.6g}",
        f"zero = {format_tensor(zero)}",
    )
