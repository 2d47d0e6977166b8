"""What certificates may say, over scales, dtypes, iterators and broken rows."""

import itertools
import math
import warnings
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ITERATORS, problem

from fixpoint import (
    Anderson,
    ForwardStep,
    InertialKM,
    Iterator,
    State,
    Status,
    TheoremWarning,
    Verdict,
    as_operator,
    fixed_point_of,
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
)

drawn = settings(max_examples=15, deadline=None)
RANK = {
    Verdict.CERTIFIED: 3,
    Verdict.SUPPORTED: 2,
    Verdict.NOT_MEASURED: 1,
    Verdict.REFUTED: 0,
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def monitor_of(iterator, operator, zero=None):
    theorem = ForwardStepTheorem if isinstance(iterator, ForwardStep) else InertialKMTheorem
    return theorem.of(iterator, operator, zero)


def certificate_of(operator, z0, iterator, monitor, steps=25):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TheoremWarning)
        solution = solve(
            operator, z0, iterator, rtol=0, atol=0, max_iterations=steps, monitors=(monitor,)
        )
    consistent(solution.certificate)
    return solution.certificate


def consistent(certificate):
    """No NaN, and no conclusion above its weakest hypothesis."""
    hypotheses = [claim for claim in certificate.claims if claim.part == "hypothesis"]
    certificate.to_dict()
    str(certificate)
    for claim in certificate.claims:
        assert not claim.margin.isnan().any(), claim.name
        for row, verdict in enumerate(claim.verdicts):
            if verdict is Verdict.NOT_MEASURED:
                assert claim.margin[row] == math.inf
                assert claim.iteration[row] == -1
            if verdict is Verdict.REFUTED:
                assert claim.margin[row] <= 0, claim.name
            if claim.part == "conclusion" and verdict is not Verdict.REFUTED:
                words = [hypothesis.verdicts[row] for hypothesis in hypotheses]
                least = min(words, key=RANK.get)
                limit = Verdict.SUPPORTED if least is Verdict.REFUTED else least
                assert RANK[verdict] <= RANK[limit], (claim.name, words)


def words(certificate, part):
    return {word for claim in certificate.claims if claim.part == part for word in claim.verdicts}


def iterators(scale=1.0):
    """Well inside both theorems for an operator that is scale-cocoercive."""
    return (
        ForwardStep(step_size=1.2 * scale),
        ForwardStep(step_size=0.05 * scale),
        InertialKM(inertia=0.3, relaxation=0.4, cocoercivity=scale),
    )


# A zero


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [1e-20, 1e-4, 1.0, 1e4])
def test_without_a_zero_no_conclusion_is_certified(dtype, slope):
    operator = as_operator(
        lambda z: slope * (1 + torch.nn.functional.softplus(z)), cocoercivity=1 / slope
    )
    z0 = torch.tensor([[5.0, 1.0], [0.0, 0.0]], dtype=dtype)
    for iterator in iterators(1 / slope):
        for steps in (0, 1, 60):
            monitor = monitor_of(iterator, operator)
            certificate = certificate_of(operator, z0, iterator, monitor, steps)
            assert set(certificate["zero"].verdicts) == {Verdict.NOT_MEASURED}
            assert words(certificate, "conclusion") == {Verdict.NOT_MEASURED}


def test_a_small_constant_is_no_rounding_of_zero():
    operator = as_operator(lambda z: 0 * z + 1e-20, cocoercivity=10.0)
    iterator = ForwardStep(step_size=1.0)
    z0 = torch.ones(1, 2, dtype=torch.float64)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator))
    assert certificate["zero"].verdicts == (Verdict.NOT_MEASURED,)


