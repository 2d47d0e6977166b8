"""The operations on operators, as methods that `Operator` inherits.

The classes of the results are in `fixpoint.algebra`, imported at the first use; their constants
follow from `fixpoint.calculus`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from fixpoint.constants.region import Region
    from fixpoint.operator import Operator


class OperatorAlgebra:
    """Scaling, sums, composition, inverse, resolvent; for T and S below, operators.

    The constants of a result follow by the sharp rule where there is one, and are None where
    nothing is known. A result acts on what T acts on: a tensor with the batch first, or a tree of
    them.
    """

    def __mul__(self: Any, factor: float) -> Operator:
        """factor * T, z -> factor * T z, for a finite number."""
        from fixpoint.algebra.linear import combination

        if not _is_number(factor):
            return NotImplemented
        return combination(self, 0.0, float(factor))

    __rmul__ = __mul__

    def __truediv__(self: Any, divisor: float) -> Operator:
        """T / divisor, z -> T z / divisor, for a number that is not 0."""
        return NotImplemented if not _is_number(divisor) else self * (1 / divisor)

    def __neg__(self: Any) -> Operator:
        """-T. Of the constants it keeps only the Lipschitz constant; `S - T` keeps more."""
        return self * -1.0

    def __add__(self: Any, other: Any) -> Operator:
        """T + S, or T + b: z -> T z + b for per-row values b, of the shape of z."""
        from fixpoint.algebra.linear import Shifted, Sum
        from fixpoint.operator import Operator

        if isinstance(other, Operator):
            return Sum(self, other)
        return Shifted(self, other) if _is_per_row(other) else NotImplemented

    def __radd__(self: Any, other: Any) -> Operator:
        return self + other if _is_per_row(other) else NotImplemented

    def __sub__(self: Any, other: Any) -> Operator:
        """T - S, or T - b: z -> T z - b for per-row values b."""
        from fixpoint.algebra.linear import Shifted, Sum, negative
        from fixpoint.operator import Operator

        if isinstance(other, Operator):
            return Sum(self, -other)
        return Shifted(self, negative(other)) if _is_per_row(other) else NotImplemented

    def __rsub__(self: Any, other: Any) -> Operator:
        return -self + other if _is_per_row(other) else NotImplemented

    def __matmul__(self: Any, inner: Operator) -> Operator:
        """The composition T @ S, z -> T(S z)."""
        from fixpoint.algebra.composed import Composition
        from fixpoint.operator import Operator

        return Composition(self, inner) if isinstance(inner, Operator) else NotImplemented

    @property
    def complement(self: Any) -> Operator:
        """I - T, the fixed-point map of T."""
        from fixpoint.algebra.linear import combination

        return combination(self, 1.0, -1.0)

    def relaxed(self: Any, relaxation: float) -> Operator:
        """relaxation * T, with a relaxation above 0: the zeros stay.

        Its fixed-point map is (1 - relaxation) I + relaxation (I - T).

        Raises:
            ValueError: the relaxation is not above 0 and finite.
        """
        _check_above_0("relaxation", relaxation)
        return self * relaxation

    def translated(self: Any, shift: Any) -> Operator:
        """z -> T(z - shift): the zeros move by `shift`, per-row values of the shape of z."""
        from fixpoint.algebra.linear import TranslatedOperator

        return TranslatedOperator(self, shift)

    def after(self: Any, inner: Operator) -> Operator:
        """I - (I - T)(I - S) for S = `inner`: one fixed-point step of S, then one of T."""
        from fixpoint.algebra.composed import Succession

        return Succession(self, inner)

    def inverse(self: Any) -> Operator:
        """The inverse of T, where it is known.

        It is known for `synthetic.Affine` and what is made of it, for the subdifferential of a
        function with a smooth conjugate, and for multiples, shifts, compositions, products and
        inverses of operators with known inverse.

        Raises:
            TypeError: the inverse is not known; `resolvent` may be. ValueError: it does not exist.
        """
        from fixpoint.algebra.inverse import inverse

        return inverse(self)

    def resolvent(
        self: Any, step: float, *, tolerance: float | None = None, max_iterations: int = 1000
    ) -> Operator:
        """J = (I + step T)^{-1}.

        In closed form for affine operators and for subdifferentials, whose resolvent is the
        proximal operator, and for multiples, shifts, translations, products, inverses and Yosida
        regularisations of what has one. Otherwise u + step T u = z is solved for every row, by
        `Anderson`, to a residual of at most tolerance (1 + ||u||); the error is at most 1/(1 + step
        mu) times that. It needs a Lipschitz constant L, and monotonicity or step L < 1. A row that
        does not reach the tolerance comes back as NaN, unless rounding stops it; `evaluate`
        measures `inner_residual` and `inner_evaluations`. It can be differentiated, as by
        `fixpoint.implicit`.

        Args:
            step: above 0.
            tolerance: of the iterative resolvent, above 0; None: closed forms only.
            max_iterations: of the iterative resolvent.

        Raises:
            TypeError: there is no closed form, and no tolerance was given.
            ValueError: a number is out of range; too little is known for an iterative resolvent.
        """
        from fixpoint.algebra.resolvent import resolvent

        return resolvent(self, step, tolerance, max_iterations)

    def reflected_resolvent(
        self: Any, step: float, *, tolerance: float | None = None, max_iterations: int = 1000
    ) -> Operator:
        """2 J - I, with J the resolvent; arguments as there."""
        from fixpoint.algebra.linear import combination

        inner = self.resolvent(step, tolerance=tolerance, max_iterations=max_iterations)
        return combination(inner, -1.0, 2.0)

    def yosida(
        self: Any, step: float, *, tolerance: float | None = None, max_iterations: int = 1000
    ) -> Operator:
        """(I - J) / step, with J the resolvent, arguments as there: the Yosida regularisation.

        Single-valued and 1/step-Lipschitz for a monotone T, with the same zeros.
        """
        from fixpoint.algebra.linear import combination

        inner = self.resolvent(step, tolerance=tolerance, max_iterations=max_iterations)
        return combination(inner, 1 / step, -1 / step)

    def _region(self: Any) -> Region:
        """The region that the calculus of constants knows of T."""
        from fixpoint.constants.region import Region

        return Region.of(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_per_row(value: Any) -> bool:
    return isinstance(value, (Tensor, tuple, dict))


def _check_above_0(name: str, value: float) -> None:
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ValueError(f"need 0 < {name} < inf, got {value}")
