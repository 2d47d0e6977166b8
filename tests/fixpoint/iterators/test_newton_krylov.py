import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import Counting, problem

from fixpoint import NewtonKrylov, as_operator, solve, synthetic
from fixpoint.operator import Operator
from fixpoint.testing import (
    check_iterator,
    iterators,
    ladder,
    operators,
    starting_points,
)
from fixpoint.testing.trees import first_difference
from fixpoint.testing.wrapped import NaNRows, Recorded


def states(iterator, operator, z, steps):
    state = iterator.init(operator, z)
    run = [state]
    for _ in range(steps):
        run.append(iterator.step(operator, run[-1]))
    return run


def at(*values, dtype=torch.float64):
    return torch.tensor([values], dtype=dtype)


def counts(state):
    return {
        name: value.tolist()
        for name, value in NewtonKrylov().statistics(state).items()
        if value.any()
    }


def smooth(size=6):
    """z + 0.9 tanh(W z) - b with its zero and its Jacobian."""
    generator = torch.Generator().manual_seed(size)
    weights = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    zero = torch.randn(1, size, generator=generator, dtype=torch.float64)
    target = zero + 0.9 * torch.tanh(zero @ weights.T)
    operator = as_operator(lambda z: z + 0.9 * torch.tanh(z @ weights.T) - target)

    def jacobian(z):
        slope = 1 - torch.tanh(z @ weights.T).square()
        return torch.eye(size, dtype=torch.float64) + 0.9 * slope.T * weights

    return operator, zero, jacobian


# Newton and GMRES


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_one_step_with_as_many_directions_as_dimensions_solves_an_affine_problem(size):
    operator, zero, z0 = problem(size=size)
    *_, last = states(NewtonKrylov(krylov=size, forcing=0.0), operator, z0, 1)
    torch.testing.assert_close(last.point, zero, rtol=1e-12, atol=1e-12)


def test_a_step_is_dense_newton_up_to_a_share_of_newtons_own_error():
    operator, zero, jacobian = smooth()
    iterator = NewtonKrylov(krylov=6, forcing=0.0)
    for distance in (1e-1, 1e-2, 1e-3, 1e-4):
        start = zero + distance * torch.ones_like(zero) / 6**0.5
        newton = start - torch.linalg.solve(jacobian(start), operator(start).T).T
        *_, last = states(iterator, operator, start, 1)
        own = float((newton - zero).norm())
        assert float((last.point - newton).norm()) < 0.5 * own + 1e-14
        assert own < distance**1.5


def test_the_differences_have_the_length_that_they_are_given():
    operator, zero, jacobian = smooth()
    start = zero + 1e-8 * torch.ones_like(zero)  # so near that the floor of the length acts
    newton = start - torch.linalg.solve(jacobian(start), operator(start).T).T
    far = []
    for difference in (1e-2, 1e-4, 1e-6):
        iterator = NewtonKrylov(krylov=6, forcing=0.0, difference=difference)
        recorded = Recorded(operator)
        *_, last = states(iterator, recorded, start, 1)
        length = float((recorded.calls[1] - start).norm() / start.norm())
        assert length == pytest.approx(difference, rel=1e-6)
        far.append(float((last.point - newton).norm()))
    assert far[0] > 10 * far[1] > 100 * far[2]


def test_convergence_is_superlinear():
    operator, zero, _ = smooth()
    solution = solve(
        operator, torch.zeros_like(zero), NewtonKrylov(krylov=6, forcing=0.0), rtol=1e-12
    )
    assert solution.success
    norms = [norm for norm in solution.history.residual_norm[:, 0].tolist() if norm > 1e-12]
    near = [(a, b) for a, b in itertools.pairwise(norms) if a < 0.3]
    assert len(near) >= 2
    assert all(b < a**1.5 for a, b in near)