@pytest.mark.parametrize("at_origin", [True, False])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_residual_that_comes_down_to_rounding_supports_a_zero(at_origin, scale):
    zero = (
        torch.zeros(2, 3, dtype=torch.float64) if at_origin else scale * torch.rand(2, 3).double()
    )
    operator = as_operator(lambda z, c: 1e3 * (z - c), zero, cocoercivity=1e-3)
    for iterator in (ForwardStep(step_size=5e-4), InertialKM(relaxation=0.3, cocoercivity=1e-3)):
        monitor = monitor_of(iterator, operator)
        early, late = (
            certificate_of(operator, zero + scale, iterator, monitor, steps) for steps in (5, 300)
        )
        assert set(early["zero"].verdicts) == {Verdict.NOT_MEASURED}
        assert words(early, "conclusion") == {Verdict.NOT_MEASURED}
        assert set(late["zero"].verdicts) == {Verdict.SUPPORTED}
        assert Verdict.CERTIFIED not in words(late, "conclusion")
        assert set(late["residual"].verdicts) == {Verdict.SUPPORTED}


def test_a_given_zero_at_which_T_does_not_vanish_is_refuted():
    operator = as_operator(lambda z: z - 1.0, cocoercivity=1.0)
    z0 = torch.tensor([[3.0], [4.0]], dtype=torch.float64)
    iterator = ForwardStep(step_size=0.5)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, z0), 3)
    assert set(certificate["zero"].verdicts) == {Verdict.REFUTED}
    assert certificate["zero"].iteration.tolist() == [0, 0]
    assert Verdict.CERTIFIED not in words(certificate, "conclusion")


def test_a_zero_of_NaN_is_not_known_in_that_row():
    zero = torch.tensor([[1.0], [math.nan]], dtype=torch.float64)
    operator = as_operator(lambda z: z - 1.0, cocoercivity=1.0)
    iterator = ForwardStep(step_size=0.5)
    z0 = torch.zeros(2, 1, dtype=torch.float64)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, zero), 3)
    assert certificate["zero"].verdicts == (Verdict.CERTIFIED, Verdict.NOT_MEASURED)
    for claim in certificate.claims:
        if claim.part == "conclusion":
            assert claim.verdicts == (Verdict.CERTIFIED, Verdict.NOT_MEASURED), claim.name


# The recursion


@pytest.mark.parametrize("name", ITERATORS)
@pytest.mark.parametrize("watched", ["forward step", "inertial KM"])
def test_the_run_of_another_iterator_is_told_of(name, watched):
    operator, zero, z0 = problem()
    own, other = ITERATORS[watched], ITERATORS[name]
    certificate = certificate_of(operator, z0, other, monitor_of(own, operator, zero))
    claim = certificate["recursion"]
    if name == watched:
        assert words(certificate, "conclusion") == {Verdict.CERTIFIED}
        return
    assert set(claim.verdicts) == {Verdict.REFUTED}
    assert Verdict.CERTIFIED not in words(certificate, "conclusion")
    state, first = other.init(operator, z0), []
    mine = own.init(operator, z0)
    for _ in range(5):  # the first point at which the two methods differ
        state, mine = other.step(operator, state), own.step(operator, mine)
        first.append((state.point - mine.point).abs().amax(1) > 1e-9)
    at = 1 + torch.stack(first).long().argmax(0)
    assert torch.equal(claim.iteration, at)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
def test_another_step_size_is_refuted_or_not_told_apart_but_never_certified(dtype):
    zero = torch.randn(8, 6, dtype=torch.float64).to(dtype)
    operator = synthetic.Cocoercive(0.5, zero)
    for away in (1e-2, 1.0, 10.0):
        z0 = zero + away * torch.randn(8, 6).to(dtype)
        monitor = ForwardStepTheorem(step_size=0.95, cocoercivity=0.5, zero=zero)
        certificate = certificate_of(operator, z0, ForwardStep(step_size=1.1), monitor, 3)
        assert Verdict.CERTIFIED not in certificate["recursion"].verdicts
        assert Verdict.CERTIFIED not in words(certificate, "conclusion")


