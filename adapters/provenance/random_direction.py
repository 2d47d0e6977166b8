"""How likely white noise is to come as close to given values as some noise does.

White noise of any strength has a direction that is uniform over the sphere, and nothing else is
used. Of a vector of `dimension` real coordinates and length R let `tested` be compared with a key
of length kappa, T the squared distance between them. With a the coordinate along the key and b
the `tested` - 1 others, T = (a - kappa)^2 + |b|^2, where a / R has the density of a coordinate on
the unit sphere and |b|^2 / (R^2 - a^2) is Beta((tested - 1) / 2, (dimension - tested) / 2). So the
chance of a squared distance of at most T is an integral over a / R. It is computed in logarithms:
for a key that is there it goes below what float64 holds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COARSE, FINE = 256, 128
"""Points to find where the integrand counts, and Gauss-Legendre nodes there."""
NEGLIGIBLE = 45.0
"""Nats below its peak at which the integrand is left out."""
FAR, FARTHEST = 100.0, 1e150
"""kappa / R from which on T is not used, and from which on nothing changes any more."""


def log_chance_of_coming_as_close(
    squared_distance: Array,
    length: Array,
    key_length: float | Array,
    tested: int,
    dimension: int,
    parts: tuple[Array, Array] | None = None,
) -> Array:
    """The natural logarithm of the chance, per row.

    Args:
        squared_distance: (batch,), T.
        length: (batch,), R, above 0.
        key_length: kappa, one number or (batch,).
        tested: real coordinates that are compared, at least 2.
        dimension: all real coordinates, more than `tested`.
        parts: (batch,) each, of a vector that may be far shorter than the key, so that T has lost
            its digits: the square of its tested coordinates over R^2, and the one along the key
            over R. None: from T.
    """
    # In units of R. What is far shorter than the key cannot come close to it: there T is
    # kappa^2 + (E + 2 k a - a^2) R^2 with an excess E of `parts`. Close by, T keeps its digits.
    k = np.minimum(np.asarray(key_length / length, dtype=np.float64), FARTHEST)
    reach = np.sqrt(squared_distance) / length
    far = (k > FAR) & (parts is not None)
    excess = np.zeros_like(k) if parts is None else parts[0] - 2 * k * parts[1]
    scale = np.where(far, k, 1.0)
    root = 1 + np.sqrt(np.maximum(1 + np.where(far, excess, 0.0) / scale / scale, 0.0))
    lower = np.clip(np.where(far, -excess / scale / root, k - reach), -1.0, 1.0)
    upper = np.clip(np.where(far, k * root, k + reach), -1.0, 1.0)

    def log_integrand(along: Array) -> Array:
        near = reach[:, None] ** 2 - (along - k[:, None]) ** 2
        beyond = excess[:, None] + 2 * k[:, None] * along - along**2
        left = np.where(far[:, None], beyond, near)
        return _log_integrand(along, np.maximum(left, 0.0), tested, dimension)

    steps = (np.arange(COARSE) + 0.5) / COARSE
    coarse = log_integrand(lower[:, None] + (upper - lower)[:, None] * steps)
    counts = coarse >= coarse.max(1, keepdims=True) - NEGLIGIBLE
    first, last = counts.argmax(1), COARSE - 1 - counts[:, ::-1].argmax(1)
    width = (upper - lower) / COARSE
    upper = np.minimum(lower + width * (last + 2), upper)
    lower = np.maximum(lower + width * (first - 1), lower)

    nodes, weights = np.polynomial.legendre.leggauss(FINE)
    half = (upper - lower) / 2
    points = ((upper + lower) / 2)[:, None] + half[:, None] * nodes
    values = log_integrand(points)
    peak = values.max(1)
    peak = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(divide="ignore"):
        logs = peak + np.log(half * (np.exp(values - peak[:, None]) * weights).sum(1))
    return np.minimum(logs, 0.0)


def _log_integrand(along: Array, left: Array, tested: int, dimension: int) -> Array:
    """Of the coordinate along the key: its log density plus that of the others' chance.

    Args:
        along: a / R.
        left: what the squares of the other coordinates may add up to, over R^2.
    """
    from scipy.special import gammaln

    room = np.maximum(1 - along**2, 0.0)
    share = np.clip(np.divide(left, room, out=np.ones_like(room), where=room > left), 0.0, 1.0)
    constant = gammaln(dimension / 2) - gammaln((dimension - 1) / 2) - np.log(np.pi) / 2
    with np.errstate(divide="ignore"):
        spread = np.log(room) if dimension != 3 else np.zeros_like(room)
    density = constant + (dimension - 3) / 2 * spread
    return density + _log_beta_cdf(share, (tested - 1) / 2, (dimension - tested) / 2)


def _log_beta_cdf(share: Array, a: float, b: float) -> Array:
    """log of the regularised incomplete beta function, also where it underflows."""
    from scipy.special import betainc, betaln

    chance: Any = betainc(a, b, share)
    with np.errstate(divide="ignore"):
        logs = np.asarray(np.log(chance))
    tiny = (chance < 1e-250) & (share > 0)
    if tiny.any():
        # I_t(a, b) = t^a (1-t)^b / (a B(a, b)) * (1 + sum of products of t (a+b+j) / (a+1+j)):
        # t lies far below a / (a + b) here, and every factor below 1.
        t = share[tiny]
        term = np.ones_like(t)
        total = np.ones_like(t)
        j = 0
        while (term > 1e-16 * total).any():
            term = term * t * (a + b + j) / (a + 1 + j)
            total += term
            j += 1
        logs[tiny] = a * np.log(t) + b * np.log1p(-t) - np.log(a) - betaln(a, b) + np.log(total)
    return logs
