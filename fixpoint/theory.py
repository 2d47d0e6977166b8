"""The inequalities behind the iterators, as plain functions of constants.

References: *the paper* is Hong et al., Gradient-free Decoder Inversion in Latent Diffusion Models,
NeurIPS 2024; equation numbers are its own. alpha is the inertia, lambda the relaxation, beta the
cocoercivity, rho the step size.

Theorem 1 (forward step). If 0 < rho < 2 beta and, at the iterates, T is star-cocoercive at a zero
z*, `<T z, z - z*> >= beta ||T z||^2` (9), then
`||z^{k+1} - z*||^2 <= ||z^k - z*||^2 - rho (2 beta - rho) ||T z^k||^2`, and T z^k -> 0.

Theorem 2 (inertial KM). If 0 < alpha < 1, lambda (1 - alpha + 2 alpha^2) < (1 - alpha)^2 (13) and
T is star-cocoercive at the points y^k (12), then the squared steps and residuals are summable, the
least residual falls like 1/n, and the distance to z* has a limit.

How the constants of an operator follow from those of its parts is in `fixpoint.calculus`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from jaxtyping import Float
from torch import Tensor

from fixpoint.operator import Operator


def forward_step_descent(step_size: float, cocoercivity: float) -> float:
    """rho (2 beta - rho): what theorem 1 takes off the squared distance per squared residual.

    Above 0 exactly for the admissible step sizes 0 < rho < 2 beta.
    """
    return step_size * (2 * cocoercivity - step_size)


def forward_step_residual_bound(
    distance: float, step_size: float, cocoercivity: float, iterations: int
) -> float:
    """Theorem 1's bound on `min_{k <= n} ||T z^k||` after n iterations from `||z^0 - z*||`.

    From the summed descent: (n + 1) min ||T z^k||^2 <= ||z^0 - z*||^2 / (rho (2 beta - rho)).

    Raises:
        ValueError: rho is outside (0, 2 beta).
    """
    descent = forward_step_descent(step_size, cocoercivity)
    if not descent > 0:
        raise ValueError(
            f"theorem 1 needs 0 < step_size < 2 beta = {2 * cocoercivity:.6g}, got {step_size}"
        )
    return distance / math.sqrt(descent * (iterations + 1))


def km_residual_bound(distance: float, cocoercivity: float, iterations: int) -> float:
    """The exact worst case of `||T z^n||` for forward steps of size beta.

    `beta ||T z^n|| <= sqrt((1/(n+1)) (n/(n+1))^n) ||z^0 - z*||` (Gu & Yang, SIAM J. Optim. 2020,
    for the proximal point method: I - beta T is firmly nonexpansive).
    """
    n = iterations
    return distance * math.sqrt((n / (n + 1)) ** n / (n + 1)) / cocoercivity


def halpern_residual_bound(distance: float, cocoercivity: float, iterations: int) -> float:
    """The exact worst case of `||T z^n||` for Halpern's iteration of I - 2 beta T.

    `||T z^n|| <= ||z^0 - z*|| / (beta (n + 1))` (Lieder, Optimization Letters 2021).
    """
    return distance / (cocoercivity * (iterations + 1))


def inertia_margin(inertia: float | Fraction, relaxation: float | Fraction) -> float:
    """(1 - alpha)^2 - lambda (1 - alpha + 2 alpha^2): condition (13) holds where it is above 0.

    It is computed in rational numbers and rounded once: its sign is right to the last bit of alpha
    and lambda.
    """
    if not (_is_finite(inertia) and _is_finite(relaxation)):
        alpha, lam = float(inertia), float(relaxation)
        return (1 - alpha) ** 2 - lam * (1 - alpha + 2 * alpha**2)
    alpha_exact, lam_exact = Fraction(inertia), Fraction(relaxation)
    return _rounded((1 - alpha_exact) ** 2 - lam_exact * (1 - alpha_exact + 2 * alpha_exact**2))


def largest_relaxation(inertia: float) -> float:
    """The supremum of the relaxations that condition (13) admits for an inertia in [0, 1).

    Rounded to the nearest number; `inertia_margin` decides whether that one is admitted itself.
    """
    _check_inertia(inertia)
    alpha = Fraction(inertia)
    return _rounded((1 - alpha) ** 2 / (1 - alpha + 2 * alpha**2))


def largest_inertia(relaxation: float) -> float:
    """The supremum of the inertias that condition (13) admits for a relaxation in (0, 1).

    The smaller root of (1 - 2 lambda) alpha^2 - (2 - lambda) alpha + (1 - lambda) = 0: the largest
    number that is admitted itself, or 0.
    """
    if not 0 < relaxation < 1:
        raise ValueError(f"relaxation must lie in (0, 1), got {relaxation}")
    lam = Fraction(relaxation)
    digits = 300  # of the root of the discriminant, in binary
    discriminant = 8 * lam - 7 * lam**2
    radical = Fraction(math.isqrt(int(discriminant * 4**digits)), 2**digits)
    # 2c / (b + sqrt(b^2 - 4ac)) is that root also where a is 0.
    root = float(2 * (1 - lam) / (2 - lam + radical))
    while root == 1 or not inertia_margin(root, lam) > 0:
        root = math.nextafter(root, 0)
    return root


def least_cocoercivity(inertia: float, relaxation: float, cocoercivity: float) -> Fraction:
    """The infimum of the beta' with which theorem 2 covers steps of 2 lambda beta.

    Only the product matters to a run: lambda' = lambda beta / beta' makes the same steps with
    beta'. Condition (13) admits it exactly for
    beta' > lambda beta (1 - alpha + 2 alpha^2) / (1 - alpha)^2.

    Raises:
        ValueError: alpha is outside [0, 1), or lambda or beta is not above 0 and finite.
    """
    _check_inertia(inertia)
    for name, number in (("relaxation", relaxation), ("cocoercivity", cocoercivity)):
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {number}")
    alpha = Fraction(inertia)
    product = Fraction(relaxation) * Fraction(cocoercivity)
    return product * (1 - alpha + 2 * alpha**2) / (1 - alpha) ** 2


def spare_cocoercivity(
    known: float, inertia: float, relaxation: float, cocoercivity: float
) -> float:
    """By how much a beta exceeds `least_cocoercivity`; above 0 exactly where it covers the step."""
    if not math.isfinite(known):
        return known
    return _rounded(Fraction(known) - least_cocoercivity(inertia, relaxation, cocoercivity))


@dataclass(frozen=True)
class InertialConstants:
    """The constants of theorem 2's proof.

    Attributes:
        nu: 1/lambda - 1.
        rho: 2 lambda beta, the step size.
        eps: nu (1 - alpha)^2 - alpha (1 + alpha), above 0 exactly inside condition (13).
        bound: M = (1 + alpha)^2 / (eps rho^2), of conclusion (B); infinite outside (13).
    """

    nu: float
    rho: float
    eps: float
    bound: float


def inertial_constants(inertia: float, relaxation: float, cocoercivity: float) -> InertialConstants:
    """nu, rho, eps and M of theorem 2."""
    _check_inertia(inertia)
    if not relaxation > 0:
        raise ValueError(f"relaxation must be above 0, got {relaxation}")
    rho = 2 * relaxation * cocoercivity
    nu = eps = -1.0  # their limit, where lambda is infinite; eps is then negative for every alpha
    if math.isfinite(relaxation):
        alpha, nu_exact = Fraction(inertia), 1 / Fraction(relaxation) - 1
        nu = _rounded(nu_exact)
        eps = _rounded(nu_exact * (1 - alpha) ** 2 - alpha * (1 + alpha))
    bound = (1 + inertia) ** 2 / eps / rho / rho if eps > 0 and rho > 0 else math.inf
    return InertialConstants(nu=nu, rho=rho, eps=eps, bound=bound)


def lyapunov(
    distance_squared: Float[Tensor, " batch"],
    previous_distance_squared: Float[Tensor, " batch"],
    step_squared: Float[Tensor, " batch"],
    inertia: float,
    relaxation: float,
) -> Float[Tensor, " batch"]:
    """C^k of theorem 2's proof, which does not increase.

    `||z^k - z*||^2 - alpha ||z^{k-1} - z*||^2 + nu (1 - alpha) ||z^k - z^{k-1}||^2`.
    """
    nu = 1 / relaxation - 1
    return (
        distance_squared - inertia * previous_distance_squared + nu * (1 - inertia) * step_squared
    )


def best_step_size(operator: Operator) -> float | None:
    """The forward step with the best guarantee for all that is known of the operator.

    Where I - rho T is known to contract for some rho, that with the least contraction factor. It is
    the largest of the cocoercivities beta that the constants imply: the one declared, 1/(2 theta)
    from averagedness, and mu/L^2. More may be known of an operator that is made of others, as of
    the gradient of a mu-strongly convex and L-smooth function: there it is 2/(L + mu). Elsewhere
    beta, which maximises the descent rho (2 beta - rho) of theorem 1. The step of c T is that of T
    over c.

    Returns:
        rho > 0; None where no step is known to converge, and for a constant operator, of which no
        step is better than another.
    """
    return operator._region().best_step()


def contraction_factor(operator: Operator, step_size: float) -> float | None:
    """The least q with ||z^{k+1} - z*|| <= q ||z^k - z*|| for forward steps that is known.

    The Lipschitz constant of I - rho T: the largest |1 - rho z| in the region that holds the scaled
    relative graph of T, see `fixpoint.calculus`. Up to rho = 2 beta it is
    sqrt(1 - (2 rho - rho^2/beta) mu) for beta and mu, and 1 for beta alone; for mu and L it is
    sqrt(1 - 2 rho mu + rho^2 L^2). Above 1 it bounds how fast the iterates may part.

    Returns:
        q >= 0; None where nothing is known.
    """
    return operator._region().affine(1.0, -step_size).constants().lipschitz


def _check_inertia(inertia: float) -> None:
    if not 0 <= inertia < 1:
        raise ValueError(f"inertia must lie in [0, 1), got {inertia}")


def _is_finite(number: float | Fraction) -> bool:
    return isinstance(number, Fraction) or math.isfinite(number)


def _rounded(number: Fraction) -> float:
    """The nearest float; infinite where it is out of range."""
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)
