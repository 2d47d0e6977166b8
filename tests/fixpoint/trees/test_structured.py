"""Tuples and dicts of tensors are solved as one packed tensor, and come back as they were."""

from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import ITERATORS

from fixpoint import (
    Anderson,
    ForwardStep,
    Operator,
    SolveError,
    Status,
    as_operator,
    product,
    proximal,
    solve,
    subdifferential,
    synthetic,
)
from fixpoint.monitors import Fejer
from fixpoint.trees.structured import Packed, Structure

ROWS = 3
Pair = namedtuple("Pair", "primal dual")


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def targets():
    return normal(ROWS, 4, seed=1), normal(ROWS, 2, 3, seed=2)


def cocoercive_tree():
    """(x, y) -> (x - a, 1.25 (y - b)) on rows of shapes (4,) and (2, 3)."""
    a, b = targets()
    return as_operator(
        lambda z, a, b: (z[0] - a, 1.25 * (z[1] - b)),
        a,
        b,
        cocoercivity=0.8,
        lipschitz=1.25,
        strong_monotonicity=1.0,
    )


def zeros():
    return tuple(torch.zeros_like(target) for target in targets())


shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def trees(draw):
    """Nested tuples and dicts of tensors of one batch."""
    batch = draw(st.integers(0, 3))
    leaf = st.tuples(shapes, st.integers(0, 1000)).map(
        lambda each: normal(batch, *each[0], seed=each[1])
    )
    keys = st.sampled_from("abcd")
    inner = st.recursive(
        leaf,
        lambda each: (
            st.lists(each, min_size=1, max_size=3).map(tuple)
            | st.dictionaries(keys, each, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )
    return draw(st.lists(inner, min_size=1, max_size=3).map(tuple))


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [leaf for part in parts for leaf in leaves(part)]


@given(tree=trees())
@settings(max_examples=60, deadline=None)
def test_a_tree_comes_back_from_its_packing(tree):
    structure = Structure.of(tree)
    packed = structure.pack(tree)
    assert packed.shape == (
        len(leaves(tree)[0]),
        sum(leaf[0:1].numel() for leaf in leaves(tree)),
    ) or (len(packed) == 0)
    again = structure.unpack(packed)
    assert type(again) is type(tree)
    for mine, theirs in zip(leaves(again), leaves(tree), strict=True):
        assert torch.equal(mine, theirs)
    torch.testing.assert_close(
        packed.square().sum(1),
        sum(
            (leaf.reshape(len(leaf), -1).square().sum(1) if leaf.numel() else 0)
            for leaf in leaves(tree)
        )
        + torch.zeros(len(packed), dtype=torch.float64),
    )


@pytest.mark.parametrize("name", ITERATORS)
def test_every_iterator_solves_a_tree_as_it_solves_the_packed_problem(name):
    options = {"rtol": 1e-6, "max_iterations": 500}
    operator, z0 = cocoercive_tree(), zeros()
    solution = solve(operator, z0, ITERATORS[name], **options)
    structure = Structure.of(z0)
    flat = solve(Packed(operator, structure), structure.pack(z0), ITERATORS[name], **options)
    assert isinstance(solution.z, tuple)
    assert torch.equal(structure.pack(solution.z), flat.z)
    assert solution.status == flat.status
    assert torch.equal(solution.evaluations, flat.evaluations)


def test_rows_of_a_tree_are_independent_bit_for_bit():
    whole = solve(cocoercive_tree(), zeros(), Anderson(), rtol=1e-10)
    rows = torch.tensor([2])
    alone = solve(
        cocoercive_tree().select(rows),
        tuple(leaf[rows] for leaf in zeros()),
        Anderson(),
        rtol=1e-10,
    )
    for mine, theirs in zip(alone.z, whole.z, strict=True):
        assert torch.equal(mine, theirs[rows])


@pytest.mark.parametrize(
    ("wrap", "read"),
    [
        (lambda x, y: {"x": x, "y": y}, lambda z: (z["x"], z["y"])),
        (lambda x, y: Pair(x, y), lambda z: (z.primal, z.dual)),
        (lambda x, y: (x, {"inner": (y,)}), lambda z: (z[0], z[1]["inner"][0])),
    ],
)
def test_a_solution_has_the_structure_of_its_start(wrap, read):
    a, b = targets()
    operator = as_operator(
        lambda z, a, b: wrap(read(z)[0] - a, read(z)[1] - b), a, b, cocoercivity=1.0
    )
    solution = solve(operator, wrap(*zeros()), ForwardStep(step_size=0.5))
    assert solution.success
    assert type(solution.z) is type(wrap(*zeros()))
    for found, target in zip(read(solution.z), targets(), strict=True):
        torch.testing.assert_close(found, target, rtol=1e-4, atol=1e-4)


def test_a_dict_may_come_back_in_another_order():
    a, b = targets()
    operator = as_operator(lambda z: {"y": z["y"] - b, "x": z["x"] - a})
    x, y = zeros()
    solution = solve(operator, {"x": x, "y": y}, ForwardStep(step_size=1.0))
    assert list(solution.z) == ["x", "y"]
    assert torch.equal(solution.z["x"], a)


def test_convergence_is_judged_in_the_norm_of_the_whole_row():
    operator = product(
        synthetic.diagonal([1.0], normal(ROWS, 1)), synthetic.diagonal([0.1], normal(ROWS, 1))
    )
    z0 = (torch.zeros(ROWS, 1, dtype=torch.float64),) * 2
    solution = solve(operator, z0, ForwardStep(step_size=1.0), rtol=0, atol=1e-3)
    value = operator(solution.z)
    norm = torch.cat(value, 1).norm(dim=1)
    torch.testing.assert_close(solution.residual_norm, norm)
    assert (norm <= 1e-3).all()


def test_monitors_and_callbacks_see_the_packed_tensor():
    seen = []
    solution = solve(
        cocoercive_tree(),
        zeros(),
        ForwardStep(step_size=0.5),
        monitors=[Fejer(zero=torch.cat([target.reshape(ROWS, -1) for target in targets()], 1))],
        callback=lambda iterate: seen.append(iterate.state.z.shape),
    )
    assert set(seen) <= {(rows, 10) for rows in range(1, ROWS + 1)}
    assert len(solution.monitors) == 1


class Measured(Operator):
    """(x, y) -> (x - 1, y - 2), and the misfit of x."""

    def __call__(self, z):
        return self.evaluate(z)[0]

    def evaluate(self, z):
        x, y = z
        return (x - 1, y - 2), {"misfit": (x - 1).norm(dim=1)}

    def select(self, rows):
        return self


def test_measurements_pass():
    z0 = (torch.zeros(2, 3), torch.zeros(2, 1))
    solution = solve(Measured(), z0, ForwardStep(step_size=0.5), keep="misfit")
    assert solution.history.measured["misfit"].shape[1] == 2
    assert solution.z[0].dtype == torch.float32


def test_a_failure_carries_the_tree():
    with pytest.raises(SolveError) as caught:
        solve(cocoercive_tree(), zeros(), ForwardStep(step_size=0.1), max_iterations=2, throw=True)
    assert caught.value.solution.status[0] is Status.MAX_ITERATIONS
    assert caught.value.solution.z[1].shape == (ROWS, 2, 3)


def test_a_function_that_closes_over_the_batch_is_evaluated_on_all_of_it():
    a, b = targets()
    b[0], a[0] = 0, 0  # ends at once
    operator = as_operator(lambda z: (z[0] - a, z[1] - b))
    with pytest.warns(UserWarning, match="cannot be evaluated on 2 of its rows"):
        solution = solve(operator, zeros(), ForwardStep(step_size=0.5))
    torch.testing.assert_close(solution.z[0], a, rtol=1e-4, atol=1e-4)


def test_the_algebra_acts_on_trees():
    T, z = cocoercive_tree(), tuple(normal(*target.shape, seed=5) for target in targets())
    for made, value in (
        (2 * T, [2 * leaf for leaf in T(z)]),
        (T.complement, [u - v for u, v in zip(z, T(z), strict=True)]),
        (T + T, [2 * leaf for leaf in T(z)]),
        (T + z, [u + v for u, v in zip(z, T(z), strict=True)]),
        (T.translated(z), T(zeros())),
        (T @ T, T(T(z))),
    ):
        for mine, theirs in zip(made(z), value, strict=True):
            torch.testing.assert_close(mine, theirs)
        selected = made.select(torch.tensor([1]))(tuple(leaf[1:2] for leaf in z))
        for mine, theirs in zip(selected, made(z), strict=True):
            assert torch.equal(mine, theirs[1:2])
    J = T.resolvent(0.5, tolerance=1e-10)
    for u, t, target in zip(J(z), T(J(z)), z, strict=True):
        torch.testing.assert_close(u + 0.5 * t, target)


@pytest.mark.slow
def test_a_primal_dual_method_is_douglas_rachford_on_a_pair():
    """min |x|_1 + ||K x - b||^2/2 by its optimality system in (x, y), and by its gradient."""
    K = normal(6, 4, seed=9)
    b = normal(ROWS, 6, seed=10)
    edges = product(
        x=subdifferential(proximal.L1(0.5)),
        y=subdifferential(proximal.SquaredL2(1.0, proximal.RowParameter(b)).conjugate),
    )
    norm = float(torch.linalg.matrix_norm(K, 2))
    coupling = as_operator(
        lambda z: {"x": z["y"] @ K, "y": -z["x"] @ K.T}, lipschitz=norm, strong_monotonicity=0.0
    )
    step = 0.5 / norm
    # Douglas-Rachford: the reflected resolvents one after the other.
    reflections = coupling.reflected_resolvent(step, tolerance=1e-9) @ edges.reflected_resolvent(
        step
    )
    assert reflections.lipschitz == 1.0
    operator = reflections.complement / 2
    assert operator.cocoercivity == pytest.approx(1.0)
    z0 = {"x": torch.zeros(ROWS, 4, dtype=torch.float64), "y": torch.zeros(ROWS, 6).double()}
    solution = solve(operator, z0, Anderson(), rtol=1e-7, max_iterations=300)
    assert solution.success
    x = edges.resolvent(step)(solution.z)["x"]
    slope = (b - x @ K.T) @ K
    assert (slope.abs() <= 0.5 + 1e-5).all()
    active = x.abs() > 1e-6
    torch.testing.assert_close(slope[active], 0.5 * x[active].sign(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("z0", "error", "words"),
    [
        ((), TypeError, "needs one at least"),
        ((torch.zeros(2, 1), 3), TypeError, r"\[1\] is a int"),
        ((torch.zeros(2, 1), torch.zeros(())), ValueError, r"batch first, but \[1\]"),
        ((torch.zeros(2, 1), torch.zeros(3, 1)), ValueError, r"\[0\] is \(2, 1\).*\(3, 1\)"),
        (
            {"x": torch.zeros(2, 1), "y": torch.zeros(2, 1).double()},
            ValueError,
            r"\['y'\] is \(2, 1\) torch.float64",
        ),
        ((torch.zeros(2, 1).long(),), TypeError, "floating point"),
        ((torch.full((2, 1), torch.nan),), ValueError, r"rows \[0, 1\]"),
        ([torch.zeros(2, 1)], TypeError, "list"),
    ],
)
def test_a_tree_that_cannot_be_packed_is_refused(z0, error, words):
    with pytest.raises(error, match=words):
        solve(as_operator(lambda z: z), z0, ForwardStep(step_size=1.0))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda z: z[0], "expected a tree with the leaves"),
        (lambda z: (z[0], z[1], z[0]), "expected a tree"),
        (lambda z: (z[1], z[0]), r"\[0\] must be \(2, 1\)"),
        (lambda z: (z[0], z[1].double()), r"\[1\] must be .*float32"),
    ],
)
def test_an_operator_that_returns_another_tree_is_told_so(function, words):
    z0 = (torch.zeros(2, 1), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=words):
        solve(as_operator(function), z0, ForwardStep(step_size=1.0))


def test_only_operators_and_iterators_are_accepted_with_trees():
    z0 = (torch.zeros(2, 1),)
    with pytest.raises(TypeError, match="solve takes an Operator"):
        solve(lambda z: z, z0, ForwardStep(step_size=1.0))
    with pytest.raises(TypeError, match="solve takes an Iterator"):
        solve(as_operator(lambda z: z), z0, "Adam")


def test_lists_stand_inside_a_tree_and_not_for_it():
    a, b = targets()
    T = as_operator(
        lambda z: {"x": [z["x"][0] - a, z["x"][1] - b]}, cocoercivity=1.0, lipschitz=1.0
    )
    start = {"x": [torch.zeros_like(a), torch.zeros_like(b)]}
    run = solve(T, start, ForwardStep(step_size=1.0))
    assert torch.equal(run.z["x"][1], b)
    with pytest.raises(TypeError, match="z0"):
        solve(T, start["x"], ForwardStep(step_size=1.0))


def test_packing_keeps_the_star_cocoercivity():
    T = cocoercive_tree()
    T.star_cocoercivity = 0.9
    assert Packed(T, Structure.of(zeros())).star_cocoercivity == 0.9
