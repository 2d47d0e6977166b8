"""Derivatives of a zero with respect to whatever T depends on (implicit function theorem).

At a zero, T(z*, theta) = 0, and with J = dT/dz there

    dz*/dtheta = -J^{-1} dT/dtheta,   so that   (dz*/dtheta)^T g = -(dT/dtheta)^T w,  J^T w = g.

How z* was found does not matter: no iteration is kept, only the graph of one evaluation of T. Rows
are independent, so that J is block diagonal, and one vector-Jacobian product of the batch serves
all rows. This is how deep-equilibrium models are trained (Bai, Kolter & Koltun, NeurIPS 2019).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fixpoint import kernels
from fixpoint.gmres import Gmres
from fixpoint.iterator import Iterator
from fixpoint.iterators import Anderson, ForwardStep
from fixpoint.operator import Operator
from fixpoint.rows import expand_rows, select_rows, where_rows
from fixpoint.solution import Solution
from fixpoint.solve import solve
from fixpoint.structured import Packed, Structure

Product = Callable[[Tensor], Tensor]


class ImplicitWarning(UserWarning):
    """Some rows have no implicit gradient, or one that is not accurate; names them."""


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

    In backward, a row whose w does not reach the tolerance is named in a warning, and the best w
    found is used. A row whose g is not finite has NaN for w.

    Args:
        operator: T, computed by differentiable operations of torch, each row on its own.
        z: zeros of T, or the `Solution` that holds them; a tuple or dict of tensors where T takes
            one, see `fixpoint.structured`. Rows of a solution that have not converged
            (or come to the noise floor) have no implicit gradient: they are named in a warning, T
            is differentiated on the other rows alone (`operator.select`), and no gradient passes
            through them. `solution.z` is taken at its word in every row.
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
        RuntimeError: in backward, where a second derivative is asked for: there is none.

    Example:
        >>> solution = fixpoint.solve(operator, z0, fixpoint.Anderson())
        >>> z = fixpoint.implicit(operator, solution)
        >>> loss(z).backward()
    """
    solver = _Solver.of(method, rtol, max_iterations, restart)
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
                f"{_rows(failed, len(z.status))} did not converge ({', '.join(names)}): no "
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
    return _of_rows(operator, z, _Solver.of("gmres", rtol, max_iterations, restart=20), rows)


def _of_rows(operator: Operator, z: Any, solver: _Solver, rows: Int[Tensor, " rows"] | None) -> Any:
    if isinstance(z, Tensor):
        return _implicit(operator, z, solver, rows)
    structure = Structure.of(z)
    packed = _implicit(Packed(operator, structure), structure.pack(z), solver, rows)
    return structure.unpack(packed)


def _implicit(
    operator: Operator,
    z: Float[Tensor, "batch *shape"],
    solver: _Solver,
    rows: Int[Tensor, " rows"] | None,
) -> Float[Tensor, "batch *shape"]:
    """z with its gradient; `rows`: the zeros among its rows, None for all."""
    if not (z.is_floating_point() and z.dim() >= 1):
        raise TypeError(
            f"z must be floating point with the batch first, got {z.dtype} {tuple(z.shape)}"
        )
    z = z.detach()
    if not torch.is_grad_enabled() or len(z) == 0:
        return z
    if rows is None or len(rows) == len(z):
        point, value = _evaluated(operator, z)
        return _Zero.apply(value, z, point, solver, None)
    with torch.no_grad():
        operator(z)  # an operator from a closure can select rows once it knows the batch
    try:
        point, value = _evaluated(operator.select(rows), select_rows(z, rows))
    except (RuntimeError, IndexError, ValueError):
        if len(rows):
            raise
        point, value = _evaluated(operator, z)  # this T takes no empty batch
    return _Zero.apply(value, z, point, solver, rows)


