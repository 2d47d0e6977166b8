"""Which rows have a new iterate: methods with a safeguard refuse some of the points they try.

The state of a refused trial still holds the last accepted iterate as `z`; `point` and `residual`
are those of the trial. A theorem about the iterates says nothing of refused trials.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.loop.iterate import Iterate


def accepted_rows(iterate: Iterate) -> Bool[Tensor, " batch"] | None:
    """The rows whose point was accepted; None: all of them."""
    accepted: Tensor | None = getattr(iterate.state, "accepted", None)
    return accepted


def evaluated_norms(
    iterate: Iterate,
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """`||T point||` and `||point||` of the point where T was evaluated, accepted or not."""
    if accepted_rows(iterate) is None:
        return iterate.residual_norm, iterate.point_norm
    sums = kernels.row_sums(iterate.state.point, iterate.state.residual)
    return sums.residual.sqrt(), sums.point.sqrt()
