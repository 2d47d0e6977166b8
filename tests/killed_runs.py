"""Runs that are killed on the way, and what must be equal when they are resumed."""

import dataclasses
from typing import NamedTuple

import torch
from problems import ITERATORS, problem
from torch import Tensor

from fixpoint import Adam, Checkpoint, Operator, schedules, solve
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    Fejer,
    ForwardStepTheorem,
    InertialKMTheorem,
)
from fixpoint.stop import NoiseFloor, Stagnation
from fixpoint.testing.trees import first_difference

CPU = torch.device("cpu")


METHODS = ITERATORS | {"Adam": Adam(schedule=schedules.warmup_cosine(0.6, 60))}


class Killed(BaseException):
    """What nothing catches."""


class Mortal(Operator):
    """Another operator that raises at one of its calls, and measures its own residual."""

    def __init__(self, operator, calls, error=Killed, count=None):
        self.operator, self.calls, self.error = operator, calls, error
        self.count = [] if count is None else count
        self.cocoercivity = operator.cocoercivity

    def __call__(self, z):
        return self.evaluate(z)[0]

    def evaluate(self, z):
        self.count.append(len(z))
        if len(self.count) == self.calls:
            raise self.error
        value = self.operator(z)
        return value, {"misfit": value.norm(dim=1), "value": value}

    def select(self, rows):
        return Mortal(self.operator.select(rows), self.calls, self.error, self.count)


def run(path=None, *, calls=-1, iterator=METHODS["Anderson"], every=3, **options):
    """A run with everything that carries a memory; killed in its call number `calls`."""
    operator, zero, z0 = problem()
    z0 = z0 + torch.arange(5).reshape(5, 1)  # rows that need different numbers of iterations
    monitors = (
        Cocoercivity(zero=zero, capacity=4),
        Convergence(),
        Fejer(zero=zero),
        ForwardStepTheorem(step_size=0.8, cocoercivity=1.0),
        InertialKMTheorem(inertia=0.25, relaxation=0.6, cocoercivity=0.8),
    )
    options = {
        "rtol": 1e-3,
        "max_iterations": 60,
        "monitors": monitors,
        "stop": (Stagnation(window=20), NoiseFloor(level=1e-4)),
    } | options
    checkpoint = None if path is None else Checkpoint(path=path, every=every)
    return solve(Mortal(operator, calls), z0, iterator, checkpoint=checkpoint, **options)


def assert_same(a, b):
    """Two solutions, bit for bit, with their histories, reports and statistics."""
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert first_difference(x, y) is None, field.name


# Anyone's iterators, monitors and rules


class Pair(NamedTuple):
    value: Tensor
    number: float
