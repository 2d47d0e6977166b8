"""The kit passes what is right and catches what is wrong: every lie below is caught by name."""

import builtins
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ITERATORS

from fixpoint import (
    Anderson,
    ForwardStep,
    InertialKM,
    Iterator,
    Operator,
    State,
    TheoremWarning,
    as_operator,
    solve,
    synthetic,
    theory,
)
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    Fejer,
    ForwardStepTheorem,
    InertialKMTheorem,
    Monitor,
)
from fixpoint.testing import (
    BrokenProperty,
    KnownOperator,
    Planes,
    Problem,
    Separable,
    autoencoder_pairs,
    check_iterator,
    check_monitor,
    check_operator,
    iterators,
    ladder,
    operators,
    outside,
    starting_points,
)
from fixpoint.testing.known_operator import SHAPES

drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)
few = settings(drawn, max_examples=8)
UNCOCOERCIVE = ("nearly cocoercive", "not cocoercive")


def products(operator, a, b):
    dz, dt = a - b, operator(a) - operator(b)
    return (dz * dt).sum(1), dt.square().sum(1), dz.square().sum(1)


# The strategies are honest


@given(st.data())
@drawn
def test_no_pair_violates_the_constants_of_a_drawn_operator(data):
    operator = data.draw(operators())
    a, b = data.draw(starting_points(operator)), data.draw(starting_points(operator))
    inner, moved, size = products(operator, a, b)
    slack = 1e-12 / min(operator.beta, 1) * (1 + a.square().sum(1) + b.square().sum(1))
    assert (inner >= operator.cocoercivity * moved - operator.cocoercivity * slack).all()
    assert (moved <= operator.lipschitz**2 * size + slack / operator.beta).all()
    assert (inner >= operator.strong_monotonicity * size - slack).all()
    assert operator.cocoercivity == pytest.approx(operator.beta, rel=1e-9)
    assert torch.count_nonzero(operator(operator.zero)) == 0


@given(st.data())
@drawn
def test_the_cocoercivity_of_a_drawn_operator_is_sharp_at_its_zero(data):
    operator = data.draw(operators(shapes=("linear", "softening", "tanh", "clamp")))
    axis = torch.eye(1, operator.form.size, dtype=torch.float64) @ operator.orthogonal
    a = operator.zero + 1e-6 * axis
    inner, moved, _ = products(operator, a, operator.zero)
    torch.testing.assert_close(inner, operator.beta * moved, rtol=1e-5, atol=0)


@given(st.data())
@drawn
def test_planes_meet_the_cocoercivity_inequality_with_equality_for_every_pair(data):
    operator = data.draw(operators().filter(lambda drawn: isinstance(drawn.form, Planes)))
    a, b = data.draw(starting_points(operator)), data.draw(starting_points(operator))
    inner, moved, size = products(operator, a, b)
    slack = 1e-13 / operator.beta * (size + a.square().sum(1) + b.square().sum(1))
    assert ((inner - operator.beta * moved).abs() <= slack).all()


@given(operator=operators(kinds=UNCOCOERCIVE))
@drawn
def test_operators_that_are_not_cocoercive_declare_nothing_and_have_a_refutation(operator):
    assert operator.cocoercivity is None
    assert operator.averagedness is None
    inner, moved, _ = products(operator, operator.zero + operator.refutation, operator.zero)
    assert (moved > 0).all()
    assert (inner <= 1e-15 * moved).all()  # a quarter turn: 0 up to rounding
    assert (inner < 0).all() or isinstance(operator.form, Planes)


@given(operator=operators(kinds=("nearly cocoercive",)))
@drawn
def test_nearly_cocoercive_operators_fall_short_by_little(operator):
    negative = min(operator.form.spectrum)
    assert -0.05 <= negative <= -1e-4
    assert min(operator.form.spectrum[:-1]) >= 0


@given(operator=operators())
@drawn
def test_cocoercive_operators_have_no_refutation(operator):
    assert operator.refutation is None


@given(st.data())
@drawn
def test_drawn_operators_are_the_nonexpansive_maps_in_disguise(data):
    operator = data.draw(operators())
    a, b = data.draw(starting_points(operator)), data.draw(starting_points(operator))
    _, _, size = products(operator, a, b)
    moved = (a - b) - 2 * operator.beta * (operator(a) - operator(b))  # N = I - 2 beta T
    assert (moved.norm(dim=1) <= size.sqrt() + 1e-12 * (a.norm(dim=1) + b.norm(dim=1))).all()


