"""T about a point: products with J = dT/dz and J^T, and the zero as a function of T z.

Plain autograd keeps the graph of one evaluation (`RecordedGraph`). Inside of `torch.func` T is
evaluated again (`Transformed`): a graph of one level of its transforms cannot be used in another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad

from fixpoint.inner_solves.row_systems import Product, RowSolver
from fixpoint.operator import Operator
from fixpoint.trees.rows import select_rows


def under_transforms() -> bool:
    """True inside of `torch.func.grad`, `vjp`, `jvp`, `jacrev` or `jacfwd`."""
    return bool(_functorch.maybe_current_level() is not None)


def forward_mode() -> bool:
    """True inside of `torch.autograd.forward_ad.dual_level`."""
    return bool(forward_ad._current_level >= 0)


class Linearization(Protocol):
    """J at a point, by its products with the whole batch."""

    def __init__(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> None: ...

    @property
    def value(self) -> Tensor:
        """T z, with its graph."""

    @property
    def level(self) -> int | None:
        """The number of transforms of `torch.func` that it was made in."""

    def adjoint(self) -> Product:
        """w -> J^T w."""

    def forward(self) -> Product:
        """v -> J v."""


class RecordedGraph:
    """J from the graph of one evaluation."""

    def __init__(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> None:
        self.level = None
        with torch.enable_grad():
            self.point = _Boundary.apply(z.clone().requires_grad_())
            self.value = _checked(operator, self.point)

    def adjoint(self) -> Product:
        def product(w: Tensor) -> Tensor:
            with torch.enable_grad():
                (found,) = torch.autograd.grad(
                    self.value,
                    self.point,
                    w.to(self.value.dtype),
                    retain_graph=True,
                    allow_unused=True,
                )
            return torch.zeros_like(w) if found is None else found

        return product

    def forward(self) -> Product:
        with torch.enable_grad():  # J^T u is linear in u, and the adjoint of its derivative is J
            u = torch.zeros_like(self.value).requires_grad_()
            (image,) = torch.autograd.grad(
                self.value, self.point, u, create_graph=True, allow_unused=True
            )

        def product(v: Tensor) -> Tensor:
            found = None
            if image is not None and image.requires_grad:
                (found,) = torch.autograd.grad(image, u, v, retain_graph=True, allow_unused=True)
            return torch.zeros_like(v) if found is None else found.detach()

        return product


class Transformed:
    """J inside of `torch.func`; a product takes another evaluation."""

    def __init__(self, operator: Operator, z: Float[Tensor, "batch *shape"]) -> None:
        self.operator, self.z = operator, _constant(z)
        self.level = _functorch.maybe_current_level()
        # Not the value of that: T may hold a zero, whose gradient would look for the level of it.
        self.value = operator(self.z)
        if not self.value.requires_grad:  # T z depends on nothing, or it hides that
            torch.func.vjp(self._evaluated, self.z)

    def adjoint(self) -> Product:
        pull = torch.func.vjp(self._evaluated, self.z)[1]
        return lambda w: pull(w)[0]

    def forward(self) -> Product:
        pull = torch.func.vjp(self._evaluated, self.z)[1]
        push = torch.func.vjp(lambda u: pull(u)[0], torch.zeros_like(self.z))[1]
        return lambda v: push(v)[0]

    def _evaluated(self, z: Tensor) -> Tensor:
        return _checked(self.operator, z)


def zero_of(
    linearization: Linearization,
    z: Float[Tensor, "batch *shape"],
    solver: RowSolver,
    rows: Int[Tensor, " rows"] | None,
) -> Float[Tensor, "batch *shape"]:
    """z, differentiable through T z.

    Args:
        linearization: of T at the rows of z that are zeros.
        z: of all rows.
        solver: of J^T w = g, or J v = t in forward mode.
        rows: those that are zeros; None for all.
    """
    value: Tensor = _Zero.apply(linearization.value, z, linearization, solver, rows)
    return value


def _checked(operator: Operator, z: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
    """T z, which must depend on z."""
    value = operator(z)
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
    return value


class _Boundary(torch.autograd.Function):
    """The point where T is differentiated; what comes back there in the end is not collected."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        return None


