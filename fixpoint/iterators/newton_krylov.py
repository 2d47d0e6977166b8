"""Inexact Newton without derivatives, safeguarded (Dembo, Eisenstat & Steihaug, SIAM J. Numer.
Anal. 1982; Knoll & Keyes, J. Comput. Phys. 2004), per row:

    z' = a + t d,    J d = -r by GMRES,    J v = (T(a + eps v) - r) / eps,    r = T a

Every row keeps an anchor: the last accepted point a. A Newton point stands if

    ||T z'|| <= (1 - c t (1 - eta)) ||r||,    eta = ||r + J d|| / ||r||

(Eisenstat & Walker, SIAM J. Optim. 1994). A refused one halves t, an accepted one doubles it, up
to 1. Every step costs `krylov + 1` evaluations. If GMRES failed, or the Newton point brought less
than the share `trust` of the decrease that GMRES predicted, the next step spends all of them on
forward steps from a, which need no derivative. So of two successive steps one is a Newton step with
the predicted decrease, or `krylov + 1` forward steps. Forward steps have the row's own length,
`mixing` at first: they are taken back and shortened if they more than double the least residual,
and the length grows again with every step that lowers it. Backtracking along d would use the
evaluations worse: d descends only as far as the differences are right, and rounding inside T may
make them wrong.

The method solves what forward steps solve. d is cut to `largest_step` forward steps, not tried if
the cut leaves less than c of it, and used only if GMRES reduced the residual by the share
`least_reduction`. Then all Newton steps together move a row by at most
largest_step mixing ||T z^0|| / (c least_reduction), because each lowers the residual in proportion
to its length, and forward steps of a beta-cocoercive T with mixing < 2 beta never raise it. Hence
such a T with a zero is solved: infinitely many forward steps are a Krasnoselskii-Mann iteration
with summable errors (Combettes, 2001); after the last of finitely many, t stays and the residual
falls geometrically. If T has several isolated zeros, `shortened` counts the Newton steps that might
have jumped to another one.

GMRES (Saad & Schultz, SIAM J. Sci. Stat. Comput. 1986) is the flexible one (Saad, SIAM J. Sci.
Comput. 1993): its directions are the differences that T really saw, rounded to the dtype of z.
Their length is a tenth of the forward step's, which adds to Newton's own error no more than a like
share of it, and not below sqrt(rounding) ||a||, where rounding would take over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.inner_solves.gmres import Gmres
from fixpoint.iterator import Iterator
from fixpoint.iterators.anchor import AnchoredState
from fixpoint.iterators.trials import forward_lengths
from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows, where_rows

_SHARE = 0.1  # of the forward step's length, for a difference


@dataclass(frozen=True)
class NewtonKrylovState(AnchoredState):
    resting: Bool[Tensor, " batch"]  # the next step is made of forward steps
    damping: Float[Tensor, " batch"]  # t of the next Newton point
    forcing: Float[Tensor, " batch"]  # eta at which GMRES may end
    forward: Float[Tensor, " batch"]  # length of forward steps
    failures: Int[Tensor, " batch"]  # steps of forward steps refused one after the other
    rejected_residual: Int[Tensor, " batch"]  # points refused: residual not lowered enough
    rejected_nonfinite: Int[Tensor, " batch"]  # points refused: NaN or infinity
    shortened: Int[Tensor, " batch"]  # Newton steps cut to `largest_step`
    failed_linear_solves: Int[Tensor, " batch"]  # not tried: no reduction, or not finite

    counters: ClassVar = (
        "rejected_residual",
        "rejected_nonfinite",
        "shortened",
        "failed_linear_solves",
    )


@dataclass(frozen=True, kw_only=True)
class NewtonKrylov(Iterator[NewtonKrylovState]):
    """Safeguarded Newton-GMRES with finite differences, each row on its own.

    Args:
        krylov: directions of GMRES, at least 1; no more than a row has elements are used. A step
            costs one evaluation for each, and one more.
        mixing: the step of the forward steps that it falls back to.
        difference: least length of the difference eps v, relative to ||z||, in (0, 1); None for
            the square root of the rounding of z's dtype. Larger where T rounds inside.
        forcing: eta at which GMRES ends, in [0, 1); None for Eisenstat & Walker, SIAM J. Sci.
            Comput. 1996, choice 2, with gamma 0.9 and alpha 2.
        decrease: c, the share of the predicted decrease below which a Newton point is refused, in
            [0, 1); the theorem above needs it positive.
        trust: the share of it below which forward steps follow, in [0, 1).
        largest_step: longest Newton step, in lengths of the forward step, above 0.
        least_reduction: 1 - eta that GMRES must reach for its direction to be tried, in (0, 1).
        safeguard: refuse Newton points that do not lower the residual, and take forward steps where
            they do not lower it enough.
    """

    krylov: int = 5
    mixing: float = 1.0
    difference: float | None = None
    forcing: float | None = 1e-3
    decrease: float = 1e-4
    trust: float = 0.5
    largest_step: float = 100.0
    least_reduction: float = 1e-3
    safeguard: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.krylov, int) and self.krylov >= 1):
            raise ValueError(f"krylov must be a whole number, at least 1, got {self.krylov}")
        if not 0 < self.mixing < float("inf"):
            raise ValueError(f"mixing must be above 0, got {self.mixing}")
        if self.difference is not None and not 0 < self.difference < 1:
            raise ValueError(f"difference must lie in (0, 1), got {self.difference}")
        if self.forcing is not None and not 0 <= self.forcing < 1:
            raise ValueError(f"forcing must lie in [0, 1), got {self.forcing}")
        if not 0 <= self.decrease < 1:
            raise ValueError(f"decrease must lie in [0, 1), got {self.decrease}")
        if not 0 <= self.trust < 1:
            raise ValueError(f"trust must lie in [0, 1), got {self.trust}")
        if not self.largest_step > 0:
            raise ValueError(f"largest_step must be above 0, got {self.largest_step}")
        if not 0 < self.least_reduction < 1:
            raise ValueError(f"least_reduction must lie in (0, 1), got {self.least_reduction}")

    def init(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> NewtonKrylovState:
        residual = operator(z)
        norm = kernels.row_norm(residual).double()
        return NewtonKrylovState.first(
            z,
            residual,
            norm,
            resting=torch.zeros_like(norm, dtype=torch.bool),
            damping=torch.ones_like(norm),
            forcing=torch.full_like(norm, 0.5 if self.forcing is None else self.forcing),
            forward=torch.full_like(norm, self.mixing),
            failures=torch.zeros_like(norm, dtype=torch.long),
        )

    def step(self, operator: Operator, state: NewtonKrylovState) -> NewtonKrylovState:
        anchor, resting = state.anchor, state.resting
        gmres, last, last_residual = self._differences(operator, state)
        direction, remaining = gmres.solution()
        length = kernels.row_norm(direction)
        solved = length.isfinite() & (remaining <= 1 - self.least_reduction)
        longest = self.largest_step * self.mixing * state.anchor_norm
        rho = expand_rows(state.forward, anchor)
        # A direction cut to less than c of itself cannot bring the decrease that is demanded.
        newton = ~resting & solved & (longest >= self.decrease * length)
        failed = ~resting & ~newton & (state.anchor_norm > 0)
        shortened = newton & (length > longest)
        factor = state.damping * torch.where(shortened, longest / length, 1.0)
        wide = kernels.accumulation_dtype(anchor.dtype)
        proposed = kernels.forward_step(anchor.to(wide), direction, -expand_rows(factor, anchor))
        base = where_rows(resting, last, anchor)
        base_residual = where_rows(resting, last_residual, state.anchor_residual)
        forward = kernels.forward_step(base, base_residual, rho)
        point = where_rows(newton, proposed.to(anchor.dtype), forward)
        residual = operator(point)
        norm = kernels.row_norm(residual).double()

        finite = norm.isfinite() & kernels.row_norm(point).isfinite()
        demanded = 1 - self.decrease * state.damping * (1 - remaining)
        lowered = norm <= demanded * state.anchor_norm
        accepted = finite
        if self.safeguard:
            accepted = finite & torch.where(newton, lowered, state.forward_step_stands(norm))
        refused = newton & ~accepted
        promised = 1 - self.trust * factor * (1 - remaining)
        kept = accepted & (norm <= promised * state.anchor_norm)
        failures, length = forward_lengths(
            state.forward,
            state.failures,
            ~newton,
            accepted,
            norm <= state.anchor_norm,
            self.mixing,
        )
        grown = torch.where(newton, 2 * state.damping, state.damping).clamp(max=1)
        anchor_norm = torch.where(accepted, norm, state.anchor_norm)
        following = where_rows(accepted, point, anchor)
        return NewtonKrylovState(
            z=following,
            point=point,
            residual=residual,
            accepted=accepted,
            least_norm=torch.minimum(anchor_norm, state.least_norm),
            forward=length,
            failures=failures,
            anchor=following,
            anchor_residual=where_rows(accepted, residual, state.anchor_residual),
            anchor_norm=anchor_norm,
            resting=failed | (newton & ~kept) if self.safeguard else failed,
            damping=torch.where(refused, state.damping / 2, grown),
            forcing=torch.where(accepted, self._forcing(state, anchor_norm), state.forcing),
            rejected_residual=state.rejected_residual + (finite & ~accepted),
            rejected_nonfinite=state.rejected_nonfinite + ~finite,
            shortened=state.shortened + shortened,
            failed_linear_solves=state.failed_linear_solves + failed,
        )

    def statistics(self, state: NewtonKrylovState) -> dict[str, Tensor]:
        return state.statistics()

    def _differences(
        self, operator: Operator, state: NewtonKrylovState
    ) -> tuple[Gmres, Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]]:
        """GMRES after `krylov` evaluations, with the last point and T there; resting rows make
        forward steps with them."""
        resting, dtype = state.resting, state.anchor.dtype
        wide = kernels.accumulation_dtype(dtype)
        anchor, residual = state.anchor.to(wide), state.anchor_residual.to(wide)
        rounding = torch.finfo(dtype).eps
        relative = math.sqrt(rounding) if self.difference is None else self.difference
        eps = (relative * kernels.row_norm(anchor)).maximum(
            _SHARE * state.forward * state.anchor_norm
        )
        rho = expand_rows(state.forward, anchor)
        inverse = expand_rows(torch.where(eps > 0, 1 / eps, 0), anchor)

        # A difference that orthogonalisation reduces below its rounding is no direction.
        gmres = Gmres(-residual, ~resting, state.forcing, rounding / relative)
        last, last_residual = state.anchor, state.anchor_residual
        for _ in range(min(self.krylov, math.prod(anchor.shape[1:]))):
            perturbed = kernels.forward_step(
                anchor, gmres.next_direction, -expand_rows(eps, anchor)
            )
            forward = kernels.forward_step(last, last_residual, rho)
            last = where_rows(resting, forward, perturbed.to(dtype))
            last_residual = operator(last)
            gmres.extend(
                (last.to(wide) - anchor) * inverse, (last_residual.to(wide) - residual) * inverse
            )
        return gmres, last, last_residual

    def _forcing(
        self, state: NewtonKrylovState, norm: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        if self.forcing is not None:
            return state.forcing
        ratio = torch.where(state.anchor_norm > 0, norm / state.anchor_norm, 0)
        chosen = 0.9 * ratio * ratio
        before = 0.9 * state.forcing * state.forcing
        chosen = torch.where(before > 0.1, chosen.maximum(before), chosen)
        return chosen.clamp(max=0.9)
