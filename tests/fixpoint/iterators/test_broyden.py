import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import problem

from fixpoint import Broyden, ForwardStep, as_operator, kernels, solve, synthetic
from fixpoint.testing import check_iterator, ladder, operators, starting_points

drawn = settings(max_examples=40, deadline=None, derandomize=True, database=None)
NONE = {
    "rejected_residual": 0,
    "rejected_nonfinite": 0,
    "shortened": 0,
    "skipped_updates": 0,
    "left": 0,
}
FREE = {"safeguard": False, "largest_step": float("inf")}


def run(iterator, operator, z, steps):
    found = [iterator.init(operator, z)]
    for _ in range(steps):
        found.append(iterator.step(operator, found[-1]))
    return found


def counts(state):
    return {name: int(count.sum()) for name, count in Broyden().statistics(state).items()}


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def textbook(operator, z, mixing, memory, steps):
    """Broyden's method with a dense H, which starts anew after so many updates."""
    size = z.shape[1]
    inverse, points, residual = mixing * torch.eye(size, dtype=z.dtype), [z], operator(z)
    for number in range(steps):
        following = points[-1] - residual @ inverse.T
        s, y = (following - points[-1])[0], (operator(following) - residual)[0]
        if number % memory == 0:
            inverse = mixing * torch.eye(size, dtype=z.dtype)
        inverse = inverse + torch.outer(s - inverse @ y, s @ inverse) / (s @ inverse @ y)
        points.append(following)
        residual = operator(following)
    return points


def mildly_nonlinear(size=6):
    generator = torch.Generator().manual_seed(size)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64) / size
    return as_operator(lambda z: z + torch.tanh((matrix * z.unsqueeze(1)).sum(2)) - 1)


def wavy():
    """Forward steps of 0.1 come in; secants of it point anywhere."""
    return as_operator(lambda z: 0.02 * z + torch.sin(3 * z))


# The recursion


def test_the_first_iterates_by_hand():
    # T z = (z1, 2 z2), z0 = (1, 1), H0 = I/2. r0 = (1, 2); z1 = (1/2, 0), r1 = (1/2, 0).
    # s = (-1/2, -1), y = (-1/2, -2); H0 y = (-1/4, -1), s - H0 y = (-1/4, 0), s^T H0 y = 9/8,
    # s^T H0 r1 = -1/8: H1 r1 = (1/4, 0) + (-1/4, 0)(-1/8)/(9/8) = (5/18, 0). z2 = (2/9, 0).
    operator = synthetic.diagonal([1.0, 2.0])
    states = run(Broyden(mixing=0.5), operator, row(1, 1), 2)
    torch.testing.assert_close(states[1].z, row(0.5, 0))
    torch.testing.assert_close(states[2].z, row(2 / 9, 0))


def test_in_one_dimension_it_is_the_secant_method():
    operator = as_operator(lambda z: z**3 - 2)
    states = run(Broyden(mixing=0.1, **FREE), operator, row(1.0), 8)
    for before, at, after in zip(states[1:], states[2:], states[3:], strict=False):
        slope = (at.residual - before.residual) / (at.z - before.z)
        if float(at.residual.abs()) > 1e-7:
            torch.testing.assert_close(after.z, at.z - at.residual / slope, rtol=1e-8, atol=0)
    assert states[-1].z.item() == pytest.approx(2 ** (1 / 3), rel=1e-12)