class _Zero(torch.autograd.Function):
    """z as a function of T z, whose graph leads on to everything T depends on."""

    @staticmethod
    def forward(
        value: Tensor,
        z: Tensor,
        linearization: Linearization,
        solver: RowSolver,
        rows: Int[Tensor, " rows"] | None,
    ) -> Tensor:
        return z.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, z, ctx.linearization, ctx.solver, ctx.rows = inputs
        ctx.shape = z.shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        value = ctx.linearization.value
        g, batch, rows = gradients[0], len(gradients[0]), ctx.rows
        if rows is None:
            rows = torch.arange(batch, device=g.device)
        else:
            g = select_rows(g, rows)
        if len(rows) == 0:  # where all rows were evaluated, 0 times their NaN would be NaN
            return (None if len(value) else torch.zeros_like(value)), None, None, None, None

        def solved(target: Tensor, product: Product) -> Tensor:
            return -ctx.solver(product, target, rows, batch)

        w = _slice_by_slice(solved, g, ctx.linearization.adjoint)
        return _first_derivative(w, value, gradients[0]), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        if ctx.linearization.level != _functorch.maybe_current_level():  # of an outer transform
            raise _no_second_derivative()
        t, batch, rows = tangents[0], ctx.shape[0], ctx.rows
        if rows is None:
            rows = torch.arange(batch, device=t.device)
        if len(rows) == 0:
            return t.new_zeros(ctx.shape)

        def solved(target: Tensor, product: Product) -> Tensor:
            found = -ctx.solver(product, target, rows, batch, matrix="J")
            if len(rows) == batch:
                return found
            return found.new_zeros(batch, *found.shape[1:]).index_copy(0, rows, found)

        d = _slice_by_slice(solved, t, ctx.linearization.forward)
        return _first_derivative(d, _primal(ctx.linearization.value), t)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> Any:
        raise NotImplementedError(
            "fixpoint.implicit cannot be mapped over by torch.vmap: give T the samples as rows of "
            "its batch, which are independent of each other"
        )


def _slice_by_slice(
    solved: Callable[[Tensor, Product], Tensor], g: Tensor, product: Callable[[], Product]
) -> Tensor:
    """solved(g, product()), for every slice of a dimension that `torch.vmap` hides in g.

    `jacrev` and `jacfwd` hide one; how many products a system takes differs from slice to slice.
    """
    with torch.no_grad():
        made = product()

        def of(each: Tensor) -> Tensor:
            each = _constant(each)
            if not _functorch.is_batchedtensor(each):
                return solved(each, made)
            level = _functorch.maybe_get_level(each)
            dimension = _functorch.maybe_get_bdim(each)
            slices = _functorch.get_unwrapped(each).unbind(dimension)
            found = _constant(torch.stack([of(s) for s in slices]))
            return _functorch._add_batch_dim(found, 0, level)

        return of(g)


def _constant(value: Tensor) -> Tensor:
    """The value without any transform."""
    value = value.detach()
    while _functorch.is_gradtrackingtensor(value):
        value = _functorch.get_unwrapped(value)
    return value


def _primal(value: Tensor) -> Tensor:
    """A dual tensor without its tangent; outer transforms still see it."""
    if _functorch.is_gradtrackingtensor(value):
        return _functorch.get_unwrapped(value)
    return forward_ad.unpack_dual(value).primal if forward_mode() else value


def _first_derivative(w: Tensor, *known: Tensor) -> Tensor:
    """w, which cannot be differentiated again where it depends on what `known` depends on."""
    if not torch.is_grad_enabled():
        return w
    found: Tensor = _FirstDerivative.apply(w, *known)
    return found


class _FirstDerivative(torch.autograd.Function):
    """A cotangent that cannot be differentiated again, and raises if it is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, *known: Tensor) -> Tensor:
        return w.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise _no_second_derivative()

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> None:
        raise _no_second_derivative()


def _no_second_derivative() -> RuntimeError:
    return RuntimeError(
        "fixpoint.implicit has first derivatives only; differentiate through it once (and in "
        "reverse mode where T holds an iterative resolvent, which is differentiated on its own)"
    )
