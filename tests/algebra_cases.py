"""Operators, and the operations on them, that the tests of the algebra share."""

import torch

from fixpoint import proximal, synthetic
from fixpoint.algebra import IdentityOperator, subdifferential
from fixpoint.testing import KnownOperator, Separable
from fixpoint.testing.declared_constants import INEQUALITIES, refutation

NAMES = tuple(INEQUALITIES)


ROWS, SIZE = 3, 4


STEP = 0.7


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def constants(operator):
    return {name: getattr(operator, name) for name in NAMES}


UNARY = {
    "2 T": lambda T: 2.0 * T,
    "T / 3": lambda T: T / 3,
    "-T": lambda T: -T,
    "T + b": lambda T: T + normal(ROWS, SIZE, seed=7),
    "b - T": lambda T: normal(ROWS, SIZE, seed=7) - T,
    "translated": lambda T: T.translated(normal(ROWS, SIZE, seed=8)),
    "complement": lambda T: T.complement,
    "complement of a multiple": lambda T: (0.4 * T).complement,
    "complement of twice the complement": lambda T: (2 * T.complement).complement,
    "relaxed": lambda T: T.relaxed(0.3),
    "T - (I - T)": lambda T: T - T.complement,
}


RESOLVENTS = {
    "resolvent": lambda T: T.resolvent(STEP),
    "reflected": lambda T: T.reflected_resolvent(STEP),
    "yosida": lambda T: T.yosida(STEP),
    "complement of the resolvent": lambda T: T.resolvent(STEP).complement,
    "resolvent of yosida": lambda T: T.yosida(STEP).resolvent(2.0),
    "resolvent of the resolvent": lambda T: T.resolvent(STEP).resolvent(2.0),
    "resolvent of the multiple": lambda T: (3.0 * T + IdentityOperator()).resolvent(STEP),
}


BINARY = {
    "T + S": lambda T, S: T + S,
    "T - S": lambda T, S: T - S,
    "T + S + S": lambda T, S: T + S + S,
    "2 T + (I - S)": lambda T, S: 2.0 * T + S.complement,
    "T @ S": lambda T, S: T @ S,
    "T after S": lambda T, S: T.after(S),
    "(T / 2) after (S / 4)": lambda T, S: (T / 2).after(S / 4),
    "(T + I) @ (S + I)": lambda T, S: (T + IdentityOperator()) @ (S + 2.0 * IdentityOperator()),
}


def exact(matrix, zero=None):
    """The linear operator with its exact constants, of which it may be none of beta and mu."""
    symmetric, squared = (matrix + matrix.T) / 2, matrix.T @ matrix
    mu = float(torch.linalg.eigvalsh(symmetric)[0])
    root = torch.linalg.inv(torch.linalg.cholesky(squared))
    beta = float(torch.linalg.eigvalsh(root @ symmetric @ root.T)[0])
    return synthetic.Affine(
        matrix,
        zero,
        cocoercivity=beta * (1 - 1e-12) if beta > 0 else None,
        lipschitz=float(torch.linalg.matrix_norm(matrix, 2)) * (1 + 1e-12),
        strong_monotonicity=mu - 1e-12 * abs(mu),
    )


def assert_holds(operator, seed, label):
    """No pair, turned towards the worst directions, violates a constant of the operator."""
    a, b, center = normal(3, ROWS, SIZE, seed=seed)
    for name in NAMES:
        found = refutation(operator, name, a, b, center, 1e-11)
        assert found is None, f"{label}: {name}: {found}"


def assert_inequalities(operator, change, offset):
    inner, moved, size = (
        (u * v).sum(1) for u, v in ((change, offset), (change,) * 2, (offset,) * 2)
    )
    slack = 1e-9 * (size + moved)
    if operator.cocoercivity is not None:
        assert (inner >= operator.cocoercivity * moved - slack).all()
    if operator.lipschitz is not None:
        assert (moved <= operator.lipschitz**2 * size + slack).all()
    if operator.strong_monotonicity is not None:
        assert (inner >= operator.strong_monotonicity * size - slack).all()


# Values.


BASES = {
    "dense": lambda: synthetic.dense([0.5, 1.0, 2.0, 3.0], normal(ROWS, SIZE, seed=1), seed=3),
    "turning": lambda: synthetic.Cocoercive(0.4, normal(ROWS, SIZE, seed=2)),
    "softening": lambda: KnownOperator(
        0.5, normal(ROWS, SIZE, seed=3), Separable((1.0, 0.5, 0.2, 0.9), "softening"), 5
    ),
    "subdifferential": lambda: subdifferential(
        proximal.L1(0.5).translated(proximal.RowParameter(normal(ROWS, SIZE, seed=4)))
    ),
}