def test_steps_of_another_method_that_are_forward_steps_are_supported():
    zero, z0 = torch.ones(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    operator = synthetic.dense([1.0, 0.9, 0.8, 0.7], zero)
    constant = ForwardStep.adaptive(fraction=0.5, growth=1.0)  # steps of beta, never refused
    monitor = ForwardStepTheorem.of(ForwardStep(step_size=1.0), operator, zero)
    for iterator, steps in ((constant, 6), (Anderson(mixing=1.0), 1)):
        certificate = certificate_of(operator, z0, iterator, monitor, steps)
        assert set(certificate["recursion"].verdicts) == {Verdict.SUPPORTED}
        assert words(certificate, "conclusion") == {Verdict.SUPPORTED}


# What was not measured


@pytest.mark.parametrize("iterator", iterators(), ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize("known", [True, False])
def test_no_iteration_shows_no_conclusion(iterator, known):
    operator, zero, z0 = problem()
    given = zero if known else None
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, given), 0)
    assert words(certificate, "conclusion") == {Verdict.NOT_MEASURED}
    assert set(certificate["recursion"].verdicts) == {Verdict.NOT_MEASURED}


def test_constants_that_violate_refute_without_a_run():
    operator, _, z0 = problem()
    for monitor in (
        ForwardStepTheorem(step_size=2.0, cocoercivity=1.0),
        ForwardStepTheorem(step_size=-1.0),
        InertialKMTheorem(inertia=0.2, relaxation=0.8, cocoercivity=1.0, known_cocoercivity=1.0),
    ):
        certificate = certificate_of(operator, z0, ForwardStep(), monitor, 0)
        assert set(certificate["step size"].verdicts) == {Verdict.REFUTED}


@pytest.mark.parametrize("iterator", iterators(), ids=lambda iterator: type(iterator).__name__)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_that_is_not_finite_from_the_start_shows_nothing(iterator, value):
    b = torch.tensor([[1.0], [value]], dtype=torch.float64)
    for declared, zero in itertools.product((1.0, None), (torch.ones_like(b), None)):
        operator = as_operator(lambda z, b: z - b, b, cocoercivity=declared)
        monitor = monitor_of(iterator, operator, zero)
        certificate = certificate_of(operator, torch.zeros_like(b), iterator, monitor)
        for claim in certificate.claims:
            verdict = claim.verdicts[1]
            assert verdict is Verdict.NOT_MEASURED or (
                verdict is Verdict.CERTIFIED
                and claim.name in ("zero", "step size", "inertia and relaxation (13)")
            ), claim.name


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("inertial", [True, False])
def test_a_row_that_turns_NaN_refutes_star_cocoercivity_where_it_does(known, inertial):
    operator = as_operator(lambda z: torch.where(z < 0.5, torch.nan, z), cocoercivity=1.0)
    iterator = InertialKM(inertia=0.1) if inertial else ForwardStep(step_size=0.4)
    z0 = torch.tensor([[1.0], [16.0]], dtype=torch.float64)
    zero = torch.zeros_like(z0) if known else None
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, zero))
    claim = certificate["star-cocoercivity"]
    assert claim.verdicts == (Verdict.REFUTED, Verdict.REFUTED)
    lost = []
    for row in z0:
        state, count = iterator.init(operator, row[None]), 0
        while bool(state.residual.isfinite().all()):
            state, count = iterator.step(operator, state), count + 1
        lost.append(count)
    assert claim.iteration.tolist() == lost
    assert words(certificate, "conclusion") <= {Verdict.SUPPORTED, Verdict.NOT_MEASURED}


# What a finite run cannot refute


def turning(radius=0.995, steps=40):
    t = 2 * math.pi / steps
    matrix = torch.tensor([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]).double()
    return fixed_point_of(lambda z: radius * (z @ matrix.T), lipschitz=radius)


def test_no_piece_of_a_run_around_the_zero_refutes_a_conclusion():
    z0, operator = torch.ones(1, 2, dtype=torch.float64), turning()
    for iterator in (ForwardStep(step_size=1.0), InertialKM(cocoercivity=0.5)):
        for steps in range(0, 45, 4):
            for zero in (None, torch.zeros_like(z0)):
                monitor = monitor_of(iterator, operator, zero)
                certificate = certificate_of(operator, z0, iterator, monitor, steps)
                assert Verdict.REFUTED not in words(certificate, "conclusion")
                assert Verdict.REFUTED not in words(certificate, "hypothesis")


