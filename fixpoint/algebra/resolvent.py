"""Resolvents, in closed form or by an inner solver that registers itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import Tensor
from torch.utils._pytree import tree_map

from fixpoint.algebra._subdifferential import Prox, Subdifferential
from fixpoint.algebra.affine import affine_form, combined, inverse_of
from fixpoint.algebra.composed import Product
from fixpoint.algebra.inverse import Inverse
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
from fixpoint.operator_algebra import _check_above_0

# From (T, step, tolerance, max_iterations) to an operator with the values of the resolvent.
InnerSolver = Callable[[Operator, float, float, int], Operator]
_inner_solver: list[InnerSolver] = []


def solve_with(inner_solver: InnerSolver) -> None:
    """Register how resolvents without a closed form are computed."""
    _inner_solver[:] = [inner_solver]


class Resolvent(Computed):
    """J = (I + step T)^{-1}.

    Args:
        inner: T.
        step: above 0.
        compute: an operator with the values of J.
    """

    def __init__(self, inner: Operator, step: float, compute: Operator) -> None:
        self.inner, self.step, self.compute = inner, step, compute
        self._know(self._region().constants())

    def select(self, rows: Tensor) -> Operator:
        return Resolvent(self.inner.select(rows), self.step, self.compute.select(rows))

    def _region(self) -> Region:
        return self.inner._region().resolvent(self.step)


def resolvent(
    operator: Operator, step: float, tolerance: float | None, max_iterations: int
) -> Operator:
    """See `Operator.resolvent`."""
    _check_above_0("step", step)
    if tolerance is not None:
        _check_above_0("tolerance", tolerance)

    def of(inner: Operator, size: float) -> Operator:
        return inner.resolvent(size, tolerance=tolerance, max_iterations=max_iterations)

    def made(compute: Operator) -> Operator:
        return Resolvent(operator, step, compute)

    form = affine_form(operator)
    if form is not None:
        return made(inverse_of(combined(form, 1.0, step)))
    match operator:
        case Subdifferential():
            return made(Prox(operator.function, step))
        case Shifted():
            # u + s (T u + b) = z
            shift = tree_map(lambda leaf: step * leaf, operator.shift)
            return made(TranslatedOperator(of(operator.inner, step), shift))
        case TranslatedOperator():
            # u - b + s T(u - b) = z - b
            moved = TranslatedOperator(of(operator.inner, step), operator.shift)
            return made(Shifted(moved, operator.shift))
        case Product():
            return operator.mapped(lambda block: of(block, step))
        case Inverse():
            # z - s J_{T/s}(z/s) (Bauschke & Combettes, proposition 23.20)
            dual = Dilated(of(operator.forward, 1 / step), 1 / step)
            return made(combination(dual, 1.0, -step))
    identity, factor, inner = _parts(operator)
    own = 1 + step * identity
    both = own + step * factor
    if isinstance(inner, Resolvent) and own > 0 and both > 0:
        # u + s (a u + b v) = z, v = J u, u = v + g T v: (1 + s a + s b) v + (1 + s a) g T v = z.
        # With a = 1/g, b = -1/g it is the rule for Yosida's (Bauschke & Combettes, prop. 23.7).
        v = Dilated(of(inner.inner, own * inner.step / both), 1 / both)
        return made(combination(v, 1 / own, -step * factor / own))
    if inner is not operator and factor > 0 and own > 0:
        # (1 + s a) u + s b T u = z
        return made(Dilated(of(inner, step * factor / own), 1 / own))
    if tolerance is None:
        raise TypeError(
            f"the resolvent of {type(operator).__name__} has no closed form here: give a tolerance "
            "to solve for it, as resolvent(step, tolerance=1e-8)"
        )
    if not _inner_solver:
        importlib.import_module("fixpoint.inner_solves.inner_solve")
    return made(_inner_solver[0](operator, step, tolerance, max_iterations))


def _parts(operator: Operator) -> tuple[float, float, Operator]:
    """a, b and T of a I + b T."""
    if isinstance(operator, Combination):
        return operator.identity, operator.factor, operator.inner
    return 0.0, 1.0, operator
