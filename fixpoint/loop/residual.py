"""Whether a residual counts as zero: the two rules that make a row a success.

`Residual`. A row has converged when `||T z|| <= atol + rtol ||T z^0||`. The comparison with the
first residual (as in PETSc's KSP and SNES and in KINSOL) does not change when T becomes c T and the
step is scaled accordingly, nor when z becomes z + b. A comparison with `||z||` changes with both,
and a row that runs away passes it. But if the start lies far out on a steep slope, a row may reach
a residual far below the first one without a zero nearby: `exp(z) - 1` steps from 12 to -162742,
where T is -1 and stays -1. So a residual within tolerance must also keep falling. Its limit is
extrapolated by Aitken's Delta^2 from the last three accepted iterates,

    r_inf = r_k - (r_k - r_{k-1})^2 / ((r_k - r_{k-1}) - (r_{k-1} - r_{k-2})),

and the row has converged if the limit is below 0.6 r_k. Every linear rate and the rate 1/k pass
this test at once. Slower rates, and residuals that fall irregularly, are tested at the iterations
k, 2k and 4k: there Aitken's limit is 0 for every power of k. A residual that falls ever faster has
no such limit. It must fall in one more iteration, unless all but a few of its digits vanish in one
step, as on a linear problem that is solved exactly. A residual within tolerance that stands still
is no remainder of the first one. It begins a run of its own, and the tolerance becomes relative to
it: `exp(z) - 1` ends at 0. A residual of 0 needs no limit.

`RoundingLevel`. The values of T at z carry the rounding of z, about `eps L ||z||`, where L is the
factor by which T changes with z nearby. A residual below a few times this level cannot be told from
zero, and no iteration lowers it further; a start at a solution ends like this. L is measured as
`||dT|| / ||dz||` of the last two points if they are near each other, and never assumed: a T that is
flat there, as where a row runs away, has L = 0. If the steps are too short to move z at all, L is
that of the last step that did, if it was short. A row may also run so far that the rounding of T
exceeds the first residual; such a row has found nothing. So either z is at most twice as large as
at the start, or L ||z|| is at most four times the first residual.

`PositiveLimit` decides for rows at the limit on iterations whether their residual was still
falling. For an averaged operator the displacements z^k - z^{k+1} converge to the least one of the
closure of its range, which is not zero if T has no zero, not even at infinity (Pazy, Israel J.
Math. 1971; Bauschke & Moursi, SIAM J. Optim. 2020). A row ends as NO_ZERO if its last residuals are
the same vector, and the limit of the residual norms at k/4, k/2 and k or later is not below 0.6 of
the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.loop.iterate import Iterate
from fixpoint.status import Status
from fixpoint.stop import StopRule, per_row

_LEFT = 0.6  # share of a residual that may be left at its limit
_ROUNDINGS = 4.0  # units of rounding that count as zero
_STILL = 1e-6  # how far a residual may be from the one before, relative to it, to stand still
_COARSE = 1e-2  # longest step, relative to z, that shows T nearby
_COLLAPSED = 3 / 4  # of the digits of a residual, gone in one step
_SAME = 1e-2  # how far two residuals may differ, relative to them, to be one vector
_STUCK = 1e-12  # length of a step, relative to z, below which a row is stuck
_SHORTEST = 16  # iterations, at least, before a limit is judged


@dataclass(frozen=True, kw_only=True, eq=False)
class Residual(StopRule):
    """Converged: `||T z|| <= atol + rtol ||T z^0||`, and still falling; see the module.

    Args:
        rtol: in [0, 1).
        atol: at least 0, in the units of T; a number, or (batch,). A start within it has converged.
    """

    rtol: float
    atol: float | Float[Tensor, " batch"]
    status: ClassVar = Status.CONVERGED
    accepts: ClassVar = True

    def __post_init__(self) -> None:
        if not (isinstance(self.rtol, (int, float)) and 0 <= self.rtol < 1):
            raise ValueError(f"rtol must lie in [0, 1), got {self.rtol}")
        if not bool((torch.as_tensor(self.atol) >= 0).all()):
            raise ValueError(f"atol must be at least 0, got {self.atol}")

    def start(self, iterate: Iterate) -> Any:
        norm = iterate.residual_norm
        atol = per_row(self.atol, norm, "atol")
        none = torch.zeros_like(norm)
        return {
            "tolerance": atol + self.rtol * norm,
            "atol": atol,
            "last": norm,  # r_k
            "before": torch.full_like(norm, torch.nan),  # r_{k-1}
            "earlier": torch.full_like(norm, torch.nan),  # r_{k-2}
            # Within tolerance, but not confirmed: since when, and the residual then and at twice.
            "since": none,
            "then": none,
            "twice": torch.full_like(norm, torch.nan),
        }

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        norm = iterate.residual_norm
        within = norm <= memory["tolerance"]
        if iterate.previous is None:
            return (norm <= memory["atol"]) | (norm == 0), memory
        new = {"last": norm, "before": memory["last"], "earlier": memory["before"]}
        if iterate.accepted is not None:
            new = {k: torch.where(iterate.accepted, v, memory[k]) for k, v in new.items()}
        return within, memory | new

    def confirm(
        self, iterate: Iterate, memory: Any, fires: Bool[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, " batch"], Any]:
        norm = memory["last"]
        if iterate.previous is None:
            return fires & ((norm <= memory["atol"]) | _vanishes(iterate)), memory
        zero = (norm == 0) & _vanishes(iterate)
        steadily = limit(memory["earlier"], memory["before"], norm) <= _LEFT * norm
        # A method that solves the problem exactly removes nearly all digits at once.
        eps = torch.finfo(iterate.state.point.dtype).eps
        known = memory["earlier"].isfinite()
        steadily = steadily | (known & (norm <= eps**_COLLAPSED * memory["before"]))
        # A residual that stands still within tolerance, for three iterates, begins anew.
        apart = (norm - memory["before"]).abs().maximum((norm - memory["earlier"]).abs())
        still = fires & (apart <= _STILL * norm) & ~zero
        if iterate.accepted is not None:
            still = still & iterate.accepted
        tolerance = torch.where(still, memory["atol"] + self.rtol * norm, memory["tolerance"])
        # Tested at each doubling of the time since the row came within tolerance.
        number = iterate.iteration + torch.zeros_like(norm)
        met = memory["since"] > 0
        doubled = fires & met & memory["twice"].isnan() & (number >= 2 * memory["since"])
        twice = torch.where(doubled, norm, memory["twice"])
        due = fires & met & (number >= 4 * memory["since"])
        slowly = due & (limit(memory["then"], twice, norm) <= _LEFT * norm)
        restart = fires & due & ~slowly
        memory = memory | {
            "tolerance": torch.minimum(tolerance, memory["tolerance"]),
            "since": torch.where(
                fires & ~met, number, torch.where(restart, 2 * memory["since"], memory["since"])
            ),
            "then": torch.where(fires & ~met, norm, torch.where(restart, twice, memory["then"])),
            "twice": torch.where(restart, norm, twice),
        }
        return fires & (zero | ((norm > 0) & (steadily | slowly))), memory


@dataclass(frozen=True, kw_only=True)
class RoundingLevel(StopRule):
    """The residual is at the level of T's rounding at that point; see the module."""

    status: ClassVar = Status.ROUNDING
    accepts: ClassVar = True
    pairs: ClassVar = True

    def start(self, iterate: Iterate) -> Any:
        none = torch.zeros_like(iterate.residual_norm)
        return {
            "gain": none,
            "coarse": none,
            "first": iterate.residual_norm,
            "size": iterate.point_norm,
        }

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        if iterate.previous is None:
            return torch.zeros_like(iterate.residual_norm, dtype=torch.bool), memory
        number = iterate.iteration
        if not isinstance(number, int) or number & (number - 1) == 0:  # at 1, 2, 4, 8, ...
            memory = self._measured(iterate, memory)
        gain = torch.maximum(memory["gain"], memory["coarse"])
        return self._reached(iterate, gain, memory), memory

    def confirm(
        self, iterate: Iterate, memory: Any, fires: Bool[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, " batch"], Any]:
        if iterate.change is None:
            return torch.zeros_like(fires), memory
        memory = self._measured(iterate, memory)
        still = iterate.change.point == 0
        if iterate.accepted is not None:
            still = still & iterate.accepted
        level = torch.where(still, memory["coarse"], memory["gain"])
        return fires & self._reached(iterate, level, memory), memory

    def _measured(self, iterate: Iterate, memory: Any) -> Any:
        """T's gain over the last step if that was short; the coarse one is kept otherwise."""
        eps = torch.finfo(iterate.state.point.dtype).eps
        coarse = _gain(iterate, _COARSE**2)
        return memory | {
            "gain": _gain(iterate, eps),
            "coarse": torch.where(coarse > 0, coarse, memory["coarse"]),
        }

    def _reached(
        self, iterate: Iterate, gain: Float[Tensor, " batch"], memory: Any
    ) -> Bool[Tensor, " batch"]:
        values = gain * iterate.point_norm
        unit = _ROUNDINGS * torch.finfo(iterate.state.point.dtype).eps
        here = (iterate.point_norm <= 2 * memory["size"]) | (values <= 4 * memory["first"])
        return here & (iterate.residual_norm <= unit * values)


