"""Compiled operators. One test waits for the real compiler; the others trace, and run the trace as
it is, which is quick and compiles again at the same occasions."""

import gc
import itertools
import warnings
import weakref
from functools import partial

import pytest
import torch
import torch._inductor.config
from torch._dynamo.utils import counters

from fixpoint import Anderson, ForwardStep, solve
from fixpoint.adapters import (
    Autoencoder,
    Clip,
    DecoderInversion,
    EightBit,
    Identity,
    Jpeg,
    Masked,
    PerRow,
    RoundingCells,
    WhiteNoise,
    invert,
    to_pil,
)
from fixpoint.adapters.commands.main import main
from fixpoint.status import Status

pytestmark = pytest.mark.slow  # traces and compiles

compile_by_torch = torch.compile


@pytest.fixture
def tiny(tiny_vae):
    """A random autoencoder of one block a side, which is quick to compile."""

    def build(**config):
        options = {
            "down_block_types": ("DownEncoderBlock2D",),
            "up_block_types": ("UpDecoderBlock2D",),
            "block_out_channels": (4,),
            "norm_num_groups": 2,
            "mid_block_add_attention": False,
        }
        return Autoencoder.from_diffusers(tiny_vae(**(options | config)))

    return build


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without its slow half; counts what was compiled."""
    monkeypatch.setattr(torch, "compile", partial(compile_by_torch, backend="eager"))
    counters.clear()
    return counters["stats"]


@pytest.fixture
def convolutions():
    """A pair of callables that is traced in no time."""
    encoder = torch.nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    decoder = torch.nn.Conv2d(4, 3, 3, padding=1).requires_grad_(False)
    return encoder, lambda z: torch.tanh(decoder(z))


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def operators(pair, pictures, observation=None, **options):
    """The operator of an autoencoder or a pair of callables as it is, and compiled."""
    if isinstance(pair, Autoencoder):
        pair = pair.encode, pair.decode
    return (
        DecoderInversion(*pair, pictures, observation),
        DecoderInversion(*pair, pictures, observation, compile=True, **options),
    )


@pytest.fixture
def _quick_compiler():
    """Quick for one compilation: no pool of processes, no headers compiled in advance."""
    config = torch._inductor.config
    with config.patch(compile_threads=1, cpp_cache_precompile_headers=False):
        yield


def random_pictures(rows=3, side=8):
    return EightBit()(torch.rand(rows, 3, side, side) * 2 - 1)


def assert_same_evaluation(plain, compiled, z, **tolerances):
    tolerances = {"rtol": 1e-4, "atol": 1e-5} | tolerances
    value, measured = plain.evaluate(z)
    compiled_value, compiled_measured = compiled.evaluate(z)
    torch.testing.assert_close(compiled_value, value, **tolerances)
    assert set(compiled_measured) == set(measured)
    for name, numbers in measured.items():
        torch.testing.assert_close(compiled_measured[name], numbers, **tolerances)


# By a real compiler


@pytest.mark.usefixtures("_quick_compiler")
def test_a_compiled_operator_has_the_same_values_and_the_same_solution(tiny):
    autoencoder, pictures = tiny(), random_pictures()
    plain, compiled = operators(autoencoder, pictures, RoundingCells())
    torch.testing.assert_close(compiled.start, plain.start)
    assert_same_evaluation(plain, compiled, plain.start)
    a, b = (
        solve(each, plain.start, Anderson(memory=2), rtol=0.0, atol=0.0, max_iterations=6)
        for each in (plain, compiled)
    )
    torch.testing.assert_close(b.z, a.z, rtol=1e-3, atol=1e-4)
    assert (a.z - plain.start).norm() > 0.1
    assert compiled.compiled
    assert compiled.not_compiled_because is None
    assert not plain.compiled
    assert plain.not_compiled_because is None


# Which calls compile


@pytest.mark.parametrize(
    "observation", [Identity(), Clip(), EightBit(), RoundingCells(), WhiteNoise(level=0.02)]
)
def test_pixelwise_observations_are_compiled_with_the_decoder(convolutions, traced, observation):
    plain, compiled = operators(convolutions, random_pictures(), observation)
    assert_same_evaluation(plain, compiled, plain.start)
    assert traced["unique_graphs"] == 2
    assert not counters["graph_break"]
    compiled(plain.start + 0.1)
    assert traced["unique_graphs"] == 2


def test_observations_that_run_python_stay_between_decoder_and_encoder(convolutions, traced):
    known = torch.ones(8, 8, dtype=torch.bool)
    known[:, :3] = False
    through_pil = Jpeg(quality=90)
    for observation in (
        through_pil,
        Masked(known),
        PerRow((EightBit(), Clip(), through_pil)),
        lambda pictures: pictures * float(pictures.max().item() > 0),
    ):
        traced.clear()
        plain, compiled = operators(convolutions, random_pictures(), observation)
        assert_same_evaluation(plain, compiled, plain.start)
        assert compiled.compiled
        assert traced["unique_graphs"] == 2
        rows = torch.tensor([2, 0])
        assert_same_evaluation(plain.select(rows), compiled.select(rows), plain.start[rows])
        assert traced["unique_graphs"] == 4
        assert not counters["graph_break"]


@pytest.mark.parametrize("kind", ["autoencoder", "convolutions"])
def test_rows_that_leave_compile_once_more_and_never_again(tiny, convolutions, traced, kind):
    pair = tiny() if kind == "autoencoder" else convolutions
    plain, compiled = operators(pair, random_pictures(rows=6), RoundingCells())
    z = compiled.start
    compiled(z)
    assert traced["unique_graphs"] == 2
    for rows in ([4, 1, 2, 0, 5], [0, 2, 3], [1, 0], [3], [0, 1, 2, 3]):
        rows = torch.tensor(rows)
        selected = compiled.select(rows)
        assert selected.compiled
        assert_same_evaluation(plain.select(rows), selected, z[rows])
    one = selected.select(torch.tensor([2]))
    assert_same_evaluation(plain.select(torch.tensor([2])), one, z[2:3])
    assert traced["unique_graphs"] == 4


def test_a_row_left_alone_needs_no_compilation_of_its_own(convolutions, traced):
    plain, compiled = operators(convolutions, random_pictures(rows=2))
    last = torch.tensor([1])
    assert_same_evaluation(plain.select(last), compiled.select(last), plain.start[last])
    assert traced["unique_graphs"] == 2
    alone, compiled = operators(convolutions, random_pictures(rows=1))
    assert_same_evaluation(alone, compiled, alone.start)
    first = torch.tensor([0])
    assert_same_evaluation(alone, compiled.select(first), alone.start)
    assert traced["unique_graphs"] == 4


def test_rows_end_by_themselves_in_a_compiled_run(convolutions, traced):
    decode = convolutions[1]
    pictures = torch.cat((decode(torch.zeros(1, 4, 8, 8)), random_pictures(3)))
    plain, compiled = operators(convolutions, pictures)
    start = plain.start.clone()
    start[0] = 0
    a, b = (
        solve(each, start, ForwardStep(step_size=0.1), rtol=0.0, atol=1e-5, max_iterations=5)
        for each in (plain, compiled)
    )
    assert a.status == b.status
    assert (a.status[0], a.status[1]) == (Status.CONVERGED, Status.MAX_ITERATIONS)
    torch.testing.assert_close(b.z, a.z, rtol=1e-4, atol=1e-5)
    assert traced["unique_graphs"] == 4


def test_many_operators_do_not_wear_the_compiler_out(convolutions, traced):
    for count in range(1, 11):
        _, compiled = operators(convolutions, random_pictures(1, side=8 + count))
        compiled(compiled.start)
        assert traced["unique_graphs"] == 2 * count


def test_the_next_picture_of_the_size_finds_the_autoencoder_compiled(tiny, traced, tmp_path):
    autoencoder = tiny()
    for _ in range(2):
        inversion = invert(autoencoder, random_pictures(1), max_iterations=2, compile=True)
    assert traced["unique_graphs"] == 2
    plain = invert(autoencoder, inversion.picture, value_range=(-1, 1), max_iterations=2)
    torch.testing.assert_close(inversion.latent, plain.latent, rtol=1e-4, atol=1e-5)


def test_the_command_line_compiles_once_for_many_pictures(tiny, traced, tmp_path):
    tiny().model.save_pretrained(tmp_path / "model")
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        to_pil(random_pictures(1)[0]).save(path)
    arguments = ["invert", *paths, "--model", tmp_path / "model", "--out", tmp_path / "out"]
    arguments += ["--iterations", "2", "--quiet", "--compile"]
    assert main([str(argument) for argument in arguments]) == 0
    assert traced["unique_graphs"] == 2


def test_methods_that_evaluate_no_operator_refuse_to_be_compiled(tmp_path, assert_refused):
    path = tmp_path / "picture.png"
    to_pil(random_pictures(1)[0]).save(path)
    arguments = ["invert", str(path), "--method", "gradient", "--compile"]
    assert_refused(arguments, "--compile does not go with --method gradient", tmp_path / "out")


# The user's model


def traits(model):
    """Everything of a model that could be changed by accident."""
    tensors = dict(model.named_parameters())
    return {
        "weights": {name: tensor.detach().clone() for name, tensor in tensors.items()},
        "places": {name: tensor.data_ptr() for name, tensor in tensors.items()},
        "layouts": {
            name: (tensor.dtype, tensor.stride(), tensor.requires_grad, tensor._version)
            for name, tensor in tensors.items()
        },
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: len(module._forward_hooks) for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "config": dict(model.config),
        "flags": (model.use_tiling, model.use_slicing),
    }


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_model_is_never_changed(tiny, traced, dtype):
    autoencoder = tiny()
    autoencoder.model.train()
    autoencoder.model.decoder.conv_out.register_forward_hook(lambda *arguments: None)
    before = traits(autoencoder.model)
    _, compiled = operators(autoencoder, random_pictures(), dtype=dtype)
    compiled(compiled.start)
    after = traits(autoencoder.model)
    weights, weights_after = before.pop("weights"), after.pop("weights")
    assert after == before
    assert all(torch.equal(weights[name], weights_after[name]) for name in weights)


def test_a_copy_shares_nothing_with_its_model(tiny):
    autoencoder = tiny(scaling_factor=0.3)
    autoencoder.model.train()
    copied = autoencoder.copy(torch.float16, channels_last=True)
    assert (copied.dtype, autoencoder.dtype) == (torch.float16, torch.float32)
    assert not copied.model.training
    assert not any(weight.requires_grad for weight in copied.model.parameters())
    convolution = copied.model.encoder.conv_in.weight
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    z = torch.randn(1, 4, 8, 8)
    before = autoencoder.copy().decode(z)
    with torch.no_grad():
        for weight in copied.model.parameters():
            weight.zero_()
        torch.testing.assert_close(autoencoder.decode(z), before)


def test_a_model_that_was_trained_on_is_copied_and_compiled_again(tiny, traced):
    autoencoder, pictures = tiny(), random_pictures(1)
    starts = [operators(autoencoder, pictures)[1].start]
    weight = autoencoder.model.encoder.conv_out.weight
    for change in (
        lambda: weight.data.mul_(1.5),  # unseen by autograd's counter of versions
        lambda: torch.nn.init.normal_(weight),
    ):
        change()
        plain, compiled = operators(autoencoder, pictures)
        torch.testing.assert_close(compiled.start, plain.start)
        starts.append(compiled.start)
    assert not any(torch.allclose(a, b) for a, b in itertools.pairwise(starts))


def test_copies_die_with_their_autoencoder(tiny, traced):
    autoencoder = tiny()
    _, compiled = operators(autoencoder, random_pictures(1))
    compiled(compiled.start)
    copied = weakref.ref(compiled._evaluation._encode.__self__.model)
    model = weakref.ref(autoencoder.model)
    assert copied() is not model()
    del autoencoder, compiled, _
    gc.collect()
    assert model() is None
    assert copied() is None


# dtype


@pytest.mark.parametrize(("dtype", "compile"), [(torch.float16, False), (torch.bfloat16, True)])
def test_dtype_is_that_of_the_copy_alone(tiny, traced, dtype, compile):
    autoencoder, pictures = tiny(), random_pictures()
    pair = autoencoder.encode, autoencoder.decode
    operator = DecoderInversion(*pair, pictures, dtype=dtype, compile=compile)
    assert operator.start.dtype == torch.float32
    cast = autoencoder.copy(dtype)
    expected = DecoderInversion(cast.encode, cast.decode, pictures)
    assert_same_evaluation(expected, operator, operator.start, rtol=0.05, atol=0.05)
    assert not torch.equal(operator.start, autoencoder.encode(pictures))
    assert operator.compiled is compile
    assert autoencoder.dtype == torch.float32


def test_dtype_needs_the_model_that_it_is_for(tiny):
    autoencoder, other = tiny(), tiny()
    pictures = random_pictures(1)
    for encode, decode in (
        (lambda x: autoencoder.encode(x), autoencoder.decode),
        (autoencoder.encode, other.decode),
        (autoencoder.decode, autoencoder.encode),
    ):
        with pytest.raises(ValueError, match="methods encode and decode of one Autoencoder"):
            DecoderInversion(encode, decode, pictures, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "option", [{"compile": "yes"}, {"dtype": "bfloat16"}, {"dtype": torch.int8}]
)
def test_options_of_another_kind_are_refused(tiny, option):
    autoencoder = tiny()
    with pytest.raises(TypeError, match=next(iter(option))):
        DecoderInversion(autoencoder.encode, autoencoder.decode, random_pictures(1), **option)


def test_float16_that_overflows_is_refused_with_advice(tiny):
    autoencoder = tiny()
    torch.nn.init.constant_(autoencoder.model.encoder.conv_out.bias, 1e5)
    pair = autoencoder.encode, autoencoder.decode
    with pytest.raises(ValueError, match="bfloat16"):
        DecoderInversion(*pair, random_pictures(1), dtype=torch.float16)
    DecoderInversion(*pair, random_pictures(1), dtype=torch.bfloat16)


# Where compiling fails


def assert_uncompiled(pair, reason, **options):
    pictures = random_pictures()

    def evaluated():
        plain, operator = operators(pair, pictures, **options)
        assert_same_evaluation(plain, operator, plain.start)
        return operator

    with pytest.warns(UserWarning, match=reason) as warned:
        operator = evaluated()
    assert len(warned) == 1
    assert not operator.compiled
    assert not operator.select(torch.tensor([1])).compiled
    assert reason in operator.not_compiled_because


def test_a_platform_without_a_compiler_goes_on_uncompiled(convolutions, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("no compiler on this platform")

    monkeypatch.setattr(torch, "compile", refuse)
    assert_uncompiled(convolutions, "RuntimeError: no compiler on this platform")


def test_a_backend_that_fails_at_the_first_call_is_told_and_left_alone(convolutions, monkeypatch):
    def backend(graph, inputs):
        raise FileNotFoundError("no g++\nand a page of advice")

    monkeypatch.setattr(torch, "compile", partial(compile_by_torch, backend=backend))
    assert_uncompiled(convolutions, "FileNotFoundError: no g")


def test_a_compilation_that_fails_when_rows_leave_does_not_end_the_run(convolutions, monkeypatch):
    def backend(graph, inputs):
        if any(isinstance(each, torch.SymInt) for each in inputs):
            raise RuntimeError("no dynamic shapes")
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(compile_by_torch, backend=backend))
    plain, compiled = operators(convolutions, random_pictures())
    compiled(compiled.start)
    assert compiled.compiled
    rows = torch.tensor([0, 2])
    selected = compiled.select(rows)
    with pytest.warns(UserWarning, match="no dynamic shapes") as warned:
        assert_same_evaluation(plain.select(rows), selected, plain.start[rows])
    assert len(warned) == 1
    assert not compiled.compiled


def test_what_the_callables_raise_is_raised(convolutions, traced):
    encode, decode = convolutions
    _, operator = operators((encode, lambda z: decode(z)[..., 1:]), random_pictures())
    with pytest.raises(ValueError, match=r"D\(z\) has shape"):
        operator(operator.start)
    assert operator.compiled


@pytest.mark.parametrize("setting", ["use_tiling", "use_slicing"])
def test_tiling_and_slicing_are_honoured_instead(tiny, setting):
    autoencoder = tiny()
    setattr(autoencoder.model, setting, True)
    assert_uncompiled(autoencoder, f"{setting} is on")
    assert_uncompiled(autoencoder, f"{setting} is on", dtype=torch.float32)


def test_offloaded_models_are_neither_copied_nor_compiled(tiny):
    autoencoder = tiny()
    autoencoder.model.decoder._hf_hook = object()
    assert_uncompiled(autoencoder, "hooks of accelerate")
    with pytest.raises(ValueError, match="cannot be copied: hooks of accelerate"):
        operators(autoencoder, random_pictures(1), dtype=torch.bfloat16)


def test_other_callables_are_compiled_as_they_are(traced):
    weights = torch.linalg.qr(torch.randn(12, 4).double())[0]
    x = torch.randn(3, 12).double()
    pair = lambda x: x @ weights, lambda z: torch.tanh(z @ weights.T)
    plain = DecoderInversion(*pair, x, Clip())
    compiled = DecoderInversion(*pair, x, Clip(), compile=True)
    assert_same_evaluation(plain, compiled, torch.randn(3, 4).double())
    assert traced["unique_graphs"] == 2
    assert compiled.compiled