@pytest.mark.parametrize("declared", [1 / 1.9, None])
def test_no_residual_that_rises_refutes_a_conclusion(declared):
    operator = as_operator(lambda z: z * (1 + 0.9 * torch.sin(5 * z)))
    z0 = torch.linspace(-3, 3, 61, dtype=torch.float64).unsqueeze(1)
    zero = torch.zeros_like(z0)
    risen = 0
    for steps in (1, 2, 5):
        monitor = ForwardStepTheorem(step_size=1.04, cocoercivity=declared, zero=zero)
        certificate = certificate_of(operator, z0, ForwardStep(step_size=1.04), monitor, steps)
        assert Verdict.REFUTED not in words(certificate, "conclusion")
        risen += int((certificate["residual"].margin <= 0).sum())
    assert risen > 0 or declared is None


def test_what_the_theorem_forbids_a_finite_run_is_refuted():
    """Distances to a known zero that grow, and a sum beyond its bound."""
    zero = torch.zeros(1, 2, dtype=torch.float64)
    operator = synthetic.Cocoercive(0.5, zero)
    z0 = torch.ones_like(zero)
    monitor = ForwardStepTheorem(step_size=1.2, cocoercivity=0.5, zero=zero)
    certificate = certificate_of(operator, z0, ForwardStep(step_size=1.2), monitor)
    assert certificate["descent"].verdicts == (Verdict.REFUTED,)
    assert certificate["descent"].iteration.tolist() == [1]
    monitor = ForwardStepTheorem(step_size=0.2, cocoercivity=1.0, zero=zero)  # beta is half that
    certificate = certificate_of(operator, z0, ForwardStep(step_size=0.2), monitor, 80)
    assert certificate["summability"].verdicts == (Verdict.REFUTED,)


