"""The region of the plane that holds the scaled relative graph of an operator.

For two points a, b and u = a - b, v = T a - T b, let z be the complex number with
`|z| = ||v|| / ||u||` and `Re z = <v, u> / ||u||^2`. All these z, with their conjugates, are the
scaled relative graph (SRG) of T; `fixpoint.calculus` has the references and the rules.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from fixpoint.constants.constants import Constants
from fixpoint.constants.float_range import LARGEST, LEAST, largest_exponent, quotient, shifted

Moebius = tuple[float, float, float, float]  # (p, q, r, t) is z -> (p z + q) / (r z + t)
ROUNDING = 1e-12  # relative; of constants that went through a few operations


@dataclass(frozen=True)
class Region:
    """Where the SRG of an operator lies: the image under a real Moebius transformation of

        G = {|z| <= lipschitz, Re z >= strong_monotonicity, Re z >= cocoercivity |z|^2}.

    A Moebius image keeps more than the four constants of the image would: T and I - T have
    regions of which each is exact when the other is. All computations are relative to a power of
    two near the size of G, so that constants of any size neither overflow nor raise; what
    underflows is rounded to the side on which the constant still holds.

    Attributes:
        cocoercivity: at least 0; 0: not known beyond monotonicity; infinite: a constant operator.
        lipschitz: infinite: not known.
        strong_monotonicity: below 0 for an operator that is not known to be monotone, where
            cocoercivity is 0; -infinity: not known.
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
        - theta-averaged, conically for theta > 1, is 1/(2 theta)-cocoercive (BC, remark 4.34 and
          proposition 4.35; Bartz, Dao & Phan 2022, proposition 2.2);
        - mu-strongly monotone and L-Lipschitz is mu/L^2-cocoercive, by
          <v, u> >= mu ||u||^2 >= mu/L^2 ||v||^2;
        - L-Lipschitz is (-L)-strongly monotone.

        No further implication exists: the corners of G attain all four.

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
        if 0 < lipschitz < math.inf:
            mu = max(mu, -lipschitz)
            if mu > 0:
                beta = max(beta, quotient(mu, lipschitz))
            beta = min(beta, LARGEST)
        return Region(beta, lipschitz, mu)

    def mapped(self, p: float, q: float, r: float, t: float) -> Region:
        """The region of (p z + q) / (r z + t), z in this one.

        z -> p z + q is p T + q I, z -> 1/z the inverse (Ryu & Yin, section 13.3; Ryu, Hannah &
        Yin, theorems on scaling, translation and inversion). Both are exact.
        """
        a, b, c, d = _to_unit_size(self.moebius)
        p, q, r, t = _to_unit_size((p, q, r, t))
        product = (
            _dot(p, a, q, c),
            _dot(p, b, q, d),
            _dot(r, a, t, c),
            _dot(r, b, t, d),
        )
        return Region(self.cocoercivity, self.lipschitz, self.strong_monotonicity, product)

    def affine(self, identity: float, factor: float) -> Region:
        """Of identity * I + factor * T; a multiple of I, whatever T is, for the factor 0."""
        if factor == 0:
            size = abs(identity)
            multiple = Region(min(1 / size, LARGEST) if size else math.inf, size, size)
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
        (p, q, r, t), unit, exponent = self._in_units()
        corners = unit._corners()
        if corners is None or not (r or t):
            return Constants()
        if r and corners[0][0] < -t / r < corners[1][0]:
            return Constants()  # the pole is inside: so are all large numbers in the image
        moebius = p, q, r, t
        lipschitz = math.sqrt(max(_squared(moebius, x, s) for x, s in corners))
        mu = _least_real(moebius, corners)
        beta = _least_real((r, t, p, q), corners)  # of 1/z: Re (1/z) = Re z / |z|^2
        return constants_from_bounds(
            shifted(beta, -exponent), shifted(lipschitz, exponent, up=True), shifted(mu, exponent)
        )

    def least_real(self) -> float:
        """The infimum of the real parts; -infinity where there is none."""
        moebius, unit, exponent = self._in_units()
        corners = unit._corners()
        return -math.inf if corners is None else shifted(_least_real(moebius, corners), exponent)

    def best_step(self) -> float | None:
        """The rho > 0 with the least max |1 - rho z| over z in this region; or the cocoercivity.

        At a corner |1 - rho z|^2 is a parabola in rho. The maximum of these is least at the vertex
        of one or where two of them meet. If it is never below 1, the cocoercivity; None if that is
        not known, or infinite.
        """
        known = self.constants()
        beta = known.cocoercivity
        if beta is None or beta == math.inf or not known.strong_monotonicity:
            return None if beta == math.inf else beta
        moebius, unit, exponent = self._in_units()
        corners = unit._corners() or []
        images = [(_real(moebius, x, s), _squared(moebius, x, s)) for x, s in corners]
        vertices = [x / s for x, s in images if s > 0]
        crossings = [
            2 * (x - y) / (s - r) for (x, s), (y, r) in itertools.combinations(images, 2) if s != r
        ]

        def largest(rho: float) -> float:
            return max(1 - 2 * rho * x + rho * rho * s for x, s in images)

        own = shifted(beta, exponent)
        best = min((rho for rho in vertices + crossings if rho > 0), key=largest, default=own)
        better = largest(best) < largest(own) - ROUNDING
        return min(shifted(best, -exponent), LARGEST) if better else beta

    def is_multiple_of_identity(self) -> bool:
        """Whether G is the one number `strong_monotonicity`: a multiple of I, up to a constant."""
        return self.lipschitz == 0 or self.spread() == 0

    def spread(self) -> float:
        """tan^2 of the largest angle in G, which is at its corner Re z = mu = beta |z|^2."""
        product = self.strong_monotonicity * self.cocoercivity
        if not 0 < product < math.inf:
            return math.inf
        return 0.0 if product >= 1 - ROUNDING else 1 / product - 1

    def exponent(self) -> int:
        """e with 2^e near the largest number of an affine image of a bounded G."""
        (p, q, _, _), _, exponent = self._in_units()
        return exponent if p or q else -4000

    def _in_units(self) -> tuple[Moebius, Region, int]:
        """Of z = 2^e z': the transformation of z', up to a power of two 2^f, and G' in z'; f."""
        beta, lipschitz, mu = self.cocoercivity, self.lipschitz, self.strong_monotonicity
        size = lipschitz if 0 < lipschitz < math.inf else abs(mu) if math.isfinite(mu) else 0.0
        e = math.frexp(size)[1]
        lipschitz, least = shifted(lipschitz, -e, up=True), shifted(mu, -e)
        beta = shifted(beta, e)
        if least > 0 and lipschitz < math.inf:
            beta = max(beta, least / lipschitz**2)
        p, q, r, t = self.moebius
        above, below = largest_exponent((p, e), (q, 0)), largest_exponent((r, e), (t, 0))
        moebius = (
            shifted(p, e - above),
            shifted(q, -above),
            shifted(r, e - below),
            shifted(t, -below),
        )
        return moebius, Region(beta, lipschitz, least), above - below

    def _corners(self) -> list[tuple[float, float]] | None:
        """(Re z, |z|^2) of the ends of G on the real axis, ascending, and of its corners off it."""
        beta, lipschitz, mu = self.cocoercivity, self.lipschitz, self.strong_monotonicity
        if mu == -math.inf:
            return None
        corners = [(mu, mu * mu), (lipschitz, lipschitz * lipschitz)]
        if lipschitz == math.inf:
            return corners
        if mu < 0:
            if mu > -lipschitz * (1 - ROUNDING):
                corners.append((mu, lipschitz**2))
            return corners
        if beta * lipschitz < 1 - ROUNDING:
            corners.append((beta * lipschitz**2, lipschitz**2))
        if mu > 0 and beta * mu < 1 - ROUNDING:
            corners.append((mu, mu / beta))
        return corners

    def support(self, exponent: int) -> list[tuple[float, float, float, float]]:
        """h(phi) = max of Re z cos phi + Im z sin phi: (end, d, c, s) for each piece of [0, pi].

        In tau = tan(phi/2), of which `end` is a value, h is (d tau^2 + 2 c tau + s)/(1 + tau^2) on
        a piece: d = h - Re z at the far end keeps its digits where h = a + b cos phi + c sin phi
        would lose those of d = a - b. The region is an affine image of G, bounded.

        Args:
            exponent: h is that of the region divided by 2^exponent.
        """
        (p, q, r, t), unit, own = self._in_units()
        assert r == 0, "a support function is asked of affine images only"
        beta, lipschitz, mu = unit.cocoercivity, unit.lipschitz, unit.strong_monotonicity
        pieces = [(math.inf, lipschitz, 0.0, lipschitz)]  # the circle of radius L
        if mu < 0 < lipschitz:
            height = math.sqrt(max((lipschitz - mu) * (lipschitz + mu), 0.0))
            turn = math.sqrt((lipschitz - mu) / (lipschitz + mu)) if lipschitz > -mu else math.inf
            pieces = [(turn, lipschitz, 0.0, lipschitz), (math.inf, -mu, height, mu)]
        elif lipschitz > 0:
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
        factor, identity = shifted(p / t, own - exponent), shifted(q / t, own - exponent)
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