@pytest.mark.slow
def test_the_strategies_reach_every_kind_of_problem():
    seen = set()

    @given(operators(kinds=("cocoercive", *UNCOCOERCIVE)))
    @settings(drawn, max_examples=250)
    def look(operator):
        form = operator.form
        seen.add(type(form).__name__)
        seen.add("dense" if operator.basis else "axes")
        seen.add("cocoercive" if operator.cocoercivity else "not cocoercive")
        if isinstance(form, Separable):
            seen.add(form.shape)
            slopes = [slope for slope in form.spectrum if slope > 0]
            seen.add("null directions" if 0.0 in form.spectrum else "no null directions")
            seen.add("ill conditioned" if min(slopes) <= 1e-4 else "well conditioned")
        elif torch.pi / 2 in form.angles:
            seen.add("quarter turn")

    look()
    assert seen >= {*SHAPES, "Separable", "Planes", "dense", "axes", "cocoercive"}
    assert seen >= {"not cocoercive", "null directions", "ill conditioned", "quarter turn"}


def test_examples_shrink_to_the_smallest_operator():
    from hypothesis import find

    smallest = find(operators(), lambda operator: True, settings=drawn)
    assert repr(smallest) == (
        "KnownOperator(beta=1, form=Separable(spectrum=(1.0,), shape='linear'), basis=0, rows=1)"
    )
    assert torch.equal(smallest.zero, torch.zeros(1, 1, dtype=torch.float64))


@given(st.data())
@drawn
def test_starting_points_have_the_shape_and_dtype_and_stay_near(data):
    operator = data.draw(operators())
    points = data.draw(starting_points(operator, largest=2.0, dtype=torch.float32))
    assert points.shape == operator.zero.shape
    assert points.dtype == torch.float32
    assert ((points - operator.zero).norm(dim=1) <= 2 + 1e-5).all()


@pytest.mark.parametrize("beta", [0.05, 1.0, 30.0])
def test_drawn_iterators_are_admissible(beta):
    @given(iterators(beta))
    @drawn
    def admissible(iterator):
        if isinstance(iterator, ForwardStep):
            assert theory.forward_step_descent(iterator.step_size, beta) > 0
        if isinstance(iterator, InertialKM):
            assert theory.inertia_margin(iterator.inertia, iterator.relaxation) > 0
            assert iterator.cocoercivity <= beta
        if isinstance(iterator, Anderson):
            assert iterator.mixing < 2 * beta

    admissible()


@given(pair=autoencoder_pairs(perturbed=False))
@drawn
def test_an_exact_autoencoder_pair_composes_to_the_identity(pair):
    z = torch.randn(pair.latent.shape, dtype=torch.float64)
    torch.testing.assert_close(pair.encode(pair.decode(z)), z, rtol=1e-12, atol=1e-12)
    operator = pair.operator()
    torch.testing.assert_close(operator(z), z - pair.latent, rtol=1e-11, atol=1e-11)
    assert operator.cocoercivity == 1


@given(pair=autoencoder_pairs(perturbed=True), seed=st.integers(0, 1000))
@drawn
def test_a_perturbed_autoencoder_pair_has_its_latent_as_a_zero_and_its_constant(pair, seed):
    operator = pair.operator()
    assert operator(pair.latent).abs().max() <= 1e-11
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, *pair.latent.shape, generator=generator, dtype=torch.float64)
    inner, moved, size = products(operator, a, b)
    assert (inner >= operator.cocoercivity * moved - 1e-10 * (size + 1)).all()
    solution = solve(operator, torch.zeros_like(a), ForwardStep(step_size=0.7))
    assert solution.success


@given(pair=autoencoder_pairs(rows=3))
@few
def test_autoencoder_pairs_pass_the_check_of_operators(pair):
    check_operator(pair.operator(), pair.latent, rounding=1e-10, examples=5)


def test_unknown_kinds_are_refused_by_name():
    from hypothesis import find

    with pytest.raises(ValueError, match="strange"):
        find(operators(kinds=("strange",)), lambda operator: True)
    with pytest.raises(ValueError, match="wavy"):
        find(operators(shapes=("wavy",)), lambda operator: True)
    with pytest.raises(ValueError, match="Monitor"):
        iterators(methods=(Monitor,))


# What is right passes


