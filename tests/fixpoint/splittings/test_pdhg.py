"""PDHG up to tau sigma ||K||^2 < 4/3: what converges, what is stated, and what is refused."""

import math

import pytest
import torch

from fixpoint import ForwardStep, proximal, solve, synthetic
from fixpoint.proximal import L1, Box, Quadratic, RowParameter, SquaredL2, Zero
from fixpoint.splittings import PDHG, CondatVu, Difference1D, Matrix, Scaling

COUPLINGS = [0.5, 0.99, 1.0, 1.01, 1.2, 1.3, 1.33]
CONSTANTS = ("averagedness", "cocoercivity", "lipschitz", "strong_monotonicity")
CONSTANTS += ("metric_averagedness", "star_cocoercivity", "rate")


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def steps(coupling, norm, ratio=1.0):
    """tau, sigma with tau sigma norm^2 = coupling."""
    root = math.sqrt(coupling) / norm
    return root * ratio, root / ratio


def tightest(coupling):
    """f = 0 and g the indicator of 0, on the line: PDHG diverges exactly from 4/3 on."""
    return PDHG(Zero(), Box(0.0, 0.0), Scaling((1,)), *steps(coupling, 1.0))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_plain_iteration_converges_on_the_tightest_problem(coupling):
    T = tightest(coupling)
    matrix = torch.eye(2).double() - torch.stack([T(row[None])[0] for row in torch.eye(2).double()])
    assert float(torch.linalg.eigvals(matrix).abs().max()) < 1
    start = T.pack(torch.ones(1, 1).double(), torch.ones(1, 1).double())
    plain = ForwardStep(step_size=1.0)
    run = solve(T, start, plain, rtol=0.0, atol=1e-6, max_iterations=20000)
    assert run.success
    assert float(T.solution(run.z).abs().max()) < 1e-4


def test_above_the_limit_the_same_iteration_diverges():
    n = math.sqrt(4 / 3 + 1e-3)  # x' = x - n y, y' = y + n (2 x' - x)
    matrix = torch.tensor([[1, -n], [n, 1 - 2 * n * n]], dtype=torch.float64)
    assert float(torch.linalg.eigvals(matrix).abs().max()) > 1
    at_limit = tightest(4 / 3 - 1e-3)
    columns = torch.stack([at_limit(row[None])[0] for row in torch.eye(2).double()], 1)
    n = math.sqrt(4 / 3 - 1e-3)
    expected = torch.tensor([[1, -n], [n, 1 - 2 * n * n]], dtype=torch.float64)
    torch.testing.assert_close(torch.eye(2).double() - columns, expected)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_total_variation_is_solved_right_up_to_the_limit(coupling, ratio):
    signal = normal(2, 20, seed=1).cumsum(1)
    K = Difference1D((20,))
    T = PDHG(SquaredL2(1.0, RowParameter(signal)), L1(0.8), K, *steps(coupling, K.norm, ratio))
    plain = ForwardStep(step_size=1.0)
    run = solve(T, T.pack(signal), plain, rtol=0.0, atol=1e-9, max_iterations=50000)
    assert run.success
    exact = proximal.TotalVariation1D(0.8).prox(signal, 1.0)
    torch.testing.assert_close(T.solution(run.z), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_quadratics_never_diverge_below_the_limit(seed):
    root, matrix = normal(6, 6, seed=seed), normal(4, 6, seed=seed + 10)
    K = Matrix(matrix)
    for f in (Zero(), Quadratic(root @ root.T * 1e-2), Quadratic(root @ root.T)):
        T = PDHG(f, SquaredL2(10.0 ** (seed - 2)), K, *steps(1.333, K.norm, 3.0**seed))
        zero = T(torch.zeros(1, 10).double())
        columns = torch.stack([(T(row[None]) - zero)[0] for row in torch.eye(10).double()], 1)
        values = torch.linalg.eigvals(torch.eye(10).double() - columns)
        # 1 itself belongs to the directions in which there are many solutions
        assert float(values.abs().max()) <= 1 + 1e-9
        assert (values[(values - 1).abs() > 1e-6].abs() < 1).all()


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_constants_are_stated_up_to_1_and_none_above(coupling):
    T = PDHG(SquaredL2(1.0), SquaredL2(2.0), Scaling((3,)), *steps(coupling, 1.0))
    values = {name: getattr(T, name) for name in CONSTANTS}
    if coupling <= 1:
        assert values["metric_averagedness"] <= 0.5
        assert values["rate"] < 1
    else:
        assert values == dict.fromkeys(CONSTANTS)
        with pytest.raises(ValueError, match=r"tau sigma \|\|K\|\|\^2 < 1"):
            T.euclidean()
        z = torch.tensor([[1.0, 0, 0, 1.0, 0, 0]], dtype=torch.float64)
        assert float(T.squared_norm(z)) < 0


@pytest.mark.parametrize("coupling", [4 / 3, 4 / 3 + 1e-9, 1.5, 100.0])
def test_the_limit_and_above_are_refused_with_the_inequality(coupling):
    with pytest.raises(ValueError, match=r"dual_step \* \|\|K\|\|\^2 < 4/3, got .* = "):
        PDHG(Zero(), L1(1.0), Scaling((3,)), coupling, 1.0)


def test_operators_and_condat_vu_keep_the_limit_1():
    skew = synthetic.Affine(
        torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double(), strong_monotonicity=0.0, lipschitz=1.0
    )
    assert PDHG(skew, L1(1.0), Scaling((2,)), 1.0, 1.0).metric_averagedness == 0.5
    for f, g in ((skew, L1(1.0)), (L1(1.0), skew)):
        with pytest.raises(ValueError, match=r"<= 1 for operators f or g \(< 4/3 for functions\)"):
            PDHG(f, g, Scaling((2,)), 1.0, 1.1)
    with pytest.raises(ValueError, match="Condat-Vu needs"):
        CondatVu(Zero(), SquaredL2(1.0), L1(1.0), Scaling((2,)), 1.0, 1.1)
