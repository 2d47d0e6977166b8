"""Every monitor: reports, rows that leave, and what is refused."""

import pytest
import torch
from monitored_runs import start, watch
from problems import problem

from fixpoint import ForwardStep, as_operator, solve, synthetic
from fixpoint.monitors import (
    Cocoercivity,
    Convergence,
    Fejer,
    ForwardStepTheorem,
    InertialKMTheorem,
)

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