@dataclass(frozen=True, kw_only=True)
class PositiveLimit(StopRule):
    """Ends rows at the limit on iterations whose residual stands still; none before."""

    status: ClassVar = Status.NO_ZERO

    def start(self, iterate: Iterate) -> Any:
        unknown = torch.full_like(iterate.residual_norm, torch.nan)
        return {
            "newest": unknown,
            "half": unknown,
            "quarter": unknown,
            "last": iterate.residual_norm,
        }

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        norm, number = iterate.residual_norm, iterate.iteration
        never = torch.zeros_like(norm, dtype=torch.bool)
        memory = memory | {"last": norm}
        if isinstance(number, int):
            if number > 0 and number & (number - 1) == 0:
                memory |= {"newest": norm, "half": memory["newest"], "quarter": memory["half"]}
            return never, memory
        marked = (number > 0) & (number & (number - 1) == 0)
        return never, memory | {
            "newest": torch.where(marked, norm, memory["newest"]),
            "half": torch.where(marked, memory["newest"], memory["half"]),
            "quarter": torch.where(marked, memory["half"], memory["quarter"]),
        }

    def at_the_limit(self, iterate: Iterate, memory: Any) -> Bool[Tensor, " batch"]:
        norm, pair = memory["last"], iterate.change
        enough = isinstance(iterate.iteration, Tensor) or iterate.iteration >= _SHORTEST
        if pair is None or not enough:
            return torch.zeros_like(norm, dtype=torch.bool)
        # The last gap is the longest, so that a slow fall is seen.
        level = limit(memory["quarter"], memory["half"], norm, faster=0.0)
        same = pair.residual.sqrt() <= _SAME * norm
        # A row that hardly moves is stuck: it does not show T elsewhere.
        moves = pair.point > (_STUCK * iterate.point_norm.double()).square()
        return iterate.finite & same & moves & (level > _LEFT * norm)


