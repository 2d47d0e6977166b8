"""Resolvents without a closed form, by an inner solve.

The algebra of operators imports no solver. This module imports both, and registers itself there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fixpoint import kernels
from fixpoint._implicit import implicit_rows
from fixpoint._solve import solve
from fixpoint.algebra.linear import Derived, Shifted, combination, negative
from fixpoint.algebra.resolvent import solve_with
from fixpoint.inner_solves.linearization import forward_mode, under_transforms
from fixpoint.iterators import Anderson
from fixpoint.loop.iterate import Iterate
from fixpoint.operator import Operator
from fixpoint.operator_algebra import _check_above_0
from fixpoint.status import Status
from fixpoint.stop import StopRule
from fixpoint.trees.rows import expand_rows

ROUNDINGS = 4  # errors of rounding that the residual of an inner solve may have


class InnerSolve(Derived):
    """z -> the u with u + step T u = z, to a tolerance; rows are solved one by one.

    By `Anderson`, whose safeguard falls back to the forward step that is known to converge. Rows
    that fail, and rows of z that are not finite, come back as NaN. Where autograd records, u has
    the implicit gradient in z and in what T is computed from.
    """

    def __init__(self, inner: Operator, step: float, tolerance: float, max_iterations: int) -> None:
        from fixpoint.theory import best_step_size

        _check_above_0("tolerance", tolerance)
        self.inner, self.step = inner, step
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.forward = combination(inner, 1.0, step)
        mixing = best_step_size(self.forward)
        if mixing is None or not (self.forward.strong_monotonicity or 0.0) > 0:
            raise ValueError(
                f"the resolvent of {type(inner).__name__} cannot be solved for: that needs a "
                "Lipschitz constant L of T, and that T is monotone or step L < 1, or step |mu| < 1 "
                "for a strong_monotonicity mu below 0 (elsewhere I + step T need not have an "
                f"inverse); known are lipschitz {inner.lipschitz}, strong_monotonicity "
                f"{inner.strong_monotonicity}, step {step}"
            )
        self.mixing: float = mixing
        self.lipschitz_forward: float = self.forward.lipschitz or 1.0

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        return self.evaluate(z)[0]

    def evaluate(
        self, z: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch *shape"], dict[str, Tensor]]:
        finite = _finite_rows(z)
        start = tree_map(lambda leaf: torch.where(expand_rows(finite, leaf), leaf, 0), z)
        solution = solve(
            Shifted(self.forward, negative(start)),
            start,
            Anderson(mixing=self.mixing),
            rtol=0.0,
            atol=0.0,
            max_iterations=self.max_iterations,
            stop=(_Solved(_row_norm(start), self.lipschitz_forward, self.tolerance),),
        )
        reached = torch.tensor([status.success for status in solution.status], device=finite.device)
        known = finite & reached
        u = solution.z
        if torch.is_grad_enabled() or forward_mode() or under_transforms():
            u = self._differentiable(u, start, known)
        return (
            tree_map(lambda leaf: torch.where(expand_rows(known, leaf), leaf, torch.nan), u),
            {
                "inner_residual": solution.residual_norm,
                "inner_evaluations": solution.evaluations.to(solution.residual_norm),
            },
        )

    def select(self, rows: Tensor) -> Operator:
        return InnerSolve(self.inner.select(rows), self.step, self.tolerance, self.max_iterations)

    def _differentiable(self, u: Any, z: Any, known: Bool[Tensor, " batch"]) -> Any:
        """u with its gradient in z and in what T is computed from, if any of them asks for it."""
        # In forward mode and under torch.func a tensor does not tell whether it is differentiated.
        told = not (forward_mode() or under_transforms())
        if told and not (_records(z) or _records(self.inner(u))):
            return u
        forward = combination(_Differentiated(self.inner), 1.0, self.step)
        eps = max(torch.finfo(leaf.dtype).eps for leaf in tree_leaves(u))
        return implicit_rows(
            Shifted(forward, negative(z)),
            u,
            known.nonzero().flatten(),
            rtol=min(max(self.tolerance, ROUNDINGS * eps * (1 + self.lipschitz_forward)), 0.5),
            max_iterations=self.max_iterations,
        )


@dataclass(frozen=True, eq=False)
class _Solved(StopRule):
    """Converged: the residual of u + step T u - z is at most tolerance (1 + ||u||), or it is a few
    rounding errors, and falls no lower.

    Args:
        size: `||z||`.
        lipschitz: L of I + step T; u is known up to its own rounding, which grows L times.
        tolerance: of the residual.
    """

    size: Float[Tensor, " batch"]
    lipschitz: float
    tolerance: float
    status: ClassVar = Status.CONVERGED
    accepts: ClassVar = True

    def start(self, iterate: Iterate) -> Any:
        size = self.size.to(iterate.residual_norm)
        return {"size": size, "last": torch.full_like(size, torch.inf)}

    def check(self, iterate: Iterate, memory: Any) -> tuple[Bool[Tensor, " batch"], Any]:
        eps = torch.finfo(iterate.state.point.dtype).eps
        residual = iterate.residual_norm
        rounding = ROUNDINGS * eps * (memory["size"] + self.lipschitz * iterate.point_norm)
        rounded = (residual <= rounding) & (residual > memory["last"] / 2)
        ended = rounded | (residual <= self.tolerance * (1 + iterate.point_norm))
        return ended, {**memory, "last": residual}


class _Differentiated(Derived):
    """T; refuses a T that hides its derivative, since u + step T u would seem to have J = I."""

    def __init__(self, inner: Operator) -> None:
        self.inner = inner

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        value = self.inner(z)
        if _records(z) and not _records(value):
            raise ValueError(
                f"the resolvent of {type(self.inner).__name__} is not differentiable: T u carries "
                "no graph (is it computed under torch.no_grad, or detached?); evaluate the "
                "resolvent under torch.no_grad where no gradient is wanted"
            )
        return value

    def select(self, rows: Tensor) -> Operator:
        return _Differentiated(self.inner.select(rows))


def _records(tree: Any) -> bool:
    """True where autograd records what is done with one of the leaves."""
    return torch.is_grad_enabled() and any(leaf.requires_grad for leaf in tree_leaves(tree))


@torch.no_grad()
def _row_norm(z: Any) -> Float[Tensor, " batch"]:
    """The norm of all numbers of a row."""
    norms = [kernels.row_norm(leaf) for leaf in tree_leaves(z)]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def _finite_rows(z: Any) -> Bool[Tensor, " batch"]:
    rows = [leaf.isfinite().reshape(len(leaf), -1).all(1) for leaf in tree_leaves(z)]
    return torch.stack(rows).all(0)


solve_with(InnerSolve)
