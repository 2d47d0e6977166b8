"""The problems and iterators that every test of the solver is run on."""

import torch
from torch import Tensor

from fixpoint import (
    Adam,
    Anderson,
    Broyden,
    ForwardStep,
    Halpern,
    InertialKM,
    NewtonKrylov,
    Operator,
    schedules,
    synthetic,
)

ITERATORS = {
    "forward step": ForwardStep(step_size=0.8),
    "adaptive forward step": ForwardStep.adaptive(),
    "inertial KM": InertialKM(inertia=0.25, relaxation=0.6, cocoercivity=0.8),
    "Adam": Adam(schedule=schedules.constant(0.05)),
    "Anderson": Anderson(memory=4, mixing=0.8),
    "Anderson without safeguard": Anderson(memory=2, mixing=0.8, safeguard=False),
    "Halpern": Halpern(cocoercivity=0.8),
    "Broyden": Broyden(memory=4, mixing=0.8),
    "Newton-Krylov": NewtonKrylov(krylov=2, mixing=0.8),
}


def problem(rows: int = 5, size: int = 8, dtype: torch.dtype = torch.float64) -> tuple:
    """An ill-conditioned symmetric operator, exactly 1-cocoercive, with known zeros."""
    generator = torch.Generator().manual_seed(rows * 100 + size)
    zero = torch.randn(rows, size, generator=generator, dtype=torch.float64).to(dtype)
    operator = synthetic.dense(torch.linspace(0.1, 1, size), zero, seed=size)
    return operator, zero, torch.zeros_like(zero)


class NaNRows(Operator):
    """Another operator, but NaN on chosen rows from the third evaluation on."""

    def __init__(self, operator: Operator, bad: Tensor, calls: int = 0) -> None:
        self.operator, self.bad, self.calls = operator, bad, calls

    def __call__(self, z: Tensor) -> Tensor:
        self.calls += 1
        value = self.operator(z)
        if self.calls >= 3:
            value = torch.where(self.bad[:, None], torch.nan, value)
        return value

    def select(self, rows: Tensor) -> Operator:
        return NaNRows(self.operator.select(rows), self.bad[rows], self.calls)


class Counting(Operator):
    """Another operator that counts the rows it is evaluated on."""

    def __init__(self, operator: Operator, count: list[int] | None = None) -> None:
        self.operator, self.count = operator, [] if count is None else count

    def __call__(self, z: Tensor) -> Tensor:
        self.count.append(len(z))
        return self.operator(z)

    def select(self, rows: Tensor) -> Operator:
        return Counting(self.operator.select(rows), self.count)
