"""Methods with a safeguard try points and refuse some of them.

The state of a refused trial still holds the last accepted iterate as `z`, while `point` and
`residual` are the trial's. What a theorem says of the iterates is not asked of refused trials.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.loop.iterate import Iterate


def accepted_rows(iterate: Iterate) -> Bool[Tensor, " batch"] | None:
    """Where the point was accepted; None: everywhere."""
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
