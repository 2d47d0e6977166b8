import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ITERATORS, problem

from fixpoint import (
    Adam,
    Anderson,
    ForwardStep,
    InertialKM,
    TheoremWarning,
    as_operator,
    schedules,
    solve,
    synthetic,
)


def states(iterator, operator, z, steps):
    state = iterator.init(operator, z)
    yield state
    for _ in range(steps):
        state = iterator.step(operator, state)
        yield state


# Forward step


def test_forward_step_by_hand():
    operator = as_operator(lambda z: 2 * z)
    found = [state.z.item() for state in states(ForwardStep(step_size=0.25), operator, ones(), 3)]
    assert found == [1, 0.5, 0.25, 0.125]


def test_forward_step_is_the_power_of_its_matrix():
    operator, zero, z0 = problem()
    *_, last = states(ForwardStep(step_size=0.7), operator, z0, 10)
    matrix = torch.eye(8, dtype=torch.float64) - 0.7 * operator.matrix
    expected = zero + (z0 - zero) @ torch.linalg.matrix_power(matrix, 10).T
    torch.testing.assert_close(last.z, expected)


@given(beta=st.floats(0.1, 5), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_forward_step_descends_as_theorem_1_says_below_two_beta(beta, fraction, seed):
    generator = torch.Generator().manual_seed(seed)
    zero = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    operator = synthetic.Cocoercive(beta, zero)
    rho = fraction * 2 * beta
    run = list(states(ForwardStep(step_size=rho), operator, torch.zeros_like(zero), 20))
    for now, then in itertools.pairwise(run):
        before, after = (now.z - zero).square().sum(1), (then.z - zero).square().sum(1)
        bound = before - rho * (2 * beta - rho) * now.residual.square().sum(1)
        assert (after <= bound + 1e-12 * before).all()


def test_forward_step_grows_at_its_worst_rate_above_two_beta():
    operator = synthetic.diagonal([1.0, 1.0], torch.zeros(1, 2, dtype=torch.float64))
    z0 = torch.ones(1, 2, dtype=torch.float64)
    with pytest.warns(TheoremWarning, match=r"step_size < 2 beta = 2"):
        run = list(states(ForwardStep(step_size=2.2), operator, z0, 5))
    for now, then in itertools.pairwise(run):
        torch.testing.assert_close(then.z.norm() / now.z.norm(), torch.tensor(1.2).double())


# Inertial KM


def test_inertial_km_by_hand():
    # alpha 1/2, lambda 1/8, beta 1: rho = 1/4; T z = z.
    # z0 = y0 = 1; z1 = 3/4, y1 = 5/8; z2 = 15/32, y2 = 21/64.
    iterator = InertialKM(inertia=0.5, relaxation=0.125, cocoercivity=1.0)
    run = list(states(iterator, as_operator(lambda z: z), ones(), 2))
    assert [state.z.item() for state in run] == [1, 0.75, 15 / 32]
    assert [state.point.item() for state in run] == [1, 0.625, 21 / 64]
    assert all(torch.equal(state.residual, state.point) for state in run)


def test_inertial_km_without_inertia_is_the_forward_step():
    operator, _, z0 = problem()
    km = InertialKM(inertia=0.0, relaxation=0.4, cocoercivity=1.0)
    for a, b in zip(
        states(km, operator, z0, 8),
        states(ForwardStep(step_size=0.8), operator, z0, 8),
        strict=True,
    ):
        assert torch.equal(a.point, b.point)


def test_inertia_changes_the_iterates():
    operator, _, z0 = problem()
    *_, plain = states(InertialKM(inertia=0.0, relaxation=0.4), operator, z0, 5)
    *_, inertial = states(InertialKM(inertia=0.3, relaxation=0.4), operator, z0, 5)
    assert not torch.allclose(plain.z, inertial.z)


def test_inertial_km_states_the_inequality_it_needs():
    with pytest.raises(ValueError, match=r"\(1 - alpha\)\^2.*below 0\.00581395, got 0\.5"):
        InertialKM(inertia=0.9, relaxation=0.5)
    InertialKM(inertia=0.9, relaxation=0.0058)  # the paper's inertia, just inside


def test_inertial_km_warns_when_it_is_told_more_cocoercivity_than_there_is():
    operator, _, z0 = problem()
    with pytest.warns(TheoremWarning, match="1-cocoercive"):
        InertialKM(cocoercivity=1.5).init(operator, z0)


# Adam


@pytest.mark.parametrize(
    "schedule", [schedules.constant(0.05), schedules.warmup_cosine(0.05, 40)], ids=type
)
def test_adam_is_torch_adam_fed_with_the_residual(schedule):
    operator, _, z0 = problem()
    parameter = torch.nn.Parameter(z0.clone())
    optimizer = torch.optim.Adam([parameter], lr=1.0, betas=(0.8, 0.95), eps=1e-6)
    iterator = Adam(schedule=schedule, betas=(0.8, 0.95), eps=1e-6)
    for step, state in enumerate(states(iterator, operator, z0, 40)):
        torch.testing.assert_close(state.z, parameter.data)
        optimizer.param_groups[0]["lr"] = schedule(step)
        parameter.grad = operator(parameter.data)
        optimizer.step()


@pytest.mark.parametrize(
    ("dtype", "eps"), [(torch.float32, 1e-8), (torch.float16, 1e-4), (torch.bfloat16, 1e-4)]
)
def test_adam_chooses_the_papers_eps_by_precision(dtype, eps):
    operator = as_operator(lambda z: 1e-5 * z)
    z0 = torch.ones(1, 3, dtype=dtype)
    *_, chosen = states(Adam(), operator, z0, 2)
    *_, given_ = states(Adam(eps=eps), operator, z0, 2)
    assert torch.equal(chosen.z, given_.z)
    assert chosen.z.dtype == dtype
    assert chosen.first_moment.dtype == torch.float32


# Anderson


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_anderson_with_full_memory_solves_a_linear_system_in_size_plus_2_evaluations(size):
    operator, zero, z0 = problem(size=size)
    solution = solve(operator, z0, Anderson(memory=size), rtol=1e-8)
    assert int(solution.evaluations.max()) <= size + 2
    torch.testing.assert_close(solution.z, zero, rtol=1e-6, atol=1e-6)


def test_anderson_with_one_difference_by_hand():
    # T z = (z1, 2 z2), z0 = (1, 1), mixing 1/2. r0 = (1, 2); z1 = (1/2, 0), r1 = (1/2, 0).
    # dz = (-1/2, -1), dr = (-1/2, -2), gamma = <dr, r1>/<dr, dr> = -1/17.
    # z2 = z1 - r1/2 - (dz - dr/2) gamma = (1/4, 0) - (-1/4, 0)(-1/17) = (4/17, 0).
    operator = synthetic.diagonal([1.0, 2.0])
    iterator = Anderson(memory=1, mixing=0.5, safeguard=False)  # which keeps to beta
    *_, last = states(iterator, operator, torch.ones(1, 2, dtype=torch.float64), 2)
    torch.testing.assert_close(last.z, torch.tensor([[4 / 17, 0.0]], dtype=torch.float64))


def test_the_first_step_of_anderson_is_a_forward_step_and_is_never_refused():
    operator = as_operator(lambda z: 2.5 * z)
    run = list(states(Anderson(), operator, ones(), 3))
    assert [state.z.item() for state in run[:2]] == [1.0, -1.5]
    assert abs(run[2].z.item()) < 1e-12
    assert int(run[-1].rejected_residual) == 0


def test_anderson_does_not_amplify_rounding_where_its_memory_exceeds_the_dimension():
    b = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    operator = as_operator(lambda z: z + torch.sin(z) / 2 - b)
    *_, one = states(Anderson(memory=5), operator, torch.zeros_like(b), 5)
    *_, other = states(Anderson(memory=5), operator, torch.zeros_like(b) + 1e-15, 5)
    assert float((one.z - other.z).abs().max()) < 1e-9


def test_anderson_survives_differences_that_overflow_in_16_bits():
    operator = as_operator(lambda z: 1.9 * z)
    z0 = torch.full((1, 3), 2e4, dtype=torch.float16)
    solution = solve(operator, z0, Anderson(), rtol=1e-5, max_iterations=50)
    assert bool(solution.z.isfinite().all())
    assert float(solution.residual_norm) < 1


def test_the_gram_matrix_updated_row_by_row_is_the_one_built_anew():
    operator, _, z0 = problem()
    *_, last = states(Anderson(memory=3, mixing=0.5), operator, z0, 7)
    differences = torch.stack(last.residual_differences, 1)
    torch.testing.assert_close(last.gram, differences @ differences.transpose(1, 2))
    torch.testing.assert_close(
        last.right_hand_side, (differences * last.anchor_residual.unsqueeze(1)).sum(2)
    )


@pytest.mark.parametrize(
    "change",
    [{"memory": 1}, {"mixing": 0.5}, {"regularization": 0.5}, {"largest_weight": 1e-3}],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_anderson_changes_its_iterates(change):
    operator, _, z0 = problem()
    base = Anderson(memory=3)
    *_, plain = states(base, operator, z0, 5)
    *_, changed = states(dataclasses.replace(base, **change), operator, z0, 5)
    assert not torch.allclose(plain.z, changed.z)


def test_an_accelerated_step_that_raises_the_residual_is_replaced_by_the_forward_step():
    operator = as_operator(lambda z: 0.02 * z + torch.sin(3 * z))
    iterator = Anderson(memory=2, mixing=0.1)
    run = list(states(iterator, operator, torch.tensor([[1.6]], dtype=torch.float64), 12))
    for now, then in itertools.pairwise(run):
        if not now.accepted:
            forward = now.anchor - now.lengths.mixing.unsqueeze(1) * now.anchor_residual
            assert torch.equal(then.point, forward)
            assert then.accepted
    refused = sum(not bool(state.accepted) for state in run)
    assert refused > 0
    assert int(run[-1].rejected_residual) == refused
    assert iterator.statistics(run[-1])["rejected_residual"] is run[-1].rejected_residual


def test_the_safeguard_changes_the_iterates_where_it_steps_in():
    operator = as_operator(lambda z: 0.02 * z + torch.sin(3 * z))
    z0 = torch.tensor([[1.6]], dtype=torch.float64)
    *_, safe = states(Anderson(memory=2, mixing=0.1), operator, z0, 6)
    *_, bold = states(Anderson(memory=2, mixing=0.1, safeguard=False), operator, z0, 6)
    assert not torch.equal(safe.z, bold.z)


def test_refusals_are_counted_by_cause():
    *_, weights = states(
        Anderson(mixing=0.1, largest_weight=1e-9), as_operator(torch.sinh), ones(), 4
    )
    assert int(weights.rejected_weights) == 3
    assert int(weights.rejected_residual) == int(weights.rejected_nonfinite) == 0
    wall = as_operator(lambda z: torch.where(z < 0.5, torch.nan, z))
    *_, nonfinite = states(Anderson(mixing=0.4), wall, ones(), 3)
    assert int(nonfinite.rejected_nonfinite) == 2
    assert bool(nonfinite.anchor.isfinite().all())


# All of them


@pytest.mark.parametrize("name", ITERATORS)
def test_a_step_leaves_the_old_state_untouched(name):
    operator, _, z0 = problem()
    iterator = ITERATORS[name]
    *_, state = states(iterator, operator, z0, 6)
    flat, _ = torch.utils._pytree.tree_flatten(dataclasses.asdict(state))
    copies = [leaf.clone() if torch.is_tensor(leaf) else leaf for leaf in flat]
    iterator.step(operator, state)
    for leaf, copy in zip(flat, copies, strict=True):
        assert torch.equal(leaf, copy) if torch.is_tensor(leaf) else leaf == copy


@pytest.mark.parametrize("name", ITERATORS)
def test_select_then_step_is_step_then_select(name):
    operator, _, z0 = problem()
    iterator, rows = ITERATORS[name], torch.tensor([3, 0, 4])
    *_, state = states(iterator, operator, z0, 6)
    first = iterator.step(operator.select(rows), state.select(rows))
    second = iterator.step(operator, state).select(rows)
    for a, b in zip(
        torch.utils._pytree.tree_leaves(dataclasses.asdict(first)),
        torch.utils._pytree.tree_leaves(dataclasses.asdict(second)),
        strict=True,
    ):
        assert torch.equal(a, b) if torch.is_tensor(a) else a == b


@pytest.mark.parametrize("name", ITERATORS)
def test_the_residual_of_a_state_is_that_of_its_point(name):
    operator, _, z0 = problem()
    for state in states(ITERATORS[name], operator, z0, 6):
        assert torch.equal(state.residual, operator(state.point))


@pytest.mark.parametrize("kind", [ForwardStep, InertialKM, Adam, Anderson])
def test_unknown_options_are_refused(kind):
    with pytest.raises(TypeError, match="momentum"):
        kind(momentum=0.9)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ForwardStep, {"step_size": 0.0}),
        (ForwardStep, {"step_size": float("nan")}),
        (InertialKM, {"inertia": 1.0}),
        (InertialKM, {"relaxation": 0.0}),
        (InertialKM, {"cocoercivity": -1.0}),
        (Adam, {"betas": (0.9, 1.0)}),
        (Adam, {"eps": -1.0}),
        (Anderson, {"memory": 0}),
        (Anderson, {"mixing": -1.0}),
        (Anderson, {"regularization": 1.0}),
        (Anderson, {"largest_weight": 0.0}),
    ],
)
def test_options_out_of_range_are_refused_with_their_value(kind, options):
    (value,) = options.values()
    with pytest.raises(ValueError, match=str(value).replace("(", r"\(").replace(")", r"\)")):
        kind(**options)


def ones():
    return torch.ones(1, 1, dtype=torch.float64)
