"""Every Triton kernel against its reference, in Triton's interpreter: no GPU is needed."""

import math

import pytest
import torch
from problems import ITERATORS, problem

from fixpoint import as_operator, kernels, solve
from fixpoint.kernels import launch, strides
from fixpoint.monitors import Cocoercivity, Convergence
from fixpoint.trees.rows import select_rows

pytest.importorskip("triton")

SIZES = (1, 7, 41, 1000, 4103, 16384)
DTYPES = (
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.float64, torch.float64),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
)
# The interpreter truncates where bfloat16 should be rounded to nearest: one unit is allowed.
UNITS = {torch.bfloat16: 2**-7, torch.float16: 2**-10}


def drawn(shape, dtype, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def operands(shape, dtype, value_dtype, layout=lambda x, _: x):
    """z, T z, and four more of the dtype of z; each through `layout` with its number."""
    dtypes = (dtype, value_dtype, dtype, dtype, dtype, dtype)
    return [layout(drawn(shape, each, i), i) for i, each in enumerate(dtypes)]


def row_dot(x, **asked):
    return (kernels.row_dot(x[0], x[1]),)


def row_sums(x, previous=None, done=None):
    return kernels.row_sums(x[0], x[1], previous)


def plain_updates(x, **asked):
    return (
        kernels.forward_step(x[0], x[1], 0.7),
        *kernels.inertial_km(x[0], x[1], x[2], 0.3, 0.6),
        *kernels.adam(*x[:3], x[3].square(), count=3, rate=0.1, betas=(0.9, 0.99), eps=1e-4),
    )


def forward_step(x, **asked):
    return kernels.forward_step_with_sums(x[0], x[1], 0.3, **asked)


def forward_step_of_each_row(x, **asked):
    per_row = torch.linspace(0.5, 1.5, len(x[0])).reshape((-1,) + (1,) * (x[0].dim() - 1))
    return kernels.forward_step_with_sums(x[0], x[1], per_row, **asked)


def inertial_km(x, **asked):
    return kernels.inertial_km_with_sums(x[0], x[1], x[2], 0.3, 0.6, **asked)


def adam(x, **asked):
    moments = x[2].to(kernels.accumulation_dtype(x[2].dtype)), x[3].square().float()
    moments = moments[0], moments[1].to(moments[0].dtype)
    options = {"betas": (0.9, 0.999), "eps": 1e-4} | asked
    return kernels.adam_with_sums(x[0], x[1], *moments, count=3, rate=0.1, **options)


def adam_of_a_graph(x, **asked):
    options = {"betas": (0.9, 0.999), "eps": 1e-4} | asked
    wide = [each.to(kernels.accumulation_dtype(each.dtype)) for each in x]
    count, rate = torch.tensor(3), torch.tensor(0.1, dtype=torch.float64)
    return kernels.adam_with_sums(
        x[0], x[1], wide[2], wide[3].square(), count=count, rate=rate, **options
    )


def anderson_mix(x, previous=None, done=None):
    wide = [each.to(kernels.accumulation_dtype(each.dtype)) for each in x[2:]]
    weights = drawn((len(x[0]), 2), torch.float64, 9)
    mixing = torch.linspace(0.5, 1.5, len(x[0]))
    return kernels.anderson_mix(x[0], x[1], wide[:2], wide[2:], weights, mixing, done=done)


def anderson_mix_without_memory(x, previous=None, done=None):
    return kernels.anderson_mix(x[0], x[1], (), (), torch.zeros(len(x[0]), 0), 0.7, done=done)


def gram_row(x, previous=None, done=None):
    wide = [each.to(kernels.accumulation_dtype(each.dtype)) for each in x[2:5]]
    return kernels.gram_row(wide, x[0], x[5], done=done)


def halpern(x, previous=None, done=None):
    return (kernels.halpern(x[0], x[1], x[2], 0.7, torch.linspace(0.5, 0.1, len(x[0]))),)


def broyden(x, previous=None, done=None):
    wide = [each.to(kernels.accumulation_dtype(each.dtype)) for each in x[2:]]
    weights = drawn((len(x[0]), 2), torch.float64, 9)
    return (
        kernels.broyden_direction(x[1], wide[:2], wide[2:], weights, 0.7),
        *kernels.broyden_products(wide[:2], wide[2:], wide[0], wide[2], x[1]),
    )


UPDATES = (
    row_dot,
    row_sums,
    plain_updates,
    forward_step,
    forward_step_of_each_row,
    inertial_km,
    adam,
    adam_of_a_graph,
    anderson_mix,
    anderson_mix_without_memory,
    gram_row,
    halpern,
    broyden,
)


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from leaves(part)


def assert_same(update, x, **asked):
    """The kernel's results are the reference's: elements bit for bit, but for Adam's root,
    Anderson's mix and 16 bits, and sums to the rounding of their terms."""
    expected = list(leaves(update(x, **asked)))
    with kernels.interpreted():
        found = list(leaves(update(x, **asked)))
    assert len(found) == len(expected)
    size = max(1, math.prod(x[0].shape[1:]))
    inexact = 0.0  # of elements
    if update in (adam, adam_of_a_graph, plain_updates):
        inexact = 2.0
    if update is anderson_mix:  # which adds up in another order where rows are short
        inexact = 8.0
    for a, b in zip(found, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.shape == x[0].shape and a.dim() > 1:
            unit = UNITS.get(a.dtype, 0) + UNITS.get(x[0].dtype, 0)
            unit += inexact * torch.finfo(a.dtype).eps
            assert a.stride() == b.stride()
        else:
            # Sums in another order: of their terms, not of their possibly cancelled result.
            unit = 8 * torch.finfo(a.dtype).eps * math.sqrt(size) + UNITS.get(x[0].dtype, 0)
            if inexact and x[0].dtype != torch.float64:  # they are of inexact elements
                unit += inexact * torch.finfo(torch.float32).eps
        scale = b.double().abs() + (unit > 0) * math.sqrt(size)
        close = (a.double() - b.double()).abs() <= unit * scale
        assert (close | (a == b) | (a.isnan() & b.isnan())).all()


def pair_of(x, seed=20):
    return drawn(x[0].shape, x[0].dtype, seed), drawn(x[0].shape, x[1].dtype, seed + 1)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("size", SIZES)
def test_kernels_equal_their_references_at_awkward_sizes(update, size):
    x = operands((3, size), torch.float32, torch.float32)
    assert_same(update, x)
    assert_same(update, x, previous=pair_of(x))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("dtypes", DTYPES, ids=str)
def test_kernels_equal_their_references_in_every_dtype(update, dtypes):
    x = operands((2, 2500), *dtypes)
    assert_same(update, x, previous=pair_of(x))


def channels_last(x, _):
    return x.to(memory_format=torch.channels_last)


def mixed(x, i):
    return channels_last(x, i) if i % 2 else x


def permuted(x, i):
    return x.permute(0, *torch.randperm(3, generator=torch.Generator().manual_seed(i)) + 1)


def sliced(x, i):
    return torch.cat((x, x), 2)[:, :, ::2] if i % 2 else torch.cat((x, x), 3)[:, :, :, 3 : 3 + 8]


def expanded(x, i):
    return x[:1].expand_as(x) if i == 1 else x


def of_many_rows(x, i):
    return torch.cat((x, x))[::2] if i % 2 else x


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("layout", [channels_last, mixed, permuted, sliced, expanded, of_many_rows])
def test_kernels_take_any_strides(update, layout):
    x = operands((3, 8, 8, 8), torch.float32, torch.float32, layout)
    assert_same(update, x, previous=pair_of(x))


@pytest.mark.parametrize("update", UPDATES)
def test_kernels_take_what_an_autoencoder_returns(update, tiny_vae):
    model = tiny_vae().to(memory_format=torch.channels_last)
    with torch.no_grad():
        z = model.encode(torch.randn(2, 3, 16, 16)).latent_dist.mode()
    assert not z.is_contiguous()
    x = operands(z.shape, torch.float32, torch.float32)
    assert_same(update, [z, z.roll(1, 1), *x[2:]])


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("shape", [(0, 5), (0, 4, 8, 8), (3, 0), (3, 1, 1, 1), (3,)])
def test_kernels_take_batches_of_nothing_and_of_single_numbers(update, shape):
    assert_same(update, operands(shape, torch.float32, torch.float32))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("done", [(0, 1, 0), (1, 1, 1), (0, 0, 0)], ids=str)
def test_rows_that_are_done_are_left_alone(update, done):
    x = operands((3, 4103), torch.float32, torch.float32)
    done = torch.tensor(done, dtype=torch.bool)
    assert_same(update, x, previous=pair_of(x), done=done)
    if update in (forward_step, inertial_km):
        with kernels.interpreted():
            following, *_, sums = update(x, done=done)
        old = x[2] if update is inertial_km else x[0]
        assert torch.equal(following[done], old[done])
        assert sums.residual[done].isnan().all()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter's NumPy
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_stay_so_and_harm_no_other(update, bad):
    clean = operands((3, 41), torch.float32, torch.float32)
    for spoilt in (0, 1):
        x = [each.clone() for each in clean]
        x[spoilt][1, 7] = bad
        assert_same(update, x, previous=pair_of(x))
        with kernels.interpreted():
            pairs = zip(leaves(update(x)), leaves(update(clean)), strict=True)
            for a, b in pairs:
                assert torch.equal(a[[0, 2]], b[[0, 2]])


@pytest.mark.parametrize("update", UPDATES)
def test_a_row_gets_the_same_bits_from_a_kernel_alone_and_in_a_batch(update):
    if update in (forward_step_of_each_row, anderson_mix, halpern, broyden):
        pytest.skip("its steps or weights differ from row to row by construction")
    x = operands((4, 5000), torch.float32, torch.float32)
    with kernels.interpreted():
        together = list(leaves(update(x)))
        for row in range(4):
            alone = leaves(update([each[row : row + 1] for each in x]))
            for a, b in zip(alone, together, strict=True):
                assert torch.equal(a[0], b[row])


@pytest.mark.parametrize("name", ["forward step", "Anderson", "inertial KM"])
def test_a_row_gets_the_same_bits_when_others_have_left_a_batch_in_channels_last(name):
    zero = drawn((3, 4, 6, 6), torch.float32, 0).to(memory_format=torch.channels_last)
    spread = torch.linspace(0.2, 1, 144).reshape(1, 4, 6, 6)
    scale = torch.cat((torch.ones(1, 4, 6, 6), spread, spread.flip(1)))
    start = torch.zeros_like(zero)
    options = {"max_iterations": 6, "rtol": 0.05, "keep": "last"}
    with kernels.interpreted():
        operator = as_operator(lambda z, zero, scale: scale * (z - zero), zero, scale)
        together = solve(operator, start, ITERATORS[name], **options)
        assert len(set(together.iterations.tolist())) > 1
        for row in range(3):
            rows = torch.tensor([row])
            alone = solve(
                operator.select(rows), select_rows(start, rows), ITERATORS[name], **options
            )
            assert torch.equal(alone.z[0], together.z[row])
            assert torch.equal(
                alone.history.residual_norm[:, 0].nan_to_num(-1),
                together.history.residual_norm[: len(alone.history.residual_norm), row]
                .nan_to_num(-1),
            )  # fmt: skip


def test_rows_too_long_for_32_bits_are_left_to_the_reference(monkeypatch):
    monkeypatch.setattr(launch, "start", None)  # no kernel is launched
    monkeypatch.setattr(strides.MergedStrides, "representable", False)
    x = operands((2, 41), torch.float32, torch.float32)
    for update in UPDATES:
        assert_same(update, x)


@pytest.mark.parametrize("name", ITERATORS)
@pytest.mark.parametrize("check_every", [1, 4])
def test_a_run_is_the_same_with_kernels_and_with_references(name, check_every):
    operator, _, start = problem(rows=2, size=41)
    options = {
        "max_iterations": 7,
        "rtol": 1e-9,
        "monitors": (Cocoercivity(), Convergence()),
        "check_every": check_every,
        "keep": "last",
    }
    expected = solve(operator, start, ITERATORS[name], **options)
    with kernels.interpreted():
        found = solve(operator, start, ITERATORS[name], **options)
    assert torch.equal(found.iterations, expected.iterations)
    assert found.status == expected.status
    assert torch.allclose(found.z, expected.z, rtol=1e-9, atol=1e-12)
    histories = found.history.residual_norm, expected.history.residual_norm
    assert torch.allclose(*histories, rtol=1e-6, equal_nan=True)
    (ratios, rates), (expected_ratios, expected_rates) = found.monitors, expected.monitors
    assert torch.allclose(ratios.pairwise, expected_ratios.pairwise, rtol=1e-6)
    assert torch.allclose(rates.step_sum, expected_rates.step_sum, rtol=1e-6)