@pytest.mark.parametrize("memory", [1, 2, 3, 20])
def test_its_iterates_are_those_of_the_textbook_with_a_dense_matrix(memory):
    operator = mildly_nonlinear()
    z0 = torch.linspace(-1, 1, 6, dtype=torch.float64).unsqueeze(0)
    states = run(Broyden(memory=memory, mixing=0.6, **FREE), operator, z0, 9)
    dense = textbook(operator, z0, 0.6, memory, 9)
    for state, z in zip(states, dense, strict=True):
        torch.testing.assert_close(state.z, z, rtol=1e-9, atol=1e-11)
    assert counts(states[-1]) == NONE


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_an_affine_problem_is_solved_in_two_evaluations_a_dimension(size):
    """Gay, SIAM J. Numer. Anal. 1979: z^{2n} is the zero."""
    generator = torch.Generator().manual_seed(size)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = torch.eye(size, dtype=torch.float64) + noise / (2 * size)
    zero = torch.randn(4, size, generator=generator, dtype=torch.float64)
    operator = synthetic.Affine(matrix, zero)
    iterator = Broyden(memory=2 * size, **FREE)
    solution = solve(operator, torch.zeros_like(zero), iterator, rtol=1e-8, atol=0)
    assert int(solution.evaluations.max()) <= 2 * size + 1
    torch.testing.assert_close(solution.z, zero, rtol=1e-6, atol=1e-6)


def test_the_small_matrix_carried_along_is_the_one_built_anew():
    operator, _, z0 = problem()
    secants = run(Broyden(memory=4, mixing=0.5), operator, z0, 7)[-1].secants
    s = torch.stack(secants.point_differences, 1)
    y = torch.stack(secants.residual_differences, 1)
    assert s.shape[1] == 3  # four pairs, emptied, and three more
    newer = (s @ s.transpose(1, 2)).triu(1)  # newest first: the upper part has the newer pair
    torch.testing.assert_close(secants.system, 0.5 * s @ y.transpose(1, 2) - newer)
    torch.testing.assert_close(secants.lengths, s.norm(dim=2))