# Rounding


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@given(
    size=st.sampled_from([1e-4, 1e-2, 1.0, 1e2]),
    slope=st.sampled_from([1e-2, 1.0, 1e2]),
    place=st.sampled_from(["apart", "zero at the origin", "start at the origin", "at the zero"]),
    seed=st.integers(0, 1000),
    declared=st.booleans(),
    known=st.booleans(),
)
@drawn
def test_rounding_refutes_nothing_at_any_scale(dtype, size, slope, place, seed, declared, known):
    if dtype == torch.float16 and not 1e-3 <= size * slope <= 1e3:
        return
    generator = torch.Generator().manual_seed(seed)
    a, b = size * torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    zero = torch.zeros_like(a) if place == "zero at the origin" else a
    z0 = {"start at the origin": 0 * b, "at the zero": zero}.get(place, zero + b).to(dtype)
    zero = zero.to(dtype)
    quarter = synthetic.Cocoercive(1.0, zero)
    beta = (1 - 2 * torch.finfo(dtype).eps) / slope
    operator = as_operator(
        lambda z, c: slope * synthetic.Cocoercive(1.0, c)(z),
        quarter.zero,
        cocoercivity=beta if declared else None,
    )
    for iterator in iterators(beta):
        monitor = monitor_of(iterator, operator, zero if known else None)
        certificate = certificate_of(operator, z0, iterator, monitor, 40)
        for claim in certificate.claims:
            assert Verdict.REFUTED not in claim.verdicts, (claim.name, claim.margin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_constant_that_is_not_true_is_refuted_at_any_scale(dtype, scale):
    lie = 1.3 if dtype == torch.bfloat16 else 1.01
    zero = (scale * torch.randn(3, 6)).to(dtype)
    z0 = zero + (scale * torch.randn(3, 6)).to(dtype)
    operator = as_operator(
        lambda z, c: synthetic.Cocoercive(1.0, c)(z) / scale, zero, cocoercivity=lie * scale
    )
    for iterator in iterators(scale)[::2]:
        for known in (zero, None):
            certificate = certificate_of(
                operator, z0, iterator, monitor_of(iterator, operator, known), 15
            )
            assert set(certificate["star-cocoercivity"].verdicts) == {Verdict.REFUTED}
            assert Verdict.CERTIFIED not in words(certificate, "conclusion")


# Theorem 2 and its pairs


@given(
    inertia=st.floats(0.01, 0.9),
    part=st.floats(0.05, 0.9),
    believed=st.floats(0.3, 3.0),
    share=st.floats(0.1, 0.97),
    declared=st.booleans(),
)
@drawn
def test_theorem_2_covers_a_step_by_any_pair(inertia, part, believed, share, declared):
    """The iteration believes in a beta that need not be the operator's."""
    largest = theory.largest_relaxation(inertia)
    beta = 1.0
    relaxation = part * largest
    believed = min(believed, share * beta / part)  # the step is at most that of beta
    iterator = InertialKM(inertia=inertia, relaxation=relaxation, cocoercivity=believed)
    assert beta > theory.least_cocoercivity(inertia, relaxation, believed)
    zero = torch.randn(3, 4, dtype=torch.float64)
    operator = as_operator(
        lambda z, c: synthetic.Cocoercive(1.0, c)(z), zero, cocoercivity=beta if declared else None
    )
    monitor = InertialKMTheorem.of(iterator, operator, zero)
    certificate = certificate_of(operator, zero + 1, iterator, monitor, 50)
    assert Verdict.REFUTED not in words(certificate, "hypothesis") | words(
        certificate, "conclusion"
    )
    if declared:
        assert words(certificate, "conclusion") == {Verdict.CERTIFIED}


def test_a_step_beyond_every_pair_is_refuted():
    zero = torch.ones(2, 2, dtype=torch.float64)
    operator = synthetic.Cocoercive(0.5, zero)
    largest = theory.largest_relaxation(0.2)
    iterator = InertialKM(inertia=0.2, relaxation=largest * (1 - 1e-12), cocoercivity=0.5 + 1e-9)
    certificate = certificate_of(operator, zero + 1, iterator, monitor_of(iterator, operator, zero))
    claim = certificate["step size"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    assert float(claim.margin[0]) == pytest.approx(-1e-9, rel=1e-2)


def test_settings_that_theorem_2_cannot_mean_are_refused():
    for settings_ in ({"inertia": 1.0}, {"relaxation": 0.0}, {"cocoercivity": math.inf}):
        options = {"inertia": 0.2, "relaxation": 0.5, "cocoercivity": 1.0} | settings_
        with pytest.raises(ValueError, match=next(iter(settings_))):
            InertialKMTheorem(**options)


# Refused trials


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
    from fixpoint import kernels
    from fixpoint.iterate import Iterate

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


# Words


def test_a_claim_reads_in_a_line():
    operator, zero, z0 = problem()
    iterator = ForwardStep(step_size=0.8)
    certificate = certificate_of(operator, z0, iterator, monitor_of(iterator, operator, zero))
    text = str(certificate["step size"])
    assert text == "step size: certified (5 rows); least margin 1.2 in row 0"
    late = certificate_of(operator, z0, Anderson(), monitor_of(iterator, operator, zero))
    assert "refuted (5 rows); least margin" in str(late["recursion"])
    assert "first failed at iteration 1" in str(late["recursion"])
    unseen = certificate_of(operator, z0, iterator, monitor_of(iterator, operator), 0)
    assert str(unseen["descent"]) == "descent: not measured (5 rows)"
    data = unseen.to_dict()["claims"]
    assert {"not measured"} == set(data[-1]["verdicts"])
    assert data[-1]["margins"] == [None] * 5


def test_a_row_of_NaN_earns_no_remark():
    b = torch.tensor([[1.0], [math.nan]], dtype=torch.float64)
    operator = as_operator(lambda z, b: z - b, b)
    monitor = ForwardStepTheorem(step_size=0.5)
    solution = solve(operator, 0 * b.nan_to_num(), ForwardStep(step_size=0.5), monitors=(monitor,))
    assert solution.status[1] is Status.NONFINITE
    assert not any("row 1" in remark for remark in solution.certificate.remarks)
