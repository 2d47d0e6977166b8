import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from fixpoint import (
    Anderson,
    ForwardStep,
    InertialKM,
    Status,
    TheoremWarning,
    Verdict,
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
)

outside = pytest.mark.filterwarnings("ignore::fixpoint.TheoremWarning")


def watch(operator, z0, iterator, *monitors, **options):
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 25} | options
    return solve(operator, z0, iterator, monitors=monitors, **options)


def start(seed=0, rows=3, size=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    zero, offset = torch.randn(2, rows, size, generator=generator, dtype=torch.float64)
    return zero.to(dtype), (zero + offset).to(dtype)


# Cocoercivity


@given(beta=st.floats(0.1, 5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_on_the_equality_family_every_ratio_is_beta(beta, seed):
    for dtype, rounding in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        zero, z0 = start(seed, dtype=dtype)
        operator = synthetic.Cocoercive(beta, zero)
        solution = watch(
            operator, z0, ForwardStep(step_size=beta), Cocoercivity(zero=zero), max_iterations=8
        )
        (report,) = solution.monitors
        for ratio in (report.pairwise, report.at_zero, report.hindsight):
            torch.testing.assert_close(ratio, torch.full_like(ratio, beta), rtol=rounding, atol=0.0)


@outside
def test_on_a_quarter_rotation_every_ratio_is_0():
    zero, z0 = start()
    operator = synthetic.rotation(math.pi / 2, zero, size=6)
    iterator = ForwardStep(step_size=0.5)
    monitor = ForwardStepTheorem(step_size=0.5, zero=zero)
    solution = watch(operator, z0, iterator, Cocoercivity(zero=zero), monitor)
    report = solution.monitors[0]
    assert report.pairwise.abs().max() < 1e-12
    assert report.at_zero.abs().max() < 1e-12
    claim = solution.certificate["step size"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    torch.testing.assert_close(claim.margin, torch.full((3,), -0.5).double())
    first = watch(operator, z0, iterator, monitor, max_iterations=0)
    assert set(first.certificate["step size"].verdicts) == {Verdict.REFUTED}  # at once


@given(seed=st.integers(0, 1000), spread=st.floats(1, 50))
@settings(max_examples=25, deadline=None)
def test_no_ratio_falls_below_the_true_cocoercivity(seed, spread):
    zero, z0 = start(seed)
    operator = synthetic.dense(torch.linspace(1 / spread, 1, 6), zero, seed=seed)
    monitor = Cocoercivity(zero=zero, capacity=4)
    (report,) = watch(operator, z0, ForwardStep(step_size=1.5), monitor).monitors
    for ratio in (report.pairwise, report.at_zero, report.hindsight):
        assert (ratio >= 1 - 1e-12).all()


def test_the_least_ratio_is_the_one_computed_by_hand():
    zero, z0 = start()
    operator = as_operator(lambda z, c: (z - c) + 0.9 * torch.sin(2 * (z - c)), zero)
    points, values = [], []
    solution = watch(
        operator,
        z0,
        ForwardStep(step_size=0.3),
        Cocoercivity(zero=zero),
        max_iterations=9,
    )
    z = z0
    for _ in range(10):
        points.append(z)
        values.append(operator(z))
        z = z - 0.3 * values[-1]
    p, t = torch.stack(points), torch.stack(values)

    def ratio(dz, dt):
        return (dz * dt).sum(-1) / dt.square().sum(-1)

    (report,) = solution.monitors
    for found, at, expected in (
        (report.pairwise, report.pairwise_iteration - 1, ratio(p[1:] - p[:-1], t[1:] - t[:-1])),
        (report.at_zero, report.at_zero_iteration, ratio(p - zero, t)),
        (report.hindsight, report.hindsight_iteration, ratio(p[-1] - p[:-1], t[-1] - t[:-1])),
    ):
        torch.testing.assert_close(found, expected.min(0).values, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(expected.gather(0, at[None])[0], found, rtol=1e-9, atol=1e-9)


def test_a_long_trajectory_is_thinned_and_still_right():
    operator, _, z0 = problem()
    full = watch(operator, z0, ForwardStep(), Cocoercivity(capacity=200), max_iterations=100)
    thin = watch(operator, z0, ForwardStep(), Cocoercivity(capacity=4), max_iterations=100)
    assert (thin.monitors[0].hindsight >= full.monitors[0].hindsight - 1e-12).all()
    assert thin.monitors[0].hindsight.isfinite().all()


def test_rounding_noise_refutes_nothing():
    """T rounded to bfloat16 behind a float32 iterate: the true operator is 1-cocoercive."""
    operator, _, z0 = problem(dtype=torch.float32)
    rounded = as_operator(lambda z, c: (z - c).bfloat16().float(), operator.zero)
    monitor = ForwardStepTheorem(step_size=1.5, precision=2**-8)
    solution = watch(rounded, z0, ForwardStep(step_size=1.5), monitor, max_iterations=40)
    assert Verdict.REFUTED not in solution.certificate["step size"].verdicts
    assert Verdict.REFUTED not in solution.certificate["star-cocoercivity"].verdicts


def test_rounding_noise_refutes_nothing_in_long_rows():
    zero = torch.randn(3, 2048)
    rounded = as_operator(lambda z, c: (z.bfloat16() - c.bfloat16()).float(), zero)
    for monitor, iterator in (
        (ForwardStepTheorem(step_size=1.0, precision=2**-8), ForwardStep(step_size=1.0)),
        (
            InertialKMTheorem(inertia=0.3, relaxation=0.5, cocoercivity=1.0, precision=2**-8),
            InertialKM(inertia=0.3, relaxation=0.5, cocoercivity=1.0),
        ),
    ):
        solution = watch(rounded, zero + torch.randn(3, 2048), iterator, monitor)
        for claim in solution.certificate.claims:
            assert Verdict.REFUTED not in claim.verdicts, (claim.name, claim.margin)


# Convergence and Fejer


def test_the_observed_rate_of_a_geometric_run_is_its_factor():
    z0 = torch.ones(2, 3, dtype=torch.float64)
    slope = torch.tensor([[0.5], [0.1]], dtype=torch.float64)
    (report,) = watch(
        as_operator(lambda z, a: a * z, slope), z0, ForwardStep(), Convergence(), max_iterations=20
    ).monitors
    torch.testing.assert_close(report.rate, torch.tensor([0.5, 0.9]).double())
    distance = (torch.tensor([0.5, 0.9]).double() ** 20) * math.sqrt(3)
    torch.testing.assert_close(report.distance_to_limit, distance)
    torch.testing.assert_close(report.last_residual, slope[:, 0] * distance)


def test_the_sums_are_those_of_the_history():
    operator, _, z0 = problem()
    solution = watch(operator, z0, Anderson(), Convergence(), max_iterations=6)
    (report,) = solution.monitors
    torch.testing.assert_close(report.residual_sum, solution.history.residual_norm.square().sum(0))


@outside
def test_fejer_monotonicity_is_seen_and_its_loss_is_dated():
    zero, z0 = start()
    operator = synthetic.Cocoercive(0.5, zero)
    (inside,) = watch(operator, z0, ForwardStep(step_size=0.9), Fejer(zero=zero)).monitors
    assert inside.monotone.all()
    assert (inside.last_distance < inside.first_distance).all()
    (beyond,) = watch(operator, z0, ForwardStep(step_size=1.1), Fejer(zero=zero)).monitors
    assert beyond.iteration.tolist() == [1, 1, 1]


# Theorem 1


@given(beta=st.floats(0.1, 5), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_known_constants_inside_theorem_1_are_certified(beta, fraction, seed):
    for dtype in (torch.float64, torch.float32):
        zero, z0 = start(seed, dtype=dtype)
        operator = synthetic.Cocoercive(beta, zero)
        iterator = ForwardStep(step_size=2 * beta * fraction)
        for known_zero in (zero, None):
            monitor = ForwardStepTheorem.of(iterator, operator, known_zero)
            certificate = watch(operator, z0, iterator, monitor).certificate
            for claim in certificate.claims:
                rests_on_a_zero = claim.part == "conclusion" or claim.name == "zero"
                if known_zero is not None or not rests_on_a_zero:
                    assert set(claim.verdicts) == {Verdict.CERTIFIED}, (claim.name, claim.margin)
                else:
                    assert not {Verdict.CERTIFIED, Verdict.REFUTED} & set(claim.verdicts)


@outside
@given(excess=st.floats(1e-6, 0.5), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_nothing_is_certified_just_outside_theorem_1(excess, seed):
    zero, z0 = start(seed)
    operator = synthetic.Cocoercive(0.5, zero)
    iterator = ForwardStep(step_size=1 + excess)
    monitor = ForwardStepTheorem.of(iterator, operator, zero)
    certificate = watch(operator, z0, iterator, monitor).certificate
    assert set(certificate["step size"].verdicts) == {Verdict.REFUTED}
    for claim in certificate.claims:
        if claim.part == "conclusion":
            assert Verdict.CERTIFIED not in claim.verdicts


def test_measured_constants_are_never_certified():
    zero, z0 = start()
    solution = watch(
        synthetic.Cocoercive(0.5, zero),
        z0,
        ForwardStep(step_size=0.5),
        ForwardStepTheorem(step_size=0.5, zero=zero),
    )
    for claim in solution.certificate.claims:
        # That there is a zero, the caller said.
        expected = Verdict.CERTIFIED if claim.name == "zero" else Verdict.SUPPORTED
        assert set(claim.verdicts) == {expected}, claim.name


def test_an_operator_that_declares_twice_its_beta_is_refuted():
    zero, z0 = start()
    liar = synthetic.Cocoercive(0.5, zero)
    liar.cocoercivity = 1.0
    iterator = ForwardStep(step_size=0.5)
    solution = watch(liar, z0, iterator, ForwardStepTheorem.of(iterator, liar, zero))
    claim = solution.certificate["star-cocoercivity"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    torch.testing.assert_close(claim.margin, torch.full((3,), -0.5).double())
    for other in solution.certificate.claims:
        if other.part == "conclusion":
            assert Verdict.CERTIFIED not in other.verdicts


@outside
def test_the_growth_above_two_beta_is_that_of_the_worst_case():
    zero, z0 = start()
    operator = synthetic.diagonal([1.0] * 6, zero)
    with pytest.warns(TheoremWarning):
        solution = watch(operator, z0, ForwardStep(step_size=2.2), Fejer(zero=zero))
    (report,) = solution.monitors
    torch.testing.assert_close(
        report.last_distance / report.first_distance, 1.2 ** torch.full((3,), 25.0).double()
    )


def test_locally_not_cocoercive_yet_converged_can_be_said():
    operator = as_operator(lambda z: z + 0.9 * torch.sin(3 * z))
    z0 = torch.tensor([[1.6], [0.1]], dtype=torch.float64)
    solution = solve(
        operator,
        z0,
        ForwardStep(step_size=0.5),
        monitors=(ForwardStepTheorem(step_size=0.5),),
        rtol=1e-8,
    )
    assert solution.status == (Status.CONVERGED, Status.CONVERGED)
    remarks = solution.certificate.remarks
    assert any(
        "row 0: locally not cocoercive" in text and "yet converged" in text for text in remarks
    )
    assert not any(text.startswith("row 1: locally") for text in remarks)


# Theorem 2


def inertial(alpha, fraction, beta):
    relaxation = fraction * theory.largest_relaxation(alpha)
    return InertialKM(inertia=alpha, relaxation=relaxation, cocoercivity=beta)


def test_theorem_2_holds_in_more_than_a_thousand_problems():
    count = 0
    for alpha in (0.05, 0.2, 0.4, 0.6, 0.9):
        for fraction in (0.2, 0.6, 0.99):
            for seed, beta in enumerate((0.2, 1.0, 3.0)):
                zero, z0 = start(seed, rows=24, size=8)
                maps = (None, torch.tanh, lambda z: z.clamp(-0.5, 0.5))
                operator = synthetic.Cocoercive(beta, zero, maps[seed])
                iterator = inertial(alpha, fraction, beta)
                monitor = InertialKMTheorem.of(iterator, operator, zero)
                certificate = watch(operator, z0, iterator, monitor, max_iterations=60).certificate
                for name in (
                    "(A) summability",
                    "(B) rate",
                    "(C) distance",
                    "(D) limit points",
                ):
                    assert set(certificate[name].verdicts) == {Verdict.CERTIFIED}, (name, alpha)
                count += len(z0)
    assert count > 1000


def test_the_lyapunov_sequence_rises_just_outside_star_cocoercivity():
    zero, z0 = start(rows=4)
    truth = synthetic.Cocoercive(1 / 1.02, zero)
    iterator = inertial(0.05, 0.999, 1.0)  # believes in 2 % more than there is
    monitor = InertialKMTheorem.of(iterator, as_operator(truth), zero)
    with pytest.warns(TheoremWarning, match=r"0\.980392-cocoercive"):
        solution = watch(truth, z0, iterator, monitor, max_iterations=60)
    claim = solution.certificate["(C) distance"]
    assert set(claim.verdicts) == {Verdict.REFUTED}
    assert set(solution.certificate["step size"].verdicts) == {Verdict.REFUTED}
    assert (claim.iteration > 0).all()


def test_without_known_constants_theorem_2_is_at_most_supported():
    zero, z0 = start()
    iterator = inertial(0.3, 0.9, 0.5)
    monitor = InertialKMTheorem(
        inertia=0.3, relaxation=iterator.relaxation, cocoercivity=0.5, zero=zero
    )
    certificate = watch(synthetic.Cocoercive(0.5, zero), z0, iterator, monitor).certificate
    for claim in certificate.claims:
        given = claim.name in ("zero", "inertia and relaxation (13)")
        expected = Verdict.CERTIFIED if given else Verdict.SUPPORTED
        assert set(claim.verdicts) == {expected}, claim.name


# Certificates


def test_a_certificate_reads_as_text_and_as_plain_data():
    import json

    zero, z0 = start()
    operator, iterator = synthetic.Cocoercive(0.5, zero), ForwardStep(step_size=0.5)
    solution = watch(operator, z0, iterator, ForwardStepTheorem.of(iterator, operator, zero))
    text = str(solution.certificate)
    for claim in solution.certificate.claims:
        assert claim.name in text
        assert claim.sentence in text
    data = json.loads(json.dumps(solution.certificate.to_dict(), allow_nan=False))
    assert data["claims"][0]["verdicts"] == ["certified"] * 3
    with pytest.raises(KeyError, match="no claim 'step'"):
        solution.certificate["step"]


def test_monitors_read_nothing_back_to_the_host():
    """On the meta device there is nothing to read: any synchronisation raises."""
    from fixpoint.kernels import row_norm
    from fixpoint.loop.iterate import Iterate

    zero = torch.empty(3, 4, device="meta")
    iterator, operator = ForwardStep(), as_operator(lambda z: 0.5 * z)
    for monitor in (
        Cocoercivity(zero=zero, capacity=2),
        Convergence(),
        Fejer(zero=zero),
        ForwardStepTheorem(step_size=1.0, zero=zero, capacity=2),
        InertialKMTheorem(inertia=0.3, relaxation=0.5, cocoercivity=1.0, capacity=2),
    ):
        state, memory = iterator.init(operator, zero), None
        for iteration in range(8):
            norms = row_norm(state.residual), row_norm(state.point)
            rows = torch.empty(3, dtype=torch.long, device="meta")
            iterate = Iterate(iteration, rows, state, *norms, {})
            memory = monitor.watch(iterate, memory) if iteration else monitor.start(iterate)
            state = iterator.step(operator, state)


def test_without_a_theorem_there_is_nothing_to_certify():
    operator, _, z0 = problem()
    assert "no theorem was watched" in str(watch(operator, z0, ForwardStep()).certificate)


@pytest.mark.parametrize("check_every", [1, 4])
def test_rows_that_leave_take_their_certificates_along(check_every):
    operator, zero, z0 = problem()
    z0[1] = zero[1] + 1e-6
    monitors = (
        ForwardStepTheorem.of(ForwardStep(), operator, zero),
        Cocoercivity(zero=zero),
        Convergence(),
        Fejer(zero=zero),
    )
    solution = solve(
        operator, z0, ForwardStep(), monitors=monitors, rtol=1e-6, check_every=check_every
    )
    assert len(set(solution.iterations.tolist())) > 1
    for row in range(len(z0)):
        rows = torch.tensor([row])
        alone = solve(
            operator.select(rows),
            z0[rows],
            ForwardStep(),
            monitors=(
                ForwardStepTheorem.of(ForwardStep(), operator, zero[rows]),
                Cocoercivity(zero=zero[rows]),
            ),
            rtol=1e-6,
        )
        for mine, other in zip(solution.certificate.claims, alone.certificate.claims, strict=True):
            assert mine.verdicts[row] is other.verdicts[0]
            assert torch.equal(mine.margin[row], other.margin[0])
        assert torch.equal(solution.monitors[1].hindsight[row], alone.monitors[1].hindsight[0])


def test_a_zero_of_another_shape_is_refused():
    operator, zero, z0 = problem()
    for monitor in (Cocoercivity(zero=zero[:2]), Fejer(zero=zero[:2])):
        with pytest.raises(ValueError, match="shape of the iterates"):
            watch(operator, z0, ForwardStep(), monitor)