def limit(
    first: Float[Tensor, " batch"],
    second: Float[Tensor, " batch"],
    third: Float[Tensor, " batch"],
    faster: float | None = None,
) -> Float[Tensor, " batch"]:
    """Aitken's limit of a falling sequence; the last value if it does not fall.

    If the sequence falls ever faster, `faster`, or the last value if that is None. If one of the
    three is not known, the last value.
    """
    before, after = second - first, third - second
    bend = after - before
    instead = third if faster is None else torch.full_like(third, faster)
    extrapolated = torch.where(bend > 0, third - after * (after / bend), instead)
    known = before.isfinite() & after.isfinite()
    return torch.where(known & (after < 0), extrapolated, third)


def _gain(iterate: Iterate, nearest: float) -> Float[Tensor, " batch"]:
    """`||dT|| / ||dz||` of the last two points evaluated, where ||dz||^2 is at most `nearest`
    times ||z||^2; else 0. A longer step shows T elsewhere."""
    pair, point = iterate.change, iterate.point_norm.double()
    if pair is None:
        return torch.zeros_like(iterate.residual_norm)
    near = (pair.point > 0) & (pair.point <= nearest * point.square()) & pair.residual.isfinite()
    if iterate.accepted is not None:
        near = near & iterate.accepted
    gain = torch.where(near, (pair.residual / pair.point).sqrt(), 0.0)
    return gain.to(iterate.residual_norm.dtype)


def _vanishes(iterate: Iterate) -> Bool[Tensor, " batch"]:
    """Every element of T is 0; its square may underflow to 0 before."""
    residual = iterate.state.residual
    if residual[0].numel() == 0:
        return torch.ones_like(iterate.residual_norm, dtype=torch.bool)
    return residual.reshape(len(residual), -1).abs().amax(1) == 0
