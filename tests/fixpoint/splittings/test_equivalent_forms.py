"""Splittings that are the same iteration in other words agree, iterate by iterate."""

import pytest
import torch
from splitting_cases import (
    DIFFERENCE,
    FIT,
    NEAR,
    NONNEGATIVE,
    ROWS,
    SIGNAL,
    SIZE,
    SPARSE,
    START,
    SUM_IS_ONE,
    L,
    normal,
)

from fixpoint import ForwardStep, as_operator
from fixpoint.proximal import L1, Zero
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
    PeacemanRachford,
    ProximalPoint,
    Scaling,
)

# Equivalent forms, iterate by iterate


def iterates(operator, z, relaxation=1.0, steps=25):
    iterator = ForwardStep(step_size=relaxation)
    state = iterator.init(operator, z)
    for _ in range(steps):
        yield state.z
        state = iterator.step(operator, state)


def agree(first, second):
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) > 10
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


relaxations = pytest.mark.parametrize("relaxation", [0.6, 1.0, 1.4])


@relaxations
def test_forward_backward_without_g_is_the_gradient_method(relaxation):
    backward = ForwardBackward(FIT, Zero(), 0.5 / L)
    agree(
        iterates(backward, START, relaxation), iterates(Gradient(FIT, 0.5 / L), START, relaxation)
    )


@relaxations
def test_davis_yin_without_h_is_douglas_rachford(relaxation):
    dy, dr = DavisYin(SPARSE, FIT, Zero(), 0.1), DouglasRachford(SPARSE, FIT, 0.1)
    assert (dy.averagedness, dy.rate) == (dr.averagedness, dr.rate)
    agree(iterates(dy, START, relaxation), iterates(dr, START, relaxation))


@relaxations
def test_davis_yin_without_g_is_forward_backward(relaxation):
    dy, fb = DavisYin(SPARSE, Zero(), FIT, 0.5 / L), ForwardBackward(FIT, SPARSE, 0.5 / L)
    assert (dy.averagedness, dy.rate) == (fb.averagedness, fb.rate)
    agree(iterates(dy, START, relaxation), iterates(fb, START, relaxation))


def test_davis_yin_without_f_is_the_other_order_of_forward_backward():
    # Its x^k = prox_g z^k are the iterates of forward-backward.
    dy, fb = DavisYin(Zero(), SPARSE, FIT, 0.5 / L), ForwardBackward(FIT, SPARSE, 0.5 / L)
    shadow = [dy.solution(z) for z in iterates(dy, START)]
    agree(shadow, iterates(fb, shadow[0]))


def test_douglas_rachford_is_half_of_peaceman_rachford():
    dr, pr = DouglasRachford(SPARSE, FIT, 0.1), PeacemanRachford(SPARSE, FIT, 0.1)
    agree(iterates(dr, START), iterates(pr, START, 0.5))


def test_forward_backward_forward_of_a_constant_is_the_proximal_point_method():
    constant = as_operator(lambda z: torch.ones_like(z), lipschitz=0.0)
    shifted = ProximalPoint(FIT.plus_linear(1.0), 0.1)
    agree(iterates(ForwardBackwardForward(constant, FIT, 0.1), START), iterates(shifted, START))


class DualOfFit:
    """prox of f*(-K' .) for f(x) = 1/2 ||x - c||^2: a projection-like formula of its own."""

    def __init__(self, linear, center):
        self.matrix, self.center = linear.dense(), center

    def prox(self, y, step):
        # f*(-K'y) = ||K'y||^2/2 - <K c, y>
        identity = torch.eye(len(self.matrix), dtype=y.dtype)
        target = y + step * self.center @ self.matrix.T
        return torch.linalg.solve(identity + step * self.matrix @ self.matrix.T, target.T).T


@relaxations
def test_admm_is_douglas_rachford_on_the_dual(relaxation):
    r = 2.0
    admm = ADMM(NEAR, L1(0.7), r, DIFFERENCE)
    dual = DouglasRachford(DualOfFit(DIFFERENCE, SIGNAL), L1(0.7).conjugate, r)
    v = normal(ROWS, SIZE - 1, seed=21)
    agree((r * each for each in iterates(admm, v, relaxation)), iterates(dual, r * v, relaxation))
    torch.testing.assert_close(admm.dual(v), dual.solution(r * v))


def test_admm_without_k_is_douglas_rachford_on_the_dual_by_conjugates():
    class Mirrored:  # f*(-y)
        def prox(self, y, step):
            return -FIT.conjugate.prox(-y, step)

    r = 3.0
    admm, dual = ADMM(FIT, SPARSE, r), DouglasRachford(Mirrored(), SPARSE.conjugate, r)
    agree((r * each for each in iterates(admm, START)), iterates(dual, r * START))