@given(operator=operators(kinds=("cocoercive", *UNCOCOERCIVE), rows=st.integers(2, 3)))
@few
def test_drawn_operators_pass(operator):
    check_operator(operator, examples=5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_pass_in_fewer_bits(dtype):
    for problem in ladder():
        check_operator(problem.operator, problem.zero.to(dtype), examples=10)


@pytest.mark.parametrize(
    "make",
    [
        lambda zero: synthetic.diagonal([1.0, 2.0, 0.0, 1e-6], zero),
        lambda zero: synthetic.dense([1.0, 2.0, 0.5, 0.1], zero),
        lambda zero: synthetic.rotation(0.4, zero, size=4),
        lambda zero: synthetic.projection(torch.eye(2, 4), zero),
        lambda zero: synthetic.Cocoercive(0.5, zero),
        lambda zero: synthetic.Cocoercive(0.5, zero, torch.tanh),
        lambda zero: as_operator(lambda z, at: torch.sin(z - at) / 2 + z - at, zero, lipschitz=1.5),
    ],
    ids=["diagonal", "dense", "rotation", "projection", "cocoercive", "tanh", "function"],
)
def test_synthetic_operators_pass(make):
    zero = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check_operator(make(zero), zero)


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ITERATORS)
def test_every_iterator_of_the_library_passes(name):
    check_iterator(
        ITERATORS[name],
        problems_of(name),
        cocoercivity=0.8,
        changes=CHANGES[name],
        scale_equivariant=name in ("forward step", "inertial KM", "Halpern", "Broyden"),
    )


@given(
    iterator=iterators(2.0, methods=(ForwardStep, InertialKM)).filter(
        lambda iterator: iterator.step_size >= 0.1
    )
)
@few
def test_admissible_settings_pass(iterator):
    check_iterator(iterator, cocoercivity=2.0)


THEOREMS = {
    ForwardStep(step_size=1.0): ForwardStepTheorem,
    InertialKM(): InertialKMTheorem,
}
MONITORS = {
    "convergence": Convergence(),
    "cocoercivity": Cocoercivity(),
    "cocoercivity at a zero": lambda problem, iterator: Cocoercivity(zero=problem.zero),
    "Fejer": lambda problem, iterator: Fejer(zero=problem.zero),
}


@pytest.mark.parametrize("name", MONITORS)
def test_every_monitor_of_the_library_passes(name):
    check_monitor(MONITORS[name])


def certified(report):
    """All hypotheses but that there is a zero, which nothing but the caller can know."""
    hypotheses = [
        claim for claim in report.claims if claim.part == "hypothesis" and claim.name != "zero"
    ]
    return torch.stack([claim.holds & claim.known for claim in hypotheses]).all(0)


@pytest.mark.parametrize("iterator", THEOREMS, ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize("zero_known", [True, False])
def test_the_theorems_pass_and_certify_nothing_outside(iterator, zero_known):
    def make(problem, watched):
        zero = problem.zero if zero_known else None
        return THEOREMS[iterator].of(watched, problem.operator, zero)

    check_monitor(make, iterator=iterator, certified=certified)
    inside = ladder(1.0)[2]  # and within the theorem they do
    monitor = make(inside, iterator)
    solution = solve(inside.operator, inside.start, iterator, monitors=(monitor,))
    assert certified(solution.monitors[0]).all()


def test_runs_outside_do_not_descend_as_the_theorem_says():
    for problem, iterator in outside(2.0):
        if isinstance(iterator, ForwardStep) and "exceeded" in problem.name:
            assert iterator.step_size > 4
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TheoremWarning)
                state = iterator.init(problem.operator, problem.start)
            following = iterator.step(problem.operator, state)
            before, after = (x.z - problem.zero for x in (state, following))
            assert (after.norm(dim=1) > before.norm(dim=1)).all()


# Operators that lie


class Lying(Operator):
    """An operator that passes; each lie overrides a part of it."""

    def __init__(self, zero):
        self.zero = zero
        self.cocoercivity = self.lipschitz = self.strong_monotonicity = 1.0
        self.averagedness = 0.5

    def __call__(self, z):
        return z - self.zero.to(z)

    def select(self, rows):
        return type(self)(self.zero[rows])


class MixesRows(Lying):
    def __call__(self, z):
        return super().__call__(z) + 1e-9 * z.mean(0)


class WritesIntoItsInput(Lying):
    def __call__(self, z):
        return z.sub_(self.zero.to(z))


class ReturnsFloat64(Lying):
    def __call__(self, z):
        return z.double() - self.zero


class IsNoisy(Lying):
    def __call__(self, z):
        return super().__call__(z) + 1e-9 * torch.randn_like(z)


class ForgetsItsRows(Lying):
    def select(self, rows):
        return type(self)(self.zero[: len(rows)])


class ForgetsItsConstants(Lying):
    def select(self, rows):
        selected = super().select(rows)
        selected.cocoercivity = None
        return selected


