"""The calculus of constants: what is known of an operator that is made of others.

For two points a, b and u = a - b, v = T a - T b, let z be the complex number with
`|z| = ||v|| / ||u||` and `Re z = <v, u> / ||u||^2`. All these z, with their conjugates, are the
scaled relative graph (SRG) of T. The constants of `Operator` say where it lies:

    cocoercivity beta        Re z >= beta |z|^2   the disc about 1/(2 beta) through 0
    averagedness theta       |z - theta| <= theta, the same with beta = 1/(2 theta)
    lipschitz L              |z| <= L
    strong_monotonicity mu   Re z >= mu

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
from dataclasses import dataclass
from typing import Any

from fixpoint.operator import Constants

Moebius = tuple[float, float, float, float]  # (p, q, r, t) is z -> (p z + q) / (r z + t)
_ROUNDING = 1e-12  # relative; of constants that went through a few operations


@dataclass(frozen=True)
class Region:
    """Where the SRG of an operator lies: the image under a real Moebius transformation of

        G = {|z| <= lipschitz, Re z >= strong_monotonicity, Re z >= cocoercivity |z|^2}.

    A Moebius image keeps more than the four constants of the image would: T and I - T have
    regions of which each is exact when the other is.

    Attributes:
        cocoercivity: at least 0; 0: not known beyond monotonicity; infinite: a constant operator.
        lipschitz: infinite: not known.
        strong_monotonicity: at least 0, or -infinity: not known to be monotone.
        moebius: (p, q, r, t) of z -> (p z + q) / (r z + t).
    """

    cocoercivity: float
    lipschitz: float
    strong_monotonicity: float
    moebius: Moebius = (1.0, 0.0, 0.0, 1.0)

    @staticmethod
    def of(known: Any) -> Region:
        """The region of an `Operator` or of `Constants`, closed under what they imply:

        - beta-cocoercive is 1/beta-Lipschitz and monotone (BC, remark 4.15);
        - theta-averaged is 1/(2 theta)-cocoercive (BC, remark 4.34 and proposition 4.35);
        - mu-strongly monotone and L-Lipschitz is mu/L^2-cocoercive, by
          <v, u> >= mu ||u||^2 >= mu/L^2 ||v||^2.

        No further implication exists: the corners of G attain all three.

        Raises:
            ValueError: the constants contradict each other, mu > L.
        """
        beta, lipschitz, mu = 0.0, math.inf, -math.inf
        if known.lipschitz is not None:
            lipschitz = known.lipschitz
        for value in (known.cocoercivity, _reciprocal_of_twice(known.averagedness)):
            if value is not None:
                beta, mu = max(beta, value), max(mu, 0.0)
        if known.strong_monotonicity is not None:
            mu = max(mu, known.strong_monotonicity)
        if beta > 0:
            lipschitz = min(lipschitz, 1 / beta)
        if lipschitz == 0:  # a constant operator: cocoercive with every beta
            beta, mu = math.inf, max(mu, 0.0)
        if mu > lipschitz * (1 + 1e-9):
            raise ValueError(
                f"the constants contradict each other: strong_monotonicity {mu:.6g} is above "
                f"lipschitz {lipschitz:.6g}, which follows from those given"
            )
        lipschitz = max(lipschitz, mu)
        if mu > 0:
            beta = max(beta, mu / lipschitz**2)
        return Region(beta, lipschitz, mu)

    def mapped(self, p: float, q: float, r: float, t: float) -> Region:
        """The region of (p z + q) / (r z + t), z in this one.

        z -> p z + q is p T + q I, z -> 1/z the inverse (Ryu & Yin, section 13.3; Ryu, Hannah &
        Yin, theorems on scaling, translation and inversion). Both are exact.
        """
        a, b, c, d = self.moebius
        product = (p * a + q * c, p * b + q * d, r * a + t * c, r * b + t * d)
        return Region(self.cocoercivity, self.lipschitz, self.strong_monotonicity, product)

    def affine(self, identity: float, factor: float) -> Region:
        """Of identity * I + factor * T; a multiple of I, whatever T is, for the factor 0."""
        if factor == 0:
            size = abs(identity)
            multiple = Region(1 / size if size else math.inf, size, size)
            return multiple if identity >= 0 else multiple.mapped(-1, 0, 0, 1)
        return self.mapped(factor, identity, 0, 1)

    def inverse(self) -> Region:
        """Of the inverse of T."""
        return self.mapped(0, 1, 1, 0)

    def resolvent(self, step: float) -> Region:
        """Of (I + step T)^{-1}."""
        return self.mapped(0, 1, step, 1)

    def constants(self) -> Constants:
        """The sharpest constants that hold in all of this region.

        In the coordinates Re z and |z|^2 the sides of G are straight, a Moebius transformation is
        projective, and each constant bounds a ratio of linear functions: its extreme is at a
        corner of G or where G meets the real axis.
        """
        corners = self._corners()
        if corners is None:
            return Constants()
        p, q, r, t = self.moebius
        if r and corners[0][0] < -t / r < corners[1][0]:
            return Constants()  # the pole is inside: so are all large numbers in the image
        squared = [_squared(self.moebius, x, s) for x, s in corners]
        lipschitz = math.sqrt(max(squared))
        mu = self._least_real(self.moebius, corners)
        beta = self._least_real((r, t, p, q), corners)  # of 1/z: Re (1/z) = Re z / |z|^2
        return stated(beta, lipschitz, mu)

    def _corners(self) -> list[tuple[float, float]] | None:
        """(Re z, |z|^2) of the ends of G on the real axis, ascending, and of its corners off it."""
        beta, lipschitz, mu = self.cocoercivity, self.lipschitz, self.strong_monotonicity
        if mu == -math.inf:
            if lipschitz == math.inf:
                return None
            return [(-lipschitz, lipschitz**2), (lipschitz, lipschitz**2)]
        corners = [(mu, mu**2), (lipschitz, lipschitz**2)]
        if lipschitz == math.inf:
            return corners
        if beta * lipschitz < 1 - _ROUNDING:
            corners.append((beta * lipschitz**2, lipschitz**2))
        if mu > 0 and beta * mu < 1 - _ROUNDING:
            corners.append((mu, mu / beta))
        return corners

    def _least(self) -> float:
        """The infimum of the real parts; -infinity where there is none."""
        corners = self._corners()
        return -math.inf if corners is None else self._least_real(self.moebius, corners)

    def _spread(self) -> float:
        """tan^2 of the largest angle in G, which is at its corner Re z = mu = beta |z|^2."""
        product = self.strong_monotonicity * self.cocoercivity
        if not 0 < product < math.inf:
            return math.inf
        return 0.0 if product >= 1 - _ROUNDING else 1 / product - 1

    def _support(self) -> list[tuple[float, float, float, float]]:
        """h(phi) = max of Re z cos phi + Im z sin phi: (end, d, c, s) for each piece of [0, pi].

        In tau = tan(phi/2), of which `end` is a value, h is (d tau^2 + 2 c tau + s)/(1 + tau^2) on
        a piece: d = h - Re z at the far end keeps its digits where h = a + b cos phi + c sin phi
        would lose those of d = a - b. The region is an affine image of G, bounded.
        """
        beta, lipschitz, mu = self.cocoercivity, self.lipschitz, self.strong_monotonicity
        pieces = [(math.inf, lipschitz, 0.0, lipschitz)]  # the circle of radius L
        if mu > -math.inf and lipschitz > 0:
            cosine = min(beta * lipschitz, 1.0)  # of half the angle at which its corner ends
            sine = math.sqrt((1 - cosine) * (1 + cosine))
            x = cosine * lipschitz
            turn = sine / cosine if cosine > 0 else math.inf
            pieces = [
                (math.sqrt((1 - cosine) / (1 + cosine)), lipschitz, 0.0, lipschitz),
                (turn, -x, sine * lipschitz, x),
            ]
            if beta > 0:
                end = math.sqrt(max(1 / (beta * mu) - 1, 0.0)) if beta * mu > 0 else math.inf
                pieces.append((max(end, turn), 0.0, 0.0, 1 / beta))
                height = math.sqrt(max(mu / beta - mu**2, 0.0))
                pieces.append((math.inf, -mu, height, mu))
        p, q, r, t = self.moebius
        assert r == 0, "a support function is asked of affine images only"
        factor, identity = p / t, q / t
        if factor < 0:
            starts = [0.0, *(end for end, *_ in pieces[:-1])]
            pieces = [
                (1 / start if start else math.inf, s, c, d)
                for start, (_, d, c, s) in zip(reversed(starts), reversed(pieces), strict=True)
            ]
        size = abs(factor)
        return [
            (end, size * d - identity, size * c, size * s + identity) for end, d, c, s in pieces
        ]

    def _least_real(self, moebius: Moebius, corners: list[tuple[float, float]]) -> float:
        """The infimum of the real parts of the image of G; -infinity where there is none."""
        p, q, r, t = moebius
        left, right = corners[0][0], corners[1][0]
        increases = p * t - q * r > 0
        pole = -t / r if r else math.inf
        skipped = set()
        if left == right:
            if _close(pole, left):
                return -math.inf
        elif _close(pole, right):
            # Next to the pole the image is a half-plane, on the side that it is approached from.
            if not increases and p * t - q * r != 0:
                return -math.inf
            skipped.add(1)
        elif _close(pole, left):
            if increases:
                return -math.inf
            skipped.add(0)
        elif left < pole < right:
            return -math.inf
        real = []  # and the size of what may have cancelled in it
        for number, (x, square) in enumerate(corners):
            if number in skipped:
                continue
            if square == math.inf:
                real.append((p / r, 0.0))
            elif number < 2:
                below = abs(r * x + t)
                real.append(((p * x + q) / (r * x + t), (abs(p * x) + abs(q)) / below))
            else:
                terms = p * r * square, (p * t + q * r) * x, q * t
                below = r * r * square + 2 * r * t * x + t * t
                real.append((sum(terms) / below, sum(map(abs, terms)) / abs(below)))
        least, size = min(real)
        return 0.0 if abs(least) <= _ROUNDING * size else least


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
    least = [region._least() for region in regions]
    mu = sum(least)
    sizes = sum(abs(value) for value in least)
    if math.isfinite(mu) and abs(mu) <= _ROUNDING * sizes:
        mu = 0.0
    if any(region.lipschitz == math.inf for region in regions):
        return stated(-math.inf, math.inf, mu)
    supports = [region._support() for region in regions]
    angles = sorted({0.0, math.inf, *(end for support in supports for end, *_ in support)})
    lipschitz, theta = 0.0, 0.0
    for first, last in itertools.pairwise(angles):
        pieces = [next(p for p in support if last <= p[0]) for support in supports]
        d, c, s = (sum(piece[i] for piece in pieces) for i in (1, 2, 3))
        low, high = 2 * math.atan(first), 2 * math.atan(last)
        for angle in (low, high, min(max(math.atan2(c, (s - d) / 2), low), high)):
            at = (s + d) / 2 + (s - d) / 2 * math.cos(angle) + c * math.sin(angle)
            lipschitz = max(lipschitz, at)
        theta = max(theta, _largest_quotient(d, c, s, first, last, sizes))
    if mu < 0:  # at phi = pi, where rounding may have lost what makes theta infinite
        theta = math.inf
    return stated(1 / (2 * theta) if 0 < theta < math.inf else -math.inf, lipschitz, mu)


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
    lipschitz = a.lipschitz * b.lipschitz if a.lipschitz and b.lipschitz else 0.0
    for multiple, other in ((a, b), (b, a)):  # of the identity, up to a constant
        if multiple._spread() == 0:
            return other.affine(0, multiple.strong_monotonicity).constants()
    k = 1 - math.sqrt(a._spread() * b._spread())
    if abs(k) <= _ROUNDING:
        k = 0.0
    if k < 0:
        return stated(-math.inf, lipschitz, -math.inf)
    mu = k * a.strong_monotonicity * b.strong_monotonicity
    return stated(k * a.cocoercivity * b.cocoercivity, lipschitz, mu)


def succession(outer: Any, inner: Any) -> Constants:
    """Of I - (I - T)(I - S), whose fixed-point map is that of S and then that of T.

    theta-averaged with theta = (theta_T + theta_S - 2 theta_T theta_S) / (1 - theta_T theta_S)
    (Ogura & Yamada 2002; BC, proposition 4.44), which is sharp for what averagedness alone knows
    (Huang, Ryu & Yin, Tight coefficients of averaged operators via scaled relative graph, 2020).
    The Lipschitz constants q of the maps multiply, also sharp: for q <= 1 the operator is
    (1 - q)-strongly monotone, 1/(1 + q)-cocoercive and (1 + q)-Lipschitz. The better of both is
    taken; together they might know more.
    """
    maps = [Region.of(known).affine(1, -1).constants() for known in (outer, inner)]
    thetas = [Region.of(known).constants().averagedness for known in (outer, inner)]
    beta, lipschitz, mu = -math.inf, math.inf, -math.inf
    if thetas[0] is not None and thetas[1] is not None:
        product = thetas[0] * thetas[1]
        theta = 1.0 if product == 1 else (thetas[0] + thetas[1] - 2 * product) / (1 - product)
        if theta > 0:
            beta = 1 / (2 * theta)
    if maps[0].lipschitz is not None and maps[1].lipschitz is not None:
        q = maps[0].lipschitz * maps[1].lipschitz
        lipschitz = 1 + q
        # q = 1 may be a number above 1 that was rounded, as sqrt(1 + L^2) for a skew operator.
        # Where both maps are nonexpansive, beta = 1/2 is that of the averagednesses above.
        if 1 - q > 4 * sys.float_info.epsilon:
            beta, mu = max(beta, 1 / (1 + q)), 1 - q
    if beta > 0:
        lipschitz, mu = min(lipschitz, 1 / beta), max(mu, 0.0)
    return stated(beta, lipschitz, mu)


def side_by_side(known: Sequence[Any]) -> Constants:
    """Of (z_1, z_2, ...) -> (T_1 z_1, T_2 z_2, ...): the worst of the constants, sharp.

    (BC, proposition 23.18 for monotonicity; each inequality is summed over the blocks.)
    """
    regions = [Region.of(each) for each in known]
    return stated(
        min(region.cocoercivity for region in regions),
        max(region.lipschitz for region in regions),
        min(region.strong_monotonicity for region in regions),
    )


def stated(beta: float, lipschitz: float, mu: float) -> Constants:
    """Bounds as `Constants`; a cocoercivity of 0, which is monotonicity, is not stated."""
    if lipschitz == 0:  # a constant operator: cocoercive with every beta
        return Constants(lipschitz=0.0, strong_monotonicity=0.0)
    cocoercivity = beta if 0 < beta < math.inf else None
    averaged = cocoercivity is not None and cocoercivity >= 0.5 * (1 - _ROUNDING)
    return Constants(
        cocoercivity=cocoercivity,
        lipschitz=lipschitz if lipschitz < math.inf else None,
        strong_monotonicity=max(mu, 0.0) if mu >= 0 or cocoercivity is not None else None,
        averagedness=min(1 / (2 * cocoercivity), 1.0) if averaged and cocoercivity else None,
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
        if abs(d) <= _ROUNDING * sizes:
            d = 0.0
        if d > 0 or (d == 0 and c > 0):
            return math.inf
    if d < 0:
        candidates.append(min(max(-c / d, first), last))
    return max(0.0, *((d * tau**2 + 2 * c * tau + s) / 2 for tau in candidates if tau < math.inf))


def _squared(moebius: Moebius, x: float, s: float) -> float:
    """|(p z + q) / (r z + t)|^2 for Re z = x and |z|^2 = s, possibly infinite."""
    p, q, r, t = moebius
    if s == math.inf:
        return (p / r) ** 2 if r else math.inf if p else (q / t) ** 2
    if s == x * x:
        if r and _close(-t / r, x):
            return math.inf
        return ((p * x + q) / (r * x + t)) ** 2
    return (p * p * s + 2 * p * q * x + q * q) / (r * r * s + 2 * r * t * x + t * t)


def _close(a: float, b: float) -> bool:
    # Between an infinity and a number the difference would pass as close.
    return a == b or abs(a - b) <= _ROUNDING * min(max(abs(a), abs(b)), 1e300)


def _reciprocal_of_twice(averagedness: float | None) -> float | None:
    if averagedness is None:
        return None
    return 1 / (2 * averagedness) if averagedness > 0 else math.inf