@pytest.mark.parametrize("krylov", [1, 2, 4])
def test_gmres_solves_the_least_squares_problem_over_the_krylov_space(krylov):
    generator = torch.Generator().manual_seed(krylov)
    size, rows = 8, 3
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64) / 4
    matrix += torch.eye(size, dtype=torch.float64)
    zero = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    operator = synthetic.Affine(matrix, zero)
    first, last = states(NewtonKrylov(krylov=krylov, forcing=0.0), operator, 0 * zero, 1)
    for row in range(rows):
        residual = first.residual[row]
        powers = [residual]
        for _ in range(krylov - 1):
            powers.append(matrix @ powers[-1])
        basis, _ = torch.linalg.qr(torch.stack(powers, 1))
        weights = torch.linalg.lstsq(matrix @ basis, -residual).solution
        torch.testing.assert_close(last.point[row], first.point[row] + basis @ weights)


def test_a_row_that_reached_its_forcing_term_gets_zero_directions():
    operator, _, z0 = problem()
    loose, tight = Recorded(operator), Recorded(operator)
    *_, early = states(NewtonKrylov(krylov=3, forcing=0.9), loose, z0, 1)
    *_, full = states(NewtonKrylov(krylov=3, forcing=0.0), tight, z0, 1)
    assert len(loose.calls) == len(tight.calls) == 5
    assert torch.equal(loose.calls[1], tight.calls[1])
    assert all(torch.equal(z, z0) for z in loose.calls[2:4])
    assert not any(torch.equal(z, z0) for z in tight.calls[2:4])
    assert not torch.allclose(early.point, full.point)


def test_without_a_constant_the_forcing_term_is_choice_2_of_eisenstat_and_walker():
    operator, zero, _ = smooth()
    run = states(NewtonKrylov(krylov=3, forcing=None), operator, 0 * zero, 4)
    assert float(run[0].forcing) == 0.5
    for now, then in itertools.pairwise(run):
        chosen = 0.9 * float(then.anchor_norm / now.anchor_norm) ** 2
        before = 0.9 * float(now.forcing) ** 2
        chosen = max(chosen, before) if before > 0.1 else chosen
        assert float(then.forcing) == pytest.approx(min(chosen, 0.9))
    *_, constant = states(NewtonKrylov(krylov=3), operator, 0 * zero, 4)
    assert not torch.equal(run[-1].point, constant.point)


