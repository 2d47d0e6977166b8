"""check_iterator passes what is right, and catches what is wrong by name."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from problems import ITERATORS

from fixpoint import ForwardStep, InertialKM, Iterator, State, as_operator
from fixpoint.testing import Problem, check_iterator, iterator_checks, iterators, ladder

few = settings(max_examples=8, deadline=None, derandomize=True, database=None)


def problems_of(name):
    """Adam with a constant step circles the zero of an operator that turns."""
    return [rung for rung in ladder(0.8) if "Adam" not in name or rung.name != "not symmetric"]


CHANGES = {
    "forward step": {"step_size": 0.5},
    "adaptive forward step": {"fraction": 0.5},
    "inertial KM": {"inertia": 0.1, "relaxation": 0.3, "cocoercivity": 0.5},
    "Adam": {"betas": (0.5, 0.9), "eps": 1e-2},
    "Anderson": {"memory": 1, "mixing": 0.5, "regularization": 0.1, "largest_weight": 1e-3},
    "Anderson without safeguard": {"memory": 1, "mixing": 0.5, "regularization": 0.1},
    "Halpern": {"cocoercivity": 0.5, "restart": False},
    "Broyden": {"memory": 1, "mixing": 0.5, "largest_step": 0.5},
    "Newton-Krylov": {"krylov": 1, "difference": 0.3, "forcing": 0.5, "largest_step": 0.5},
}


def checks_of(name):
    return iterator_checks(
        ITERATORS[name],
        problems_of(name),
        cocoercivity=0.8,
        changes=CHANGES[name],
        scale_equivariant=name in ("forward step", "inertial KM", "Halpern", "Broyden"),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{name}-{check.__name__}")
        for name in ITERATORS
        for check in checks_of(name)
    ],
)
def test_every_iterator_of_the_library_passes(check):
    check()


@pytest.mark.slow
@given(
    iterator=iterators(2.0, methods=(ForwardStep, InertialKM)).filter(
        lambda iterator: iterator.step_size >= 0.1
    )
)
@few
def test_admissible_settings_pass(iterator):
    check_iterator(iterator, cocoercivity=2.0)


# Iterators that lie


@dataclass(frozen=True, kw_only=True)
class Honest(Iterator[State]):
    """The forward step; each lie overrides a part of it."""

    step_size: float = 0.5

    def init(self, operator, z):
        return State(z=z, point=z, residual=operator(z))

    def step(self, operator, state):
        return self.at(operator, state.z - self.step_size * state.residual)

    def at(self, operator, z):
        return State(z=z, point=z, residual=operator(z))


@dataclass(frozen=True, kw_only=True)
class IgnoresItsInertia(InertialKM):
    def step(self, operator, state):
        z = state.z - self.step_size * state.residual
        return State(z=z, point=z, residual=operator(z))


class UpdatesInPlace(Honest):
    def step(self, operator, state):
        return self.at(operator, state.z.sub_(self.step_size * state.residual))


class AveragesOverTheBatch(Honest):
    def step(self, operator, state):
        residual = 0.999 * state.residual + 0.001 * state.residual.mean(0)
        return self.at(operator, state.z - self.step_size * residual)


class StopsOnTheBatchMaximum(Honest):
    def step(self, operator, state):
        if state.residual.abs().max() < 1e-3:
            return state
        return super().step(operator, state)


class ClipsByTheBatchMaximum(Honest):
    def step(self, operator, state):
        largest = max(1.0, float(state.residual.abs().max()))
        return self.at(operator, state.z - self.step_size * state.residual / largest)


class ReportsTheDampedStep(Honest):
    def at(self, operator, z):
        return State(z=z, point=z, residual=self.step_size * operator(z))


class ReportsAnotherPointsResidual(Honest):
    def step(self, operator, state):
        z = state.z - self.step_size * state.residual
        return State(z=z, point=z, residual=operator(z.clone()))


class SkipsTheStart(Honest):
    def init(self, operator, z):
        return self.at(operator, z - self.step_size * operator(z))


class IsRandom(Honest):
    def step(self, operator, state):
        noise = 1 + 1e-9 * torch.rand((), dtype=torch.float64)
        return self.at(operator, state.z - noise * self.step_size * state.residual)


class WorksInFloat32(Honest):
    def step(self, operator, state):
        z = state.z.float() - self.step_size * state.residual.float()
        return self.at(operator, z)


class Decays(Honest):
    def step(self, operator, state):
        return self.at(operator, 0.999 * state.z - self.step_size * state.residual)


class TakesRowsForVectors(Honest):
    def step(self, operator, state):
        norm = state.residual.norm(dim=1, keepdim=True)
        return self.at(operator, state.z - self.step_size * state.residual / (1 + norm))


class CountsTheBatch(Honest):
    def statistics(self, state):
        return {"rows": torch.tensor(len(state.z))}


class StandsStill(Honest):
    def step(self, operator, state):
        return self.at(operator, state.z)


class PromisesTooMuch(Honest):
    def residual_bound(self, distance, cocoercivity, iterations):
        return distance / (cocoercivity * 2.0**iterations)


@dataclass
class IsNotFrozen(Honest.__mro__[1]):
    step_size: float = 0.5
    init, step, at = Honest.init, Honest.step, Honest.at


class Remembers(Honest):
    def step(self, operator, state):
        object.__setattr__(self, "last", state)
        return super().step(operator, state)


@dataclass(frozen=True)
class ListState(State):
    past: list


class KeepsAList(Honest):
    def at(self, operator, z):
        return ListState(z=z, point=z, residual=operator(z), past=[z])

    init = at


@dataclass(frozen=True)
class SumState(State):
    total: torch.Tensor


class KeepsABatchSum(Honest):
    def at(self, operator, z):
        return SumState(z=z, point=z, residual=operator(z), total=z.sum())

    init = at


def test_an_iterator_that_tells_the_truth_passes():
    check_iterator(Honest(step_size=0.5), changes={"step_size": 0.4}, scale_equivariant=True)


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (UpdatesInPlace, "old state is untouched"),
        (AveragesOverTheBatch, "rows are independent"),
        (StopsOnTheBatchMaximum, "rows are independent"),
        (ClipsByTheBatchMaximum, "rows are independent"),
        (ReportsTheDampedStep, "residual is T at point"),
        (ReportsAnotherPointsResidual, "residual is T at point"),
        (SkipsTheStart, "init starts at z"),
        (IsRandom, "steps are pure"),
        (WorksInFloat32, "shape, dtype and device are kept"),
        (TakesRowsForVectors, "rows may have any shape"),
        (CountsTheBatch, "state has the batch first"),
        (Decays, "shift equivariance"),
        (StandsStill, "converges"),
        (PromisesTooMuch, "proven rate"),
        (IsNotFrozen, "options are frozen"),
        (Remembers, "options are frozen"),
        (KeepsAList, "state has the batch first"),
        (KeepsABatchSum, "state has the batch first"),
    ],
)
def test_an_iterator_that_lies_is_caught(lie, broken):
    with pytest.raises(AssertionError, match=f"^{broken}: broken by .*{lie.__name__}"):
        check_iterator(lie(step_size=0.5))


def test_an_iterator_that_ignores_its_inertia_is_caught():
    iterator = IgnoresItsInertia(inertia=0.2, relaxation=0.3, cocoercivity=1.0)
    with pytest.raises(AssertionError, match=r"^option inertia changes the iterates: "):
        check_iterator(iterator, changes={"inertia": 0.4})


def test_a_step_of_two_beta_does_not_pass_for_convergent():
    """It circles the zero of an operator with equality in the cocoercivity inequality."""
    with pytest.raises(AssertionError, match=r"^converges: .*"):
        check_iterator(Honest(step_size=2.0), cocoercivity=1.0)


def test_scale_equivariance_is_asked_of_those_that_claim_it():
    with pytest.raises(AssertionError, match=r"^scale equivariance"):
        check_iterator(ITERATORS["Adam"], problems_of("Adam"), scale_equivariant=True)


def test_the_smallest_problem_is_named():
    with pytest.raises(AssertionError, match="smallest example found: one dimension: 3 rows"):
        check_iterator(UpdatesInPlace())


def test_a_users_problems_are_used():
    def stiff(z):
        return torch.cat((z[:, :1], 0.05 * z[:, 1:]), 1)

    start = torch.ones(2, 2, dtype=torch.float64)
    problem = Problem("stiff", as_operator(stiff), start)
    check_iterator(Honest(), [problem])
    with pytest.raises(AssertionError, match=r"^converges: .*\n.*\n.* stiff: 2 rows"):
        check_iterator(Honest(), [problem], rtol=1e-6, max_iterations=10)


def test_unusable_arguments_are_refused():
    with pytest.raises(TypeError, match="ForwardStep"):
        check_iterator(ForwardStep)
    with pytest.raises(ValueError, match="momentum"):
        check_iterator(Honest(), changes={"momentum": 1.0})
    with pytest.raises(ValueError, match="no problem"):
        check_iterator(Honest(), [])