class MisplacesItsZero(Lying):
    def __call__(self, z):
        return z - self.zero.to(z) - 0.1


class EvaluatesAnotherMap(Lying):
    def evaluate(self, z):
        return 2 * self(z), {}


class MeasuresTheBatch(Lying):
    def evaluate(self, z):
        return self(z), {"misfit": z.square().mean()}


class SeesOnlyNaN(Lying):
    def __call__(self, z):
        return super().__call__(z) + 0 * z.sum()


ZERO = torch.randn(3, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_an_operator_that_tells_the_truth_passes():
    check_operator(Lying(ZERO))


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (MixesRows, "rows are independent"),
        (SeesOnlyNaN, "rows are independent"),
        (WritesIntoItsInput, "input is not modified"),
        (IsNoisy, "evaluations are repeatable"),
        (EvaluatesAnotherMap, "evaluations are repeatable"),
        (MeasuresTheBatch, "evaluations are repeatable"),
        (ForgetsItsRows, "rows are independent"),
        (ForgetsItsConstants, "select agrees"),
        (MisplacesItsZero, "declared zero is a zero"),
    ],
)
def test_an_operator_that_lies_is_caught(lie, broken):
    with pytest.raises(AssertionError, match=f"^{broken}: broken by .*{lie.__name__}"):
        check_operator(lie(ZERO))


def test_an_operator_that_reorders_rows_is_caught():
    class SortsItsRows(Lying):
        def select(self, rows):
            return super().select(rows.sort().values)

    with pytest.raises(AssertionError, match=r"^select agrees: .*"):
        check_operator(SortsItsRows(ZERO))


def test_an_operator_that_changes_the_dtype_is_caught():
    with pytest.raises(AssertionError, match=r"^shape, dtype and device are kept"):
        check_operator(ReturnsFloat64(ZERO), ZERO.float())


@pytest.mark.parametrize("rung", range(6), ids=[problem.name for problem in ladder()])
def test_an_operator_declaring_twice_its_beta_is_caught(rung):
    operator = ladder(0.7)[rung].operator
    operator.cocoercivity *= 2
    with pytest.raises(AssertionError, match=r"^declared cocoercivity holds: .*\n.*less than 1\.4"):
        check_operator(operator)


@given(operator=operators(rows=2))
@few
def test_drawn_operators_declaring_a_little_more_than_their_beta_are_caught(operator):
    operator.cocoercivity *= 1.01
    if isinstance(operator.form, Planes) or operator.form.shape == "linear":
        with pytest.raises(BrokenProperty) as caught:
            check_operator(operator, examples=10)
        assert caught.value.property == "declared cocoercivity holds"


@pytest.mark.parametrize(
    ("name", "factor"),
    [("lipschitz", 0.95), ("strong_monotonicity", 1.05), ("averagedness", 0.95)],
)
def test_other_constants_that_are_not_true_are_caught(name, factor):
    operator = KnownOperator(0.8, ZERO, Separable((1.0, 0.5)), basis=1)
    setattr(operator, name, getattr(operator, name) * factor)
    with pytest.raises(AssertionError, match=f"^declared {name} holds"):
        check_operator(operator)


def test_a_rare_direction_is_found():
    spectrum = torch.full((40,), 0.01)
    spectrum[7] = 1.0  # a random direction hardly moves here
    operator = synthetic.dense(spectrum, torch.zeros(2, 40, dtype=torch.float64))
    operator.cocoercivity *= 2
    with pytest.raises(AssertionError, match=r"^declared cocoercivity holds"):
        check_operator(operator)


def test_the_example_is_the_simplest_pair():
    operator = KnownOperator(1.0, torch.zeros(2, 1, dtype=torch.float64), Separable((1.0,)))
    operator.cocoercivity = 2.0
    with pytest.raises(AssertionError, match=r"a = \[\[0\.0\], \[0\.0\]\], b = \[\[1\.0\], "):
        check_operator(operator)


def test_two_rows_are_needed_and_a_point():
    with pytest.raises(ValueError, match="no attribute `zero`"):
        check_operator(as_operator(torch.sin))
    with pytest.raises(ValueError, match="batch >= 2"):
        check_operator(as_operator(torch.sin), torch.zeros(1, 3))
    with pytest.raises(TypeError, match="as_operator"):
        check_operator(torch.sin, torch.zeros(2, 3))


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
    with pytest.raises(TypeError, match="Monitor instance"):
        check_monitor(3)


# Monitors that lie