def _least_real(moebius: Moebius, corners: list[tuple[float, float]]) -> float:
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
        # Next to the pole the image is a half-plane, on the side from which it is approached.
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
            below = r * x + t
            if below == 0:
                return -math.inf
            real.append(((p * x + q) / below, (abs(p * x) + abs(q)) / abs(below)))
        else:
            terms = p * r * square, (p * t + q * r) * x, q * t
            below = r * r * square + 2 * r * t * x + t * t
            if below == 0:
                return -math.inf
            real.append((sum(terms) / below, sum(map(abs, terms)) / abs(below)))
    least, size = min(real)
    return 0.0 if abs(least) <= ROUNDING * size else least


def constants_from_bounds(beta: float, lipschitz: float, mu: float) -> Constants:
    """Bounds as `Constants`.

    A cocoercivity of 0, which is monotonicity, becomes None, and so does a negative mu that follows
    from the Lipschitz constant.
    """
    if lipschitz == 0:  # a constant operator: cocoercive with every beta
        return Constants(math.inf, 0.0, 0.0, 0.0)
    cocoercivity = min(beta, LARGEST) if beta > 0 else None
    averaged = cocoercivity is not None and cocoercivity >= 0.5 * (1 - ROUNDING)
    if cocoercivity is not None:
        mu = max(mu, 0.0)
    informative = mu >= 0 or mu > -lipschitz * (1 - ROUNDING)
    return Constants(
        cocoercivity=cocoercivity,
        lipschitz=lipschitz if lipschitz < math.inf else None,
        strong_monotonicity=min(mu, LARGEST) if informative else None,
        averagedness=min(0.5 / cocoercivity, 1.0) if averaged and cocoercivity else None,
    )


