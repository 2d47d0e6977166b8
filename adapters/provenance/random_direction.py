"""The p-value of the distance between a vector and a key, if the vector is white noise.

The direction of white noise is uniform over the sphere, whatever its standard deviation; the test
uses nothing else. A vector has `dimension` real coordinates and length R. `tested` of them are
compared with a key of length kappa, at squared distance T. Let a be the coordinate along the key
and b the `tested` - 1 others. Then T = (a - kappa)^2 + |b|^2, where a / R has the density of a
coordinate on the unit sphere and |b|^2 / (R^2 - a^2) is Beta((tested - 1) / 2, (dimension - tested)
/ 2). The probability of a squared distance of at most T is therefore an integral over a / R. It is
computed in logarithms, since for a key that is present it underflows in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COARSE, FINE = 256, 128
"""Points to find the support of the integrand, and Gauss-Legendre nodes on it."""
NEGLIGIBLE = 45.0
"""Where the integrand is this many nats below its peak, it is ignored."""
FAR, FARTHEST = 100.0, 1e150
"""kappa / R above which T is not used, and above which the result is constant."""


def log_p_value(
    squared_distance: Array,
    length: Array,
    key_length: float | Array,
    tested: int,
    dimension: int,
    parts: tuple[Array, Array] | None = None,
) -> Array:
    """The natural logarithm of the p-value, per row.

    Args:
        squared_distance: (batch,), T.
        length: (batch,), R, above 0.
        key_length: kappa, one number or (batch,).
        tested: number of real coordinates that are compared, at least 2.
        dimension: number of all real coordinates, more than `tested`.
        parts: (batch,) each: the sum of squares of the tested coordinates over R^2, and the
            coordinate along the key over R. They are needed where the vector is far shorter than
            the key, so that T has no digits left. None: T is used.
    """
    # In units of R. For a vector far shorter than the key, T = kappa^2 + (E + 2 k a - a^2) R^2 with
    # E from `parts`. For others T itself has enough digits.
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
    """The log density of the coordinate along the key plus the log probability of the others.

    Args:
        along: a / R.
        left: upper bound on the sum of squares of the other coordinates, over R^2.
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
    """The log of the regularised incomplete beta function, also where that underflows."""
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
