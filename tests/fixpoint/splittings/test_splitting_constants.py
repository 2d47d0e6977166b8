"""The constants of a splitting are never violated, and are attained by an example."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splitting_cases import ROWS, SIZE, SKEW, normal

from fixpoint import as_operator, synthetic
from fixpoint.proximal import AffineSet, Box, Quadratic, RowParameter, SquaredL2, Zero
from fixpoint.splittings import (
    ADMM,
    PDHG,
    CondatVu,
    Consensus,
    DavisYin,
    DouglasRachford,
    ForwardBackward,
    ForwardBackwardForward,
    Gradient,
    Matrix,
    PeacemanRachford,
    PrimalDual,
    ProximalPoint,
)


def matrix_of(operator, shape):
    """T as a matrix, of an affine T on rows of this shape; `select` is not needed for one row."""
    size = math.prod(shape)
    zero = operator(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    rows = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    return torch.stack([operator(row[None]).flatten() - zero for row in rows], 1)


def spectral(matrix):
    return float(torch.linalg.matrix_norm(matrix, 2))


def quadratic(seed, size, low, high):
    """A quadratic whose least and largest curvatures are low and high."""
    orthogonal, _ = torch.linalg.qr(normal(size, size, seed=seed))
    values = torch.linspace(low, high, size, dtype=torch.float64)
    matrix = (orthogonal * values) @ orthogonal.T
    return Quadratic((matrix + matrix.T) / 2, normal(size, seed=seed + 1))


def assert_constants_hold(operator, shape):
    T = matrix_of(operator, shape)
    identity = torch.eye(len(T), dtype=torch.float64)
    symmetric = (T + T.T) / 2
    rate = getattr(operator, "rate", None)
    if operator.cocoercivity is not None:
        margin = torch.linalg.eigvalsh(symmetric - operator.cocoercivity * T.T @ T)[0]
        assert margin > -1e-9 * max(1, operator.cocoercivity)
        assert operator.cocoercivity == pytest.approx(1 / (2 * operator.averagedness))
    if operator.strong_monotonicity is not None:
        assert torch.linalg.eigvalsh(symmetric)[0] > operator.strong_monotonicity - 1e-9
    if operator.lipschitz is not None:
        assert spectral(T) < operator.lipschitz + 1e-9
    if rate is not None and not isinstance(operator, PrimalDual):
        assert spectral(identity - T) < rate + 1e-9


POSITIVE = st.floats(0.05, 3)


@given(
    seed=st.integers(0, 1000),
    curvatures=st.tuples(*[st.floats(0, 2)] * 6),
    step=POSITIVE,
    fraction=st.floats(0.05, 0.99),
)
@settings(max_examples=30, deadline=None)
def test_the_constants_of_quadratics_are_never_violated(seed, curvatures, step, fraction):
    # Of affine operators the constants are eigenvalues: this checks all pairs at once.
    pairs = [sorted(curvatures[2 * i : 2 * i + 2]) for i in range(3)]
    f, g, h = (quadratic(seed + 10 * i, 4, low, high + 0.01) for i, (low, high) in enumerate(pairs))
    short = fraction / h.smoothness
    K = Matrix(normal(3, 4, seed=seed + 50))
    onto = quadratic(seed + 60, 3, *pairs[0])
    for operator in (
        ProximalPoint(g, step),
        Gradient(h, 2 * short),
        ForwardBackward(h, g, 2 * short),
        ForwardBackwardForward(h, g, short),
        PeacemanRachford(f, g, step),
        DouglasRachford(f, g, step),
        DavisYin(f, g, h, 2 * short),
        DavisYin(f, Zero(), h, 2 * short),
        DavisYin(Zero(), g, h, 2 * short),
        DavisYin(f, g, Zero(), step),
    ):
        assert_constants_hold(operator, (4,))
    assert_constants_hold(ADMM(quadratic(seed, 4, 0.1, 2.0), onto, step, K), (3,))
    assert_constants_hold(Consensus((f, g, h), step), (3, 4))
    sigma = fraction / (step * K.norm**2)
    pdhg = PDHG(g, onto, K, step, sigma)
    tau = 1 / (h.smoothness / 2 / fraction + step * K.norm**2)
    for primal_dual in (pdhg, CondatVu(h, g, onto, K, tau, step)):
        assert_constants_hold(primal_dual, (7,))
        form = primal_dual.euclidean()
        assert_constants_hold(form, (7,))
        if primal_dual.rate is not None:
            contraction = torch.eye(7).double() - matrix_of(form, (7,))
            assert spectral(contraction) < primal_dual.rate + 1e-9


@given(seed=st.integers(0, 1000), fraction=st.floats(0.05, 0.99), mu=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_an_operator_that_is_no_gradient_has_the_constants_of_an_operator(seed, fraction, mu):
    # mu I + a rotation: cocoercive, strongly monotone, skew part and all.
    matrix = mu * torch.eye(4).double() + synthetic.rotation(1.0, size=4).matrix
    strong = mu + math.cos(1.0)
    beta = strong / spectral(matrix) ** 2
    B = synthetic.Affine(matrix, cocoercivity=beta, lipschitz=1 / beta, strong_monotonicity=strong)
    A = Skewed(normal(4, 4, seed=seed))
    for operator in (
        Gradient(B, fraction * 2 * beta),
        ForwardBackward(B, A, fraction * 2 * beta),
        ForwardBackwardForward(B, A, fraction * beta),
        DouglasRachford(A, A, fraction),
        DavisYin(A, quadratic(seed, 4, 0.1, 1.0), B, fraction * 2 * beta),
    ):
        assert_constants_hold(operator, (4,))


class Skewed:
    """z -> M M' z + (M - M') z, with its resolvent and what it knows of itself."""

    def __init__(self, matrix):
        self.matrix = matrix @ matrix.T + matrix - matrix.T
        self.strong_monotonicity = max(0.0, float(torch.linalg.eigvalsh(matrix @ matrix.T)[0]))

    def resolvent(self, step):
        inverse = torch.linalg.inv(torch.eye(len(self.matrix)).double() + step * self.matrix)
        return lambda z: z @ inverse.T


# Sharp constants: for each a problem where the declared one is attained.

ANGLES = torch.linspace(0, math.pi, 721, dtype=torch.float64).tolist()


def line(angle):
    """A unit vector, and the projection onto what is orthogonal to it."""
    n = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    return n, AffineSet(n[None], torch.zeros(1).double())


def largest_rate(operators):
    found = [
        (spectral(torch.eye(2).double() - matrix_of(each, (2,))), each.rate) for each in operators
    ]
    return max(norm for norm, _ in found), found[0][1]


def least_cocoercivity(operator):
    T = matrix_of(operator, (2,))
    symmetric = (T + T.T) / 2
    values, vectors = torch.linalg.eigh(T.T @ T)
    if values[0] < 1e-9:
        return math.inf
    half = vectors / values.sqrt()
    return float(torch.linalg.eigvalsh(half.T @ symmetric @ half)[0])


def test_the_averagedness_of_forward_backward_is_sharp():
    n = torch.tensor([1.0, 0.0], dtype=torch.float64)
    f = Quadratic(n[:, None] * n)
    for step in (0.5, 1.0, 1.8):
        operators = [ForwardBackward(f, line(angle)[1], step) for angle in ANGLES]
        found = min(map(least_cocoercivity, operators))
        assert found == pytest.approx(operators[0].cocoercivity, rel=1e-3)


def test_the_rate_of_forward_backward_is_sharp():
    T = ForwardBackward(SquaredL2(0.3), SquaredL2(0.5), 1.0)
    assert spectral(torch.eye(2).double() - matrix_of(T, (2,))) == pytest.approx(T.rate)


def test_the_rate_of_douglas_rachford_with_one_function_strongly_convex_and_smooth_is_sharp():
    f = Quadratic(torch.diag(torch.tensor([0.5, 4.0]).double()))
    for step, other in ((0.3, Zero()), (2.0, Box(0.0, 0.0))):
        T = DouglasRachford(f, other, step)
        assert spectral(torch.eye(2).double() - matrix_of(T, (2,))) == pytest.approx(T.rate)


@pytest.mark.parametrize(("strong", "smooth"), [(0.2, 0.5), (1.0, 4.0), (4.0, 0.2), (1.0, 1.0)])
def test_the_rate_of_douglas_rachford_with_one_strongly_convex_and_one_smooth_is_sharp(
    strong, smooth
):
    # One pair for each of the four cases of the rate.
    n = torch.tensor([1.0, 0.0], dtype=torch.float64)
    f = Quadratic(2 * smooth * n[:, None] * n)
    operators = [
        DouglasRachford(f, line(angle)[1].plus_squared(2 * strong), 0.5) for angle in ANGLES
    ]
    found, declared = largest_rate(operators)
    assert found == pytest.approx(declared, rel=1e-3)
    assert DouglasRachford(operators[0].g, f, 0.5).rate == declared


def test_the_star_cocoercivity_of_horward_backward_forward_is_sharp():
    turn = as_operator(synthetic.quarter_turn, lipschitz=1.0)
    T = ForwardBackwardForward(turn, Zero(), 0.6)
    z = normal(5, 2)
    value = T(z)
    ratio = (value * z).sum(1) / value.square().sum(1)
    torch.testing.assert_close(ratio, torch.full_like(ratio, T.star_cocoercivity))


@given(seed=st.integers(0, 10_000), fraction=st.floats(0.1, 0.99))
@settings(max_examples=30, deadline=None)
def test_forward_backward_forward_is_star_cocoercive_and_converges_at_its_rate(seed, fraction):
    zero = normal(ROWS, SIZE, seed=seed)
    matrix = SKEW + 0.2 * torch.eye(SIZE).double()
    B = synthetic.Affine(matrix, zero, lipschitz=spectral(matrix), strong_monotonicity=0.2)
    # A z* contains 0 and B z* is 0: zero is the answer, with the box active elsewhere.
    A = Box(RowParameter(zero - 0.1), RowParameter(zero + 0.1))
    T = ForwardBackwardForward(B, A, fraction / B.lipschitz)
    z = zero + normal(ROWS, SIZE, seed=seed + 1)
    value = T(z)
    inner = (value * (z - zero)).sum(1)
    assert (inner >= T.star_cocoercivity * value.square().sum(1) - 1e-12).all()
    assert ((z - value - zero).norm(dim=1) <= T.rate * (z - zero).norm(dim=1) + 1e-12).all()
