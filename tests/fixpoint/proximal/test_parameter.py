"""Bad parameters are refused in one line."""

import math
import re

import pytest
import torch

from fixpoint.proximal import (
    L1,
    L2,
    AffineSet,
    Box,
    GaussianPrior,
    GroupL1,
    HalfSpace,
    Hinge,
    Huber,
    KullbackLeibler,
    LInfinity,
    Logistic,
    NegativeEntropy,
    NormBall,
    NuclearNorm,
    Quadratic,
    RowParameter,
    SecondOrderCone,
    SeparableSum,
    Simplex,
    SquaredL2,
    TotalVariation1D,
    TotalVariation2D,
    UnitDiagonal,
)

# What is refused


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: L1(-1.0), ValueError, "need 0 <= weight < inf, got -1"),
        (lambda: L1(math.nan), ValueError, "need 0 <= weight < inf, got nan"),
        (lambda: L1(torch.tensor([1.0, -2.0])), ValueError, "need 0 <= weight < inf, got -2"),
        (
            lambda: L1("1"),
            TypeError,
            "weight must be a number, a tensor or RowParameter(tensor), got str",
        ),
        (
            lambda: L2(torch.ones(3)),
            ValueError,
            "weight is one number, or one per row as RowParameter",
        ),
        (lambda: LInfinity(math.inf), ValueError, "need 0 <= weight < inf, got inf"),
        (lambda: SquaredL2(0.0), ValueError, "need 0 < weight < inf, got 0"),
        (lambda: SquaredL2(1.0, math.inf), ValueError, "need center finite, got inf"),
        (lambda: GaussianPrior(0.0, 0.0), ValueError, "need 0 < std < inf, got 0"),
        (lambda: Huber(-1.0), ValueError, "need 0 < delta < inf, got -1"),
        (lambda: Box(1.0, 0.0), ValueError, "need lower <= upper, got lower 1 and upper 0"),
        (
            lambda: Box(torch.zeros(2), RowParameter(torch.tensor([[1.0, 1], [2, -1]]))),
            ValueError,
            "need lower <= upper, got lower 0 and upper -1",
        ),
        (lambda: Box(math.inf, math.inf), ValueError, "need lower < inf and upper > -inf"),
        (lambda: Box(0.0, math.nan), ValueError, "need upper not NaN"),
        (lambda: Box(torch.ones(2), torch.ones(3)), ValueError, "lower, upper do not fit"),
        (lambda: Simplex(0.0), ValueError, "need 0 < radius < inf, got 0"),
        (lambda: HalfSpace(torch.zeros(3)), ValueError, "need ||normal|| > 0, got 0"),
        (
            lambda: HalfSpace(RowParameter(torch.eye(2) * torch.tensor([0.0, 1.0]))),
            ValueError,
            "need ||normal|| > 0, got 0",
        ),
        (
            lambda: AffineSet(torch.ones(2, 3), torch.tensor([0.0, 1.0])),
            ValueError,
            "need target in the range of matrix, but A z = b misses b by",
        ),
        (
            lambda: AffineSet(torch.ones(2, 3), torch.ones(3)),
            ValueError,
            "need matrix (equations, size) and target (equations,)",
        ),
        (lambda: NegativeEntropy(0.0), ValueError, "need 0 < weight < inf, got 0"),
        (lambda: KullbackLeibler(-0.5), ValueError, "need 0 <= data < inf, got -0.5"),
        (lambda: KullbackLeibler(1.0, -1.0), ValueError, "need 0 < weight < inf, got -1"),
        (lambda: Logistic(0.5), ValueError, "need labels -1 or 1, got 0.5"),
        (lambda: Logistic(weight=0.0), ValueError, "need 0 < weight < inf, got 0"),
        (lambda: Hinge(torch.tensor([1.0, 0.0])), ValueError, "need labels -1 or 1, got 0"),
        (lambda: Hinge(weight=-1.0), ValueError, "need 0 <= weight < inf, got -1"),
        (
            lambda: SecondOrderCone().prox(torch.ones(3), 1.0),
            ValueError,
            "need rows of vectors (x, t), got rows of shape ()",
        ),
        (lambda: NormBall(3, 1.0), ValueError, "need p in {1, 2, inf}, got 3"),
        (lambda: NormBall(2, -1.0), ValueError, "need 0 <= radius < inf, got -1"),
        (lambda: GroupL1("rows"), ValueError, 'need groups "channels" or a tuple of sizes'),
        (lambda: GroupL1((2, 0)), ValueError, "need a tuple of group sizes of at least 1"),
        (lambda: GroupL1((2, 2)).prox(torch.ones(1, 3), 1.0), ValueError, "have 4 indices"),
        (lambda: GroupL1((2,), dim=1).prox(torch.ones(1, 2), 1.0), ValueError, "no dimension 1"),
        (lambda: Quadratic(torch.ones(2, 3)), ValueError, "need matrix (size, size)"),
        (
            lambda: Quadratic(torch.tensor([[1.0, 1], [0, 1]])),
            ValueError,
            "need matrix = matrix', but their entries differ by up to 1",
        ),
        (
            lambda: Quadratic(-torch.eye(2)),
            ValueError,
            "need the eigenvalues of matrix >= 0, the least is -1",
        ),
        (lambda: Quadratic(torch.eye(2)).prox(torch.ones(1, 3), 1.0), ValueError, "rows of 2"),
        (lambda: TotalVariation1D(-0.1), ValueError, "need 0 <= weight < inf, got -0.1"),
        (lambda: TotalVariation2D(1.0, iterations=0), ValueError, "need iterations >= 1"),
        (lambda: TotalVariation2D().prox(torch.ones(2, 3), 1.0), ValueError, "rows of pictures"),
        (lambda: NuclearNorm().prox(torch.ones(2, 3), 1.0), ValueError, "rows of matrices"),
        (lambda: UnitDiagonal().prox(torch.ones(2, 3), 1.0), ValueError, "square matrices"),
        (lambda: L1().scaled(0.0), ValueError, "need 0 < factor < inf, got 0"),
        (lambda: L1().plus_squared(-1.0), ValueError, "need 0 < weight < inf, got -1"),
        (lambda: L1().translated(math.nan), ValueError, "need shift finite, got nan"),
        (lambda: L1().prox(torch.ones(2, 3), 0.0), ValueError, "need 0 < step < inf, got 0"),
        (lambda: L1().prox(torch.ones(2, 3), torch.ones(3)), ValueError, "of shape (2,), got (3,)"),
        (lambda: L1().prox(torch.ones(2, 3).long(), 1.0), TypeError, "floating-point tensor"),
        (
            lambda: L1(torch.ones(2, 3)).prox(torch.ones(2, 3), 1.0),
            ValueError,
            "weight has shape (2, 3), a row (3,): give what belongs to the rows as "
            "RowParameter(tensor)",
        ),
        (
            lambda: L1(RowParameter(torch.ones(3))).prox(torch.ones(2, 3), 1.0),
            ValueError,
            "weight has 3 rows, z has 2",
        ),
        (lambda: RowParameter(3.0), TypeError, "RowParameter takes a tensor"),
        (lambda: SeparableSum((L1(),)).prox((torch.ones(1, 1),) * 2, 1.0), ValueError, "1 parts"),
        (lambda: TotalVariation2D().conjugate(torch.ones(1, 2, 2)), TypeError, "no values"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(make, error, words):
    with pytest.raises(error, match=re.escape(words)) as caught:
        make()
    assert "\n" not in str(caught.value)
