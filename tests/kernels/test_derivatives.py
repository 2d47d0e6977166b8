"""Derivatives of every public function of `fixpoint.kernels`, in every mode that torch has."""

import inspect
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad
from torch.func import hessian, jacfwd, jacrev, jvp, vmap
from torch.utils._pytree import tree_leaves

from fixpoint import kernels
from fixpoint.kernels import device

ADAM = {"betas": (0.9, 0.99), "eps": 1e-2}
# Each function of tensors that lie like the iterate, a to f, and of one number per row, p and q.
FUNCTIONS = {
    "row_dot": lambda a, b, c, d, e, f, p, q: kernels.row_dot(a, b),
    "row_norm": lambda a, b, c, d, e, f, p, q: kernels.row_norm(a),
    "row_sums": lambda a, b, c, d, e, f, p, q: kernels.row_sums(a, b, (c, d)),
    "forward_step": lambda a, b, c, d, e, f, p, q: kernels.forward_step(a, b, column(p, a)),
    "forward_step_with_sums": lambda a, b, c, d, e, f, p, q: kernels.forward_step_with_sums(
        a, b, 0.5, previous=(c, d)
    ),
    "inertial_km": lambda a, b, c, d, e, f, p, q: kernels.inertial_km(a, b, c, 0.3, 0.6),
    "inertial_km_with_sums": lambda a, b, c, d, e, f, p, q: kernels.inertial_km_with_sums(
        a, b, c, 0.3, 0.6, previous=(d, e)
    ),
    "adam": lambda a, b, c, d, e, f, p, q: kernels.adam(
        a, b, c, d.square() + 0.1, count=3, rate=0.1, **ADAM
    ),
    "adam_with_sums": lambda a, b, c, d, e, f, p, q: kernels.adam_with_sums(
        a, b, c, d.square() + 0.1, count=3, rate=p[0], previous=(e, f), **ADAM
    ),
    "anderson_mix": lambda a, b, c, d, e, f, p, q: kernels.anderson_mix(
        a, b, (c, d), (e, f), torch.stack((p, q), 1), q
    ),
    "gram_row": lambda a, b, c, d, e, f, p, q: kernels.gram_row((c, d), a, b),
    "halpern": lambda a, b, c, d, e, f, p, q: kernels.halpern(a, b, c, 0.5, p),
    "broyden_direction": lambda a, b, c, d, e, f, p, q: kernels.broyden_direction(
        a, (b, c), (d, e), torch.stack((p, q), 1), 0.7
    ),
    "broyden_products": lambda a, b, c, d, e, f, p, q: kernels.broyden_products(
        (a, b), (c, d), e, f, a
    ),
}
WITHOUT_TENSORS = {"accumulation_dtype", "summation_dtype", "interpreted"}
WAYS = [
    pytest.param(nullcontext, id="reference"),
    pytest.param(
        kernels.interpreted,
        id="kernel",
        marks=pytest.mark.skipif(not device.AVAILABLE, reason="Triton is not installed"),
    ),
]

over_all_functions = pytest.mark.parametrize("name", FUNCTIONS)


def column(numbers, like):
    return numbers.reshape((-1,) + (1,) * (like.dim() - 1))


def drawn(shape, seed, channels_last=False):
    generator = torch.Generator().manual_seed(seed)
    tensors = torch.randn(6, *shape, generator=generator, dtype=torch.float64).unbind()
    if channels_last:  # every other one, so that results are brought into another layout
        tensors = [x.movedim(1, -1).contiguous().movedim(-1, 1) for x in tensors[::2]] + [
            *tensors[1::2]
        ]
    numbers = 0.1 + torch.rand(2, shape[0], generator=generator, dtype=torch.float64)
    return (*tensors, *numbers)


def function(name):
    """The function with all tensors that it returns in a tuple."""
    return lambda *x: tuple(y for y in tree_leaves(FUNCTIONS[name](*x)) if y is not None)


def on_a_plane(name, x, v, w):
    """The function of (s, t) at x + s v + t w."""
    triples = tuple(zip(x, v, w, strict=True))
    return lambda s: function(name)(*(a + s[0] * b + s[1] * c for a, b, c in triples))


def differences(name, x, v, step=1e-6):
    """The derivative in the direction v by central differences."""
    plus, minus = (
        function(name)(*(each + sign * step * along for each, along in zip(x, v, strict=True)))
        for sign in (1, -1)
    )
    return tuple((a - b) / (2 * step) for a, b in zip(plus, minus, strict=True))


