"""Total variation of signals, exactly, and of pictures, to a certified accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from fixpoint.kernels import row_dot
from fixpoint.proximal.function import Function
from fixpoint.proximal.parameter import Parameter, check_numbers, numbers
from fixpoint.proximal.row_algebra import indicator, largest, power_of_two, root, size, total
from fixpoint.proximal.threshold import clamp
from fixpoint.trees.rows import expand_rows


@dataclass(frozen=True, eq=False)
class TotalVariation1D(Function):
    """weight sum_i |z_{i+1} - z_i| along the last dimension of a row, summed over the others.

    prox: by its level sets (`chain_prox`), finite, and exact to rounding: each u_i to about eps
    times the range of its line.
    Proof: a level set {u > t} is a minimal cut of the chain, for every t, if and only if u is the
    minimiser (Chambolle & Darbon 2009).

    Derivative: u is, on a piece where it is constant, the mean of z there, moved by s weight over
    the length of the piece towards each neighbour. Where pieces are about to join or split there
    is none, and that of the pieces as they are is taken.

    Args:
        weight: at least 0; a number, or `RowParameter` of (batch,).
    """

    weight: Parameter = 1.0

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0)

    def _value(
        self, z: Float[Tensor, "batch *shape n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return numbers("weight", self.weight, z) * total(_along(z).diff(dim=-1).abs())

    def _prox(
        self, z: Float[Tensor, "batch *shape n"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape n"]:
        weight = expand_rows(step * numbers("weight", self.weight, z), _along(z))
        per_line = weight.expand(*z.shape[:-1], 1).reshape(-1, 1)
        found = _ChainProx.apply(z.flatten(0, -2), per_line).reshape(z.shape)
        return torch.where(weight == 0, z, found)  # without weight, equal neighbours are no piece

    def _conjugate_value(
        self, y: Float[Tensor, "batch *shape n"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        # y_i = p_{i-1} - p_i with |p_i| <= weight and p = 0 at both ends.
        sums = _along(y).cumsum(-1).abs()
        end = largest(sums[..., -1:])
        inner = largest(sums[..., :-1]) - numbers("weight", self.weight, y)
        return indicator(torch.maximum(inner, end), tolerance * y.shape[-1])


def chain_prox(
    y: Float[Tensor, "lines n"], weight: Float[Tensor, "lines 1"]
) -> Float[Tensor, "lines n"]:
    """argmin_u 1/2 ||u - y||^2 + weight sum_i |u_{i+1} - u_i| of every line.

    Every u_i is enclosed by bisection, as many times as the dtype has digits. Whether u_i > t is
    the binary problem min_x sum_i x_i (t - y_i) + weight sum_i |x_{i+1} - x_i|, solved by messages
    along the chain (Johnson 2013), which are maps x -> clamp(x + shift, low, high). These are
    closed under composition, so that doubling solves all prefixes in log2(n) passes. Where two
    neighbours are known to lie in different intervals, |u_{i+1} - u_i| is linear and the chain
    breaks in two (the divide and conquer of Chambolle & Darbon 2009): the parts go
    their own ways at the same time.

    The number of operations is fixed: digits * (log2(n) + 1), each on whole lines.

    Autograd does not see through the comparisons: `_ChainProx` has the derivative.
    """
    size = y.shape[1]
    if size == 0:
        return y.clone()
    low, high = y.amin(1, keepdim=True).expand_as(y), y.amax(1, keepdim=True).expand_as(y)
    joined = torch.ones_like(y[:, 1:], dtype=torch.bool)  # i and i + 1 not yet separated
    pull = torch.zeros_like(y)  # slope of the terms that have become linear
    place = torch.arange(size, device=y.device).expand_as(y)
    for _ in range(2 - round(math.log2(torch.finfo(y.dtype).eps))):
        middle = low + (high - low) / 2
        coupling = weight * joined
        message = _messages(middle - y + pull, coupling)  # cost of x_i = 1 less that of 0
        after = pad(coupling, (0, 1))
        above = message < -after
        # Where the prefix does not decide, x_i = x_{i+1}: look up the next place that is decided.
        decided = torch.where(above | (message >= after), place, size - 1)
        above = above.gather(1, decided.flip(1).cummin(1).values.flip(1))
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        step = above[:, 1:].to(y.dtype) - above[:, :-1].to(y.dtype)
        slope = coupling * step  # of a neighbour that lies higher: it pulls this one up
        pull = pull - pad(slope, (0, 1)) + pad(slope, (1, 0))
        joined = joined & (step == 0)
    return low + (high - low) / 2


def _messages(
    cost: Float[Tensor, "lines n"], coupling: Float[Tensor, "lines m"]
) -> Float[Tensor, "lines n"]:
    """d_1 = cost_1, d_i = cost_i + clamp(d_{i-1}, -coupling, coupling), all at once."""
    before = pad(coupling, (1, 0))
    shift, low, high = cost, cost - before, cost + before
    reach = 1
    while reach < cost.shape[1]:
        earlier, later = slice(None, -reach), slice(reach, None)
        add, floor, ceiling = shift[:, later], low[:, later], high[:, later]
        # clamp(clamp(x + a, l, h) + add, floor, ceiling) is such a map again.
        low_of = (low[:, earlier] + add).clamp(floor, ceiling)
        high_of = (high[:, earlier] + add).clamp(floor, ceiling)
        shift = torch.cat((shift[:, :reach], shift[:, earlier] + add), 1)
        low = torch.cat((low[:, :reach], low_of), 1)
        high = torch.cat((high[:, :reach], high_of), 1)
        reach *= 2
    return low


class _ChainProx(torch.autograd.Function):
    """`chain_prox` with its derivative, in `y` and in `weight`.

    The optimality conditions summed over a piece B of u are |B| u_B = sum_B y + weight sum sign(v -
    u_B), over its neighbours v (Chambolle & Darbon 2009), and the pieces do not change near a
    generic point. Averaging over pieces is its own adjoint.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        y: Float[Tensor, "lines n"], weight: Float[Tensor, "lines 1"]
    ) -> Float[Tensor, "lines n"]:
        return chain_prox(y, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (u,) = ctx.saved_tensors
        mean = _means_of_pieces(gradients[0], u)
        return mean, (mean * _pull(u)).sum(1, keepdim=True)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        (u,) = ctx.saved_tensors
        y, weight = tangents
        moved = torch.zeros_like(u) if y is None else y
        if weight is not None:
            moved = moved + weight * _pull(u)
        return _means_of_pieces(moved, u)


def _means_of_pieces(
    values: Float[Tensor, "lines n"], u: Float[Tensor, "lines n"]
) -> Float[Tensor, "lines n"]:
    """The mean of the values over the piece of u that every index lies in."""
    piece = pad((u.detach().diff(dim=1) != 0).cumsum(1), (1, 0))
    none = torch.zeros_like(u)
    length = none.scatter_add(1, piece, torch.ones_like(u)).gather(1, piece)
    return none.scatter_add(1, piece, values).gather(1, piece) / length


def _pull(u: Float[Tensor, "lines n"]) -> Float[Tensor, "lines n"]:
    """How fast every index is pulled by its neighbours as the weight grows, before the mean."""
    sign = u.detach().diff(dim=1).sign()
    return pad(sign, (0, 1)) - pad(sign, (1, 0))


@dataclass(frozen=True, eq=False)
class TotalVariation2D(Function):
    """Total variation of the last two dimensions of a row, summed over leading ones (channels).

    weight sum_ij ||(z_{i+1,j} - z_{ij}, z_{i,j+1} - z_{ij})||, differences across the border 0;
    the Euclidean norm if isotropic (Rudin, Osher & Fatemi 1992), else the l1 norm.

    prox: not exact. u = z - D' r, with r from `iterations` steps of the accelerated projected
    gradient method on the dual (Chambolle 2004; Beck & Teboulle 2009, with the restarts of
    O'Donoghue & Candes 2015, row by row). `certified_prox` says how far u is off, at most.
    Proof: the duality gap bounds how far the objective is above its least value, and vanishes
    exactly where (z - u)/s = D' r/s with r/s a subgradient of the weighted norm at D u.

    Args:
        weight: at least 0; a number, or `RowParameter` of (batch,).
        isotropic: which norm.
        iterations: of the inner method, the same for every row and every call.
    """

    weight: Parameter = 1.0
    isotropic: bool = True
    iterations: int = 200

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 0)
        if not (isinstance(self.iterations, int) and self.iterations >= 1):
            raise ValueError(f"need iterations >= 1 and whole, got {self.iterations}")

    def certified_prox(
        self, z: Float[Tensor, "batch *shape h w"], step: float | Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch *shape h w"], Float[Tensor, " batch"]]:
        """The result of `prox`, and a bound on its distance from the true proximal point.

        The bound is sqrt(2 step gap), by the strong convexity of what is minimised. The gap is that
        of the result as it is returned, taken in float64, and what rounding may hide of it is
        added. The coordinates of the result are rounded, so that the bound does not fall much below
        sqrt(eps) ||z|| whatever the iterations, with the eps of the dtype of the computation.
        """
        x, steps = self._prepared(z, step)
        u, r, scale = self._solved(x, steps * numbers("weight", self.weight, x))
        good = steps > 0  # else NaN, as from prox
        u = torch.where(expand_rows(good, u), u, torch.nan).to(z.dtype)
        exact, steps = self._prepared(z.double(), step)
        bound = self._bound(exact, steps * numbers("weight", self.weight, exact), u, r, scale)
        return u, torch.where(good, bound, torch.nan).to(x.dtype)

    def _bound(
        self,
        z: Float[Tensor, "batch *shape h w"],
        weight: Float[Tensor, " rows"],
        u: Float[Tensor, "batch *shape h w"],
        r: Float[Tensor, "batch 2 *shape h w"],
        scale: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """sqrt(2 gap): weight ||D u|| - <r, D u> + ||u - z + D'r||^2/2, with scale r for r.

        In the dtype of z. What is rounded on the way is added to the gap.
        """
        units = expand_rows(scale.to(z), z)
        z, u = z / units, u.to(z) / units
        bound = _within_reach(weight / scale.to(z), z)
        r = self._projected(r.to(z), expand_rows(bound, z))
        change = _differences(u)
        most = bound * total(self._norms(change))
        eps = torch.finfo(z.dtype).eps
        gap = (most - row_dot(r, change)).clamp(min=0) + 16 * eps * most
        largest_term = largest(z.abs()) + largest(u.abs()) + 4 * largest(r.abs())
        off = u - (z - _adjoint(r))
        off_norm = root(row_dot(off, off)) + 4 * eps * math.sqrt(size(z)) * largest_term
        return scale.to(z) * root(2 * gap + off_norm * off_norm) * (1 + eps)

    def _value(
        self, z: Float[Tensor, "batch *shape h w"], tolerance: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return numbers("weight", self.weight, z) * total(self._norms(_differences(z)))

    def _prox(
        self, z: Float[Tensor, "batch *shape h w"], step: Float[Tensor, " rows"]
    ) -> Float[Tensor, "batch *shape h w"]:
        return self._solved(z, step * numbers("weight", self.weight, z))[0]

    def _solved(
        self, z: Float[Tensor, "batch *shape h w"], weight: Float[Tensor, " rows"]
    ) -> tuple[
        Float[Tensor, "batch *shape h w"],
        Float[Tensor, "batch 2 *shape h w"],
        Float[Tensor, " batch"],
    ]:
        """u = z - scale D'r, the scale of every row, and the r of norms at most weight/scale that
        nearly minimises ||u||^2."""
        scale = power_of_two(largest(z.abs()))
        units = expand_rows(scale, z)
        z = z / units
        bound = expand_rows(_within_reach(weight / scale, z), z)
        r = torch.zeros_like(_differences(z))
        ahead = r  # r and its momentum
        age = z.new_ones(z.shape[0])  # t of the method
        for _ in range(self.iterations):
            # ||D||^2 <= 8
            moved = self._projected(ahead + _differences(z - _adjoint(ahead)) / 8, bound)
            restart = row_dot(ahead - moved, moved - r) > 0
            age = torch.where(restart, 1, age)
            older = (1 + (1 + 4 * age * age).sqrt()) / 2
            ahead = moved + expand_rows((age - 1) / older, r) * (moved - r)
            r, age = moved, older
        return units * (z - _adjoint(r)), r, scale

    def _norms(
        self, change: Float[Tensor, "batch 2 *shape h w"]
    ) -> Float[Tensor, "batch *shape h w"]:
        """The norm of what changes at every pixel.

        Not torch.hypot: it differs in the last bit with the place in memory.
        """
        down, right = change.unbind(1)
        if not self.isotropic:
            return down.abs() + right.abs()
        most = torch.maximum(down.detach().abs(), right.detach().abs())
        scale = torch.where(most == 0, 1, most)
        down, right = down / scale, right / scale
        return scale * root(down * down + right * right)

    def _projected(
        self, r: Float[Tensor, "batch 2 *shape h w"], bound: Float[Tensor, "..."]
    ) -> Float[Tensor, "batch 2 *shape h w"]:
        """Onto the ball of the dual norm, at every pixel."""
        bound = bound.unsqueeze(1)
        if not self.isotropic:
            return clamp(r, -bound, bound)
        norms = self._norms(r).unsqueeze(1)
        outside = norms > bound
        shrunk = torch.where(outside, bound / torch.where(outside, norms, 1), 1) * r
        return torch.where(bound == 0, 0, shrunk)  # a ball that is a point


def _within_reach(
    weight: Float[Tensor, " rows"], z: Float[Tensor, "batch *shape h w"]
) -> Float[Tensor, " rows"]:
    """The weight, or one that makes no difference to the proximal point of `z`, of entries up to 2.

    Every weight gives a constant u that is at least sqrt(1/2) sum |z - mean z|: what flows along a
    path through all pixels from those above the mean to those below, two edges of it at a pixel.
    """
    return weight.clamp(max=4.0 * z.shape[-1] * z.shape[-2])


def _differences(z: Float[Tensor, "batch *shape h w"]) -> Float[Tensor, "batch 2 *shape h w"]:
    """D z: to the pixel below and to the right; 0 across the border."""
    if z.dim() < 3:
        raise ValueError(f"need rows of pictures, got rows of shape {tuple(z.shape[1:])}")
    return torch.stack((pad(z.diff(dim=-2), (0, 0, 0, 1)), pad(z.diff(dim=-1), (0, 1))), 1)


def _adjoint(r: Float[Tensor, "batch 2 *shape h w"]) -> Float[Tensor, "batch *shape h w"]:
    """D' r, for an r that is 0 where D z always is."""
    down, right = r.unbind(1)
    above = pad(down[..., :-1, :], (0, 0, 1, 0))
    left = pad(right[..., :-1], (1, 0))
    return above - down + left - right


def _along(z: Float[Tensor, "batch *shape n"]) -> Float[Tensor, "batch *shape n"]:
    if z.dim() < 2:
        raise ValueError("need rows of signals, got rows that are single numbers")
    return z
