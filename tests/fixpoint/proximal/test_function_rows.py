"""Every function of one table, row by row and in every dtype."""

import math

import pytest
import torch
from proximal_cases import CONJUGATES, ROWS, TABLE, draw, has_values, normal, over, quick

from fixpoint.proximal import (
    L1,
    L2,
    Box,
    GroupL1,
    KullbackLeibler,
    Logistic,
    NegativeEntropy,
    NormBall,
    Simplex,
    TotalVariation2D,
    UnitDiagonal,
)

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
