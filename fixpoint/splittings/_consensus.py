"""Consensus on the product space, the parallel proximal algorithm PPXA (Spingarn 1983; Combettes &
Pesquet, Inverse Problems 2008, and Proximal Splitting Methods in Signal Processing 2011, algorithm
10.27 with equal weights; Ryu & Yin, section 2.7.3): min f_1(x) + ... + f_m(x).

    p_i       = prox_{s f_i}(z_i),   p = mean p_i,   x = mean z_i
    z_i^{k+1} = z_i^k + 2 p - x - p_i

Douglas-Rachford on m copies of the space: z = (z_1, ..., z_m), sum f_i(z_i) first, then the
projection onto the diagonal z_1 = ... = z_m. Condition: s > 0. S is 1/2-averaged. The reflection at
the diagonal is an isometry: with d the largest constant of the m reflected resolvents, below 1
where all f_i are strongly convex and smooth, S contracts with (1 + d)/2 and its averagedness is
(1 + d)/4 (Giselsson & Boyd 2017, theorem 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fixpoint.splittings.bounds import backward_bounds, check_step
from fixpoint.splittings.splitting import Splitting
from fixpoint.splittings.steps import BackwardPart, BackwardStep, backward_step


@dataclass(frozen=True, eq=False)
class Consensus(Splitting):
    """min f_1(x) + ... + f_m(x). z: (batch, m, *shape); the solution is p, (batch, *shape).

    Args:
        functions: (f_1, ..., f_m), at least one; or resolvents of monotone operators.
        step: s, above 0.

    Raises:
        ValueError: the step is outside.
    """

    functions: tuple[BackwardPart, ...]
    step: float
    _back: tuple[BackwardStep, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.functions, tuple) or not self.functions:
            raise TypeError("Consensus takes a tuple of functions, at least one")
        check_step("Consensus", self.step)
        bounds = [backward_bounds("every function", each) for each in self.functions]
        reflection = max(each.reflection(self.step) for each in bounds)
        self._set_averaged((1 + reflection) / 4, (1 + reflection) / 2, of=tuple(bounds))
        self._set(_back=tuple(backward_step(each, self.step) for each in self.functions))

    def pack(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch m *shape"]:
        """m copies of x, to start from."""
        return torch.stack([x] * len(self.functions), 1)

    def split(self, z: Float[Tensor, "batch m *shape"]) -> tuple[Tensor, Tensor]:
        if z.dim() < 2 or z.shape[1] != len(self.functions):
            raise ValueError(
                f"z must be (batch, {len(self.functions)}, *shape), a copy for every function, "
                f"got {tuple(z.shape)}"
            )
        copies = zip(self._back, z.unbind(1), strict=True)
        points = torch.stack([back(copy) for back, copy in copies], 1)
        p, x = _mean(points), _mean(z)
        return points - (2 * p - x).unsqueeze(1), p


def _mean(z: Float[Tensor, "batch m *shape"]) -> Float[Tensor, "batch *shape"]:
    """Summed one by one, in an order that depends on the row alone."""
    first, *others = z.unbind(1)
    return sum(others, start=first) / z.shape[1]
