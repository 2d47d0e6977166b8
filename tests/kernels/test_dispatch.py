"""Updates as operators of torch, which torch.compile takes as opaque."""

from contextlib import nullcontext

import pytest
import torch
from problems import ITERATORS, problem

from fixpoint import kernels
from fixpoint.kernels import device, dispatch, launch
from fixpoint.testing.trees import first_difference

without_triton = pytest.mark.skipif(not device.AVAILABLE, reason="Triton is not installed")


@pytest.mark.parametrize("name", ["forward step", "inertial KM", "Adam", "Anderson", "Halpern"])
def test_a_step_compiles_as_one_graph(name):
    operator, _, start = problem(rows=3)
    iterator = ITERATORS[name]
    state = iterator.init(operator, start)
    for _ in range(3):
        state = iterator.step(operator, state)
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda state: iterator.step(operator, state), fullgraph=True, backend="aot_eager"
    )
    with torch.no_grad():
        assert first_difference(compiled(state), iterator.step(operator, state)) is None


def arguments():
    z, t, m, v = torch.randn(4, 3, 5, 4, 4)
    pair = torch.randn(3, 5, 4, 4), torch.randn(3, 5, 4, 4)
    done = torch.zeros(3, dtype=torch.bool)  # of rows that are done the sums are NaN
    last = z.to(memory_format=torch.channels_last)
    weights, steps = torch.randn(3, 2), torch.rand(3, 1, 1, 1)
    ops = torch.ops.fixpoint
    return [
        (ops.row_dot, (z, t)),
        (ops.row_sums, (z, t, *pair)),
        (ops.forward_step, (last, t, 0.5, steps, True, *pair, done)),
        (ops.inertial_km, (z, last, t, 0.5, 0.5, True, *pair, done)),
        (
            ops.adam,
            (last, t, m, v.square(), [0.9, 0.99, 1e-8, 0.1, 1, 1], None, True, *pair, done),
        ),
        (ops.anderson_mix, (z, last, [t, m], [m, v], weights, 1.0, None, done)),
        (ops.gram_row, ([t, m], z, last, done)),
        (ops.halpern, (last, t, m, 0.5, torch.rand(3))),
        (ops.broyden_direction, (last, [t, m], [m, v], weights, 1.0)),
        (ops.broyden_products, ([t, m], [m, v], z, t, last)),
    ]


@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize(
    "way",
    [
        pytest.param(nullcontext, id="reference"),
        pytest.param(kernels.interpreted, id="kernel", marks=without_triton),
    ],
)
def test_an_operator_is_what_it_says_to_the_compiler(index, way):
    operator, given = arguments()[index]
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    with way():
        torch.library.opcheck(operator.default, given, test_utils=checks)


@without_triton
def test_without_a_working_triton_the_reference_does_it(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("Failed to find C compiler")

    z, t = torch.randn(2, 3, 5)
    expected = kernels.forward_step(z, t, 0.5)
    monkeypatch.setattr(launch, "start", broken)
    monkeypatch.setattr(dispatch, "_broken", False)
    with kernels.interpreted():
        with pytest.warns(UserWarning, match="references do it: .*C compiler"):
            assert torch.equal(kernels.forward_step(z, t, 0.5), expected)
        assert torch.equal(kernels.forward_step(z, t, 0.5), expected)  # and says it once


def test_the_wrong_number_of_weights_is_refused():
    z = torch.randn(2, 3)
    with pytest.raises(ValueError, match="2 weights for 1 differences of points and 0"):
        kernels.anderson_mix(z, z, (z,), (), torch.ones(2, 2), 0.5)


def test_the_interpreter_must_be_chosen_before_triton_is_imported(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET=1"), kernels.interpreted():
        pass