def _to_unit_size(moebius: Moebius) -> Moebius:
    """The same transformation, with a largest number near 1."""
    e = largest_exponent(*((value, 0) for value in moebius))
    p, q, r, t = (shifted(value, -e) for value in moebius)
    return p, q, r, t


def _dot(a: float, b: float, c: float, d: float) -> float:
    """a b + c d; one product that underflows keeps its sign."""
    value = a * b + c * d
    if value == 0 and bool(a and b) != bool(c and d):
        return math.copysign(LEAST, a * b if a and b else c * d)
    return value


def _real(moebius: Moebius, x: float, s: float) -> float:
    """Re (p z + q) / (r z + t) for Re z = x and |z|^2 = s."""
    p, q, r, t = moebius
    if s == x * x:
        return (p * x + q) / (r * x + t)
    return (p * r * s + (p * t + q * r) * x + q * t) / (r * r * s + 2 * r * t * x + t * t)


def _squared(moebius: Moebius, x: float, s: float) -> float:
    """|(p z + q) / (r z + t)|^2 for Re z = x and |z|^2 = s, possibly infinite."""
    p, q, r, t = moebius
    if s == math.inf:
        return _square(p / r) if r else math.inf if p else _square(q / t)
    if s == x * x:
        below = r * x + t
        if below == 0 or (r and _close(-t / r, x)):
            return math.inf
        return _square((p * x + q) / below)
    below = r * r * s + 2 * r * t * x + t * t
    return max(p * p * s + 2 * p * q * x + q * q, 0.0) / below if below > 0 else math.inf


def _square(value: float) -> float:
    return value * value  # infinite where ** 2 would raise


def _close(a: float, b: float) -> bool:
    # The difference of an infinity and a number would count as close.
    return a == b or abs(a - b) <= ROUNDING * min(max(abs(a), abs(b)), 1e300)


def _reciprocal_of_twice(averagedness: float | None) -> float | None:
    if averagedness is None:
        return None
    return min(0.5 / averagedness, LARGEST) if averagedness > 0 else math.inf
