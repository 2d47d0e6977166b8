"""Inverses, where they are known."""

from __future__ import annotations

from torch import Tensor

from fixpoint.algebra.affine import affine_form, inverse_of
from fixpoint.algebra.composed import Composition, Product
from fixpoint.algebra.linear import (
    Combination,
    Computed,
    Dilated,
    Shifted,
    TranslatedOperator,
    combination,
)
from fixpoint.constants.region import Region
from fixpoint.operator import Operator


class Inverse(Computed):
    """The inverse of T.

    Args:
        forward: T.
        compute: an operator with the values of the inverse.
    """

    def __init__(self, forward: Operator, compute: Operator) -> None:
        self.forward, self.compute = forward, compute
        self._know(self._region().constants())

    def select(self, rows: Tensor) -> Operator:
        return Inverse(self.forward.select(rows), self.compute.select(rows))

    def _region(self) -> Region:
        return self.forward._region().inverse()


def inverse(operator: Operator) -> Operator:
    """See `Operator.inverse`."""
    from fixpoint.algebra._subdifferential import Subdifferential
    from fixpoint.algebra.resolvent import Resolvent

    form = affine_form(operator)
    if form is not None:
        return Inverse(operator, inverse_of(form))
    match operator:
        case Inverse():
            return operator.forward
        case Resolvent():
            return combination(operator.inner, 1.0, operator.step)
        case Subdifferential():
            return Subdifferential(operator.function.conjugate)
        case Shifted():
            moved = TranslatedOperator(operator.inner.inverse(), operator.shift)
            return Inverse(operator, moved)
        case TranslatedOperator():
            return Inverse(operator, Shifted(operator.inner.inverse(), operator.shift))
        case Combination() if operator.identity == 0 and operator.factor != 0:
            return Inverse(operator, Dilated(operator.inner.inverse(), 1 / operator.factor))
        case Dilated():
            return Inverse(
                operator, combination(operator.inner.inverse(), 0.0, 1 / operator.factor)
            )
        case Composition():
            return Inverse(
                operator, Composition(operator.inner.inverse(), operator.outer.inverse())
            )
        case Product():
            return operator.mapped(lambda block: block.inverse())
    raise TypeError(
        f"the inverse of {type(operator).__name__} is not known; `resolvent(step)` is the inverse "
        "of I + step T, and may be solved for"
    )
