"""Every function of one table, and its conjugate, meets the same claims."""

import math
import re
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proximal_cases import (
    BASIC,
    CONJUGATES,
    ROWS,
    SMOOTH,
    STRONGLY_CONVEX,
    TABLE,
    WITH_VALUES,
    draw,
    has_values,
    inner,
    normal,
    over,
    per_row,
    quick,
    room,
    squared,
)

from fixpoint import fixed_point_of, solve
from fixpoint.iterators import ForwardStep
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
    Quadratic,
    RowParameter,
    SecondOrderCone,
    SeparableSum,
    Simplex,
    SquaredL2,
    TotalVariation1D,
    TotalVariation2D,
    UnitDiagonal,
    Zero,
)

points = {"seed": st.integers(0, 2**16), "scale": st.sampled_from([0.01, 1.0, 30.0])}
steps = {"step": st.sampled_from([0.02, 0.3, 1.0, 4.0, 50.0])}


def with_points(**more):
    def decorate(test):
        return settings(max_examples=6, deadline=None)(given(**points, **more)(test))

    return decorate


# What a proximal point is


@over(WITH_VALUES)
@with_points(**steps)
def test_the_proximal_point_is_the_minimiser(case, seed, scale, step):
    g = case.function
    z, noise = draw(case, seed, scale, 2)
    u = g.prox(z, step)

    def objective(w):
        return g(w, tolerance=1e-9 * (1 + scale)) + squared(w - z) / (2 * step)

    least = objective(u)
    assert least.isfinite().all()
    for size in (1.0, 1e-3):
        other = g.prox(u + size * noise, 1e-3)  # a point of the domain
        assert (objective(other) >= least - room(case, least, squared(z) / step)).all()


@over(WITH_VALUES)
@with_points(**steps)
def test_the_step_to_the_proximal_point_is_a_subgradient(case, seed, scale, step):
    g, tolerance = case.function, 1e-9 * (1 + scale)
    z, noise = draw(case, seed, scale, 2)
    u = g.prox(z, step)
    slope = (z - u) / step
    for w in (g.prox(noise, 0.1), g.prox(u + 0.01 * noise, 1e-3)):
        below = g(u, tolerance) + inner(slope, w - u)
        sizes = g(u, tolerance), slope.flatten(1).norm(dim=1) * (w - u).flatten(1).norm(dim=1)
        forgiven = tolerance * slope.abs().flatten(1).sum(1)
        assert (g(w, tolerance) >= below - room(case, *sizes) - forgiven).all()


@over(TABLE + CONJUGATES)
@with_points(**steps)
def test_prox_is_firmly_nonexpansive(case, seed, scale, step):
    a, b = draw(case, seed, scale, 2)
    moved = case.function.prox(a, step) - case.function.prox(b, step)
    slack = room(case, squared(a), squared(b))
    assert (inner(moved, a - b) >= squared(moved) - slack).all()


@over(STRONGLY_CONVEX)
@with_points(**steps)
def test_prox_of_a_strongly_convex_function_contracts(case, seed, scale, step):
    a, b = draw(case, seed, scale, 2)
    moved = case.function.prox(a, step) - case.function.prox(b, step)
    factor = 1 / (1 + step * case.function.strong_convexity)
    assert (squared(moved) <= factor**2 * squared(a - b) + room(case, squared(a), squared(b))).all()


@pytest.mark.parametrize(
    ("g", "direction"),
    [
        (SquaredL2(0.7), torch.ones(1, 4)),
        (GaussianPrior(0.0, torch.tensor([1.0, 0.5, 2, 1])), torch.eye(4)[2:3]),
        (Quadratic(torch.diag(torch.tensor([3.0, 0.2, 1, 1]))), torch.eye(4)[1:2]),
        (L1().plus_squared(0.3), torch.ones(1, 4)),
        (2 * SquaredL2(0.7).plus_squared(0.1), torch.ones(1, 4)),
    ],
)
def test_the_modulus_of_strong_convexity_is_the_largest(g, direction):
    direction = direction.double()
    far = 10 * direction
    moved = g.prox(far + direction, 0.5) - g.prox(far, 0.5)
    torch.testing.assert_close(moved, direction / (1 + 0.5 * g.strong_convexity))


