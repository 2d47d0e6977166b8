"""Seventeen fixed-point problems, z = G(z), on which solvers are compared.

Every problem is one row of float64 numbers and a map of batches of such rows, each row on its own.
The data are drawn from fixed seeds. A map that has a domain, as the EM maps have, gives NaN outside
of it, as code that takes a logarithm or a root does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """A map whose fixed point is sought.

    Attributes:
        name: as tables show it.
        function: G, from (batch, n) to (batch, n).
        start: (1, n), float64.
        note: where its difficulty lies.
    """

    name: str
    function: Map
    start: Tensor
    note: str

    def residual_norm(self, z: Tensor) -> Tensor:
        """(batch,): the Euclidean norm of z - G(z)."""
        return (z - self.function(z)).norm(dim=1)


class Draws:
    """Random tensors in float64, the same ones from the same seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def indices(self, below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=self.generator)

    def rotation(self, size: int) -> Tensor:
        return torch.linalg.qr(self.normal(size, size))[0]


def zeros(size: int) -> Tensor:
    return torch.zeros(1, size, dtype=torch.float64)


def evenly(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


# ---------------------------------------------------------------- affine maps


def affine(name: str, matrix: Tensor, offset: Tensor, note: str) -> Problem:
    """z -> M z + b."""
    return Problem(name, lambda z: z @ matrix.T + offset, zeros(len(offset)), note)


def symmetric_affine(low: float, high: float, seed: int, name: str, note: str) -> Problem:
    """The eigenvalues of M are spaced evenly from `low` to `high`."""
    draws = Draws(seed)
    basis = draws.rotation(100)
    matrix = basis @ torch.diag(evenly(low, high, 100)) @ basis.T
    return affine(name, matrix, draws.normal(100), note)


def affine_non_normal() -> Problem:
    draws = Draws(2)
    basis = draws.rotation(100)
    triangle = torch.triu(draws.normal(100, 100), 1) * 0.1
    matrix = basis @ (torch.diag(evenly(-0.9, 0.99, 100)) + triangle) @ basis.T
    note = "non-normal: the residual grows tenfold before it falls"
    return affine("affine 0.99, non-normal", matrix, draws.normal(100), note)


# ---------------------------------------------------------------- regression and denoising


def ridge_regression() -> Problem:
    """Gradient steps of length 1/L on |A x - b|^2 / 2 + l |x|^2 / 2."""
    draws = Draws(5)
    scale = torch.logspace(0, -1.5, 60, dtype=torch.float64)
    data, target, weight = draws.normal(200, 60) * scale, draws.normal(200), 0.1
    gram = data.T @ data + weight * torch.eye(60, dtype=torch.float64)
    step = 1 / torch.linalg.matrix_norm(gram, 2)
    note = "condition near 1000"
    return affine("ridge regression", torch.eye(60) - step * gram, step * (data.T @ target), note)


def logistic_regression() -> Problem:
    """Gradient steps of length 1/L on the mean logistic loss + l |x|^2 / 2."""
    draws = Draws(6)
    data = draws.normal(300, 30) * torch.logspace(0, -1, 30, dtype=torch.float64)
    chance = torch.sigmoid(3 * data @ draws.normal(30))
    label = (draws.uniform(300) < chance).to(torch.float64)
    weight = 1e-4
    step = 1 / (torch.linalg.matrix_norm(data, 2) ** 2 / (4 * 300) + weight)

    def descend(z: Tensor) -> Tensor:
        return z - step * ((torch.sigmoid(z @ data.T) - label) @ data / 300 + weight * z)

    return Problem("logistic regression", descend, zeros(30), "smooth; curvature fades far out")


def lasso() -> Problem:
    """ISTA: a gradient step of length 1/L on |A x - b|^2 / 2, then soft thresholding."""
    draws = Draws(7)
    data, truth = draws.normal(60, 120), torch.zeros(120, dtype=torch.float64)
    truth[draws.indices(120, 10)] = draws.normal(10)
    target = data @ truth + 0.1 * draws.normal(60)
    step = 1 / torch.linalg.matrix_norm(data, 2) ** 2
    threshold = 0.02 * float((data.T @ target).abs().max()) * step

    def shrink(z: Tensor) -> Tensor:
        moved = z - step * (z @ data.T - target) @ data
        return moved.sign() * (moved.abs() - threshold).clamp(min=0)

    return Problem("lasso", shrink, zeros(120), "nonsmooth; linear once the support is found")


def total_variation(side: int = 32, weight: float = 0.05) -> Problem:
    """Projected gradient steps on the dual of |u - f|^2 / 2 + weight TV(u), isotropic."""
    draws = Draws(8)
    picture = torch.zeros(side, side, dtype=torch.float64)
    picture[side // 4 : 3 * side // 4, side // 5 : side // 2] = 1
    picture[side // 2 :, 2 * side // 3 :] = 0.5
    picture = picture + 0.1 * draws.normal(side, side)

    def differences(u: Tensor) -> Tensor:
        down, right = torch.zeros_like(u), torch.zeros_like(u)
        down[:, :-1], right[:, :, :-1] = u[:, 1:] - u[:, :-1], u[:, :, 1:] - u[:, :, :-1]
        return torch.stack((down, right), dim=1)

    def transposed(p: Tensor) -> Tensor:
        u = torch.zeros_like(p[:, 0])
        u[:, :-1] -= p[:, 0, :-1]
        u[:, 1:] += p[:, 0, :-1]
        u[:, :, :-1] -= p[:, 1, :, :-1]
        u[:, :, 1:] += p[:, 1, :, :-1]
        return u

    def ascend(z: Tensor) -> Tensor:
        p = z.reshape(-1, 2, side, side)
        moved = p + differences(picture - transposed(p)) / 8
        length = moved.norm(dim=1, keepdim=True)
        return (moved / (length / weight).clamp(min=1)).flatten(1)

    note = "nonsmooth, degenerate, 2048 unknowns"
    return Problem("TV denoising 32 x 32", ascend, zeros(2 * side**2), note)


# ---------------------------------------------------------------- networks and decisions


def deep_equilibrium() -> Problem:
    """z -> tanh(W z + U x + b), the largest singular value of W being 0.99."""
    draws = Draws(9)
    square = draws.normal(100, 100)
    matrix = square + square.T + 0.2 * draws.normal(100, 100)
    matrix = 0.99 * matrix / torch.linalg.matrix_norm(matrix, 2)
    source = 0.006 * (draws.normal(100, 20) @ draws.normal(20)) + 0.015 * draws.normal(100)
    note = "smooth; rate set by the largest eigenvalue"
    return Problem("DEQ layer", lambda z: torch.tanh(z @ matrix.T + source), zeros(100), note)


def value_iteration(discount: float) -> Problem:
    """v -> max over actions of r + discount P v, for a random decision process."""
    draws = Draws(10)
    states, actions, successors = 100, 4, 5
    reward = draws.uniform(states, actions)
    reached = draws.indices(states, states, actions, successors)
    chance = draws.uniform(states, actions, successors)
    chance = chance / chance.sum(dim=2, keepdim=True)
    rows = torch.zeros(states, actions, states, dtype=torch.float64)
    rows.scatter_add_(2, reached, chance)

    def improve(z: Tensor) -> Tensor:
        return (reward + discount * torch.einsum("saj,bj->bsa", rows, z)).amax(dim=2)

    note = "nonsmooth; contracts in the largest entry, not in the Euclidean norm"
    return Problem(f"value iteration {discount}", improve, zeros(states), note)


def consumption() -> Problem:
    """Euler equation of a consumer with CRRA utility, by endogenous grid points (Carroll 2006).

    Row: consumption at the end-of-period savings s_i. Cash on hand is m_i = s_i + c_i, and c
    between the m_i is linear; c(s_i) -> (discount R E c(R s_i + y)^-risk)^(-1/risk).
    """
    savings = 20 * evenly(0, 1, 60) ** 2
    income, chance = torch.tensor([0.4, 1.0, 1.6]).double(), torch.tensor([0.2, 0.6, 0.2]).double()
    discount, interest, risk = 0.96, 1.03, 2.5
    arriving = (interest * savings[:, None] + income).flatten()

    def euler(z: Tensor) -> Tensor:
        none = torch.zeros_like(z[:, :1])
        cash, spent = torch.cat((none, savings + z), dim=1), torch.cat((none, z), dim=1)
        asked = arriving.expand(len(z), -1).contiguous()
        right = torch.searchsorted(cash.detach(), asked).clamp(1, len(savings))
        ends = [(values.gather(1, right - 1), values.gather(1, right)) for values in (cash, spent)]
        (cash_left, cash_right), (spent_left, spent_right) = ends
        share = (asked - cash_left) / (cash_right - cash_left)
        later = (spent_left + share * (spent_right - spent_left)).reshape(len(z), len(savings), -1)
        return (discount * interest * (later**-risk @ chance)) ** (-1 / risk)

    start = (0.5 * (savings + 1.0))[None]
    return Problem("consumption", euler, start, "kinks of the interpolation; NaN below zero")


# ---------------------------------------------------------------- mixtures


def poisson_mixture() -> Problem:
    """EM for two Poisson counts mixed; row: share of the first, and the two means."""
    draws = Draws(12)
    first = draws.uniform(1000) < 0.36
    counts = torch.poisson(torch.where(first, 1.25, 2.65).double(), generator=draws.generator)
    values, times = counts.unique(return_counts=True)
    times = times.double()

    def update(z: Tensor) -> Tensor:
        share, one, two = z[:, 0:1], z[:, 1:2], z[:, 2:3]
        first = share.log() + values * one.log() - one
        second = (1 - share).log() + values * two.log() - two
        belongs = times * torch.sigmoid(first - second)
        others = times - belongs
        return torch.stack(
            (
                belongs.sum(dim=1) / times.sum(),
                (belongs * values).sum(dim=1) / belongs.sum(dim=1),
                (others * values).sum(dim=1) / others.sum(dim=1),
            ),
            dim=1,
        )

    start = torch.tensor([[0.3, 1.0, 2.5]], dtype=torch.float64)
    note = "three unknowns, rate above 0.99; NaN outside the domain"
    return Problem("EM, Poisson mixture", update, start, note)


def gaussian_mixture() -> Problem:
    """EM for three Gaussians on a line; row: shares, means and variances."""
    draws = Draws(13)
    which = draws.indices(3, 600)
    centre = torch.tensor([-2.0, 0.0, 2.5]).double()[which]
    samples = (centre + draws.normal(600))[:, None]

    def update(z: Tensor) -> Tensor:
        share, mean, variance = (part[:, None] for part in z.split(3, dim=1))
        logs = share.log() - variance.log() / 2 - (samples - mean) ** 2 / (2 * variance)
        belongs = logs.softmax(dim=2)
        weight = belongs.sum(dim=1)
        new_mean = (belongs * samples).sum(dim=1) / weight
        spread = (belongs * (samples - new_mean[:, None]) ** 2).sum(dim=1) / weight
        return torch.cat((weight / len(samples), new_mean, spread), dim=1)

    start = torch.tensor([[0.3, 0.4, 0.3, -1.5, 0.3, 1.5, 1.0, 1.0, 1.0]], dtype=torch.float64)
    note = "overlapping components; NaN outside the domain"
    return Problem("EM, Gaussian mixture", update, start, note)


# ---------------------------------------------------------------- transport and eigenvectors


def sinkhorn() -> Problem:
    """Entropic optimal transport in the logarithmic domain: one potential to its next value."""
    draws = Draws(14)
    size, entropy = 60, 0.003
    here, there = draws.uniform(size, 2), 0.7 * draws.uniform(size, 2) + 0.3
    cost = torch.cdist(here, there) ** 2 / entropy

    def scale(z: Tensor) -> Tensor:
        other = -torch.logsumexp(z[:, :, None] - cost, dim=1)
        return -torch.logsumexp(other[:, None, :] - cost, dim=2)

    note = "fixed points form a line: constants may be added"
    return Problem("Sinkhorn", scale, zeros(size), note)


def page_rank() -> Problem:
    """p -> damping P p + (1 - damping) / n, on a web of communities with few links between."""
    draws = Draws(15)
    pages, communities, damping = 300, 6, 0.99
    group = torch.arange(pages) * communities // pages
    same = group[:, None] == group[None, :]
    links = (draws.uniform(pages, pages) < torch.where(same, 0.15, 0.001)).double()
    links.fill_diagonal_(0)
    links[:, links.sum(dim=0) == 0] = 1
    matrix = damping * links / links.sum(dim=0)
    start = torch.zeros(1, pages, dtype=torch.float64)
    start[0, 0] = 1
    note = "column-stochastic, not symmetric; communities mix slowly"
    return Problem("PageRank 0.99", lambda z: z @ matrix.T + (1 - damping) / pages, start, note)


def power_iteration() -> Problem:
    """x -> A x / |A x|, the two largest eigenvalues of A being 1 and 0.98."""
    draws = Draws(16)
    basis = draws.rotation(100)
    values = torch.cat((evenly(0, 0.98, 99), torch.ones(1, dtype=torch.float64)))
    matrix = basis @ torch.diag(values) @ basis.T

    def turn(z: Tensor) -> Tensor:
        moved = z @ matrix
        return moved / moved.norm(dim=1, keepdim=True)

    start = draws.normal(1, 100)
    return Problem("power iteration", turn, start / start.norm(), "every eigenvector is fixed")


@cache
def solver_problems() -> tuple[Problem, ...]:
    """All seventeen, in the order of the tables."""
    return (
        symmetric_affine(-0.9, 0.9, 1, "affine 0.9", "easy"),
        affine_non_normal(),
        symmetric_affine(0.0, 0.99, 3, "affine 0.99, symmetric", "100 eigenvalues up to 0.99"),
        symmetric_affine(0.0, 0.999, 4, "affine 0.999", "100 eigenvalues up to 0.999"),
        ridge_regression(),
        logistic_regression(),
        lasso(),
        total_variation(),
        deep_equilibrium(),
        value_iteration(0.95),
        value_iteration(0.99),
        poisson_mixture(),
        gaussian_mixture(),
        consumption(),
        sinkhorn(),
        page_rank(),
        power_iteration(),
    )
