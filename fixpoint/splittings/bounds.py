"""What is known of the parts of a splitting: their constants, and the steps that these allow.

`Bounds` holds the constants of one part. In a scaled relative graph (Ryu, Hannah & Yin, Math.
Program. 2022) they are discs about the real axis, and the rates below are distances in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch

from fixpoint.algebra.affine import affine_form
from fixpoint.constants.region import Region
from fixpoint.operator import Operator
from fixpoint.proximal import Function, SeparableSum
from fixpoint.splittings.steps import BackwardPart, ForwardPart, Proximable, Resolvable


@dataclass(frozen=True)
class Bounds:
    """What is known of a monotone A, for every row.

    Attributes:
        strong: mu, `<A a - A b, a - b> >= mu ||a - b||^2`.
        smooth: L, `<A a - A b, a - b> >= ||A a - A b||^2 / L`; infinite where not known.
        gradient: A is a subdifferential: then both together say that A - mu I is
            1/(L - mu)-cocoercive, which two constants of an operator do not.
        monotone: A is known to be monotone; else nothing follows for its resolvent.
    """

    strong: float
    smooth: float
    gradient: bool
    monotone: bool = True

    def forward(self, step: float) -> float:
        """The Lipschitz constant of I - s A, for s L <= 2. Sharp.

        max(|1 - s mu|, |1 - s L|) of a gradient (Ryu & Yin, section 2.4); of an operator
        sqrt(1 - mu (2 s - s^2 L)).
        """
        if self.gradient:
            return max(abs(1 - step * self.strong), abs(1 - step * self.smooth))
        return math.sqrt(max(0.0, 1 - self.strong * step * (2 - step * self.smooth)))

    def backward(self, step: float) -> float:
        """The Lipschitz constant 1/(1 + s mu) of J_{sA} (Bauschke & Combettes, 23.13). Sharp."""
        return 1 / (1 + step * self.strong)

    def reflection(self, step: float) -> float:
        """The Lipschitz constant of 2 J_{sA} - I: below 1 only for gradients with mu > 0, L < inf.

        max((1 - s mu)/(1 + s mu), (s L - 1)/(s L + 1)) (Giselsson & Boyd 2017, theorem 1). Sharp.
        """
        if not self.gradient or self.smooth == math.inf:
            return 1.0
        low, high = step * self.strong, step * self.smooth
        return max((1 - low) / (1 + low), (high - 1) / (high + 1))


def backward_bounds(name: str, part: BackwardPart) -> Bounds:
    """The constants that a backward part carries.

    Raises:
        TypeError: it has neither `prox` nor `resolvent`, or its points are tuples. ValueError: an
            operator that is not monotone.
    """
    _check_no_tuples(name, part)
    if isinstance(part, Proximable):
        smooth = getattr(part, "smoothness", None)
        strong = getattr(part, "strong_convexity", 0.0)
        return Bounds(strong, math.inf if smooth is None else smooth, gradient=True)
    if not isinstance(part, Resolvable):
        raise TypeError(
            f"{name} needs a method prox(z, step), as a proximal.Function has it, or "
            f"resolvent(step), as an Operator; got {type(part).__name__}"
        )
    if isinstance(part, Operator):
        return operator_bounds(name, part)
    beta = getattr(part, "cocoercivity", None)
    strong = getattr(part, "strong_monotonicity", None)
    monotone = strong is None or strong >= 0
    smooth = 1 / beta if beta else math.inf
    return Bounds(max(strong or 0.0, 0.0), smooth, gradient=False, monotone=monotone)


def operator_bounds(name: str, part: Operator) -> Bounds:
    """The constants of an operator with what they imply.

    Raises:
        ValueError: the operator is known not to be monotone, or its constants contradict.
    """
    known = Region.of(part).constants()
    strong, beta = known.strong_monotonicity, known.cocoercivity
    monotone = strong is not None and strong >= 0
    if not monotone and _refutes_monotonicity(part):
        raise ValueError(
            f"{name} must be monotone, <A a - A b, a - b> >= 0, but this {type(part).__name__} "
            "is not"
        )
    smooth = 0.0 if known.lipschitz == 0 else 1 / beta if beta else math.inf
    return Bounds(max(strong or 0.0, 0.0), smooth, gradient=False, monotone=monotone)


def forward_bounds(
    splitting: str, part: ForwardPart, cocoercivity: float | None, name: str = "cocoercivity_of_h"
) -> Bounds:
    """The constants of a cocoercive forward part; a given `cocoercivity` replaces its own.

    `name` is the keyword of that argument.

    Raises:
        TypeError: neither a Function nor an Operator. ValueError: its cocoercivity is not known,
            it has no gradient, or the given constant is not above 0.
    """
    check_forward_part(splitting, part)
    if cocoercivity is not None and not cocoercivity > 0:
        raise ValueError(f"need {name} > 0, got {cocoercivity}")
    if isinstance(part, Function):
        smooth = part.smoothness if cocoercivity is None else 1 / cocoercivity
        word, strong = "smoothness", part.strong_convexity
    else:
        known = operator_bounds("a forward part", part)
        own = None if known.smooth == math.inf else known.smooth
        smooth = own if cocoercivity is None else 1 / cocoercivity
        word, strong = "cocoercivity", known.strong
    if smooth is None:
        raise ValueError(
            f"{splitting} needs the step below 2 beta, but the {word} of "
            f"{type(part).__name__} is not known: state {name}=beta, 1/L for a gradient of "
            "Lipschitz constant L"
        )
    return Bounds(strong, smooth, gradient=isinstance(part, Function))


def check_forward_part(splitting: str, part: ForwardPart) -> None:
    """Refuse what cannot be evaluated as B.

    Raises:
        TypeError: neither a Function nor an Operator. ValueError: a function without a gradient.
    """
    if not isinstance(part, Function | Operator):
        raise TypeError(
            f"a forward part is a smooth proximal.Function or an Operator, got "
            f"{type(part).__name__}; wrap a callable with as_operator"
        )
    _check_no_tuples("h", part)
    if isinstance(part, Function) and not _has_gradient(type(part)):
        raise ValueError(
            f"{splitting} takes the gradient of h, but {type(part).__name__} has none: a function "
            "that is not smooth stands in the place of a backward part, with its proximal operator"
        )


def _has_gradient(kind: type[Function]) -> bool:
    return (kind.gradient, kind._gradient) != (Function.gradient, Function._gradient)


def check_forward_step(splitting: str, step: float, bounds: Bounds) -> None:
    """Refuse a step outside 0 < step < 2 beta."""
    check_number(splitting, step)
    limit = 2 / bounds.smooth if bounds.smooth > 0 else math.inf
    if not 0 < step < limit:
        raise ValueError(f"{splitting} needs 0 < step < 2 beta = {limit:.6g}, got step = {step:g}")


def check_step(splitting: str, step: float, name: str = "step") -> None:
    """Refuse a step outside 0 < step < inf."""
    check_number(splitting, step, name)
    if not 0 < step < math.inf:
        raise ValueError(f"{splitting} needs 0 < {name} < inf, got {name} = {step:g}")


def check_number(splitting: str, step: float, name: str = "step") -> None:
    """Refuse a step that is no number: the arguments may be in another order."""
    if not isinstance(step, Real) or isinstance(step, bool):
        raise TypeError(
            f"{splitting} needs a number as {name}, got a {type(step).__name__}; mind the order "
            "of the arguments"
        )


def _check_no_tuples(name: str, part: object) -> None:
    if isinstance(part, SeparableSum):
        raise TypeError(
            f"{name} is a SeparableSum, whose points are tuples, and the state of a splitting is "
            "one tensor; on tuples act operators, as fixpoint.subdifferential(g_1) in a "
            "fixpoint.product, and their resolvents"
        )


def _refutes_monotonicity(operator: Operator) -> bool:
    """Whether some pair of points is known with <A a - A b, a - b> < 0."""
    if (operator._region().affine(0, -1).constants().strong_monotonicity or 0.0) > 0:
        return True
    form = affine_form(operator)
    if form is None:
        return False
    if isinstance(form.matrix, float):
        return form.matrix < 0
    values = torch.linalg.eigvalsh(form.matrix + form.matrix.mT)
    return float(values[0]) < -1e-10 * float(values.abs().max())