# Conjugates


def test_a_conjugate_has_the_inverse_constants():
    assert Huber(0.5, 2.0).conjugate.strong_convexity == 0.5
    assert Huber(0.5, 2.0).conjugate.smoothness is None
    elastic_net = L1(0.5).plus_squared(0.4).conjugate
    assert (elastic_net.strong_convexity, elastic_net.smoothness) == (0, 2.5)


def test_a_tolerance_is_in_the_units_of_the_point():
    g = (0.01 * TotalVariation1D()).conjugate  # the sums of y may reach 0.01
    y = torch.tensor([[0.01, -0.01, 0.0]]) * 1.01
    assert g(y).item() == math.inf
    assert g(y, tolerance=1e-6).item() == math.inf
    assert g(y, tolerance=1e-4).item() == 0


@over(TABLE)
@with_points(**steps)
def test_moreaus_identity(case, seed, scale, step):
    g = case.function
    (z,) = draw(case, seed, scale, 1)
    parts = g.prox(z, step) + step * g.conjugate.prox(z / step, 1 / step)
    assert (squared(parts - z) <= room(case) ** 2 * (1 + squared(z))).all()


@over([case for case in TABLE if not isinstance(case.function, TotalVariation2D)])
@with_points(**steps)
def test_the_fenchel_young_inequality_is_an_equality_at_a_proximal_point(case, seed, scale, step):
    g, tolerance = case.function, 1e-9 * (1 + scale) * (1 + 1 / step)
    z, other = draw(case, seed, scale, 2)
    u, w = g.prox(z, step), g.prox(other, step)
    slope = (z - u) / step
    sizes = g(u, tolerance), g.conjugate(slope, tolerance), inner(u, slope)
    size = sum(value.abs() for value in sizes) + squared(u) + squared(slope)
    torch.testing.assert_close(
        (sizes[0] + sizes[1] - sizes[2]) / (1 + size), 0 * size, rtol=0, atol=1e-8
    )
    lacking = g(w, tolerance) + g.conjugate(slope, tolerance) - inner(w, slope)
    assert (lacking >= -1e-8 * (1 + size + squared(w))).all()


@over(TABLE)
def test_the_conjugate_of_the_conjugate_is_the_function(case):
    g = case.function
    (z,) = draw(case, 4, 1.0, 1)
    twice = g.conjugate.conjugate
    torch.testing.assert_close(twice.prox(z, 0.7), g.prox(z, 0.7), rtol=1e-3, atol=1e-3)
    if has_values(case):
        u = g.prox(z, 0.7)
        torch.testing.assert_close(twice(u, 1e-9), g(u, 1e-9))


def test_a_named_conjugate_loses_no_digits():
    z = torch.tensor([[1e9, -1e9, 0.3]])
    assert torch.equal(L1(0.1).conjugate.prox(z, 1.0), torch.tensor([[0.1, -0.1, 0.1]]))
    by_moreau = Conjugate(L1(0.1)).prox(z, 1.0)
    assert not torch.allclose(by_moreau, torch.tensor([[0.1, -0.1, 0.1]]))


# An independent solver


@pytest.mark.filterwarnings("ignore")
@over([case for case in BASIC if case.model is not None])
def test_prox_agrees_with_cvxpy(case):
    """To 1e-9 relative to the row, 1e-6 for the inexact total variation of pictures and where the
    solver needs the exponential cone."""
    cp = pytest.importorskip("cvxpy")
    (z,) = draw(case, 11, 2.0, 1)
    u = case.function.prox(z, 0.8)
    for row in (0, 2):
        v = cp.Variable(case.shape)
        value, constraints = case.model(cp, v, case.function, row)
        target = z[row].numpy()
        objective = 0.8 * value + cp.sum_squares(v - target) / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cp.Problem(cp.Minimize(objective), constraints).solve(
                solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
            )
        found = torch.from_numpy(v.value)
        assert (found - u[row]).norm() <= max(case.of_solver, case.accuracy) * (1 + z[row].norm())
        at = case.function.select(torch.tensor([row]))
        expected = value if isinstance(value, int) else value.value
        assert at(found[None], tolerance=1e-6).item() == pytest.approx(expected, abs=1e-5)