def test_admm_is_the_recursion_of_its_paper():
    r, v = 2.0, normal(ROWS, SIZE - 1, seed=22)
    w = L1(0.7).prox(v, 1 / r)
    u = v - w
    K = DIFFERENCE.dense()
    system = torch.eye(SIZE).double() + r * K.T @ K
    states = []
    for _ in range(25):
        states.append(w + u)
        x = torch.linalg.solve(system, (SIGNAL + r * (w - u) @ K).T).T
        w = L1(0.7).prox(x @ K.T + u, 1 / r)
        u = u + x @ K.T - w
    agree(states, iterates(ADMM(NEAR, L1(0.7), r, DIFFERENCE), states[0]))


def test_admm_takes_the_argmin_from_its_user():
    K = DIFFERENCE.dense()
    system = torch.eye(SIZE).double() + 2 * K.T @ K

    def minimize(t, r):
        return torch.linalg.solve(system, (SIGNAL + r * t @ K).T).T

    given_, own = (ADMM(NEAR, L1(0.7), 2.0, DIFFERENCE, minimize=each) for each in (minimize, None))
    v = normal(ROWS, SIZE - 1, seed=23)
    agree(iterates(given_, v), iterates(own, v))
    scaled, plain = ADMM(NEAR, SPARSE, 2.0, Scaling((SIZE,))), ADMM(NEAR, SPARSE, 2.0)
    agree(iterates(scaled, START), iterates(plain, START))


@relaxations
def test_pdhg_with_the_identity_and_step_product_1_is_douglas_rachford(relaxation):
    s = 0.3
    pdhg = PDHG(FIT, SPARSE, Scaling((SIZE,)), s, 1 / s)
    dual = normal(ROWS, SIZE, seed=24)
    unpacked = (pdhg.unpack(z) for z in iterates(pdhg, pdhg.pack(START, dual), relaxation))
    dr = DouglasRachford(SPARSE, FIT, s)
    agree((x - s * y for x, y in unpacked), iterates(dr, START - s * dual, relaxation))
    with pytest.raises(ValueError, match=r"tau sigma \|\|K\|\|\^2 < 1"):
        pdhg.euclidean()


@relaxations
def test_condat_vu_without_h_is_pdhg(relaxation):
    pdhg = PDHG(NEAR, L1(0.7), DIFFERENCE, 0.4, 0.5)
    cv = CondatVu(Zero(), NEAR, L1(0.7), DIFFERENCE, 0.4, 0.5)
    assert (cv.metric_averagedness, cv.rate) == (pdhg.metric_averagedness, pdhg.rate)
    z = pdhg.pack(START, normal(ROWS, SIZE - 1, seed=25))
    agree(iterates(cv, z, relaxation), iterates(pdhg, z, relaxation))


def test_pdhg_is_the_recursion_of_its_paper():
    tau, sigma, K = 0.4, 0.5, DIFFERENCE.dense()
    T = PDHG(NEAR, L1(0.7), DIFFERENCE, tau, sigma)
    x, y = START, normal(ROWS, SIZE - 1, seed=26)
    states, z = [], T.pack(x, y)
    for _ in range(25):
        states.append(torch.cat((x, y), 1))
        then = (x - tau * y @ K + tau * SIGNAL) / (1 + tau)
        y = (y + sigma * (2 * then - x) @ K.T).clamp(-0.7, 0.7)
        x = then
    agree(states, (torch.cat(T.unpack(each), 1) for each in iterates(T, z)))


def test_a_duck_typed_f_is_conjugated_by_moreau():
    class Soft:
        def prox(self, z, step):
            return z.sign() * (z.abs() - 0.7 * step).clamp(min=0)

    own, duck = (PDHG(NEAR, f, DIFFERENCE, 0.4, 0.5) for f in (L1(0.7), Soft()))
    agree(iterates(own, own.pack(START)), iterates(duck, own.pack(START)))


def test_consensus_is_douglas_rachford_on_the_product_space():
    functions = (NEAR, NONNEGATIVE, SUM_IS_ONE)

    class Product:
        def prox(self, z, step):
            return torch.stack([f.prox(z[:, i], step) for i, f in enumerate(functions)], 1)

    class Diagonal:
        def prox(self, z, step):
            return z.mean(1, keepdim=True).expand_as(z)

    z = normal(ROWS, 3, SIZE, seed=27)
    dr = DouglasRachford(Diagonal(), Product(), 0.4)
    agree(iterates(Consensus(functions, 0.4), z), iterates(dr, z))