@pytest.mark.parametrize(
    "change",
    [{"memory": 1}, {"mixing": 0.5}, {"largest_step": 0.5}],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_iterates(change):
    operator, _, z0 = problem()
    *_, plain = run(Broyden(memory=3), operator, z0, 5)
    *_, changed = run(Broyden(**({"memory": 3} | change)), operator, z0, 5)
    assert not torch.allclose(plain.z, changed.z)


# Refusals


def test_a_point_that_raises_the_residual_is_replaced_by_the_forward_step():
    iterator = Broyden(mixing=0.1, largest_rise=1.0)
    states = run(iterator, wavy(), row(1.6), 12)
    for now, then in itertools.pairwise(states):
        if not now.accepted:
            forward = now.anchor - now.forward.unsqueeze(1) * now.anchor_residual
            assert torch.equal(then.point, forward)
            assert torch.equal(now.z, now.anchor)
    refused = sum(not bool(state.accepted) for state in states)
    assert refused > 0
    assert counts(states[-1])["rejected_residual"] == refused


def test_without_the_safeguard_the_iterates_are_others():
    safe, bold = (
        run(Broyden(mixing=0.1, largest_rise=1.0, safeguard=on), wavy(), row(1.6), 12)
        for on in (True, False)
    )
    assert counts(safe[-1])["rejected_residual"] > 0
    assert counts(bold[-1])["rejected_residual"] == 0
    assert not all(torch.equal(a.z, b.z) for a, b in zip(safe, bold, strict=True))


def test_the_largest_rise_changes_which_points_are_refused():
    operator = synthetic.dense(torch.logspace(-2, 0, 20), seed=3)
    z0 = torch.randn(4, 20, dtype=torch.float64)
    loose, strict = (run(Broyden(largest_rise=rise), operator, z0, 80)[-1] for rise in (2.0, 1.0))
    assert counts(strict)["rejected_residual"] > counts(loose)["rejected_residual"]
    assert not torch.equal(loose.z, strict.z)


@given(data=st.data(), rise=st.sampled_from([1.0, 2.0]), part=st.floats(0.1, 1.9))
@drawn
def test_accepted_residuals_stay_within_the_largest_rise_of_the_least(data, rise, part):
    operator = data.draw(operators())
    start = data.draw(starting_points(operator))
    iterator = Broyden(memory=5, mixing=part * operator.beta, largest_rise=rise)
    rounding = 1e-13 * (start.norm(dim=1) + operator.zero.norm(dim=1)) / operator.beta
    for state in run(iterator, operator, start, 40):
        assert (state.anchor_norm <= rise * state.least_norm * (1 + 1e-9) + rounding).all()


def test_where_every_quasi_newton_point_is_refused_the_anchors_are_the_forward_steps():
    def trap(z):  # T z = z on the path of the halving forward steps, large elsewhere
        return torch.where((z > 0) & (z.log2() == z.log2().round()), z, 1e3)

    states = run(Broyden(mixing=0.5), as_operator(trap), row(1.0), 21)
    anchors = [state.anchor.item() for state in states]
    # After the first refusals by one, two and four forward steps, then by eight.
    refused = counts(states[-1])["rejected_residual"]
    assert 3 <= refused <= 5
    assert sorted(set(anchors), reverse=True) == [0.5**k for k in range(22 - refused)]


def test_it_needs_no_more_evaluations_than_its_forward_step_and_those_refused():
    for rung in ladder():
        forward = solve(rung.operator, rung.start, ForwardStep(step_size=0.8))
        solution = solve(rung.operator, rung.start, Broyden(mixing=0.8))
        assert solution.success
        refused = solution.statistics["rejected_residual"]
        assert (solution.evaluations <= forward.evaluations + refused).all(), rung.name


def test_points_that_are_not_finite_are_refused_and_counted():
    wall = as_operator(lambda z: torch.where(z < 0.5, torch.nan, z))
    last = run(Broyden(mixing=0.4), wall, row(1.0), 3)[-1]
    assert counts(last) == NONE | {"rejected_nonfinite": 2}
    assert bool(last.anchor.isfinite().all())


# Long steps and lost denominators


def deceptive():
    """T z = tanh z near 0, and a far second zero, at -231, where the first secant points to."""
    return as_operator(lambda z: torch.tanh(z) * (1 - torch.exp(-(((z + 231) / 40) ** 2))))


def test_a_far_zero_is_not_jumped_to_but_the_step_is_shortened_and_counted():
    solution = solve(deceptive(), row(4.0), Broyden(), rtol=0, atol=1e-8, max_iterations=300)
    assert solution.success
    assert abs(solution.z.item()) < 1e-6
    assert int(solution.statistics["shortened"]) > 0


def test_rises_are_accepted_for_a_while_only():
    """On a plateau every residual is near the least one: nothing else would end the wandering."""
    operator = as_operator(torch.atan)
    z0 = torch.tensor([[50.0], [200.0]], dtype=torch.float64)
    states = run(Broyden(), operator, z0, 30)
    for before, after in itertools.pairwise(states):
        extrapolated = before.trials.wait == 0
        risen = after.accepted & (after.anchor_norm >= before.anchor_norm)
        assert not (risen & (before.stale >= 10) & extrapolated & ~(after.left > before.left)).any()
    assert any((state.stale > 10).any() for state in states)
    assert solve(operator, z0, Broyden(), max_iterations=300).success


def test_without_a_largest_step_the_far_zero_is_found():
    bold = Broyden(largest_step=float("inf"))
    states = run(bold, deceptive(), row(4.0), 2)
    assert counts(states[-1]) == NONE
    solution = solve(deceptive(), row(4.0), bold, rtol=0, atol=1e-4, max_iterations=100)
    assert solution.z.item() < -200


def test_a_shortened_step_has_the_largest_length():
    states = run(Broyden(largest_step=3.0), deceptive(), row(4.0), 2)
    assert counts(states[-1]) == NONE | {"shortened": 1}
    length = (states[2].point - states[1].point).abs()
    torch.testing.assert_close(length, 3 * states[1].residual.abs())


def test_an_update_whose_denominator_is_lost_is_skipped_and_counted():
    """A quarter turn: y is at right angles to s, and the textbook divides by zero."""
    operator, z0 = synthetic.rotation(torch.pi / 2, size=2), row(1.0, 2.0)
    operator.matrix = operator.matrix.round()
    last = run(Broyden(mixing=0.25), operator, z0, 4)[-1]
    assert counts(last) == NONE | {"skipped_updates": 4}
    operator.cocoercivity = None  # nothing certifies the forward step here either
    assert torch.equal(last.z, run(ForwardStep(step_size=0.25), operator, z0, 4)[-1].z)
    assert not textbook(operator, z0, 0.25, 9, 3)[-1].isfinite().all()


def test_denominators_are_judged_against_their_terms_and_not_against_one():
    """A flat operator has small denominators that are right."""
    _, zero, z0 = problem()
    flat = as_operator(lambda z, zero: 1e-9 * (z - zero), zero)
    states = run(Broyden(largest_step=1e12), flat, z0, 2)
    assert counts(states[-1]) == NONE
    torch.testing.assert_close(states[-1].z, zero, rtol=1e-6, atol=1e-6)


# Rows and precisions


def test_a_row_of_nan_does_not_disturb_its_neighbours():
    def spoilt(z, bad):
        return torch.where(bad & (z.abs() < 2), torch.nan, z + torch.sin(z) / 2)

    bad = torch.tensor([[False], [True], [False]])
    z0 = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]], dtype=torch.float64)
    clean = run(Broyden(), as_operator(spoilt, bad & False), z0, 15)[-1]
    mixed = run(Broyden(), as_operator(spoilt, bad), z0, 15)[-1]
    assert int(mixed.rejected_nonfinite[1]) > 0
    assert torch.equal(mixed.z[[0, 2]], clean.z[[0, 2]])
    assert bool(mixed.anchor.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_latents_are_solved_to_their_rounding(dtype):
    operator, _, z0 = problem(dtype=dtype)
    solution = solve(operator, z0, Broyden(), rtol=2e-2, max_iterations=100)
    assert solution.success
    assert solution.z.dtype == dtype
    last = run(Broyden(), operator, z0, 3)[-1]
    assert last.secants.point_differences[0].dtype == torch.float32
    assert last.secants.system.dtype == torch.float64
    assert last.anchor.dtype == dtype


def test_differences_that_overflow_in_16_bits_do_no_harm():
    operator = as_operator(lambda z: 1.9 * z)
    z0 = torch.full((1, 3), 2e4, dtype=torch.float16)
    solution = solve(operator, z0, Broyden(), rtol=1e-5, max_iterations=50)
    assert bool(solution.z.isfinite().all())
    assert float(solution.residual_norm) < 1


def test_the_kernels_are_the_dense_formulas():
    s, y = torch.randn(2, 3, 4, 5, dtype=torch.float64)  # 3 pairs, 4 rows
    dz, dr, r = torch.randn(3, 4, 5, dtype=torch.float64)
    weights = torch.randn(4, 3, dtype=torch.float64)
    products = kernels.broyden_products(s.unbind(), y.unbind(), dz, dr, r)
    for found, (a, b) in zip(products, ((s, dz), (y, dz), (s, dr), (s, r)), strict=True):
        torch.testing.assert_close(found, (a * b).sum(2).T)
    direction = kernels.broyden_direction(r, s.unbind(), y.unbind(), weights, 0.7)
    torch.testing.assert_close(direction, 0.7 * r + ((s - 0.7 * y) * weights.T.unsqueeze(2)).sum(0))


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 0},
        {"memory": 2.5},
        {"mixing": -1.0},
        {"mixing": float("inf")},
        {"largest_rise": 0.5},
        {"largest_rise": float("nan")},
        {"largest_step": 0.0},
    ],
)
def test_options_out_of_range_are_refused_with_their_value(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        Broyden(**options)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="momentum"):
        Broyden(momentum=0.9)


@pytest.mark.parametrize("safeguard", [True, False])
def test_it_passes_the_check_of_iterators(safeguard):
    check_iterator(
        Broyden(memory=4, mixing=0.8, safeguard=safeguard),
        cocoercivity=0.8,
        changes={"memory": 1, "mixing": 0.5, "largest_step": 0.5},
        scale_equivariant=True,
    )
