"""Maps of the singular values or eigenvalues of a matrix, and their derivatives.

The derivative of a decomposition grows without bound where two values approach each other; that of
the map does not. With z = U diag(v) V' and u = U diag(f(v)) V', it takes h to

    U (A o sym(U'hV) + B o skew(U'hV)) V',   A_ij = (f_i - f_j) / (v_i - v_j),
                                             B_ij = (f_i + f_j) / (v_i + v_j),

f odd. The part of h outside of the ranges of U and V is multiplied by f_i / v_i. A quotient 0/0 is
the slope of f there, and the slope is 1/2 at a kink. The map is its own adjoint. Eigenvalues have
V = U and a symmetric h (Lewis & Sendov, Twice differentiable spectral functions, 2001; for singular
values Ding, Sun, Sun & Toh, Spectral operators of matrices, 2018).

A second derivative goes through those of the decomposition, and exists where the values differ.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def singular_values_thresholded(
    z: Float[Tensor, "*batch m n"], threshold: Float[Tensor, "*rows 1"]
) -> Float[Tensor, "*batch m n"]:
    """`z` with every singular value v replaced by max(v - threshold, 0).

    `threshold` broadcasts against the singular values, (*batch, min(m, n)).
    """
    found: Tensor = _ThresholdSingularValues.apply(
        z, threshold, *torch.linalg.svd(z, full_matrices=False)
    )
    return found


def positive_part(z: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """The symmetric `z` with its negative eigenvalues set to 0."""
    found: Tensor = _PositivePart.apply(z, *torch.linalg.eigh(z))
    return found


class _ThresholdSingularValues(torch.autograd.Function):
    """The map of `z` and of the threshold; the decomposition is given, and its own derivative
    counts for second derivatives alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        z: Tensor, threshold: Tensor, left: Tensor, values: Tensor, right: Tensor
    ) -> Tensor:
        return (left * (values - threshold).clamp(min=0).unsqueeze(-2)) @ right

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        threshold, left, values, right = ctx.saved_tensors
        (h,) = gradients
        along = (left * (h @ right.mT)).sum(-2)  # the diagonal of U'hV
        by_threshold = -_falling(values, threshold) * along
        found = _moved_by(h, threshold, left, values, right)
        return found, by_threshold.sum_to_size(threshold.shape), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        threshold, left, values, right = ctx.saved_tensors
        h, lowered, *_ = tangents
        found = torch.zeros_like(left @ right) if h is None else _moved_by(h, *ctx.saved_tensors)
        if lowered is not None:
            less = _falling(values, threshold) * lowered
            found = found - (left * less.unsqueeze(-2)) @ right
        return found


class _PositivePart(torch.autograd.Function):
    """The map of the symmetric `z`; the decomposition is given, as above."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, values: Tensor, vectors: Tensor) -> Tensor:
        found = (vectors * values.clamp(min=0).unsqueeze(-2)) @ vectors.mT
        return (found + found.mT) / 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _PositivePart.jvp(ctx, *gradients), None, None  # its own adjoint

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        h = (tangents[0] + tangents[0].mT) / 2
        kept = values > 0
        slope = torch.where(kept, 1.0, 0.5 * (values == 0))
        even = _difference_quotients(values, values.clamp(min=0), slope, kept)
        found = vectors @ (even * (vectors.mT @ h @ vectors)) @ vectors.mT
        return (found + found.mT) / 2


def _moved_by(
    h: Float[Tensor, "*batch m n"],
    threshold: Float[Tensor, "*rows 1"],
    left: Float[Tensor, "*batch m k"],
    values: Float[Tensor, "*batch k"],
    right: Float[Tensor, "*batch k n"],
) -> Float[Tensor, "*batch m n"]:
    """The derivative of the thresholded matrix in the direction h."""
    inner = left.mT @ h @ right.mT
    kept = (values > threshold) | (threshold == 0)
    f = torch.where(kept, values - threshold, 0)
    slope = torch.where(kept, 1.0, 0.5 * (values == threshold))
    even = _difference_quotients(values, f, slope, kept)
    added = values.unsqueeze(-1) + values.unsqueeze(-2)
    odd = _quotient(f.unsqueeze(-1) + f.unsqueeze(-2), added, slope.unsqueeze(-1))
    found = left @ (even * (inner + inner.mT) / 2 + odd * (inner - inner.mT) / 2) @ right
    ratio = _quotient(f, values, slope)
    if h.shape[-2] > h.shape[-1]:
        found = found + ((h @ right.mT - left @ inner) * ratio.unsqueeze(-2)) @ right
    elif h.shape[-2] < h.shape[-1]:
        found = found + left @ (ratio.unsqueeze(-1) * (left.mT @ h - inner @ right))
    return found


def _falling(values: Tensor, threshold: Tensor) -> Tensor:
    """How fast max(v - threshold, 0) falls with the threshold: 1, or 1/2 at a kink, or 0."""
    return torch.where(values > threshold, 1.0, 0.5 * ((values == threshold) & (values > 0)))


def _difference_quotients(
    values: Float[Tensor, "*batch k"],
    f: Float[Tensor, "*batch k"],
    slope: Float[Tensor, "*batch k"],
    kept: Tensor,
) -> Float[Tensor, "*batch k k"]:
    """(f_i - f_j) / (v_i - v_j) for an f that has the slope 1 where kept and is 0 elsewhere."""
    alike = kept.unsqueeze(-1) == kept.unsqueeze(-2)
    both = torch.minimum(slope.unsqueeze(-1), slope.unsqueeze(-2))
    apart = torch.where(alike, 1, values.unsqueeze(-1) - values.unsqueeze(-2))
    return torch.where(alike, both, (f.unsqueeze(-1) - f.unsqueeze(-2)) / apart)


def _quotient(above: Tensor, below: Tensor, at_zero: Tensor) -> Tensor:
    """above / below, and `at_zero` where `below` is 0."""
    return torch.where(below == 0, at_zero, above / torch.where(below == 0, 1, below))