# Smooth functions


@over(SMOOTH)
@with_points()
def test_the_gradient_is_that_of_the_value(case, seed, scale):
    g = case.function
    (z,) = draw(case, seed, scale, 1)
    x = z.clone().requires_grad_()
    g.gradient(z)  # without a graph too
    value = g(x, 1e-9)
    slope = torch.zeros_like(x)
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(g.gradient(z), slope, rtol=1e-8, atol=1e-8 * (1 + scale))


@over(SMOOTH)
@with_points()
def test_the_constants_of_the_gradient_hold(case, seed, scale):
    g = case.function
    a, b = draw(case, seed, scale, 2)
    change = g.gradient(a) - g.gradient(b)
    slack = 1e-9 * (1 + squared(a - b) + squared(change))
    assert (squared(change) <= g.smoothness**2 * squared(a - b) + slack).all()
    assert (inner(change, a - b) >= g.strong_convexity * squared(a - b) - slack).all()


@pytest.mark.parametrize("g", [L1(), Box(0.0, 1.0), Simplex(), 2 * L2(), L1().plus_linear(1.0)])
def test_a_function_that_is_not_smooth_says_so(g):
    assert g.smoothness is None
    with pytest.raises(TypeError, match="is not smooth: it has no gradient"):
        g.gradient(torch.ones(1, 3))


# Rows


