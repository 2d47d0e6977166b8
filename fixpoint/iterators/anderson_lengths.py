"""How long the steps of Anderson acceleration are, row by row.

Forward steps have the row's own beta: `mixing` at first; shorter after one that raised the
residual, and then at most 1.8 times the ratio b = <dz, dr> / ||dr||^2 that the next one shows,
since beta < 2 b is what a b-cocoercive T allows; never above `mixing`.

Extrapolations step along r_min as far as the secant of the last step says, ||dz|| / ||dr||, and at
least the row's beta. That scales with T, and makes new columns as large as old ones, which keeps
the least squares well conditioned. Without the safeguard the step is beta, as in the textbook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels

_SAFE = 1.8  # of b, that a forward step takes
_EQUAL = 1 + 1e-9  # T's rounding may raise the residual where nothing else is left of it


class Extrapolation(NamedTuple):
    """The weights of the next point, and what is known of it before T is evaluated there."""

    weights: Float[Tensor, "batch memory"]  # gamma; 0 in rows that make a forward step
    extrapolated: Bool[Tensor, " batch"]  # rows that make no forward step
    model: Float[Tensor, " batch"]  # ||r_min||
    left_out: Bool[Tensor, " batch"]  # columns were left out


class Evaluated(NamedTuple):
    """A point, T there, and what is known of the step that led to it."""

    point: Float[Tensor, "batch *shape"]
    residual: Float[Tensor, "batch *shape"]
    merit: Tensor | None  # what is minimized, where that is not T
    point_difference: Tensor  # to the anchor, as those below
    residual_difference: Tensor
    merit_difference: Tensor | None
    row: kernels.GramRow  # of what is minimized
    sums: kernels.RowSums
    squared_step: Float[Tensor, " batch"]
    norm: Float[Tensor, " batch"]  # of what is minimized
    finite: Bool[Tensor, " batch"]  # T and what is minimized
    usable: Bool[Tensor, " batch"]  # the differences are finite


@dataclass(frozen=True)
class Lengths:
    """The lengths of a row's next steps."""

    mixing: Float[Tensor, " batch"]  # beta of forward steps
    extrapolation: Float[Tensor, " batch"]  # beta of extrapolations
    failures: Int[Tensor, " batch"]  # forward steps refused one after the other

    @staticmethod
    def first(mixing: float, norm: Float[Tensor, " batch"]) -> Lengths:
        """At the start, with the residual there."""
        beta = torch.full_like(norm, mixing)
        return Lengths(beta, beta, torch.zeros_like(norm, dtype=torch.long))

    def after(
        self,
        step: Extrapolation,
        found: Evaluated,
        accepted: Bool[Tensor, " batch"],
        anchor_norm: Float[Tensor, " batch"],
        *,
        shrink: float,
        longest: float,
    ) -> tuple[Lengths, Bool[Tensor, " batch"]]:
        """The lengths of the next steps, and the rows whose forward step was too long.

        Args:
            step, found, accepted: the last step, where it led, and whether that was accepted.
            anchor_norm: the norm that it started from.
            shrink: factor on beta after a forward step that was too long; 1 for no change.
            longest: the largest beta of forward steps.
        """
        forward = ~step.extrapolated
        raised = ~(found.norm <= _EQUAL * anchor_norm)
        too_long = forward & raised & (shrink < 1)
        refused = forward & ~accepted
        failures = torch.where(refused, self.failures + 1, 0)
        failures = torch.where(forward, failures, self.failures)
        # Shorter and ever shorter: by 1, 2, 4, ... powers of `shrink` where steps are refused.
        power = 2.0 ** (failures - 1).clamp(0, 5).double()
        shrunk = self.mixing * shrink ** torch.where(refused, power, 1.0)
        if found.merit is not None:  # its differences say nothing of the lengths that T allows
            mixing = torch.where(too_long, shrunk, self.mixing)
            return Lengths(mixing, torch.minimum(mixing, self.extrapolation), failures), too_long
        safe, grown = self._of_forward_steps(found)
        mixing = torch.where(forward & accepted & ~raised, grown.clamp(max=longest), self.mixing)
        shrunk = torch.where(accepted, torch.minimum(shrunk, safe), shrunk)
        mixing = torch.where(too_long, shrunk, mixing)
        secant = self._secant(step, found, anchor_norm)
        return Lengths(mixing, torch.maximum(secant, mixing), failures), too_long

    def _of_forward_steps(
        self, found: Evaluated
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """The beta that is safe by the ratio b of the last step, and the one to grow to."""
        moved = found.row.newest[:, 0]
        ratio = -self.mixing * found.row.at_anchor / moved
        safe = torch.where((ratio > 0) & ratio.isfinite(), _SAFE * ratio, torch.inf)
        return safe, torch.where(moved > 0, torch.maximum(safe, self.mixing), 2 * self.mixing)

    def _secant(
        self, step: Extrapolation, found: Evaluated, anchor_norm: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """||z' - (a - dZ gamma)|| over ||T z' - r_min||: the secant of the step along r_min."""
        older = found.row.at_value[:, 1:]
        products = found.row.at_anchor + anchor_norm.square()
        products = products - (step.weights[:, : older.shape[1]] * older).sum(1)
        change = found.norm.square() - 2 * products + step.model.square()
        known = (change > 1e-12 * anchor_norm.square()) & (step.model > 1e-6 * anchor_norm)
        # After a forward step r_min is r_a, and the change is the new difference itself.
        moved = found.row.newest[:, 0]
        change = torch.where(step.extrapolated, change, moved)
        known = torch.where(step.extrapolated, known, moved > 0) & found.usable
        size = torch.where(step.extrapolated, self.extrapolation, self.mixing)
        secant = size * step.model / change.clamp(min=0).sqrt()
        return torch.where(known, secant, self.extrapolation)
