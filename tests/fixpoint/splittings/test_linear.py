"""Linear maps have their adjoint, and a bound of their norm."""

import itertools

import pytest
import torch
from splitting_cases import ROWS, normal

from fixpoint import Anderson, solve
from fixpoint.proximal import L1, GroupL1, RowParameter, SquaredL2, TotalVariation2D
from fixpoint.splittings import (
    PDHG,
    Difference1D,
    Gradient2D,
    Matrix,
    Scaling,
    as_linear,
    norm_bound,
)

# Linear maps

LINEAR = {
    "matrix": Matrix(normal(3, 5, seed=30)),
    "matrices per row": Matrix(RowParameter(normal(ROWS, 4, 3, seed=31))),
    "scaling": Scaling((2, 3), -2.0),
    "differences": Difference1D((2, 5)),
    "gradient": Gradient2D((2, 4, 3)),
    "gradient of one row": Gradient2D((1, 6)),
    "functions": as_linear(
        lambda x, a: a * x.flip(1), lambda y, a: (a * y).flip(1), (4,), normal(ROWS, 4, seed=32)
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_map_has_its_adjoint_and_its_norm(name):
    K = LINEAR[name]
    x, y = normal(ROWS, *K.inputs, seed=33), normal(ROWS, *K.outputs, seed=34)
    assert K(x).shape == y.shape
    torch.testing.assert_close((K(x) * y).flatten(1).sum(1), (x * K.adjoint(y)).flatten(1).sum(1))
    rows = torch.tensor([2, 0])
    assert torch.equal(K.select(rows)(x[rows]), K(x)[rows])
    if "per row" in name or name == "functions":
        with pytest.raises(ValueError, match="of its own"):
            K.dense()
        return
    singular = torch.linalg.svdvals(K.dense())
    assert K.norm == pytest.approx(float(singular[0]))
    if K.least:
        assert K.least == pytest.approx(float(singular[-1]))


def test_the_bound_by_power_iteration_is_a_bound_and_close():
    for seed, (m, n) in enumerate(itertools.product((1, 20), (1, 50))):
        K = Matrix(normal(m, n, seed=seed))
        found = as_linear(K, K.adjoint, (n,)).norm
        assert K.norm <= found <= 1.1 * K.norm
    assert norm_bound(Scaling((3,), 7.0), normal(1, 3)) == pytest.approx(7, rel=0.08)


def test_a_wrong_adjoint_is_refused():
    with pytest.raises(ValueError, match="differ by"):
        as_linear(lambda x: x.cumsum(1), lambda y: y.cumsum(1), (4,))
    with pytest.raises(ValueError, match="adjoint returned"):
        as_linear(lambda x: x.diff(dim=1), lambda y: y, (4,))


def test_the_gradient_gives_the_total_variation():
    x = normal(ROWS, 2, 5, 4, seed=35)
    K = Gradient2D((2, 5, 4))
    for isotropic, norm in ((True, GroupL1("channels", 0.3)), (False, L1(0.3))):
        torch.testing.assert_close(norm(K(x)), TotalVariation2D(0.3, isotropic=isotropic)(x))


def test_pdhg_denoises_a_picture_as_the_certified_prox_does():
    picture = normal(1, 6, 5, seed=36)
    K = Gradient2D((6, 5))
    step = 0.99 / K.norm
    T = PDHG(SquaredL2(1.0, RowParameter(picture)), GroupL1("channels", 0.4), K, step, step)
    run = solve(T, T.pack(torch.zeros_like(picture)), Anderson(memory=10, shrink=1.0), rtol=1e-9)
    assert run.success
    u, bound = TotalVariation2D(0.4, iterations=2000).certified_prox(picture, 1.0)
    assert float((T.solution(run.z) - u).norm()) <= float(bound) + 1e-7
