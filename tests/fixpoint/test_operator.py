import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint import Operator, as_operator, fixed_point_of, synthetic


def constants_hold(operator, a, b):
    """The declared constants on one pair of points a row, up to rounding."""
    dz, dt = a - b, operator(a) - operator(b)
    inner, moved, size = (dz * dt).sum(1), dt.square().sum(1), dz.square().sum(1)
    slack = 1e-9 * (size + moved)
    if operator.cocoercivity is not None:
        assert (inner >= operator.cocoercivity * moved - slack).all()
    if operator.lipschitz is not None:
        assert (moved <= operator.lipschitz**2 * size + slack).all()
    if operator.strong_monotonicity is not None:
        assert (inner >= operator.strong_monotonicity * size - slack).all()
    return inner, moved, size


def pairs(seed, rows=4, size=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, rows, size, generator=generator, dtype=torch.float64)


spectra = st.lists(st.floats(0, 5), min_size=6, max_size=6).filter(lambda s: max(s) > 1e-3)


@given(spectrum=spectra, seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_the_constants_of_linear_operators_hold_and_are_sharp(spectrum, seed):
    a, b, zero = pairs(seed)
    for operator in (synthetic.diagonal(spectrum, zero), synthetic.dense(spectrum, zero)):
        constants_hold(operator, a, b)
        assert torch.count_nonzero(operator(zero)) == 0
        values, vectors = torch.linalg.eigh(operator.matrix)
        direction = vectors[:, values.abs().argmax()].expand(4, 6)
        inner, moved, size = constants_hold(operator, a + direction, a)
        torch.testing.assert_close(inner, operator.cocoercivity * moved)
        torch.testing.assert_close(moved, operator.lipschitz**2 * size)


@given(beta=st.floats(0.05, 20), seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_the_cocoercive_family_has_exactly_its_beta(beta, seed):
    a, b, zero = pairs(seed)
    inner, moved, _ = constants_hold(synthetic.Cocoercive(beta, zero), a, b)
    torch.testing.assert_close(inner, beta * moved)  # equality for every pair
    constants_hold(synthetic.Cocoercive(beta, zero, torch.tanh), a, b)
    constants_hold(synthetic.Cocoercive(beta, zero, lambda z: z.clamp(-1, 1)), a, b)


@given(angle=st.floats(0, math.pi), seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_rotation_has_the_cosine_of_its_angle(angle, seed):
    a, b, zero = pairs(seed)
    operator = synthetic.rotation(angle, zero, size=6)
    inner, _, size = constants_hold(operator, a, b)
    assert (operator.cocoercivity is None) == (math.cos(angle) < 0)
    torch.testing.assert_close(inner, math.cos(angle) * size)


@given(seed=st.integers(0, 10_000), rank=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_a_projection_is_one_cocoercive_with_null_directions(seed, rank):
    a, b, zero = pairs(seed)
    operator = synthetic.projection(a[0].expand(1, 6) if rank == 1 else pairs(seed, rank)[0], zero)
    constants_hold(operator, a, b)
    torch.testing.assert_close(operator(operator(a) + zero), operator(a))
    assert (operator.strong_monotonicity == 1) == (rank == 6)


@pytest.mark.parametrize(
    "make",
    [
        lambda zero: synthetic.diagonal([1.0, 2.0, 0.5, 1, 1, 1], zero),
        lambda zero: synthetic.dense([1.0, 2.0, 0.5, 1, 1, 1], zero),
        lambda zero: synthetic.rotation(0.4, zero, size=6),
        lambda zero: synthetic.Cocoercive(0.5, zero),
        lambda zero: as_operator(lambda z, target: z * z * z - target, zero, lipschitz=3.0),
        lambda zero: fixed_point_of(lambda z, shift: z.abs() + shift, zero, lipschitz=1.0),
    ],
)
def test_selected_rows_are_the_same_problem(make):
    a, _, zero = pairs(3)
    operator, rows = make(zero), torch.tensor([2, 0])
    selected = operator.select(rows)
    assert torch.equal(selected(a[rows]), operator(a)[rows])
    assert torch.equal(selected.select(torch.tensor([1]))(a[:1]), operator(a)[:1])
    for name in ("cocoercivity", "lipschitz", "strong_monotonicity", "averagedness"):
        assert getattr(selected, name) == getattr(operator, name)


def test_a_fixed_point_operator_carries_the_constants_of_its_map():
    a, b, _ = pairs(5)
    matrix = synthetic.rotation(1.1, size=6).matrix
    for lipschitz in (0.3, 0.9, 1.0):
        operator = fixed_point_of(lambda z, c=lipschitz: c * z @ matrix.T, lipschitz=lipschitz)
        constants_hold(operator, a, b)
        assert operator.cocoercivity == 1 / (1 + lipschitz)
    sharp = fixed_point_of(lambda z: -0.5 * z, lipschitz=0.5)
    inner, moved, _ = constants_hold(sharp, a, b)
    torch.testing.assert_close(inner, sharp.cocoercivity * moved)
    assert fixed_point_of(torch.exp).cocoercivity is None
    assert fixed_point_of(lambda z: 2 * z, lipschitz=2.0).cocoercivity is None


def test_an_operator_is_not_wrapped_twice():
    operator = synthetic.diagonal([1.0])
    assert as_operator(operator) is operator


def test_half_an_operator_cannot_be_made():
    class Half(Operator):
        def __call__(self, z):
            return z

    with pytest.raises(TypeError, match="select"):
        Half()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: as_operator(3), TypeError, "int"),
        (lambda: fixed_point_of("G"), TypeError, "str"),
        (lambda: fixed_point_of(torch.sin, lipschitz=-0.5), ValueError, "lipschitz.*-0.5"),
        (lambda: as_operator(synthetic.diagonal([1.0]), lipschitz=1.0), TypeError, "already"),
        (lambda: synthetic.projection(torch.ones(2, 3)), ValueError, "dependent"),
        (
            lambda: as_operator(lambda z, b: z - b, torch.ones(1, 2))(torch.ones(3, 2)),
            ValueError,
            r"\(1, 2\), but the batch is 3",
        ),
        (lambda: as_operator(torch.sin, cocoercivity=-1.0), ValueError, "cocoercivity.*-1.0"),
        (lambda: synthetic.Cocoercive(0.0, torch.zeros(1, 2)), ValueError, "0.0"),
        (lambda: synthetic.rotation(1.0, size=3), ValueError, "3"),
    ],
)
def test_bad_operators_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    "stated",
    [
        {"lipschitz": 1.0, "strong_monotonicity": 2.0},
        {"cocoercivity": 1.0, "strong_monotonicity": 2.0},
        {"averagedness": 0.5, "strong_monotonicity": 2.0},
    ],
)
def test_constants_that_contradict_each_other_are_refused_at_once(stated):
    with pytest.raises(ValueError, match="strong_monotonicity 2 is above lipschitz 1"):
        as_operator(torch.sin, **stated)
