"""The operations on operators: their values, rows, dtypes and refusals."""

import math

import pytest
import torch
from algebra_cases import BASES, BINARY, RESOLVENTS, ROWS, SIZE, UNARY, constants, normal

from fixpoint import Operator, as_operator, synthetic
from fixpoint.algebra import product, subdifferential
from fixpoint.testing import check_operator


def test_the_operations_have_the_values_of_their_formulas():
    T, S = BASES["softening"](), BASES["turning"]()
    z, b = normal(2, ROWS, SIZE, seed=11)
    for made, value in (
        (2 * T, 2 * T(z)),
        (T * 2.0, 2 * T(z)),
        (-T, -T(z)),
        (T / 4, T(z) / 4),
        (T + b, T(z) + b),
        (b + T, T(z) + b),
        (T - b, T(z) - b),
        (b - T, b - T(z)),
        (T + S, T(z) + S(z)),
        (T - S, T(z) - S(z)),
        (T @ S, T(S(z))),
        (T.translated(b), T(z - b)),
        (T.complement, z - T(z)),
        (T.relaxed(0.3), 0.3 * T(z)),
        (T.after(S).complement, T.complement(S.complement(z))),
    ):
        torch.testing.assert_close(made(z), value, rtol=1e-13, atol=1e-13)


def every_operator():
    T, S = BASES["softening"](), BASES["turning"]()
    made = {label: make(T) for label, make in UNARY.items()}
    made |= {label: make(T, S) for label, make in BINARY.items()}
    made |= {label: make(S) for label, make in RESOLVENTS.items()}
    made["solved"] = T.resolvent(0.5, tolerance=1e-9)
    made["inverse"] = (2 * S + normal(ROWS, SIZE)).inverse()
    made["prox"] = BASES["subdifferential"]().resolvent(0.5)
    return made


@pytest.mark.parametrize("label", every_operator())
def test_selecting_rows_commutes_with_the_operations_bit_for_bit(label):
    operator, z = every_operator()[label], normal(ROWS, SIZE, seed=21)
    rows = torch.tensor([2, 0])
    selected = operator.select(rows)
    assert torch.equal(selected(z[rows]), operator(z)[rows])
    assert constants(selected) == constants(operator)


@pytest.mark.parametrize("label", every_operator())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operations_keep_the_dtype(label, dtype):
    operator, z = every_operator()[label], normal(ROWS, SIZE, seed=21)
    if label == "solved" and dtype == torch.float32:
        operator = BASES["softening"]().resolvent(0.5, tolerance=1e-5)
    value = operator(z.to(dtype))
    assert value.dtype == dtype
    torch.testing.assert_close(value.double(), operator(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("label", ["complement", "T + S", "T @ S", "T after S", "yosida"])
def test_what_is_made_passes_the_checks_of_any_operator(label):
    check_operator(every_operator()[label], normal(ROWS, SIZE), rounding=1e-12)


class Measuring(Operator):
    """T z = z, and the largest coordinate of every row."""

    def __call__(self, z):
        return z

    def evaluate(self, z):
        return z, {"largest": z.amax(1)}

    def select(self, rows):
        return self


def test_measurements_pass_where_there_is_one_inner_operator():
    z, b = normal(2, ROWS, SIZE)
    T = Measuring()
    for made in (2 * T, T.complement, T + b, T.relaxed(0.5)):
        assert torch.equal(made.evaluate(z)[1]["largest"], z.amax(1))
    assert torch.equal(T.translated(b).evaluate(z)[1]["largest"], (z - b).amax(1))
    assert (T + T).evaluate(z)[1] == {}
    assert (T @ T).evaluate(z)[1] == {}


# Errors.


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda T, z: T * None, TypeError, "unsupported"),
        (lambda T, z: T + 1.0, TypeError, "unsupported"),
        (lambda T, z: T * True, TypeError, "unsupported"),
        (lambda T, z: T @ z, TypeError, "unsupported"),
        (lambda T, z: T * math.inf, ValueError, "finite"),
        (lambda T, z: T.relaxed(0.0), ValueError, "relaxation.*0.0"),
        (lambda T, z: T.resolvent(-1.0), ValueError, "step.*-1.0"),
        (lambda T, z: T.resolvent(1.0), TypeError, "KnownOperator.*tolerance"),
        (lambda T, z: T.resolvent(1.0, tolerance=0.0), ValueError, "tolerance.*0.0"),
        (
            lambda T, z: as_operator(torch.exp).resolvent(1.0, tolerance=1e-6),
            ValueError,
            "Lipschitz constant.*None",
        ),
        (
            lambda T, z: as_operator(torch.sin, lipschitz=1.0).resolvent(1.0, tolerance=1e-6),
            ValueError,
            "monotone or step L < 1",
        ),
        (lambda T, z: T.inverse(), TypeError, "KnownOperator is not known"),
        (lambda T, z: (T + T).inverse(), TypeError, "Sum is not known"),
        (
            lambda T, z: synthetic.diagonal([1.0, 0.0]).inverse(),
            ValueError,
            "singular values run from 1 down to 0",
        ),
        (lambda T, z: (T + z[:2])(z), ValueError, r"\(2, 4\) for \(3, 4\)"),
        (lambda T, z: T.translated(z[0])(z), ValueError, r"\(4,\) for \(3, 4\)"),
        (lambda T, z: subdifferential(torch.relu), TypeError, "proximal.Function"),
        (lambda T, z: product(), TypeError, "operators"),
        (lambda T, z: product(T, other=T), TypeError, "not both"),
        (lambda T, z: product(torch.relu), TypeError, "builtin_function"),
        (lambda T, z: product(T, T)((z,)), ValueError, r"tuple of \[0, 1\].*\[0\]"),
        (lambda T, z: product(a=T)((z,)), ValueError, "dict"),
        (lambda T, z: T.after(z), TypeError, "Tensor"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make(BASES["softening"](), normal(ROWS, SIZE))
