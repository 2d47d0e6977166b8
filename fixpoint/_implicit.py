"""Derivatives of a zero with respect to whatever T depends on (implicit function theorem).

At a zero, T(z*, theta) = 0, and with J = dT/dz there

    dz*/dtheta = -J^{-1} dT/dtheta,   so that   (dz*/dtheta)^T g = -(dT/dtheta)^T w,  J^T w = g.

How z* was found does not matter: only the graph of one evaluation of T is kept. Rows
are independent, so that J is block diagonal, and one vector-Jacobian product of the batch serves
all rows. This is how deep-equilibrium models are trained (Bai, Kolter & Koltun, NeurIPS 2019).
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fixpoint.inner_solves.linearization import (
    Linearization,
    RecordedGraph,
    Transformed,
    forward_mode,
    under_transforms,
    zero_of,
)
from fixpoint.inner_solves.row_systems import ImplicitWarning, RowSolver, rows_named
from fixpoint.iterator import Iterator
from fixpoint.operator import Operator
from fixpoint.solution import Solution
from fixpoint.trees.rows import select_rows
from fixpoint.trees.structured import Packed, Structure


def implicit(
    operator: Operator,
    z: Float[Tensor, "batch *shape"] | Any,
    *,
    method: str | Iterator[Any] = "gmres",
    rtol: float | None = None,
    max_iterations: int = 100,
    restart: int = 20,
) -> Any:
    """z, differentiable with respect to every tensor that T is computed from.

    The values are those of `z`. Backward, J^T w = g is solved for every row, and -w goes back
    through one evaluation of T: to the parameters of its modules, to per-row data, to whatever
    requires a gradient. The starting point of the run gets none: a zero does not depend on it.

    The size of g does not matter: every row is solved for g / ||g||, and w = 0 for g = 0.
    In backward, a row whose w does not reach the tolerance is named in a warning, and the best w
    found is used. A row whose g or J is not finite is named, too, and has NaN for w.

    It works inside of `torch.func.grad`, `vjp`, `jvp`, `jacrev` and `jacfwd`, where T is evaluated
    again for J, and in forward mode (`torch.autograd.forward_ad`), where J v = t is solved for a
    tangent t of T z.

    Args:
        operator: T, computed by differentiable operations of torch, each row on its own.
        z: zeros of T, or the `Solution` that holds them; a tuple or dict of tensors where T takes
            one, see `fixpoint.trees.structured`. Rows of a solution that have not converged
            (or come to the noise floor) have no implicit gradient: they are named in a warning, T
            is differentiated on the other rows alone (`operator.select`), and no gradient passes
            through them. `solution.z` counts as a zero in every row.
        method: for J^T w = g: "gmres"; "neumann", the series sum_k (I - J^T)^k g, which converges
            where I - T contracts; "anderson", that series accelerated; or any iterator.
        rtol: on `||J^T w - g||`, relative to `||g||`; None for 1e-5, or for the rounding of z's
            dtype where that is larger.
        max_iterations: vector-Jacobian products at most ("gmres"), or steps at most.
        restart: directions that GMRES keeps.

    Returns:
        The values of z. Where autograd is off (`torch.no_grad`) nothing else.

    Raises:
        TypeError, ValueError: an argument is not usable, or T z cannot be differentiated.
        RuntimeError: where a second derivative is asked for: there is none.
        NotImplementedError: under `torch.vmap` itself; rows are independent as they are.

    Example:
        >>> solution = fixpoint.solve(operator, z0, fixpoint.Anderson())
        >>> z = fixpoint.implicit(operator, solution)
        >>> loss(z).backward()
    """
    solver = RowSolver.of(method, rtol, max_iterations, restart)
    if not isinstance(operator, Operator):
        raise TypeError(
            f"implicit takes an Operator, got {type(operator).__name__}; "
            "wrap a function with fixpoint.as_operator"
        )
    rows = None
    if isinstance(z, Solution):
        failed = [row for row, status in enumerate(z.status) if not status.success]
        if failed and torch.is_grad_enabled():
            names = sorted({z.status[row].name for row in failed})
            warnings.warn(
                f"{rows_named(failed, len(z.status))} did not converge ({', '.join(names)}): no "
                "gradient passes through a point that is no zero; pass solution.z to differentiate "
                "there all the same",
                ImplicitWarning,
                stacklevel=2,
            )
            succeeded = [row for row, status in enumerate(z.status) if status.success]
            rows = torch.tensor(succeeded, dtype=torch.long, device=z.residual_norm.device)
        z = z.z
    return _of_rows(operator, z, solver, rows)


def implicit_rows(
    operator: Operator,
    z: Float[Tensor, "batch *shape"] | Any,
    rows: Int[Tensor, " rows"],
    *,
    rtol: float,
    max_iterations: int,
) -> Any:
    """`implicit` by GMRES, where only these rows of z are zeros; the others pass no gradient."""
    return _of_rows(operator, z, RowSolver.of("gmres", rtol, max_iterations, restart=20), rows)


def _of_rows(
    operator: Operator, z: Any, solver: RowSolver, rows: Int[Tensor, " rows"] | None
) -> Any:
    if isinstance(z, Tensor):
        return _implicit(operator, z, solver, rows)
    structure = Structure.of(z)
    packed = _implicit(Packed(operator, structure), structure.pack(z), solver, rows)
    return structure.unpack(packed)


def _implicit(
    operator: Operator,
    z: Float[Tensor, "batch *shape"],
    solver: RowSolver,
    rows: Int[Tensor, " rows"] | None,
) -> Float[Tensor, "batch *shape"]:
    """z with its gradient; `rows`: the zeros among its rows, None for all."""
    if not (z.is_floating_point() and z.dim() >= 1):
        raise TypeError(
            f"z must be floating point with the batch first, got {z.dtype} {tuple(z.shape)}"
        )
    z = z.detach()
    transformed = under_transforms()
    if not (torch.is_grad_enabled() or transformed or forward_mode()) or len(z) == 0:
        return z
    linearized: type[Linearization] = Transformed if transformed else RecordedGraph
    if rows is None or len(rows) == len(z):
        return zero_of(linearized(operator, z), z, solver, None)
    with torch.no_grad():
        operator(z)  # an operator from a closure can select rows once it knows the batch
    try:
        at = linearized(operator.select(rows), select_rows(z, rows))
    except (RuntimeError, IndexError, ValueError):
        if len(rows):
            raise
        at = linearized(operator, z)  # this T takes no empty batch
    return zero_of(at, z, solver, rows)