def test_a_breakdown_ends_gmres_and_no_row_notices_that_of_another():
    matrix = torch.diag(torch.tensor([1.0, 1.0, 3.0, 7.0], dtype=torch.float64))
    operator = synthetic.Affine(matrix)
    z0 = torch.tensor([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    recorded = Recorded(operator)
    *_, last = states(NewtonKrylov(krylov=3, forcing=0.0), recorded, z0, 1)
    assert torch.equal(recorded.calls[2][0], z0[0])  # an eigenvector: one direction is enough
    assert not torch.equal(recorded.calls[2][1], z0[1])
    torch.testing.assert_close(last.point, torch.zeros_like(z0), rtol=0, atol=1e-12)


def test_the_directions_are_the_differences_that_t_saw_after_their_rounding():
    """So the linear residual is right, however coarse the dtype of z."""
    operator = as_operator(lambda z: z / 64)  # exact in 16 bits
    start = torch.randn(4, 9, dtype=torch.float16) + 2
    iterator = NewtonKrylov(krylov=2, difference=1e-3, forcing=0.0)
    state = iterator.init(operator, start)
    gmres, _, _ = iterator._differences(operator, state)
    direction, remaining = gmres.solution()
    residual = state.residual.float()
    true = (residual + direction / 64).norm(dim=1) / residual.norm(dim=1)
    assert (true > 1e-3).all()  # the differences are coarse
    torch.testing.assert_close(remaining.to(true), true, rtol=1e-2, atol=0)


def test_the_basis_stays_orthonormal_where_the_images_are_nearly_dependent():
    spectrum = torch.logspace(-6, 0, 30, dtype=torch.float64)
    operator = synthetic.dense(spectrum, torch.ones(1, 30, dtype=torch.float64))
    iterator = NewtonKrylov(krylov=10, forcing=0.0)
    state = iterator.init(operator, torch.zeros(1, 30, dtype=torch.float64))
    gmres, _, _ = iterator._differences(operator, state)
    basis = torch.cat(gmres.orthonormal)
    identity = torch.eye(len(basis), dtype=torch.float64)
    torch.testing.assert_close(basis @ basis.T, identity, rtol=0, atol=1e-14)


def test_a_singular_jacobian_gives_the_least_squares_step_and_no_long_one():
    u, v = at(0.3, 0.7), at(0.9, 0.2)
    operator = as_operator(lambda z: (z * v).sum(1, keepdim=True) * u + at(0.7, -0.3))
    iterator = NewtonKrylov(krylov=2, forcing=0.0, largest_step=math.inf)
    first, last = states(iterator, operator, at(1.0, 2.0), 1)
    assert float((last.point - first.point).norm()) < 10
    torch.testing.assert_close(last.residual, at(0.7, -0.3))


def test_a_step_costs_one_evaluation_more_than_it_has_directions():
    for krylov, size in ((1, 8), (3, 8), (5, 8), (5, 2)):
        operator, _, z0 = problem(size=size)
        counting = Counting(operator)
        solution = solve(counting, z0, NewtonKrylov(krylov=krylov), rtol=1e-8)
        cost = min(krylov, size) + 1
        assert torch.equal(solution.evaluations, 1 + cost * solution.iterations)
        assert sum(counting.count) == int(solution.evaluations.sum())


def test_what_is_measured_at_the_new_point_is_found():
    class Measuring(Operator):
        def __call__(self, z):
            return torch.sinh(z)

        def evaluate(self, z):
            return self(z), {"size": z.abs().amax(1)}

        def select(self, rows):
            return self

    seen = []
    solution = solve(
        Measuring(),
        at(1.0, -2.0),
        NewtonKrylov(krylov=2),
        callback=lambda iterate: seen.append(float(iterate.state.point.abs().max())),
    )
    assert solution.history.measured["size"][:, 0].tolist() == seen


# Safeguards


def test_a_newton_point_that_does_not_lower_the_residual_is_refused():
    """Newton for arctan from 3 overshoots, and from there on diverges."""
    operator = as_operator(torch.atan)
    first, refused, forward = states(NewtonKrylov(), operator, at(3.0), 2)
    assert float(refused.point) < -3
    assert counts(refused) == {"rejected_residual": [1]}
    assert torch.equal(refused.anchor, first.anchor)
    assert refused.damping.tolist() == [0.5]
    once = first.anchor - torch.atan(first.anchor)
    assert torch.equal(forward.point, once - torch.atan(once))
    assert solve(operator, at(3.0), NewtonKrylov()).success
    plain = NewtonKrylov(safeguard=False, largest_step=math.inf)
    *_, astray = states(plain, operator, at(3.0), 3)
    assert abs(float(astray.point)) > 1e3


def test_the_least_decrease_decides_what_is_refused():
    """From 1.2 Newton for arctan keeps a seventh of its promise."""
    operator = as_operator(torch.atan)
    _, taken, _ = states(NewtonKrylov(), operator, at(1.2), 2)
    _, refused, _ = states(NewtonKrylov(decrease=0.9), operator, at(1.2), 2)
    assert torch.equal(taken.point, refused.point)
    assert counts(taken) == {}
    assert counts(refused) == {"rejected_residual": [1]}
    assert torch.equal(taken.anchor, taken.point)
    assert float(refused.anchor) == 1.2


def test_a_newton_step_that_broke_its_promise_is_followed_by_forward_steps():
    operator = as_operator(torch.atan)
    _, taken, forward = states(NewtonKrylov(), operator, at(1.2), 2)
    _, same, newton = states(NewtonKrylov(trust=0.0), operator, at(1.2), 2)
    assert torch.equal(taken.point, same.point)
    once = taken.point - torch.atan(taken.point)
    assert torch.equal(forward.point, once - torch.atan(once))
    assert not torch.equal(forward.point, newton.point)


def test_an_accepted_newton_step_doubles_the_damping_that_a_refusal_halved():
    operator = as_operator(torch.atan)
    run = states(NewtonKrylov(), operator, at(3.0), 4)
    assert [float(state.damping) for state in run] == [1.0, 0.5, 0.5, 1.0, 1.0]
    anchor, residual = run[2].anchor, run[2].anchor_residual
    length = float((run[3].point - anchor).norm())
    newton = float(residual.abs() * (1 + anchor.square()))
    assert length == pytest.approx(newton / 2, rel=0.05)


def test_a_long_newton_step_cannot_jump_to_a_far_zero_unseen():
    """The slope of the sine at 1.5 sends Newton to -2 pi."""
    operator = as_operator(torch.sin)
    far = solve(operator, at(1.5), NewtonKrylov(largest_step=math.inf), rtol=1e-10)
    assert float(far.z) == pytest.approx(-2 * math.pi)
    assert int(far.statistics["shortened"]) == 0
    near = solve(operator, at(1.5), NewtonKrylov(largest_step=2.0), rtol=1e-10)
    assert abs(float(near.z)) < 1e-9
    assert int(near.statistics["shortened"]) == 1


@pytest.mark.parametrize("largest_step", [0.5, 2.0, 20.0])
def test_no_newton_step_is_longer_than_the_largest_and_every_cut_is_counted(largest_step):
    operator = as_operator(torch.sin)
    z0 = torch.linspace(-1.56, 1.56, 41, dtype=torch.float64).unsqueeze(1)
    cut = 0
    for now, then in itertools.pairwise(
        states(NewtonKrylov(largest_step=largest_step, mixing=0.7), operator, z0, 6)
    ):
        length = (then.point - now.anchor).abs().squeeze(1)
        longest = largest_step * 0.7 * now.anchor_norm
        newton = ~now.resting
        assert (length[newton] <= longest[newton] * (1 + 1e-9)).all()
        shortened = (then.shortened > now.shortened) & (now.damping == 1)
        torch.testing.assert_close(length[shortened], longest[shortened])
        cut += int(shortened.sum())
    assert cut > 0


def test_a_shortened_step_that_kept_its_promise_is_followed_by_newton():
    operator = synthetic.diagonal([1.0, 0.01])
    run = states(NewtonKrylov(krylov=2, largest_step=20.0), operator, at(0.001, 1.0), 3)
    assert counts(run[-1]) == {"shortened": [3]}
    assert not any(bool(state.resting) for state in run)


def test_where_gmres_cannot_lower_the_residual_the_forward_step_is_taken():
    """A quarter turn: the image of the residual is orthogonal to it."""
    operator = synthetic.rotation(math.pi / 2)
    iterator = NewtonKrylov(krylov=1, mixing=0.25)
    first, failed, forward = states(iterator, operator, at(1.0, 2.0), 2)
    assert counts(failed) == {"failed_linear_solves": [1]}
    assert torch.equal(failed.point, first.point - 0.25 * first.residual)
    once = failed.point - 0.25 * failed.residual
    assert torch.equal(forward.point, once - 0.25 * operator(once))
    *_, solved = states(NewtonKrylov(krylov=2), operator, at(1.0, 2.0), 1)
    assert counts(solved) == {}
    assert float(solved.residual.norm()) < 1e-12


def test_the_least_reduction_decides_which_linear_solve_has_failed():
    operator = synthetic.rotation(1.2)  # one direction takes away 7 % of the residual
    *_, tried = states(NewtonKrylov(krylov=1), operator, at(1.0, 2.0), 1)
    *_, failed = states(NewtonKrylov(krylov=1, least_reduction=0.5), operator, at(1.0, 2.0), 1)
    assert counts(tried) == {}
    assert counts(failed) == {"failed_linear_solves": [1]}
    assert not torch.allclose(tried.point, failed.point)


def test_points_where_t_is_not_finite_are_refused_and_counted():
    wall = as_operator(lambda z: torch.where(z < 0.5, torch.nan, z))
    _, refused, forward = states(NewtonKrylov(mixing=0.2), wall, at(1.0), 2)
    assert counts(refused) == {"rejected_nonfinite": [1]}
    assert float(refused.anchor) == 1.0
    assert float(forward.point) == pytest.approx(0.64)
    assert counts(forward) == {"rejected_nonfinite": [1]}


def test_points_that_overflow_are_refused_though_t_is_finite_there():
    operator = as_operator(lambda z: torch.where(z.isinf(), 0, z / 6e4 - 2))
    z0 = at(6e4, dtype=torch.float16)
    *_, last = states(NewtonKrylov(largest_step=math.inf), operator, z0, 1)
    assert bool(last.point.isinf())
    assert counts(last) == {"rejected_nonfinite": [1]}
    assert torch.equal(last.anchor, z0)


def test_differences_that_are_not_finite_fail_the_linear_solve():
    wall = as_operator(lambda z: torch.where((z < 1) & (z > 0.9), torch.nan, z))
    *_, last = states(NewtonKrylov(mixing=0.2), wall, at(1.0), 1)
    assert counts(last) == {"failed_linear_solves": [1]}
    assert float(last.point) == 0.8


def test_a_later_difference_that_is_not_finite_leaves_the_earlier_ones_in_use():
    operator, _, z0 = problem(rows=1)
    calls = itertools.count()
    spoilt = as_operator(lambda z: operator(z) * (math.nan if next(calls) == 2 else 1))
    *_, two = states(NewtonKrylov(krylov=2), spoilt, z0, 1)
    *_, one = states(NewtonKrylov(krylov=1), operator, z0, 1)
    torch.testing.assert_close(two.point, one.point)
    assert counts(two) == {}


def test_rounding_inside_t_needs_longer_differences():
    b = torch.linspace(-1, 1, 6, dtype=torch.float64).unsqueeze(0)
    operator = as_operator(lambda z: torch.round(8 * torch.sinh(z)) / 8 - torch.round(8 * b) / 8)
    start = torch.asinh(b) + 0.3
    runs = {
        difference: solve(
            operator, start, NewtonKrylov(difference=difference, mixing=0.5), max_iterations=8
        )
        for difference in (None, 0.2)
    }
    assert int(runs[0.2].statistics["failed_linear_solves"]) == 0
    assert int(runs[0.2].iterations) < int(runs[None].iterations)


@pytest.mark.parametrize(
    "change",
    [
        {"krylov": 1},
        {"difference": 0.5},
        {"forcing": 0.5},
        {"largest_step": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_options_change_the_iterates(change):
    operator = as_operator(lambda z: z + torch.sinh(z) / 2 - 1)
    z0 = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(3, 4)
    base = NewtonKrylov(krylov=3)
    *_, plain = states(base, operator, z0, 2)
    *_, changed = states(dataclasses.replace(base, **change), operator, z0, 2)
    assert not torch.allclose(plain.z, changed.z, rtol=1e-6)


def test_mixing_is_the_step_of_the_forward_steps():
    operator = as_operator(torch.atan)
    *_, one = states(NewtonKrylov(mixing=1.0), operator, at(3.0), 2)
    *_, half = states(NewtonKrylov(mixing=0.5), operator, at(3.0), 2)
    assert float(one.point) < float(half.point) < 3


# The theorem in the header


@given(data=st.data(), part=st.floats(0.05, 0.95), krylov=st.integers(1, 4))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_residuals_of_accepted_points_never_rise_below_two_beta(data, part, krylov):
    operator = data.draw(operators())
    start = data.draw(starting_points(operator))
    iterator = NewtonKrylov(krylov=krylov, mixing=part * 2 * operator.beta)
    run = states(iterator, operator, start, 12)
    rounding = 1e-14 * (start.norm(dim=1) + operator.zero.norm(dim=1) + 1) / operator.beta
    for now, then in itertools.pairwise(run):
        assert (then.anchor_norm <= now.anchor_norm * (1 + 1e-12) + rounding).all()


@given(data=st.data(), iterator=iterators(1.0, methods=(NewtonKrylov,)))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_cocoercive_operators_are_solved_with_the_safeguard(data, iterator):
    operator = data.draw(operators(beta=1.0, smallest=0.05))
    start = data.draw(starting_points(operator))
    safe = dataclasses.replace(iterator, safeguard=True)
    assert solve(operator, start, safe, rtol=1e-3, atol=1e-3, max_iterations=3000).success


def test_of_two_steps_in_a_row_one_is_good_newton_or_all_forward_steps():
    wild = as_operator(lambda z: z + 0.9 * torch.sin(3 * z) - 0.5)
    z0 = torch.linspace(-3, 3, 40, dtype=torch.float64).reshape(10, 4)
    iterator = NewtonKrylov(krylov=3, mixing=0.2)
    run = states(iterator, wild, z0, 12)
    forward_rows = 0
    for now, then in itertools.pairwise(run):
        forward = now.anchor
        for _ in range(4):
            forward = forward - now.forward.unsqueeze(1) * wild(forward)
        assert torch.equal(then.point[now.resting], forward[now.resting])
        assert not then.resting[now.resting].any()
        good = ~now.resting & ~then.resting & (now.anchor_norm > 1e-12)
        assert (then.anchor_norm[good] < now.anchor_norm[good]).all()
        forward_rows += int(now.resting.sum())
    assert forward_rows > 0


# Rows and dtypes


@pytest.mark.parametrize("krylov", [1, 3, 8])
def test_rows_alone_are_rows_in_the_batch_bit_for_bit(krylov):
    operator, _, z0 = problem(rows=7, size=11)
    z0 = z0 + torch.logspace(-3, 3, 7, dtype=torch.float64).unsqueeze(1)
    iterator = NewtonKrylov(krylov=krylov, forcing=None)
    together = states(iterator, operator, z0, 6)
    for row in range(7):
        index = torch.tensor([row])
        alone = states(iterator, operator.select(index), z0[index], 6)
        for state, single in zip(together, alone, strict=True):
            assert first_difference(state.select(index), single) is None


def test_a_row_of_nan_disturbs_no_neighbour():
    operator, _, z0 = problem()
    iterator, others = NewtonKrylov(krylov=3), torch.tensor([0, 1, 3, 4])
    clean = spoilt = iterator.init(operator, z0)
    bad = NaNRows(operator, torch.arange(5) == 2)
    for _ in range(4):
        clean, spoilt = iterator.step(operator, clean), iterator.step(bad, spoilt)
        assert first_difference(clean.select(others), spoilt.select(others)) is None
        assert bool(spoilt.anchor.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("krylov", [1, 4])
def test_fewer_bits_get_as_far_as_their_rounding_allows(dtype, krylov):
    operator, _, z0 = problem(dtype=dtype)
    iterator = NewtonKrylov(krylov=krylov)
    solution = solve(
        operator, z0, iterator, rtol=4 * torch.finfo(dtype).eps, atol=0, max_iterations=60
    )
    assert solution.z.dtype == dtype
    assert solution.success
    state = iterator.step(operator, iterator.init(operator, z0))
    assert state.anchor_norm.dtype == torch.float64
    assert state.anchor.dtype == dtype
    assert counts(state) == {}


def test_a_start_that_is_a_zero_stays_there():
    operator, zero, _ = problem()
    run = states(NewtonKrylov(), operator, zero, 3)
    assert torch.equal(run[-1].point, zero)
    assert counts(run[-1]) == {}


@pytest.mark.parametrize(
    "iterator",
    [
        NewtonKrylov(mixing=0.8),
        NewtonKrylov(krylov=1, mixing=1.2),
        NewtonKrylov(krylov=3, forcing=None, mixing=0.8),
    ],
    ids=["default", "one direction", "Eisenstat and Walker"],
)
def test_it_has_the_properties_of_an_iterator_and_is_scale_equivariant(iterator):
    check_iterator(iterator, ladder(0.8), cocoercivity=0.8, scale_equivariant=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"krylov": 0}, "krylov must be a whole number, at least 1, got 0"),
        ({"mixing": 0.0}, "mixing must be above 0, got 0.0"),
        ({"difference": 1.0}, r"difference must lie in \(0, 1\), got 1.0"),
        ({"forcing": 1.0}, r"forcing must lie in \[0, 1\), got 1.0"),
        ({"decrease": -0.1}, r"decrease must lie in \[0, 1\), got -0.1"),
        ({"trust": 1.0}, r"trust must lie in \[0, 1\), got 1.0"),
        ({"largest_step": 0.0}, "largest_step must be above 0, got 0.0"),
        ({"least_reduction": 0.0}, r"least_reduction must lie in \(0, 1\), got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NewtonKrylov(**options)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="momentum"):
        NewtonKrylov(momentum=0.9)
