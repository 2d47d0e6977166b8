"""Networks that are functions of every row, and samplers with them, for the tests."""

import torch

SIZE = 6


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def matrices(rows, norm, seed=0):
    """A matrix of that spectral norm for every row."""
    drawn = normal(rows, SIZE, SIZE, seed=seed)
    return norm * drawn / torch.linalg.matrix_norm(drawn, 2)[:, None, None]


def linear(x, timestep, matrix):
    return (matrix @ x.unsqueeze(2)).squeeze(2)


def curved(x, timestep):
    """Acts on every value by itself, so that rows agree bit for bit."""
    return torch.sin(2 * x + timestep / 1000) + 0.3 * x.abs()


def error(found, truth):
    return float((found - truth).norm() / truth.norm())
