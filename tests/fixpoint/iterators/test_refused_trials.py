"""What monitors make of a trial that a safeguard refused."""

from dataclasses import dataclass

import torch
from problems import problem

from fixpoint import Iterator, State, kernels
from fixpoint.loop.iterate import Iterate
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    Fejer,
    ForwardStepTheorem,
    InertialKMTheorem,
)


@dataclass(frozen=True)
class Trial(State):
    accepted: torch.Tensor | None = None


@dataclass(frozen=True)
class Trying(Iterator[Trial]):
    """Forward steps; every second evaluation is at a trial far away, which is refused."""

    step_size: float = 0.5
    trials: bool = True

    def init(self, operator, z):
        return self.at(z, z, operator(z), True)

    def step(self, operator, state):
        if self.trials and bool(state.accepted[0]):
            far = state.z + 100
            return Tried(
                z=state.z,
                point=far,
                residual=operator(far),
                accepted=torch.zeros_like(state.accepted),
                value=state.value,
            )
        z = state.z - self.step_size * state.value
        return self.at(z, z, operator(z), True)

    def at(self, z, point, residual, accepted):
        flags = torch.full((len(z),), accepted)
        return Tried(z=z, point=point, residual=residual, accepted=flags, value=residual)


@dataclass(frozen=True)
class Tried(Trial):
    value: torch.Tensor | None = None  # T at z


def watched(iterator, monitor, steps):
    """As a loop that gives monitors the norms of the accepted iterate."""
    operator, _, z0 = problem()
    state, memory = iterator.init(operator, z0), None
    for number in range(steps + 1):
        norms = kernels.row_norm(state.value), kernels.row_norm(state.z)
        iterate = Iterate(number, torch.arange(len(z0)), state, *norms, {})
        memory = monitor.watch(iterate, memory) if number else monitor.start(iterate)
        state = iterator.step(operator, state)
    return monitor.report(memory)


def test_refused_trials_are_no_iterates():
    _, zero, _ = problem()
    for monitor in (
        ForwardStepTheorem(step_size=0.5, cocoercivity=1.0, zero=zero),
        ForwardStepTheorem(step_size=0.5),
        InertialKMTheorem(inertia=0.0, relaxation=0.25, cocoercivity=1.0, zero=zero),
    ):
        plain = watched(Trying(trials=False), monitor, 10)
        tried = watched(Trying(), monitor, 20)
        for a, b in zip(plain.claims, tried.claims, strict=True):
            assert a.verdicts == b.verdicts, a.name
            if a.part == "conclusion" and "sum" not in a.name:
                torch.testing.assert_close(a.margin, b.margin, rtol=1e-6, atol=1e-9)
    for monitor in (Convergence(), Fejer(zero=zero)):
        plain = watched(Trying(trials=False), monitor, 10)
        tried = watched(Trying(), monitor, 20)
        for name in vars(plain):
            torch.testing.assert_close(getattr(plain, name), getattr(tried, name))
    pairs = watched(Trying(), Cocoercivity(zero=zero), 20)
    assert (pairs.pairwise >= 1 - 1e-12).all()
