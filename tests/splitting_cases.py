"""Problems with a known answer, and the splittings that solve them."""

import math

import torch

from fixpoint import synthetic
from fixpoint.proximal import (
    L1,
    AffineSet,
    Box,
    Quadratic,
    RowParameter,
    SquaredL2,
    TotalVariation1D,
)
from fixpoint.splittings import Difference1D

ROWS, SIZE = 3, 8


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# Problems with a known answer: what is needed, and a check of a solution.

TALL = normal(12, SIZE, seed=1)


TRUTH = torch.tensor([2.0, -1, 3, 0, 0, 0, 0, 0], dtype=torch.float64)


TARGET = TALL @ TRUTH + 0.5 * normal(ROWS, 12, seed=2)


FIT = Quadratic(TALL.T @ TALL, RowParameter(-TARGET @ TALL))  # 1/2 ||A z - b||^2


L, MU = FIT.smoothness, FIT.strong_convexity


SPARSE = L1(2.0)


NONNEGATIVE = Box(0.0, math.inf)


SIGNAL = normal(ROWS, SIZE, seed=3).cumsum(1)


NEAR = SquaredL2(1.0, RowParameter(SIGNAL))


DIFFERENCE = Difference1D((SIZE,))


def close(x, expected):
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


def solves_total_variation(x):
    close(x, TotalVariation1D(0.7).prox(SIGNAL, 1.0))


SUM_IS_ONE = AffineSet(torch.ones(1, SIZE, dtype=torch.float64), torch.ones(1).double())


SADDLE = normal(4, 4, seed=5) + 3 * torch.eye(4).double()


START = normal(ROWS, SIZE, seed=20)


SKEW = torch.cat(
    (
        torch.cat((torch.zeros(4, 4).double(), SADDLE), 1),
        torch.cat((-SADDLE.T, torch.zeros(4, 4).double()), 1),
    )
)


GAME = synthetic.Affine(  # monotone, not cocoercive: a bilinear saddle point
    SKEW, SIGNAL, lipschitz=float(torch.linalg.matrix_norm(SKEW, 2)), strong_monotonicity=0.0
)
