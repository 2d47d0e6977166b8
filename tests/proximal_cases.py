"""The table of proximal functions that every test of them is run on."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fixpoint.proximal import (
    L1,
    L2,
    AffineSet,
    Box,
    Conjugate,
    Function,
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
    PositiveSemidefinite,
    Quadratic,
    RowParameter,
    SecondOrderCone,
    Simplex,
    SquaredL2,
    TotalVariation1D,
    TotalVariation2D,
    UnitDiagonal,
    Zero,
)

ROWS = 3


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def per_row(*shape, seed=0):
    return RowParameter(normal(ROWS, *shape, seed=seed))


def positive(*shape, seed=0):
    return normal(*shape, seed=seed).abs() + 0.1


POSITIVE_PER_ROW = RowParameter(positive(ROWS, seed=1))
TALL = normal(6, 5, seed=2)
GRAM = TALL.T @ TALL
FLAT = TALL[:2].T @ TALL[:2]  # of rank 2
ROW_MATRICES = normal(ROWS, 2, 5, seed=3)
DEPENDENT = torch.cat((TALL[:2], TALL[:1] - 2 * TALL[1:2]))  # 3 equations of rank 2


@dataclasses.dataclass(frozen=True)
class Case:
    """A function of rows of `shape`; `model` says what it is to CVXPY, for row i."""

    name: str
    function: Function
    shape: tuple[int, ...]
    model: Callable[..., Any] | None = None
    accuracy: float = 1e-12  # of prox, relative
    of_solver: float = 1e-9  # of CVXPY


def array(parameter, row):
    """A parameter, or that of one row, as NumPy has it."""
    if isinstance(parameter, RowParameter):
        parameter = parameter.tensor[row]
    return parameter.numpy() if isinstance(parameter, torch.Tensor) else parameter


def _l1(cp, u, f, row):
    return cp.sum(cp.multiply(array(f.weight, row), cp.abs(u))), []


def _norm(p):
    return lambda cp, u, f, row: (array(f.weight, row) * cp.norm(cp.vec(u, order="C"), p), [])


def _squared(cp, u, f, row):
    return array(f.weight, row) / 2 * cp.sum_squares(u - array(f.center, row)), []


def _gaussian(cp, u, f, row):
    return cp.sum_squares((u - array(f.mean, row)) / array(f.std, row)) / 2, []


def _huber(cp, u, f, row):  # CVXPY's is twice ours
    return array(f.weight, row) * cp.sum(cp.huber(u, array(f.delta, row))) / 2, []


def _quadratic(cp, u, f, row):
    slope = 0 if f.slope is None else array(f.slope, row) @ u
    return cp.quad_form(u, cp.psd_wrap(array(f.matrix, row))) / 2 + slope, []


def _box(cp, u, f, row):
    bounds = []
    lower, upper = array(f.lower, row), array(f.upper, row)
    if not (isinstance(lower, float) and lower == -math.inf):
        bounds.append(u >= lower)
    if not (isinstance(upper, float) and upper == math.inf):
        bounds.append(u <= upper)
    return 0, bounds


def _simplex(cp, u, f, row):
    return 0, [u >= 0, cp.sum(u) == array(f.radius, row)]


def _half_space(cp, u, f, row):
    return 0, [cp.sum(cp.multiply(array(f.normal, row), u)) <= array(f.offset, row)]


def _affine(cp, u, f, row):
    rows = [0, 1] if f.matrix is DEPENDENT else slice(None)  # solvers want independent equations
    return 0, [array(f.matrix, row)[rows] @ u == array(f.target, row)[rows]]


def _ball(cp, u, f, row):
    offset = cp.vec(u - array(f.center, row), order="C")
    p = "inf" if f.p == math.inf else f.p
    return 0, [cp.norm(offset, p) <= array(f.radius, row)]


def _groups(sizes):
    def model(cp, u, f, row):
        weight, terms, first = array(f.weight, row), [], 0
        for k, size in enumerate(sizes):
            part = cp.norm(cp.vec(u[first : first + size], order="C"), 2)
            terms.append((weight if isinstance(weight, float) else weight[k]) * part)
            first += size
        return sum(terms), []

    return model


def _nuclear(cp, u, f, row):
    return array(f.weight, row) * cp.normNuc(u), []


def _semidefinite(cp, u, f, row):
    return 0, [u == u.T, (u + u.T) / 2 >> 0]


def _unit_diagonal(cp, u, f, row):
    return 0, [cp.diag(u) == 1]


def _variation(cp, u, f, row):
    return array(f.weight, row) * cp.norm(cp.diff(u), 1), []


def _picture(cp, u, f, row):
    height, width = u.shape
    terms = []
    for i in range(height):
        for j in range(width):
            change = [
                u[i + 1, j] - u[i, j] if i + 1 < height else 0,
                u[i, j + 1] - u[i, j] if j + 1 < width else 0,
            ]
            terms.append(cp.norm(cp.hstack(change), 2 if f.isotropic else 1))
    return array(f.weight, row) * sum(terms), []


def _entropy(cp, u, f, row):
    return -cp.sum(cp.multiply(array(f.weight, row), cp.entr(u))), []


def _divergence(cp, u, f, row):
    b = array(f.data, row) + 0 * np.ones(u.shape)
    return cp.sum(cp.multiply(array(f.weight, row), cp.kl_div(b, u))), []


def _logistic(cp, u, f, row):
    losses = cp.logistic(-cp.multiply(array(f.labels, row), u))
    return cp.sum(cp.multiply(array(f.weight, row), losses)), []


def _hinge(cp, u, f, row):
    losses = cp.pos(1 - cp.multiply(array(f.labels, row), u))
    return cp.sum(cp.multiply(array(f.weight, row), losses)), []


def _cone(cp, u, f, row):
    cones = [u] if u.ndim == 1 else [u[i] for i in range(u.shape[0])]
    return 0, [cp.norm(cone[:-1], 2) <= cone[-1] for cone in cones]


LABELS = torch.tensor([1.0, -1, -1, 1, -1])

BASIC = [
    Case("zero", Zero(), (5,), lambda cp, u, f, row: (0, [])),
    Case("l1", L1(0.7), (2, 3), _l1),
    Case("l1 with weights", L1(torch.tensor([0.0, 0.5, 2.0, 1, 1])), (5,), _l1),
    Case("l1 with weights per row", L1(RowParameter(positive(ROWS, 5))), (5,), _l1),
    Case("l1 with a weight per row", L1(POSITIVE_PER_ROW), (2, 3), _l1),
    Case("l2", L2(1.3), (2, 3), _norm(2)),
    Case("l2 per row", L2(POSITIVE_PER_ROW), (5,), _norm(2)),
    Case("l infinity", LInfinity(0.8), (6,), _norm("inf")),
    Case("l infinity per row", LInfinity(POSITIVE_PER_ROW), (2, 3), _norm("inf")),
    Case("group l1", GroupL1((2, 1, 3), torch.tensor([1.0, 0.5, 2])), (6,), _groups((2, 1, 3))),
    Case("group l1 of equal sizes", GroupL1((2, 2), dim=-1), (3, 4)),
    Case("channels", GroupL1("channels", weight=0.6), (3, 4), _groups((1, 1, 1))),
    Case("squared l2", SquaredL2(), (4,), _squared),
    Case("squared l2 per row", SquaredL2(POSITIVE_PER_ROW, per_row(4)), (4,), _squared),
    Case("gaussian", GaussianPrior(normal(4), positive(4)), (4,), _gaussian),
    Case("gaussian per row", GaussianPrior(per_row(), POSITIVE_PER_ROW), (4,), _gaussian),
    Case("huber", Huber(0.5, 2.0), (5,), _huber),
    Case("huber per row", Huber(torch.tensor(0.8), POSITIVE_PER_ROW), (5,), _huber),
    Case("quadratic", Quadratic(GRAM, normal(5)), (5,), _quadratic),
    Case("quadratic of low rank", Quadratic(FLAT), (5,), _quadratic),
    Case(
        "quadratic per row",
        Quadratic(RowParameter(ROW_MATRICES.mT @ ROW_MATRICES), per_row(5)),
        (5,),
        _quadratic,
    ),
    Case("box", Box(-0.5, 1.0), (2, 3), _box),
    Case("box without a side", Box(0.0, math.inf), (5,), _box),
    Case("box per row", Box(normal(5), RowParameter(normal(5) + positive(ROWS, 5))), (5,), _box),
    Case("simplex", Simplex(2.0), (5,), _simplex),
    Case("simplex per row", Simplex(POSITIVE_PER_ROW), (2, 3), _simplex),
    Case("half-space", HalfSpace(normal(5), 0.4), (5,), _half_space),
    Case("half-space per row", HalfSpace(per_row(5), per_row()), (5,), _half_space),
    Case("affine set", AffineSet(TALL[:3], normal(3)), (5,), _affine),
    Case("affine set of rank 2", AffineSet(DEPENDENT, DEPENDENT @ normal(5)), (5,), _affine),
    Case("affine set per row", AffineSet(RowParameter(ROW_MATRICES), per_row(2)), (5,), _affine),
    Case("affine set, target per row", AffineSet(TALL[:2], per_row(2)), (5,), _affine),
    Case("l1 ball", NormBall(1, 1.5), (2, 3), _ball),
    Case("l1 ball about a center", NormBall(1, POSITIVE_PER_ROW, per_row(5)), (5,), _ball),
    Case("l2 ball", NormBall(2, POSITIVE_PER_ROW), (2, 3), _ball),
    Case("l2 ball about a center", NormBall(2, 0.5, normal(5)), (5,), _ball),
    Case("l infinity ball", NormBall(math.inf, POSITIVE_PER_ROW, normal(5)), (5,), _ball),
    Case("entropy", NegativeEntropy(), (2, 3), _entropy, of_solver=1e-6),
    Case(
        "entropy with weights",
        NegativeEntropy(RowParameter(positive(ROWS, 5))),
        (5,),
        _entropy,
        of_solver=1e-6,
    ),
    Case("divergence", KullbackLeibler(0.7), (5,), _divergence, of_solver=1e-6),
    Case(
        "divergence per row",
        KullbackLeibler(RowParameter(normal(ROWS, 5, seed=6).clamp(min=0)), positive(5)),
        (5,),
        _divergence,
        of_solver=1e-6,
    ),
    Case("logistic", Logistic(), (2, 3), _logistic, of_solver=1e-6),
    Case(
        "logistic with labels", Logistic(LABELS, POSITIVE_PER_ROW), (5,), _logistic, of_solver=1e-6
    ),
    Case("hinge", Hinge(-1.0, 0.8), (2, 3), _hinge),
    Case("hinge with labels", Hinge(LABELS, RowParameter(positive(ROWS, 5))), (5,), _hinge),
    Case("second-order cone", SecondOrderCone(), (4,), _cone),
    Case("second-order cones", SecondOrderCone(), (3, 2), _cone),
    Case("nuclear norm", NuclearNorm(0.9), (3, 4), _nuclear),
    Case("nuclear norm per row", NuclearNorm(POSITIVE_PER_ROW), (2, 3, 2)),
    Case("positive semidefinite", PositiveSemidefinite(), (3, 3), _semidefinite),
    Case("unit diagonal", UnitDiagonal(), (3, 3), _unit_diagonal),
    Case("total variation", TotalVariation1D(0.6), (7,), _variation),
    Case("total variation per row", TotalVariation1D(POSITIVE_PER_ROW), (2, 5)),
    Case("isotropic", TotalVariation2D(0.5, iterations=400), (4, 3), _picture, 1e-6),
    Case(
        "anisotropic",
        TotalVariation2D(POSITIVE_PER_ROW, isotropic=False, iterations=400),
        (3, 4),
        _picture,
        1e-6,
    ),
]
BY_NAME = {case.name: case for case in BASIC}


def made_of(name, make):
    case = BY_NAME[name.split(":")[1]]
    return Case(name.split(":")[0], make(case.function), case.shape)


COMPOSED = [
    made_of("scaled:l1", lambda g: 2.5 * g),
    made_of("scaled per row:half-space", lambda g: g.scaled(POSITIVE_PER_ROW)),
    made_of("scaled per row, smooth:huber", lambda g: g.scaled(POSITIVE_PER_ROW)),
    made_of("translated:simplex", lambda g: g.translated(normal(5))),
    made_of("translated per row:l infinity", lambda g: g.translated(per_row(6))),
    made_of("plus linear:nuclear norm", lambda g: g.plus_linear(per_row(3, 4))),
    made_of("elastic net:l1 with weights", lambda g: g.plus_squared(0.4, normal(5))),
    made_of("strongly convex box:box", lambda g: g.plus_squared(POSITIVE_PER_ROW)),
    made_of("scaled elastic net:l1", lambda g: g.plus_squared(0.5).scaled(3.0)),
    made_of("moved quadratic:quadratic", lambda g: g.translated(normal(5)).plus_squared(0.2)),
    made_of("relative entropy:entropy with weights", lambda g: g.plus_linear(-1 - normal(5))),
    made_of("strongly convex logistic:logistic", lambda g: g.plus_squared(0.3).scaled(2.0)),
    made_of("all:huber", lambda g: (2 * g.plus_linear(normal(5))).translated(1.0)),
]


def conjugate_of(case):
    return Case(f"{case.name}, conjugate", case.function.conjugate, case.shape, None, case.accuracy)


def has_values(case):
    return not (
        isinstance(case.function, Conjugate)
        and isinstance(case.function.function, TotalVariation2D)
    )


def quick(g):
    """The same with few inner iterations: for what does not depend on them."""
    if isinstance(g, Conjugate) and isinstance(g.function, TotalVariation2D):
        return quick(g.function).conjugate
    return dataclasses.replace(g, iterations=10) if isinstance(g, TotalVariation2D) else g


TABLE = BASIC + COMPOSED
CONJUGATES = [conjugate_of(case) for case in TABLE]
WITH_VALUES = [case for case in TABLE + CONJUGATES if has_values(case)]
SMOOTH = [case for case in WITH_VALUES if case.function.smoothness is not None]
STRONGLY_CONVEX = [case for case in TABLE + CONJUGATES if case.function.strong_convexity > 0]


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def draw(case, seed, scale, count):
    return scale * normal(count, ROWS, *case.shape, seed=seed)


def inner(a, b):
    return (a * b).flatten(1).sum(1)


def squared(a):
    return inner(a, a)


def room(case, *sizes):
    """What rounding, or an inexact prox, may add to numbers of these sizes."""
    return max(case.accuracy, 1e-12) * 100 * (1 + sum(size.abs() for size in sizes))