class Watchful(Monitor):
    """Sums the residuals; each lie overrides a part of it."""

    def start(self, iterate):
        return {"sum": iterate.residual_norm, "seen": torch.ones_like(iterate.rows)}

    def watch(self, iterate, memory):
        return {"sum": memory["sum"] + iterate.residual_norm, "seen": memory["seen"] + 1}


class MixesRowsOfItsMemory(Watchful):
    def watch(self, iterate, memory):
        following = super().watch(iterate, memory)
        return following | {"sum": following["sum"].maximum(iterate.residual_norm.max() * 1e-3)}


class StartsFromTheBatchMean(Watchful):
    def start(self, iterate):
        memory = super().start(iterate)
        return memory | {"sum": memory["sum"] - memory["sum"].mean()}


class WritesIntoStates(Watchful):
    def watch(self, iterate, memory):
        iterate.state.z.mul_(1.0001)
        return super().watch(iterate, memory)


class WritesIntoItsMemory(Watchful):
    def watch(self, iterate, memory):
        memory["seen"].add_(1)
        return {"sum": memory["sum"] + iterate.residual_norm, "seen": memory["seen"]}


class KeepsOneNumber(Watchful):
    def start(self, iterate):
        return super().start(iterate) | {"largest": iterate.residual_norm.max()}

    def watch(self, iterate, memory):
        return super().watch(iterate, memory) | {"largest": iterate.residual_norm.max()}


class CountsByPosition(Watchful):
    def watch(self, iterate, memory):
        following = super().watch(iterate, memory)
        position = torch.arange(len(iterate.rows))
        return following | {"sum": following["sum"] + position}


class SortsItsReport(Watchful):
    def report(self, memory):
        return memory["sum"].sort().values


class Evaluates(Watchful):
    def __init__(self, operator):
        self.operator = operator

    def watch(self, iterate, memory):
        self.operator(iterate.state.point)
        return super().watch(iterate, memory)


def test_a_monitor_that_tells_the_truth_passes():
    check_monitor(Watchful())


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        (MixesRowsOfItsMemory, "rows are independent"),
        (StartsFromTheBatchMean, "rows are independent"),
        (WritesIntoStates, "states are not modified"),
        (WritesIntoItsMemory, "old memory is untouched"),
        (KeepsOneNumber, "memory has the batch first"),
        (CountsByPosition, "select and watch commute"),
        (SortsItsReport, "report keeps the rows in order"),
    ],
)
def test_a_monitor_that_lies_is_caught(lie, broken):
    with pytest.raises(AssertionError, match=f"^{broken}: broken by .*{lie.__name__}"):
        check_monitor(lie())


def test_a_monitor_that_evaluates_the_operator_is_caught():
    with pytest.raises(AssertionError, match=r"^no evaluation is added: "):
        check_monitor(lambda problem, iterator: Evaluates(problem.operator))


@dataclass(frozen=True)
class GenerousTheorem(Monitor):
    """Certifies forward steps from the least pairwise ratio, with a tolerance."""

    step_size: float
    tolerance: float

    def start(self, iterate):
        state = iterate.state
        least = torch.full_like(iterate.residual_norm, torch.inf)
        return {"point": state.point, "residual": state.residual, "least": least}

    def watch(self, iterate, memory):
        point, residual = iterate.state.point, iterate.state.residual
        dz, dt = point - memory["point"], residual - memory["residual"]
        ratio = (dz * dt).sum(1) / dt.square().sum(1)
        return {
            "point": point,
            "residual": residual,
            "least": torch.fmin(memory["least"], ratio),
        }

    def report(self, memory):
        return self.step_size < 2 * memory["least"] * (1 + self.tolerance)


@pytest.mark.parametrize("tolerance", [0.2, 1e-2, 1e-5, 0.0])
def test_a_monitor_that_certifies_an_operator_just_outside_is_caught(tolerance):
    """Without a tolerance too: a ratio measured along a path certifies nothing."""

    def make(problem, iterator):
        return GenerousTheorem(iterator.step_size, tolerance)

    with pytest.raises(AssertionError, match=r"^no false certificate: broken by GenerousTheorem"):
        check_monitor(make, certified=lambda report: report)
    check_monitor(make)  # nothing else is wrong with it


# The package


def test_fixpoint_itself_imports_no_hypothesis():
    code = "import fixpoint, sys; print('hypothesis' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_without_hypothesis_the_import_says_what_to_install(monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "hypothesis":
            raise ModuleNotFoundError("No module named 'hypothesis'", name="hypothesis")
        return original(name, *arguments, **options)

    for name in list(sys.modules):
        if name.split(".")[:2] == ["fixpoint", "testing"]:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'fixpoint-torch\[test\]'"):
        original("fixpoint.testing")
