"""Linear systems A w = g, one for each row, given by products with the whole batch.

A is block diagonal: J^T or J at a zero, see `fixpoint.implicit`. Every row is solved for g / ||g||,
so that g may be of any size, and a row with g = 0 has w = 0 whatever A is.
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
from fixpoint._solve import solve
from fixpoint.inner_solves.gmres import Gmres
from fixpoint.inner_solves.row_scale import row_exponent, scaled_rows
from fixpoint.iterator import Iterator
from fixpoint.iterators import Anderson, ForwardStep
from fixpoint.operator import Operator
from fixpoint.trees.rows import expand_rows, where_rows

Product = Callable[[Tensor], Tensor]


class ImplicitWarning(UserWarning):
    """Some rows have no implicit gradient, or an inaccurate one; the message names them."""


@dataclass(frozen=True)
class RowSolver:
    """How A w = g is solved."""

    iterator: Iterator[Any] | None  # None: GMRES
    rtol: float | None
    max_iterations: int
    restart: int

    @classmethod
    def of(
        cls, method: str | Iterator[Any], rtol: float | None, max_iterations: int, restart: int
    ) -> RowSolver:
        """The arguments of `implicit`, checked.

        Raises:
            ValueError: one of them is not usable.
        """
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
        matrix: str = "J^T",
    ) -> Float[Tensor, "rows *shape"]:
        """w, NaN in rows where g or A is not finite; a warning names those, and inaccurate ones.

        Args:
            product: w -> A w, of these rows.
            target: g.
            rows, batch: the place of these rows in the batch, and its size, for the warnings.
            matrix: what A is called in them.
        """
        dtype, wide = target.dtype, kernels.accumulation_dtype(target.dtype)
        finite = target.isfinite().reshape(len(target), -1).all(1)
        known = where_rows(finite, target, torch.zeros_like(target)).to(wide)
        exponent = row_exponent(known)
        unit = scaled_rows(known, -exponent)
        norm = kernels.row_norm(unit)
        asked = norm > 0
        if not bool(asked.any()):
            w, remaining, broken = torch.zeros_like(unit), torch.zeros_like(norm), ~asked & False
        else:
            norm = torch.where(asked, norm, 1)
            unit = unit / expand_rows(norm, unit)
            w, remaining, broken = self._solved(product, unit, asked, dtype)
        rtol = self._rtol(dtype)
        for failed, problem in (
            (~finite, "the gradient that arrives is not finite in {}: it stays so, as NaN"),
            (broken, f"{matrix} is not finite in {{}}, where J = dT/dz: no implicit gradient, NaN"),
        ):
            if bool(failed.any()):
                names = rows_named(rows[failed].tolist(), batch)
                warnings.warn(problem.format(names), ImplicitWarning, stacklevel=2)
        failed = ~(remaining <= rtol) & finite & ~broken
        if bool(failed.any()):
            worst = float(remaining[failed].max())
            warnings.warn(
                "the implicit gradient is not accurate in "
                f"{rows_named(rows[failed].tolist(), batch)}: ||{matrix} w - g|| is up to "
                f"{worst:.2g} ||g||, above rtol = {rtol:.2g}; allow more "
                "max_iterations, or see whether J is singular there",
                ImplicitWarning,
                stacklevel=2,
            )
        w = scaled_rows(w * expand_rows(norm, w), exponent).to(dtype)
        return where_rows(finite & ~broken, w, torch.full_like(w, torch.nan))

    def _rtol(self, dtype: torch.dtype) -> float:
        return max(1e-5, 8 * torch.finfo(dtype).eps) if self.rtol is None else self.rtol

    def _solved(
        self,
        product: Product,
        unit: Float[Tensor, "rows *shape"],
        asked: Bool[Tensor, " rows"],
        dtype: torch.dtype,
    ) -> tuple[Float[Tensor, "rows *shape"], Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """w, `||A w - g||` and the rows where A is not finite, for g of norm 1 or 0.

        `dtype` is that of the product; w and g are in its accumulation dtype.
        """
        rtol = self._rtol(dtype)
        if self.iterator is None:
            options = rtol, self.max_iterations, self.restart
            return _gmres(product, unit, asked, dtype, *options)
        target = unit.to(dtype)
        broken = asked & ~product(target).isfinite().reshape(len(unit), -1).all(1)
        w = torch.zeros_like(unit)
        remaining = torch.zeros_like(unit.reshape(len(unit), -1).sum(1))
        chosen = (asked & ~broken).nonzero().flatten()
        if len(chosen):
            right_hand_side = target.index_select(0, chosen)
            solution = solve(
                _Equation(product, right_hand_side, chosen, len(unit)),
                torch.zeros_like(right_hand_side),
                self.iterator,
                rtol=0.0,  # g has norm 1: `atol` alone is the bound
                atol=rtol,
                max_iterations=self.max_iterations,
            )
            w = w.index_copy(0, chosen, solution.z.to(w))
            remaining = remaining.index_copy(0, chosen, solution.residual_norm.to(remaining))
        return w, remaining, broken


class _Equation(Operator):
    """w -> A w - g on some rows; the product is one of the whole batch."""

    def __init__(
        self, product: Product, target: Tensor, rows: Int[Tensor, " rows"], batch: int
    ) -> None:
        self.product, self.target, self.rows, self.batch = product, target, rows, batch

    def __call__(self, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        if len(self.rows) == self.batch:
            return self.product(z) - self.target
        full = z.new_zeros(self.batch, *z.shape[1:]).index_copy(0, self.rows, z)
        return self.product(full).index_select(0, self.rows) - self.target

    def select(self, rows: Tensor) -> _Equation:
        return _Equation(
            self.product,
            self.target.index_select(0, rows),
            self.rows.index_select(0, rows),
            self.batch,
        )


def _gmres(
    product: Product,
    target: Float[Tensor, "rows *shape"],
    active: Bool[Tensor, " rows"],
    dtype: torch.dtype,
    rtol: float,
    max_iterations: int,
    restart: int,
) -> tuple[Float[Tensor, "rows *shape"], Float[Tensor, " rows"], Bool[Tensor, " rows"]]:
    """w, `||A w - g|| / ||g||` and the rows where A is not finite, by restarted GMRES.

    Every row is on its own. The residual is computed, not updated, at every restart and at the
    end.
    """
    wide, rounding = target.dtype, torch.finfo(dtype).eps
    residual, w = target, torch.zeros_like(target)
    norm = first = kernels.row_norm(residual)
    restart = min(restart, math.prod(target.shape[1:]))
    broken = torch.zeros_like(active)
    products = 0
    while products < max_iterations and bool(active.any()):
        # Half of it: by rounding the true residual may be above that of the recurrence.
        forcing = torch.where(norm > 0, rtol * first / norm / 2, 0)
        gmres = Gmres(residual, active, forcing, rounding)
        for _ in range(min(restart, max(max_iterations - products - 1, 1))):
            direction = gmres.next_direction.to(dtype)
            gmres.extend(direction.to(wide), product(direction).to(wide))
            products += 1
            if not bool(gmres.active.any()):
                break
        broken = broken | gmres.broken
        following = (w + gmres.solution()[0]).to(dtype).to(wide)
        left = target - product(following.to(dtype)).to(wide)
        left_norm = kernels.row_norm(left)
        products += 1
        lower = active & ~broken & (left_norm < norm)
        w, residual = where_rows(lower, following, w), where_rows(lower, left, residual)
        active = lower & (left_norm > rtol * first)  # a row without progress ends
        norm = torch.where(lower, left_norm, norm)
    return w, torch.where(first == 0, 0, norm / first), broken


def rows_named(rows: list[int], batch: int) -> str:
    """For a message: "row 1 of 3", "rows 0, 2 of 3"."""
    shown = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
    return f"{'row' if len(rows) == 1 else 'rows'} {shown} of {batch}"