def _evaluated(
    operator: Operator, z: Float[Tensor, "batch *shape"]
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch *shape"]]:
    """z as the point where T is differentiated, and T z with its graph."""
    point = _Boundary.apply(z.clone().requires_grad_())
    value = operator(point)
    if value.shape != z.shape or value.dtype != z.dtype:
        raise ValueError(
            f"T must return the shape and dtype of its argument: got {tuple(value.shape)} "
            f"{value.dtype} for {tuple(z.shape)} {z.dtype}"
        )
    if not value.requires_grad:
        raise ValueError(
            f"{type(operator).__name__} is not differentiable: T z carries no graph (is it "
            "computed under torch.no_grad, or detached?)"
        )
    return point, value


@dataclass(frozen=True)
class _Solver:
    """How J^T w = g is solved."""

    iterator: Iterator[Any] | None  # None: GMRES
    rtol: float | None
    max_iterations: int
    restart: int

    @classmethod
    def of(
        cls, method: str | Iterator[Any], rtol: float | None, max_iterations: int, restart: int
    ) -> _Solver:
        known: dict[str, Iterator[Any] | None]
        known = {"gmres": None, "neumann": ForwardStep(step_size=1.0), "anderson": Anderson()}
        if isinstance(method, str) and method in known:
            iterator = known[method]
        elif isinstance(method, Iterator):
            iterator = method
        else:
            raise ValueError(
                f"method must be one of {sorted(known)} or an iterator, got {method!r}"
            )
        if rtol is not None and not 0 <= rtol < 1:
            raise ValueError(f"rtol must lie in [0, 1), got {rtol}")
        for name, count in (("max_iterations", max_iterations), ("restart", restart)):
            if not (isinstance(count, int) and count >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {count}")
        return cls(iterator, rtol, max_iterations, restart)

    def __call__(
        self,
        product: Product,
        target: Float[Tensor, "rows *shape"],
        rows: Int[Tensor, " rows"],
        batch: int,
    ) -> Float[Tensor, "rows *shape"]:
        """w of these rows of a batch, with a warning for rows where it is not accurate."""
        rtol = self.rtol
        if rtol is None:
            rtol = max(1e-5, 8 * torch.finfo(target.dtype).eps)
        if self.iterator is None:
            w, remaining = _gmres(product, target, rtol, self.max_iterations, self.restart)
        else:
            w, remaining = self._iterate(self.iterator, product, target, rtol)
        failed = ~(remaining <= rtol)
        if bool(failed.any()):
            worst = float(remaining[failed].max())
            warnings.warn(
                f"the implicit gradient is not accurate in {_rows(rows[failed].tolist(), batch)}: "
                f"||J^T w - g|| is up to {worst:.2g} ||g||, above rtol = {rtol:.2g}; allow more "
                "max_iterations, or see whether J is singular there",
                ImplicitWarning,
                stacklevel=2,
            )
        return w

    def _iterate(
        self, iterator: Iterator[Any], product: Product, target: Tensor, rtol: float
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
        """w and `||J^T w - g|| / ||g||` by an iterator; g is scaled to 1, for an absolute bound."""
        norm = kernels.row_norm(target)
        usable = (norm > 0) & norm.isfinite()
        scale = expand_rows(torch.where(usable, norm, 1), target).to(target.dtype)
        unit = where_rows(usable, target / scale, torch.zeros_like(target))
        solution = solve(
            _Adjoint(product, unit, torch.arange(len(target), device=target.device), len(target)),
            torch.zeros_like(target),
            iterator,
            rtol=0.0,
            atol=rtol,
            max_iterations=self.max_iterations,
        )
        remaining = torch.where(norm == 0, 0, solution.residual_norm)
        return solution.z * scale, torch.where(norm.isfinite(), remaining, torch.nan)


class _Adjoint(Operator):
    """w -> J^T w - g on some rows; the product is one of the whole batch."""

    def __init__(
        self, product: Product, target: Tensor, rows: Int[Tensor, " rows"], batch: int
    ) -> None:
        self.product, self.target, self.rows, self.batch = product, target, rows, batch

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        if len(self.rows) == self.batch:
            return self.product(z) - self.target
        full = z.new_zeros(self.batch, *z.shape[1:]).index_copy(0, self.rows, z)
        return self.product(full).index_select(0, self.rows) - self.target

    def select(self, rows: Tensor) -> _Adjoint:
        return _Adjoint(
            self.product,
            self.target.index_select(0, rows),
            self.rows.index_select(0, rows),
            self.batch,
        )


class _Boundary(torch.autograd.Function):
    """The point where T is differentiated; what comes back there in the end is not collected."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        return None


class _Zero(torch.autograd.Function):
    """z as a function of T z, whose graph leads on to everything T depends on.

    Of T z there are the rows that are zeros; None for all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        z: Tensor,
        point: Tensor,
        solver: _Solver,
        rows: Int[Tensor, " rows"] | None,
    ) -> Tensor:
        ctx.value, ctx.point, ctx.solver, ctx.rows = value, point, solver, rows
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        value, point = ctx.value, ctx.point

        def product(w: Tensor) -> Tensor:
            with torch.enable_grad():
                (found,) = torch.autograd.grad(
                    value, point, w.to(value.dtype), retain_graph=True, allow_unused=True
                )
            return torch.zeros_like(w) if found is None else found

        with torch.no_grad():
            target, rows = gradients[0].detach(), ctx.rows
            batch = len(target)
            if rows is None:
                rows = torch.arange(batch, device=target.device)
            else:
                target = select_rows(target, rows)
            if len(rows) == 0:  # where all rows were evaluated, 0 times their NaN would be NaN
                return (None if len(value) else torch.zeros_like(value)), None, None, None, None
            finite = target.isfinite().reshape(len(rows), -1).all(1)
            known = where_rows(finite, target, torch.zeros_like(target))
            w = -ctx.solver(product, known, rows, batch)
            w = where_rows(finite, w, torch.full_like(w, torch.nan))
        if torch.is_grad_enabled():  # create_graph=True
            w = _FirstDerivative.apply(w, value)
        return w, None, None, None, None


class _FirstDerivative(torch.autograd.Function):
    """A cotangent that cannot be differentiated again, and says so instead of passing as one."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, value: Tensor) -> Tensor:
        return w.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(
            "fixpoint.implicit has first derivatives only; differentiate through it once"
        )


def _gmres(
    product: Product,
    target: Float[Tensor, "batch *shape"],
    rtol: float,
    max_iterations: int,
    restart: int,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
    """w and `||J^T w - g|| / ||g||` by restarted GMRES, every row on its own.

    The residual is computed, not updated, at every restart and at the end.
    """
    dtype, rounding = target.dtype, torch.finfo(target.dtype).eps
    wide = kernels.accumulation_dtype(dtype)
    residual = target.to(wide)
    w = torch.zeros_like(residual)
    norm = first = kernels.row_norm(residual)
    restart = min(restart, math.prod(target.shape[1:]))
    active: Bool[Tensor, " batch"] = norm > 0
    products = 0
    while products < max_iterations and bool(active.any()):
        # Half of it: what the recurrence calls reached may be short of it by rounding.
        forcing = torch.where(norm > 0, rtol * first / norm / 2, 0)
        gmres = Gmres(residual, active, forcing, rounding)
        for _ in range(min(restart, max(max_iterations - products - 1, 1))):
            direction = gmres.next_direction.to(dtype)
            gmres.extend(direction.to(wide), product(direction).to(wide))
            products += 1
            if not bool(gmres.active.any()):
                break
        following = (w + gmres.solution()[0]).to(dtype).to(wide)
        left = target.to(wide) - product(following.to(dtype)).to(wide)
        left_norm = kernels.row_norm(left)
        products += 1
        lower = active & (left_norm < norm)
        w, residual = where_rows(lower, following, w), where_rows(lower, left, residual)
        active = lower & (left_norm > rtol * first)  # a row that gained nothing will gain nothing
        norm = torch.where(lower, left_norm, norm)
    return w.to(dtype), torch.where(first == 0, 0, norm / first)


def _rows(rows: list[int], batch: int) -> str:
    shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
    return f"{'row' if len(rows) == 1 else 'rows'} {shown} of {batch}"