def close(found, expected, tolerance=1e-6):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        scale = b.abs().amax() if b.numel() else 0
        assert (a - b).abs().le(tolerance * (1 + scale)).all()


def test_every_public_function_is_differentiated_here():
    public = {each for each in kernels.__all__ if inspect.isfunction(getattr(kernels, each))}
    assert public - WITHOUT_TENSORS == set(FUNCTIONS)


SHAPES = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)


@over_all_functions
@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=5, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**31), layout=st.booleans())
def test_tangents_are_those_of_finite_differences(name, way, shape, seed, layout):
    x = drawn(shape, seed, channels_last=layout and len(shape) == 4)
    v = drawn(shape, seed + 1)
    expected = differences(name, x, v)
    with way():
        values, tangents = jvp(function(name), x, v)
        close(values, function(name)(*x), 1e-12)
        close(tangents, expected)
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(*pair) for pair in zip(x, v, strict=True)]
            found = [forward_ad.unpack_dual(each).tangent for each in function(name)(*duals)]
        close(found, expected)


@over_all_functions
def test_tangents_are_right_in_rows_of_many_blocks(name):
    x, v = drawn((1, 4103), 0), drawn((1, 4103), 1)
    close(jvp(function(name), x, v)[1], differences(name, x, v), 1e-5)


@over_all_functions
@pytest.mark.parametrize("way", WAYS)
def test_a_tangent_of_any_single_argument_is_seen(name, way):
    x = drawn((2, 3), 0)
    for i, along in enumerate(drawn((2, 3), 1)):
        v = [torch.zeros_like(each) for each in x]
        v[i] = along

        def of_one(one, i=i):
            return function(name)(*x[:i], one, *x[i + 1 :])

        expected = differences(name, x, v)
        with way():
            close(jvp(of_one, (x[i],), (along,))[1], expected)
            one = x[i].clone().requires_grad_()
            total = sum(each.sum() for each in of_one(one))
        # sum(J v) = <v, J^T 1>, where autograd records this argument alone.
        pulled = torch.autograd.grad(total, one)[0] if total.requires_grad else torch.zeros(())
        summed = sum(each.sum() for each in expected)
        assert torch.allclose(summed, (along * pulled).sum(), rtol=1e-5, atol=1e-6)


@over_all_functions
@pytest.mark.parametrize("way", WAYS)
def test_jacobians_and_hessians_agree_in_all_modes(name, way):
    plane = on_a_plane(name, *(drawn((2, 3), seed) for seed in range(3)))
    origin = torch.zeros(2, dtype=torch.float64)

    def number(s):
        return sum((each.sin() + each.square()).sum() for each in plane(s))

    with way():
        close(jacfwd(plane)(origin), jacrev(plane)(origin), 1e-9)
        twice = jacrev(jacrev(number))(origin)
        close([hessian(number)(origin), jacfwd(jacfwd(number))(origin)], [twice, twice], 1e-9)
        slope = jacrev(number)
        for i, e in enumerate(1e-5 * torch.eye(2, dtype=torch.float64)):
            close([twice[i]], [(slope(e) - slope(-e)) / 2e-5], 1e-4)


@over_all_functions
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mapped", [slice(None), slice(0, 1), slice(1, None)], ids=str)
def test_vmap_is_a_loop(name, way, mapped):
    several = [drawn((2, 4, 2, 3), seed, channels_last=seed == 1) for seed in range(3)]
    which = range(len(several[0]))[mapped]
    one = several[0]
    stacked = [
        torch.stack([each[i] for each in several]) if i in which else x for i, x in enumerate(one)
    ]
    with way():
        found = vmap(function(name), tuple(0 if i in which else None for i in range(len(one))))(
            *stacked
        )
        loop = [
            function(name)(*(each[i] if i in which else x for i, x in enumerate(one)))
            for each in several
        ]
    close(found, [torch.stack(each) for each in zip(*loop, strict=True)], 1e-12)


@over_all_functions
def test_gradients_pass_gradcheck(name):
    x = [each.clone().requires_grad_() for each in drawn((2, 2), 0)]
    assert torch.autograd.gradcheck(function(name), x, check_forward_ad=True, fast_mode=True)


def test_a_compiled_jvp_has_tangents():
    x, v = drawn((2, 3), 0), drawn((2, 3), 1)
    for name in ("row_dot", "forward_step_with_sums", "anderson_mix"):
        torch._dynamo.reset()

        def tangents(x, v, name=name):
            return jvp(function(name), x, v)[1]

        compiled = torch.compile(tangents, backend="aot_eager")
        close(compiled(x, v), differences(name, x, v))
