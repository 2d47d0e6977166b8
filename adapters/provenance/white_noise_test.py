"""The p-value of noise being close to a pattern of frequencies, against white noise."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.adapters.provenance.frequencies import mirrored, to_frequencies
from fixpoint.adapters.provenance.random_direction import log_p_value
from fixpoint.inner_solves.row_scale import row_exponent, scaled_rows

FARTHEST = 1e150
"""Length of a key, relative to the noise, above which it counts as infinite."""


def scaled_frequencies(
    signal: Float[Tensor, "batch rows columns"],
) -> tuple[Complex[Tensor, "batch rows columns"], Int[Tensor, " batch"]]:
    """F of each row divided by a power of two, so that squares are finite, and the exponents."""
    exponent = row_exponent(signal)
    return to_frequencies(scaled_rows(signal, -exponent)), exponent


def exact_log_p_value(
    pattern: Complex[Tensor, "rows columns"],
    mask: Bool[Tensor, "rows columns"],
    signal: Float[Tensor, "batch rows columns"],
) -> Float[Tensor, " batch"]:
    """The natural logarithm of the p-value, for noise of any standard deviation, float64.

    Args:
        pattern: K, complex128; the test uses the part of it that real noise can have.
        mask: the frequencies of K.
        signal: the noise, float64.

    Raises:
        ValueError: a row is zero, which has no direction.
    """
    spectrum, exponent = scaled_frequencies(signal)
    size = mask.numel()
    patch = torch.where(mask, pattern, 0)
    kept = (patch + mirrored(patch).conj()) / 2
    tested = mask | mirrored(mask)
    # By Parseval, sums of squares over `size` are those of orthonormal real coordinates.
    length = (_squares(spectrum) / size).sqrt()
    if not bool((length > 0).all()):
        rows = (length == 0).nonzero().flatten().tolist()
        raise ValueError(f"the noise is zero in rows {rows}")
    key_length = float(kept.abs().square().sum() / size) ** 0.5
    # The key divided by the same power of two, and limited to FARTHEST.
    power = scaled_rows(torch.ones(len(spectrum), dtype=torch.float64), -exponent)
    power = power.clamp(max=FARTHEST / max(key_length, 1.0))
    near = spectrum - kept * power[:, None, None]
    unit = spectrum / length[:, None, None]
    own = _squares(unit * tested) / size
    along = _dot(unit, kept.expand_as(unit)) / size / (key_length or 1.0)
    logs = log_p_value(
        (_squares(near * tested) / size).numpy(),
        length.numpy(),
        (key_length * power).numpy(),
        int(tested.sum()),
        size,
        (own.numpy(), along.numpy()),
    )
    return torch.from_numpy(logs)


def original_log_p_value(
    pattern: Complex[Tensor, "rows columns"],
    mask: Bool[Tensor, "rows columns"],
    signal: Float[Tensor, "batch rows columns"],
) -> Float[Tensor, " batch"]:
    """The published formula, ncx2.cdf(sum((y - k)^2) / s^2, 2 |mask|, sum(k^2) / s^2), as a log.

    It counts every number twice and uses the standard deviation s of the y.
    """
    from scipy.stats import ncx2

    key = torch.view_as_real(pattern[mask]).flatten()
    chosen = mask.flatten().nonzero().flatten()
    found = to_frequencies(signal).flatten(1).index_select(1, chosen)
    values = torch.view_as_real(found).flatten(1)
    variance = values.var(1)
    chance = ncx2.cdf(
        ((values - key).square().sum(1) / variance).numpy(),
        2 * int(mask.sum()),
        (key.square().sum() / variance).numpy(),
    )
    return torch.from_numpy(chance).log()


def _dot(
    a: Complex[Tensor, "batch rows columns"], b: Complex[Tensor, "batch rows columns"]
) -> Float[Tensor, " batch"]:
    """The real part of the inner product, summed in an order that only the row determines."""
    if not len(a):
        return a.real.new_zeros(0)
    return kernels.row_dot(torch.view_as_real(a), torch.view_as_real(b.contiguous()))


def _squares(a: Complex[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
    return _dot(a, a)