@over(TABLE + CONJUGATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rows_are_independent_bit_for_bit(case, dtype):
    g = quick(case.function)
    z = draw(case, 8, 2.0, 1)[0].to(dtype)
    each_step = torch.tensor([0.5, 1.0, 2.0], dtype=dtype)
    for step in (0.7, each_step):
        found = g.prox(z, step)
        for row in range(ROWS):
            alone = torch.tensor([row])
            own = step if isinstance(step, float) else step[alone]
            assert torch.equal(g.select(alone).prox(z[alone], own), found[alone])
            if has_values(case):
                assert torch.equal(g.select(alone)(z[alone]), g(z)[alone])
            if g.smoothness is not None:
                assert torch.equal(g.select(alone).gradient(z[alone]), g.gradient(z)[alone])
    order = torch.tensor([2, 0])
    assert torch.equal(g.select(order).prox(z[order], each_step[order]), found[order])
    one_at_a_time = [g.prox(z, float(step)) for step in each_step]
    expected = torch.stack([one_at_a_time[row][row] for row in range(ROWS)])
    torch.testing.assert_close(found, expected)


@over(TABLE + CONJUGATES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
def test_a_row_that_is_not_finite_harms_no_other(case, bad):
    g = quick(case.function)
    z = draw(case, 9, 2.0, 1)[0]
    spoiled = z.clone()
    spoiled[1].view(-1)[0] = bad
    others = torch.tensor([0, 2])
    assert torch.equal(g.prox(spoiled, 0.7)[others], g.prox(z, 0.7)[others])
    if has_values(case):
        assert torch.equal(g(spoiled)[others], g(z)[others])


@pytest.mark.parametrize(
    "g",
    [
        L1(0.7),
        L2(20.0),
        NormBall(1, 9.0),
        GroupL1((1000, 2000)),
        Logistic(),
        NegativeEntropy(),
        KullbackLeibler(1.0),
    ],
)
def test_strides_change_no_bit(g):
    z = normal(3, 3000).float()
    swapped = z.mT.contiguous().mT  # the same numbers in another order of memory
    assert torch.equal(g.prox(swapped, 1.0), g.prox(z, 1.0))
    assert torch.equal(g(swapped), g(z))


def test_a_step_that_is_not_above_zero_spoils_its_row_alone():
    z = normal(3, 4)
    found = L1().prox(z, torch.tensor([0.5, 0.0, -1.0]))
    assert torch.equal(found[0], L1().prox(z[:1], 0.5)[0])
    assert found[1:].isnan().all()
    u, bound = TotalVariation2D().certified_prox(z[:, None], torch.tensor([0.5, 0.0, -1.0]))
    assert u[0].isfinite().all()
    assert u[1:].isnan().all()
    assert bound[1:].isnan().all()


def test_a_row_may_be_a_single_number_and_a_batch_may_be_empty():
    z = normal(3)
    assert torch.equal(L1(0.5).prox(z, 1.0), L1(0.5).prox(z[:, None], 1.0)[:, 0])
    assert torch.equal(Box(0.0, 1.0)(z), Box(0.0, 1.0)(z[:, None]))
    assert NormBall(1, 1.0).prox(normal(0, 4), 1.0).shape == (0, 4)


@over([*TABLE, *CONJUGATES])
def test_prox_reads_nothing_back_to_the_host(case):
    z = torch.empty(ROWS, *case.shape, device="meta")  # has no values that could be read
    g = quick(case.function)
    assert g.prox(z, 0.5).shape == z.shape
    assert g.prox(z, torch.empty(ROWS, device="meta")).shape == z.shape


# Precision


@over(TABLE + CONJUGATES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept_and_the_result_is_as_good_as_the_dtype(case, dtype):
    g = quick(case.function)
    z = draw(case, 10, 2.0, 1)[0].to(dtype)
    found = g.prox(z, 0.7)
    assert found.dtype == dtype
    expected = g.prox(z.double(), 0.7)
    size = 1 + z.double().abs().max() + expected.abs().max()
    assert (found.double() - expected).abs().max() <= 8 * torch.finfo(dtype).eps * size
    if has_values(case):
        value = g(found)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    if case in TABLE:
        assert value.isfinite().all()  # its own rounding does not put it outside
    if g.smoothness is not None:
        assert g.gradient(z).dtype == dtype


@pytest.mark.parametrize("g", [Simplex(), Box(0.0, 1.0), NormBall(2, 1.0), UnitDiagonal()])
def test_points_outside_the_domain_are_infinite_unless_tolerated(g):
    outside = 5 * normal(1, 3, 3)
    z = g.prox(outside, 1.0)
    assert (g(z) == 0).all()
    near = z + 1e-3 * (outside - z)  # along the normal
    assert (g(near) == math.inf).all()
    assert (g(near, tolerance=0.1) == 0).all()


# Single functions


@pytest.mark.parametrize("n", [1, 2, 3, 50, 257, 1000])
@pytest.mark.parametrize("weight", [0.01, 1.0, 40.0])
def test_the_total_variation_of_a_long_signal_meets_its_optimality_conditions(n, weight):
    # u = y - D' p with |p| <= weight, p = weight sign(D u) where u jumps (Condat 2013).
    y = normal(2, n, seed=n).cumsum(1) + normal(2, n, seed=n + 1)
    u = TotalVariation1D(weight).prox(y, 1.0)
    p = -(y - u).cumsum(1)
    slack = 1e-15 * n * (1 + (y.amax() - y.amin()))
    assert (p[:, -1].abs() <= slack).all()
    assert (p[:, :-1].abs() <= weight + slack).all()
    jump = u.diff(dim=1)
    assert ((p[:, :-1] - weight * jump.sign()).abs()[jump != 0] <= slack).all()
    single = TotalVariation1D(weight).prox(y.float(), 1.0)
    spread = y.amax() - y.amin()
    assert (single - u).abs().max() <= 4 * torch.finfo(torch.float32).eps * (spread + y.abs().max())


@given(seed=st.integers(0, 2**16), weight=st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_ties_in_a_signal_are_no_trouble(seed, weight):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(-3, 4, (4, 12), generator=generator).double()
    u = TotalVariation1D(float(weight)).prox(y, 1.0)
    p, jump = -(y - u).cumsum(1)[:, :-1], u.diff(dim=1)
    assert (p.abs() <= weight + 1e-13).all()
    assert ((p - weight * jump.sign()).abs()[jump.abs() > 1e-13] <= 1e-13).all()


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_distance_to_the_proximal_picture_is_certified(isotropic):
    z, step = normal(3, 2, 8, 9), torch.tensor([0.1, 0.4, 2.0], dtype=torch.float64)
    best = TotalVariation2D(0.8, isotropic, iterations=5000).prox(z, step)
    errors = []
    for iterations in (5, 50, 500):
        g = TotalVariation2D(0.8, isotropic, iterations=iterations)
        u, bound = g.certified_prox(z, step)
        assert torch.equal(u, g.prox(z, step))
        errors.append(squared(u - best).sqrt())
        assert (errors[-1] <= bound + 1e-7).all()
        assert (bound <= 100 * step / iterations).all()
    assert (errors[1] < errors[0] / 3).all()
    assert (errors[2] < 1e-12).all()


def test_restarts_make_the_distance_vanish():
    z = normal(1, 24, 24) + torch.linspace(0, 3, 24, dtype=torch.float64)
    _, bound = TotalVariation2D(0.8, isotropic=False, iterations=1000).certified_prox(z, 1.0)
    assert bound < 1e-5  # without: 8e-3


def test_a_picture_of_one_column_is_a_signal():
    z = normal(2, 9, 1)
    for isotropic in (True, False):
        picture = TotalVariation2D(0.5, isotropic, iterations=2000).prox(z, 1.0)
        signal = TotalVariation1D(0.5).prox(z.squeeze(-1), 1.0)
        torch.testing.assert_close(picture.squeeze(-1), signal)


def test_channels_are_whole_groups():
    z = torch.stack((torch.full((2, 2), 2.0), torch.full((2, 2), 0.1)))[None]
    found = GroupL1("channels").prox(z, 1.0)  # norms 4 and 0.2, shrunk by 1
    torch.testing.assert_close(found[0, 0], torch.full((2, 2), 1.5))
    assert (found[0, 1] == 0).all()
    along = GroupL1("channels", dim=-1).prox(z.movedim(1, -1), 1.0)
    assert torch.equal(along.movedim(-1, 1), found)


def test_weights_reach_the_coordinates_they_are_meant_for():
    z = torch.full((2, 2), 3.0)
    weight = torch.tensor([1.0, 2.0])
    assert L1(weight).prox(z, 1.0).tolist() == [[2, 1], [2, 1]]
    assert L1(RowParameter(weight)).prox(z, 1.0).tolist() == [[2, 2], [1, 1]]


def test_the_simplex_keeps_its_digits():
    z = torch.tensor([[1e6, 1e6 + 0.25, 0.0]])
    assert Simplex().prox(z, 1.0).tolist() == [[0.375, 0.625, 0.0]]
    z = normal(2, 100_000).abs().float()
    for u in (Simplex(0.1).prox(z, 1.0), NormBall(1, 0.1).prox(-z, 1.0)):
        sums = u.double().abs().sum(1)
        torch.testing.assert_close(sums, torch.full_like(sums, 0.1), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SquaredL2(2.0).translated(0.5), SquaredL2(2.0, 0.5)),
        (3 * L1(0.5), L1(1.5)),
        (Box(0.0, 1.0).translated(2.0), Box(2.0, 3.0)),
        (Zero().plus_squared(2.0, 0.5), SquaredL2(2.0, 0.5)),
        (SquaredL2(1.0).plus_squared(2.0), SquaredL2(3.0)),
        (Zero().plus_linear(1.0).plus_squared(0.5), SquaredL2(0.5).plus_linear(1.0)),
        (GaussianPrior(0.3, 0.5), SquaredL2(4.0, 0.3)),
        (Quadratic(2 * torch.eye(4)), SquaredL2(2.0)),
        (NormBall(math.inf, 0.5, 1.0), Box(0.5, 1.5)),
        (NormBall(2, 0.5).translated(1.0), NormBall(2, 0.5, 1.0)),
    ],
)
def test_two_ways_to_the_same_function(one, other):
    z = 3 * normal(3, 4)
    torch.testing.assert_close(one.prox(z, 0.7), other.prox(z, 0.7))
    torch.testing.assert_close(one(other.prox(z, 0.7)), other(other.prox(z, 0.7)))
    if other.smoothness is not None:
        assert one.smoothness == pytest.approx(other.smoothness)
        torch.testing.assert_close(one.gradient(z), other.gradient(z))
    assert one.strong_convexity == pytest.approx(other.strong_convexity)


def test_a_separable_sum_acts_on_each_part():
    g = SeparableSum((L1(0.5).plus_squared(0.1), SquaredL2(2.0, per_row(2, 2))))
    z = normal(ROWS, 4), normal(ROWS, 2, 2, seed=1)
    u = g.prox(z, 0.3)
    assert torch.equal(u[0], g.functions[0].prox(z[0], 0.3))
    assert torch.equal(u[1], g.functions[1].prox(z[1], 0.3))
    torch.testing.assert_close(g(z), g.functions[0](z[0]) + g.functions[1](z[1]))
    assert (g.strong_convexity, g.smoothness) == (0.1, None)
    dual = g.conjugate.prox(tuple(part / 0.3 for part in z), 1 / 0.3)
    for part, primal, slope in zip(z, u, dual, strict=True):
        torch.testing.assert_close(primal + 0.3 * slope, part)
    rows = torch.tensor([2, 0])
    some = g.select(rows).prox(tuple(part[rows] for part in z), 0.3)
    assert all(torch.equal(a, b[rows]) for a, b in zip(some, u, strict=True))
    moved = (2.0 * g).translated((1.0, -1.0)).plus_squared(0.5).plus_linear((0.1, 0.2))
    parts = [
        (2.0 * f).translated(b).plus_squared(0.5).plus_linear(q)
        for f, b, q in zip(g.functions, (1.0, -1.0), (0.1, 0.2), strict=True)
    ]
    for found, f, part in zip(moved.prox(z, 0.3), parts, z, strict=True):
        assert torch.equal(found, f.prox(part, 0.3))
    smooth = SeparableSum((SquaredL2(), SquaredL2(3.0)))
    assert (smooth.strong_convexity, smooth.smoothness) == (1, 3)
    assert torch.equal(smooth.gradient(z)[1], 3 * z[1])


def test_a_function_of_ones_own_needs_two_methods():
    class Positive(Function):
        """The indicator of z >= floor, with a floor per row."""

        def __init__(self, floor):
            self.floor = RowParameter(floor)

        def _value(self, z, tolerance):
            below = (self.floor.tensor[:, None] - z).amax(1)
            return torch.where(below > tolerance, math.inf, 0.0)

        def _prox(self, z, step):
            return z.maximum(self.floor.tensor[:, None])

    g = Positive(torch.tensor([0.0, 1.0], dtype=torch.float64))
    z = normal(2, 3)
    rows = torch.tensor([1])
    assert torch.equal(g.select(rows).prox(z[rows], 1.0), g.prox(z, 1.0)[rows])
    assert torch.equal((2 * g).translated(1.0).prox(z, 1.0), 1 + g.prox(z - 1, 1.0))
    with pytest.raises(TypeError, match="conjugate of Positive has no values"):
        g.conjugate(z)


def test_a_proximal_gradient_step_solves_a_lasso():
    matrix, target = normal(8, 5, seed=1), normal(ROWS, 8, seed=2)
    weights = torch.tensor([0.1, 1.0, 100.0], dtype=torch.float64)
    step = 1 / float(torch.linalg.matrix_norm(matrix, 2)) ** 2

    def forward_backward(z, target, weights):
        slope = (z @ matrix.T - target) @ matrix
        return L1(RowParameter(weights)).prox(z - step * slope, step)

    operator = fixed_point_of(forward_backward, target, weights)
    z = torch.zeros(ROWS, 5, dtype=torch.float64)
    solution = solve(
        operator, z, ForwardStep(step_size=1.0), rtol=1e-12, atol=1e-12, max_iterations=5000
    )
    slope = (target - solution.z @ matrix.T) @ matrix
    weight = weights[:, None]
    assert (slope.abs() <= weight + 1e-8).all()
    active = solution.z != 0
    torch.testing.assert_close(slope[active], (weight * solution.z.sign())[active])
    assert not active[2].any()
    assert active[0].any()


# Eigenvalues and equations near rounding


def test_a_small_eigenvalue_counts():
    diagonal = torch.ones(100)
    diagonal[0] = 5e-5
    g = Quadratic(torch.diag(diagonal))
    u = g.prox(torch.ones(1, 100), 1e6)
    assert u[0, 0].item() == pytest.approx(1 / 51, rel=1e-5)
    torch.testing.assert_close((1 - u) / 1e6, g.gradient(u), rtol=1e-5, atol=0)
    assert g.strong_convexity == pytest.approx(5e-5)
    assert g.conjugate(5e-5 * torch.ones(1, 100)).item() == pytest.approx(
        (5e-5 + 99 * 5e-5**2) / 2, rel=1e-5
    )


def test_rounding_is_judged_row_by_row():
    one = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    g = Quadratic(RowParameter(torch.stack((1e-20 * one, 1e20 * one))))
    alone = Quadratic(1e-20 * one)
    z = normal(2, 2)
    assert torch.equal(g.prox(z, 1e20)[:1], alone.prox(z[:1], 1e20))
    assert g.strong_convexity == pytest.approx(alone.strong_convexity)
    for bad in (-one, torch.tensor([[2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)):
        with pytest.raises(ValueError, match="need"):
            Quadratic(RowParameter(torch.stack((1e-20 * bad, 1e20 * one))))


def test_rounding_below_zero_is_zero_and_more_is_refused():
    factor = normal(50, 3).float()
    g = Quadratic(factor @ factor.T)  # of rank 3, but for rounding
    assert torch.linalg.eigvalsh(g.matrix.double()).min() < 0
    assert g.values.min() == 0
    diagonal = torch.ones(100)
    diagonal[0] = -5e-5
    with pytest.raises(ValueError, match="the least is -5e-05"):
        Quadratic(torch.diag(diagonal))


def test_a_matrix_of_integers_is_taken_as_float64():
    ones = torch.ones(7, 7, dtype=torch.int64)
    z = normal(2, 7)
    assert torch.equal(Quadratic(ones).prox(z, 0.5), Quadratic(ones.double()).prox(z, 0.5))
    assert Quadratic(ones).strong_convexity == 0
    assert Quadratic(ones).conjugate(z).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("owned", [False, True])
def test_equations_that_depend_on_each_other_up_to_float32_are_dependent(owned):
    matrix = normal(2, 20, seed=4).float()
    third = matrix[:1] / 3 - 0.7 * matrix[1:]
    dependent = torch.cat((matrix, third))
    target = dependent @ normal(20, seed=5).float()
    g = (
        AffineSet(RowParameter(dependent[None]), RowParameter(target[None]))
        if owned
        else AffineSet(dependent, target)
    )
    z = 3 * normal(1, 20, seed=6).float()
    expected = AffineSet(matrix.double(), target[:2].double()).prox(z.double(), 1.0)
    torch.testing.assert_close(g.prox(z, 1.0).double(), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="need target in the range of matrix"):
        AffineSet(dependent, target + torch.tensor([0.0, 0.0, 1e-3]))


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
