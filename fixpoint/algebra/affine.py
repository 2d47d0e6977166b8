"""The matrix of an affine operator, where it has one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.algebra.composed import Composition, Succession
from fixpoint.algebra.linear import (
    Combination,
    Computed,
    Dilated,
    IdentityOperator,
    Shifted,
    Sum,
    TranslatedOperator,
)
from fixpoint.operator import Operator
from fixpoint.synthetic import Affine, Cocoercive, quarter_turn


class AffineForm(NamedTuple):
    """T z = matrix z + offset, in float64. No matrix: a multiple of I; no offset: 0."""

    matrix: Float[Tensor, "size size"] | float
    offset: Float[Tensor, "batch size"] | None


def affine_form(operator: Operator) -> AffineForm | None:
    """The matrix and the offset of an operator on (batch, size); None where it has none."""
    match operator:
        case IdentityOperator():
            return AffineForm(1.0, None)
        case Affine():
            return _about(operator.matrix.double(), operator.zero)
        case Cocoercive() if operator.nonexpansive is quarter_turn and operator.zero.dim() == 2:
            identity = torch.eye(operator.zero.shape[1], dtype=torch.float64).to(
                operator.zero.device
            )
            turn = quarter_turn(identity).T
            return _about((identity - turn) / (2 * operator.beta), operator.zero)
        case Computed():
            return affine_form(operator.compute)
        case Combination() if operator.factor == 0:
            return AffineForm(operator.identity, None)
        case Combination():
            form = affine_form(operator.inner)
            return form and combined(form, operator.identity, operator.factor)
        # A shift that is a tree has no matrix: the rules of the parts apply.
        case Shifted() if isinstance(operator.shift, Tensor):
            form = affine_form(operator.inner)
            return form and _sum(form, AffineForm(0.0, operator.shift.double()))
        case TranslatedOperator() if isinstance(operator.shift, Tensor):
            form = affine_form(operator.inner)
            shift = AffineForm(1.0, -operator.shift.double())
            return form and _composition(form, shift)
        case Dilated():
            form = affine_form(operator.inner)
            return form and _composition(form, AffineForm(operator.factor, None))
        case Sum():
            forms = [affine_form(term) for term in operator.terms]
            total: AffineForm | None = AffineForm(0.0, None)
            for form in forms:
                total = None if form is None or total is None else _sum(total, form)
            return total
        case Composition():
            outer, inner = affine_form(operator.outer), affine_form(operator.inner)
            return outer and inner and _composition(outer, inner)
        case Succession():
            outer, inner = affine_form(operator.outer), affine_form(operator.inner)
            if outer is None or inner is None:
                return None
            return combined(
                _composition(combined(outer, 1.0, -1.0), combined(inner, 1.0, -1.0)), 1.0, -1.0
            )
    return None


def combined(form: AffineForm, identity: float, factor: float) -> AffineForm:
    """Of identity * I + factor * T."""
    return _sum(AffineForm(identity, None), _scaled(form, factor))


def inverse_of(form: AffineForm) -> Operator:
    """y -> matrix^{-1} (y - offset).

    Raises:
        ValueError: the matrix is singular to working precision.
    """
    if isinstance(form.matrix, float):
        if form.matrix == 0:
            raise ValueError("the operator is constant: it has no inverse")
        inverse: Operator = Combination(IdentityOperator(), 0.0, 1 / form.matrix)
    else:
        singular = torch.linalg.svdvals(form.matrix)
        if not float(singular[-1]) > 1e-14 * float(singular[0]):
            raise ValueError(
                f"the matrix has no inverse: its singular values run from {float(singular[0]):.3g} "
                f"down to {float(singular[-1]):.3g}"
            )
        inverse = Affine(torch.linalg.inv(form.matrix))
    return inverse if form.offset is None else TranslatedOperator(inverse, form.offset)


def _about(
    matrix: Float[Tensor, "size size"], zero: Float[Tensor, "batch size"] | None
) -> AffineForm:
    return AffineForm(matrix, None if zero is None else -_applied(matrix, zero.double()))


def _scaled(form: AffineForm, factor: float) -> AffineForm:
    return AffineForm(factor * form.matrix, None if form.offset is None else factor * form.offset)


def _sum(a: AffineForm, b: AffineForm) -> AffineForm:
    matrix = _added(a.matrix, b.matrix)
    if a.offset is None or b.offset is None:
        return AffineForm(matrix, a.offset if b.offset is None else b.offset)
    return AffineForm(matrix, a.offset + b.offset)


def _composition(outer: AffineForm, inner: AffineForm) -> AffineForm:
    if isinstance(outer.matrix, float) or isinstance(inner.matrix, float):
        matrix = outer.matrix * inner.matrix
    else:
        matrix = outer.matrix @ inner.matrix
    moved = None if inner.offset is None else _applied(outer.matrix, inner.offset)
    if moved is None or outer.offset is None:
        return AffineForm(matrix, outer.offset if moved is None else moved)
    return AffineForm(matrix, moved + outer.offset)


def _added(
    a: Float[Tensor, "size size"] | float, b: Float[Tensor, "size size"] | float
) -> Float[Tensor, "size size"] | float:
    if isinstance(a, float) and isinstance(b, float):
        return a + b
    if isinstance(a, float):
        a, b = b, a
    assert isinstance(a, Tensor)
    return (
        a + b * torch.eye(len(a), dtype=a.dtype, device=a.device)
        if isinstance(b, float)
        else (a + b)
    )


def _applied(
    matrix: Float[Tensor, "size size"] | float, rows: Float[Tensor, "batch size"]
) -> Float[Tensor, "batch size"]:
    if isinstance(matrix, float):
        return matrix * rows
    # A sum per row, not a matrix product: BLAS may order its sums by the size of the batch.
    return (matrix * rows.unsqueeze(1)).sum(2)
