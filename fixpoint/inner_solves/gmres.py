"""Flexible GMRES (Saad, SIAM J. Sci. Comput. 1993), every row on its own."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint import kernels
from fixpoint.inner_solves.row_scale import row_norm
from fixpoint.trees.rows import expand_rows, where_rows


class Gmres:
    """Flexible GMRES for J d = b, one direction at a time, every row on its own.

    The directions z_i and their images J z_i = sum_k v_k h_ki are kept, with v_1 = b / ||b|| and
    the v_k orthonormal; Givens rotations make h triangular as it grows, which gives the linear
    residual at once. A row that has reached `forcing`, or whose direction is no new one, gets zero
    directions from then on.
    """

    def __init__(
        self,
        target: Float[Tensor, "batch *shape"],
        active: Bool[Tensor, " batch"],
        forcing: Float[Tensor, " batch"],
        rounding: float,
    ) -> None:
        self.norm = row_norm(target)
        self.active = active & (self.norm > 0) & self.norm.isfinite()
        self.forcing, self.rounding = forcing, rounding
        self.orthonormal = [_unit(target, self.norm, self.active)]  # v
        self.directions: list[Tensor] = []  # z
        self.triangle: list[list[Tensor]] = []  # the columns of the rotated h
        self.rotations: list[tuple[Tensor, Tensor]] = []
        self.rotated: list[Tensor] = []  # b in the rotated basis, but for its last entry
        self.remaining = self.norm.double()  # that last entry: the linear residual, with a sign
        self.broken = torch.zeros_like(self.active)  # rows where J times a direction is not finite

    @property
    def next_direction(self) -> Float[Tensor, "batch *shape"]:
        return self.orthonormal[-1]

    def extend(
        self, direction: Float[Tensor, "batch *shape"], image: Float[Tensor, "batch *shape"]
    ) -> None:
        """Add a direction, and J times it."""
        size = row_norm(image)
        used = self.active & size.isfinite()
        self.broken = self.broken | (self.active & ~used)
        self.directions.append(where_rows(used, direction, torch.zeros_like(direction)))
        rest = where_rows(used, image, torch.zeros_like(image))
        column = [torch.zeros_like(self.remaining) for _ in self.orthonormal]
        for _ in range(2):  # modified Gram-Schmidt; twice is enough (Giraud et al. 2005)
            for i, vector in enumerate(self.orthonormal):
                along = kernels.row_dot(vector, rest)
                rest = kernels.forward_step(rest, vector, expand_rows(along, rest))
                column[i] = column[i] + along
        length = row_norm(rest)
        self._rotate(column, length.double(), size.double())
        # A row that has converged or broken down is left as it is.
        above = self.remaining.abs() > self.forcing * self.norm
        self.active = used & above & (length > self.rounding * size)
        self.orthonormal.append(_unit(rest, length, self.active))

    def solution(self) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
        """d, and `||b - J d|| / ||b||` of every row."""
        count = len(self.directions)
        zero = torch.zeros_like(self.remaining)
        columns = [
            torch.stack([*column, *[zero] * (count - len(column))], 1) for column in self.triangle
        ]
        triangle = torch.stack(columns, 2)
        diagonal = triangle.diagonal(dim1=1, dim2=2)
        # An unused direction has a zero column: it gets no weight.
        triangle = triangle + torch.diag_embed((diagonal == 0).to(triangle.dtype))
        right_hand_side = torch.stack(self.rotated, 1).unsqueeze(2)
        weights = torch.linalg.solve_triangular(triangle, right_hand_side, upper=True).squeeze(2)
        total = torch.zeros_like(self.directions[0])
        for direction, weight in zip(self.directions, weights.unbind(1), strict=True):
            total = total + expand_rows(weight.to(direction.dtype), direction) * direction
        remaining = self.remaining.abs().to(self.norm.dtype)
        return total, torch.where(self.norm > 0, remaining / self.norm, 1)

    def _rotate(self, column: list[Tensor], below: Tensor, size: Tensor) -> None:
        for i, (cosine, sine) in enumerate(self.rotations):
            upper, lower = column[i], column[i + 1]
            column[i] = cosine * upper + sine * lower
            column[i + 1] = cosine * lower - sine * upper
        radius = torch.hypot(column[-1], below)
        useful = radius > self.rounding * size
        cosine = torch.where(useful, column[-1] / radius, 0)
        sine = torch.where(useful, below / radius, 1)
        column[-1] = torch.where(useful, radius, 0)
        self.rotations.append((cosine, sine))
        self.triangle.append(column)
        self.rotated.append(cosine * self.remaining)
        self.remaining = -sine * self.remaining


def _unit(
    vector: Float[Tensor, "batch *shape"],
    length: Float[Tensor, " batch"],
    usable: Bool[Tensor, " batch"],
) -> Float[Tensor, "batch *shape"]:
    """`vector / length`; zero in rows that are not usable."""
    length = torch.where(usable, length, 1)
    return where_rows(usable, vector / expand_rows(length, vector), torch.zeros_like(vector))
