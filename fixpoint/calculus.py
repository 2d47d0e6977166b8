"""The calculus of constants: what is known of an operator that is made of others.

For two points a, b and u = a - b, v = T a - T b, let z be the complex number with
`|z| = ||v|| / ||u||` and `Re z = <v, u> / ||u||^2`. All these z, with their conjugates, are the
scaled relative graph (SRG) of T. The constants of `Operator` say where it lies:

    cocoercivity beta        Re z >= beta |z|^2   the disc about 1/(2 beta) through 0
    averagedness theta       |z - theta| <= theta, the same with beta = 1/(2 theta); for
                             theta > 1 T is conically averaged (Bartz, Dao & Phan 2022)
    lipschitz L              |z| <= L
    strong_monotonicity mu   Re z >= mu; for mu < 0 T is hypomonotone

Conversely every operator with its SRG in the intersection of these sets has the constants: the
class is *SRG-full*, and what the geometry of the sets gives is sharp for the class, in two
dimensions already, where the multiplication by a complex number z is an operator with SRG
{z, conj z}.

References: Ryu, Hannah & Yin, Scaled relative graphs, Math. Program. 194 (2022); Ryu & Yin,
Large-Scale Convex Optimization (2022), chapter 13; Bauschke & Combettes, Convex Analysis and
Monotone Operator Theory in Hilbert Spaces, 2nd edition (2017), cited as BC.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from fixpoint.constants.constants import Constants
from fixpoint.constants.float_range import LARGEST, LEAST, shifted
from fixpoint.constants.region import ROUNDING, Region, constants_from_bounds


def scaled(known: Any, factor: float) -> Constants:
    """Of factor * T: (beta/c, c L, c mu) for a factor c > 0 (BC, definition 4.10).

    For c < 0 the Lipschitz constant alone.
    """
    return Region.of(known).affine(0, factor).constants()


def complement(known: Any) -> Constants:
    """Of I - T.

    For a beta-cocoercive T with beta >= 1/2, I - T is nonexpansive (BC, proposition 4.39), and for
    beta >= 1 it is 1-cocoercive again: firmly nonexpansive (BC, proposition 4.4).
    """
    return Region.of(known).affine(1, -1).constants()


def inverse(known: Any) -> Constants:
    """Of the inverse of T: cocoercivity mu, strong monotonicity beta (BC, example 22.7).

    The Lipschitz constant is 1/mu, and beta > 0 gives nothing for it.
    """
    return Region.of(known).inverse().constants()


def resolvent(known: Any, step: float) -> Constants:
    """Of J = (I + step T)^{-1}.

    1-cocoercive for a monotone T, (1 + step mu)-cocoercive for a mu-strongly monotone one
    (BC, propositions 23.8 and 23.13), and of modulus at least 1/(1 + step L).
    """
    return Region.of(known).resolvent(step).constants()


def reflected_resolvent(known: Any, step: float) -> Constants:
    """Of 2 J - I: nonexpansive for a monotone T (BC, corollary 23.11).

    With mu and beta known, its Lipschitz constant is sqrt(1 - 4 s mu / (1 + 2 s mu + s^2 mu/beta)),
    and for mu and L the same with beta = mu/L^2 (Giselsson, Tight global linear convergence rate
    bounds for Douglas-Rachford splitting, 2017).
    """
    return Region.of(known).resolvent(step).affine(-1, 2).constants()


def yosida(known: Any, step: float) -> Constants:
    """Of (I - J) / step: (beta + step)-cocoercive (BC, corollary 23.11 and proposition 23.7).

    And mu/(1 + step mu)-strongly monotone, where no more than mu is known.
    """
    return Region.of(known).resolvent(step).affine(1 / step, -1 / step).constants()


def total(regions: Sequence[Region]) -> Constants:
    """Of a sum, where every region is an affine image of its G; sharp for all that is known.

    The SRG of a sum is the sum of the SRGs, for convex ones (Ryu, Hannah & Yin, the theorem on
    sums; a set symmetric about the real axis and convex has their chord property). So mu's add up,
    and L's do unless signs differ. With h the support function of the sum, the smallest disc
    |z - theta| <= theta that holds it has

        theta = max over phi of h(phi) / (1 + cos phi),

    which is piecewise a quadratic function of tan(phi/2). 1/beta_1 + 1/beta_2 <= 2 theta
    (BC, proposition 4.12) would be the sum of the maxima, not the maximum of the sum.
    """
    least = [region.least_real() for region in regions]
    if any(region.lipschitz == math.inf for region in regions):
        return constants_from_bounds(-math.inf, math.inf, _sum(least))
    mu = _sum(least)
    exponent = max(region.exponent() for region in regions) + len(regions).bit_length()
    sizes = sum(abs(shifted(value, -exponent)) for value in least)
    supports = [region.support(exponent) for region in regions]
    angles = sorted({0.0, math.inf, *(end for support in supports for end, *_ in support)})
    lipschitz, theta = 0.0, 0.0
    for first, last in itertools.pairwise(angles):
        pieces = [next(p for p in support if last <= p[0]) for support in supports]
        d, c, s = (sum(piece[i] for piece in pieces) for i in (1, 2, 3))
        low, high = 2 * math.atan(first), 2 * math.atan(last)
        for angle in (low, high, min(max(math.atan2(c, (s - d) / 2), low), high)):
            at = (s + d) / 2 + (s - d) / 2 * math.cos(angle) + c * math.sin(angle)
            lipschitz = max(lipschitz, math.inf if math.isnan(at) else at)
        theta = max(theta, _largest_quotient(d, c, s, first, last, sizes))
    if mu < 0:  # at phi = pi, where rounding may have lost what makes theta infinite
        theta = math.inf
    beta = 1 / (2 * theta) if 0 < theta < math.inf else -math.inf
    return constants_from_bounds(
        shifted(beta, -exponent), shifted(lipschitz, exponent, up=True), mu
    )


def composition(outer: Any, inner: Any) -> Constants:
    """Of T S, points to T(S z): L is L_T L_S, and with

        k = 1 - sqrt((1/(mu_T beta_T) - 1) (1/(mu_S beta_S) - 1))

    strong monotonicity is k mu_T mu_S and cocoercivity k beta_T beta_S, where k >= 0: then the
    largest angles of the two SRGs, with cos^2 = mu beta, make a quarter turn at most. Sharp: the
    SRG of a composition is the product of the SRGs (Ryu, Hannah & Yin, the theorem on
    compositions; G has their right-arc property), and the extreme of both is at the corners
    Re z = mu = beta |z|^2. Nothing but L is known for k < 0, as for two firmly nonexpansive ones.
    """
    a, b = Region.of(outer), Region.of(inner)
    for multiple, other in ((a, b), (b, a)):
        if multiple.is_multiple_of_identity():
            return other.affine(0, multiple.strong_monotonicity).constants()
    lipschitz = max(a.lipschitz * b.lipschitz, LEAST)
    k = 1 - math.sqrt(a.spread() * b.spread())
    if abs(k) <= ROUNDING:
        k = 0.0
    if k < 0:
        return constants_from_bounds(-math.inf, lipschitz, -math.inf)
    mu = k * a.strong_monotonicity * b.strong_monotonicity
    return constants_from_bounds(k * a.cocoercivity * b.cocoercivity, lipschitz, mu)


def succession(outer: Any, inner: Any) -> Constants:
    """Of I - (I - T)(I - S), whose fixed-point map is that of S and then that of T.

    theta-averaged with theta = (theta_T + theta_S - 2 theta_T theta_S) / (1 - theta_T theta_S)
    (Ogura & Yamada 2002; BC, proposition 4.44), which is sharp for what averagedness alone knows
    (Huang, Ryu & Yin, Tight coefficients of averaged operators via scaled relative graph, 2020).
    It holds for conically averaged maps, theta = 1/(2 beta) > 1, as long as theta_T theta_S < 1
    (Bartz, Dao & Phan, Conical averagedness and convergence analysis of fixed point algorithms,
    2022, proposition 2.5). The Lipschitz constants q of the maps multiply, also sharp: the
    operator is (1 - q)-strongly monotone, (1 + q)-Lipschitz and, for q <= 1, 1/(1 + q)-cocoercive.
    The better of both is taken; together they might know more. Where one of T and S is c I, up to
    a constant, the operator is c I + (1 - c) times the other.
    """
    regions = Region.of(outer), Region.of(inner)
    for multiple, other in (regions, regions[::-1]):
        if multiple.is_multiple_of_identity():
            c = multiple.strong_monotonicity
            return other.affine(c, 1 - c).constants()
    maps = [region.affine(1, -1).constants().lipschitz for region in regions]
    beta, lipschitz, mu = -math.inf, math.inf, -math.inf
    theta = _averagedness_of_composition(*(region.cocoercivity for region in regions))
    if theta is not None:
        beta = 0.5 / theta
    if maps[0] is not None and maps[1] is not None:
        q = maps[0] * maps[1]
        lipschitz = 1 + q
        # q = 1 may be a number above 1 that was rounded, as sqrt(1 + L^2) for a skew operator.
        # Where both maps are nonexpansive, beta = 1/2 is that of the averagednesses above.
        if 1 - q > 4 * sys.float_info.epsilon:
            beta, mu = max(beta, 1 / (1 + q)), 1 - q
        elif q - 1 > 4 * sys.float_info.epsilon:
            mu = 1 - q
    if beta > 0:
        lipschitz = min(lipschitz, 1 / beta)
    return constants_from_bounds(beta, lipschitz, mu)


def _averagedness_of_composition(*betas: float) -> float | None:
    """Of two conically averaged maps; None where they are not known to be, or it is not."""
    if not all(beta > 0 for beta in betas):
        return None
    first, second = (0.5 / beta for beta in betas)
    if max(first, second) <= 1 + ROUNDING and min(first, second) >= 1 - ROUNDING:
        return 1.0
    product = first * second
    if not product < 1 - ROUNDING:
        return None
    return (first + second - 2 * product) / (1 - product)


def side_by_side(known: Sequence[Any]) -> Constants:
    """Of (z_1, z_2, ...) -> (T_1 z_1, T_2 z_2, ...): the worst of the constants, sharp.

    (BC, proposition 23.18 for monotonicity; each inequality is summed over the blocks.)
    """
    regions = [Region.of(each) for each in known]
    return constants_from_bounds(
        min(region.cocoercivity for region in regions),
        max(region.lipschitz for region in regions),
        min(region.strong_monotonicity for region in regions),
    )


def _largest_quotient(
    d: float, c: float, s: float, first: float, last: float, sizes: float
) -> float:
    """max of (d tau^2 + 2 c tau + s) / 2, at least 0, on [first, last].

    That is h(phi) / (1 + cos phi) on a piece, tau = tan(phi/2).
    """
    candidates = [first]
    if last < math.inf:
        candidates.append(last)
    else:
        if abs(d) <= ROUNDING * sizes:
            d = 0.0
        if d > 0 or (d == 0 and c > 0):
            return math.inf
    if d < 0:
        candidates.append(min(max(-c / d, first), last))
    values = [((d * tau + 2 * c) * tau + s) / 2 for tau in candidates if tau < math.inf]
    return math.inf if any(map(math.isnan, values)) else max(0.0, *values)


def _sum(values: Sequence[float]) -> float:
    """The sum, rounded once; 0 where what is left is rounding of the values."""
    if not all(map(math.isfinite, values)):
        return -math.inf
    exact = sum(map(Fraction, values), Fraction(0))
    if abs(exact) <= Fraction(ROUNDING) * sum(abs(Fraction(value)) for value in values):
        return 0.0
    try:
        return float(exact)
    except OverflowError:
        return LARGEST if exact > 0 else -LARGEST
