"""Pairs of a user's own callables: what is found out about them, and what is refused."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_pairs import needs_taef2, taef2
from torch import nn
from torch.nn.functional import avg_pool2d, avg_pool3d, interpolate

from fixpoint.adapters import (
    Autoencoder,
    Identity,
    PerFrame,
    invert,
    invert_by_gradient,
    invert_video,
)
from fixpoint.adapters.autoencoders.digest import digest_of_model
from fixpoint.status import Status


def encode(x):
    return avg_pool2d(x, 4)


def decode(z):
    return interpolate(z + torch.sin(3 * z) / 10, scale_factor=4.0)


def taken(encode=encode, decode=decode, **options):
    return Autoencoder.from_functions(encode, decode, **options)


def of_numpy(factor=4, check=lambda shape: None):
    """The same pair without torch inside, as an exported network would be run."""

    def encode(x):
        check(x.shape)
        batch, colours, height, width = x.shape
        cells = x.numpy().reshape(batch, colours, height // factor, factor, width // factor, factor)
        return torch.from_numpy(cells.mean((3, 5)))

    def decode(z):
        check((*z.shape[:2], factor * z.shape[2], factor * z.shape[3]))
        values = z.numpy()
        values = values + np.sin(3 * values) / 10
        return torch.from_numpy(values.repeat(factor, 2).repeat(factor, 3))

    return encode, decode


class Half(nn.Module):
    """A convolution and a resampling, as one half of a pair."""

    def __init__(self, inward, outward, scale, seed, *, norm=None):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(inward, outward, 3, padding=1)
        self.norm = nn.Identity() if norm is None else norm
        self.scale = scale

    def forward(self, x):
        return interpolate(self.norm(self.conv(x)), scale_factor=self.scale, mode="nearest")


def halves(**options):
    return Half(3, 5, 0.25, 1, **options).eval(), Half(5, 3, 4.0, 2).eval()


# What is found out.


def test_a_pair_is_an_autoencoder_like_any_other():
    autoencoder = taken()
    assert isinstance(autoencoder, Autoencoder)
    assert repr(autoencoder) == "Autoencoder((encode, decode), factor 4, 3 channels, float32, cpu)"
    assert (autoencoder.factor, autoencoder.channels, autoencoder.medium) == (4, 3, "picture")
    assert [rule.words for rule in autoencoder.sizes.rules] == ["a multiple of 4"] * 2
    x = torch.rand(2, 3, 8, 12) * 2 - 1
    torch.testing.assert_close(autoencoder.encode(x), encode(x))
    torch.testing.assert_close(autoencoder.decode(encode(x)), decode(encode(x)))
    assert autoencoder.raw(encode(x)).equal(encode(x))
    assert autoencoder.module is None
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        autoencoder.check_shape((1, 3, 8, 10))


def test_what_was_found_out_is_told_in_one_line():
    found = taken().probe
    assert found.differentiable
    assert found.encoder_differentiable
    assert found.repeat == 0
    assert found.rows < 1e-5
    assert found.bound == "free"
    assert 0 < found.round_trip < 0.5
    assert sum(found.passes) < 30
    assert repr(found).startswith("Probe(64 x 64 -> 3 x 16 x 16, factor 4, gradients of D and E")
    assert "\n" not in repr(found)
    with pytest.raises(AttributeError):
        found.factor = 8


@pytest.mark.parametrize(
    ("last", "bound"),
    [
        (lambda x: x, "free"),
        (lambda x: x.clamp(-1, 1), "clipped"),
        (lambda x: 0.99 * torch.tanh(x), "bounded"),
    ],
)
def test_it_is_found_out_whether_the_range_bounds_the_decoder(last, bound):
    assert taken(decode=lambda z: last(2 * decode(z))).probe.bound == bound


def limited(*, sides=None, multiple=4, least=4, batch=None, message="bad size"):
    def check(shape):
        if batch is not None and shape[0] != batch:
            raise RuntimeError(f"batch must be {batch}, got {shape[0]}")
        for side in shape[2:]:
            if sides is not None and side not in sides:
                raise RuntimeError(message)
            if side % multiple or side < least:
                raise RuntimeError(f"{side} is not one of mine")

    return check


@settings(deadline=None, max_examples=8)
@given(cells=st.integers(1, 64), named=st.booleans())
def test_the_only_side_that_works_is_found(cells, named):
    side = 8 * cells
    message = f"Got: 7 Expected: {side}" if named else "bad size"
    pair = of_numpy(factor=8, check=limited(sides=(side,), message=message))
    autoencoder = taken(*pair)
    assert [rule.words for rule in autoencoder.sizes.rules] == [str(side)] * 2
    assert autoencoder.probe.size == (side, side)
    if named:
        assert sum(autoencoder.probe.passes) < 40
    autoencoder.check_shape((1, 3, side, side))
    with pytest.raises(ValueError, match=f"must be {side}"):
        autoencoder.check_shape((1, 3, side, side + 8))


@settings(deadline=None, max_examples=25)
@given(factor=st.sampled_from((2, 4, 8)), times=st.sampled_from((1, 2, 4)), least=st.integers(1, 4))
def test_multiples_and_the_least_side_are_found(factor, times, least):
    multiple = factor * times
    check = limited(multiple=multiple, least=least * multiple)
    autoencoder = taken(*of_numpy(factor, check))
    rule = autoencoder.sizes.rules[0]
    assert autoencoder.factor == factor
    for side in range(1, 150):
        assert rule.holds(side) == (side % multiple == 0 and side >= least * multiple)
    assert sum(autoencoder.probe.passes) < 60


def test_a_side_that_only_its_owner_knows_can_be_named():
    check = limited(sides=(100, 36))
    with pytest.raises(ValueError, match=r"size=\(height, width\)"):
        taken(*of_numpy(4, check))
    autoencoder = taken(*of_numpy(4, check), size=(100, 36))
    assert [rule.words for rule in autoencoder.sizes.rules] == ["100", "36"]
    assert taken(size=20).probe.size == (20, 20)


def test_a_pair_that_takes_one_row_at_a_time_is_given_one_at_a_time():
    autoencoder = taken(*of_numpy(check=limited(batch=1)))
    assert autoencoder.probe.alone
    x = torch.rand(3, 3, 8, 8) * 2 - 1
    assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape
    assert autoencoder.uncompilable is not None


@pytest.mark.parametrize("value_range", [(-1, 1), (0, 1), (0, 255), (-2, 0)])
def test_values_are_taken_and_returned_on_the_range_that_is_named(value_range):
    low, high = value_range
    seen = []

    def ranged(x):
        seen.append(x)
        return encode(x)

    plain = lambda z: interpolate(z, scale_factor=4.0)  # noqa: E731
    autoencoder = taken(ranged, plain, value_range=value_range)
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    latent = autoencoder.encode(x)
    torch.testing.assert_close(seen[-1], low + (x + 1) / 2 * (high - low))
    expected = interpolate(avg_pool2d(x, 4), scale_factor=4.0)
    torch.testing.assert_close(autoencoder.decode(latent), expected)


def test_dtype_and_device_are_those_of_the_modules_that_the_callables_are():
    encoder, decoder = halves()
    for pair in (
        (encoder, decoder),
        (encoder.forward, decoder.forward),
        (lambda x: encoder(x), functools.partial(decoder)),
    ):
        autoencoder = taken(*pair)
        held = set(map(id, autoencoder.parameters()))
        assert held == {id(p) for half in (encoder, decoder) for p in half.parameters()}
    half = [each.to(torch.bfloat16) for each in halves()]
    autoencoder = taken(*half)
    assert autoencoder.dtype == torch.bfloat16
    latent = autoencoder.encode(torch.rand(1, 3, 16, 16))
    assert latent.dtype == autoencoder.decode(latent).dtype == torch.float32
    assert "bfloat16" in repr(autoencoder)


def test_a_copy_has_weights_of_its_own():
    encoder, decoder = halves()
    autoencoder = taken(lambda x: encoder(x), lambda z: decoder(z))
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    before = autoencoder.encode(x)
    copied = autoencoder.copy(channels_last=True)
    half = autoencoder.copy(torch.bfloat16)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight += 1
    torch.testing.assert_close(copied.encode(x), before)
    assert not copied.encode(x).requires_grad
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.encode(x), before, rtol=0.05, atol=0.05)
    assert encoder.conv.weight.dtype == torch.float32
    assert float((autoencoder.encode(x) - before).detach().abs().max()) > 0.5
    with pytest.raises(ValueError, match="modules="):
        taken().copy(torch.bfloat16)


def test_probing_leaves_the_modules_and_the_generators_as_they_were():
    encoder, decoder = halves(norm=nn.BatchNorm2d(5))
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    drawn = torch.get_rng_state()
    taken(encoder, decoder)
    assert torch.get_rng_state().equal(drawn)
    assert all(value.equal(state[name]) for name, value in encoder.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in encoder.parameters())


def test_whether_autograd_goes_through_is_found_out_for_each_half():
    both = taken()
    neither = taken(*of_numpy())
    encoder_alone = taken(decode=of_numpy()[1])
    rounded = taken(decode=lambda z: decode(z).mul(128).round().div(128))
    inference = taken(decode=torch.inference_mode()(decode))
    for autoencoder, found in (
        (both, (True, True)),
        (neither, (False, False)),
        (encoder_alone, (False, True)),
        (rounded, (False, True)),
        (inference, (False, True)),
    ):
        assert (autoencoder.differentiable, autoencoder.encoder_differentiable) == found


# What it is good for.


@pytest.mark.parametrize("pair", [(encode, decode), of_numpy(), of_numpy(check=limited(batch=1))])
def test_a_pair_is_inverted_in_one_call(pair):
    autoencoder = taken(*pair)
    truth = torch.rand(2, 3, 4, 6) - 0.5
    picture = autoencoder.decode(truth)
    inversion = invert(
        autoencoder, picture, observation=Identity(), value_range=(-1, 1), max_iterations=60
    )
    assert set(inversion.status) <= {Status.CONVERGED, Status.ROUNDING, Status.STALLED}
    assert float(inversion.nmse_db(truth).max()) < -60


def test_no_gradient_method_is_begun_without_gradients():
    picture = torch.rand(1, 3, 8, 8) - 0.5
    with pytest.raises(ValueError, match=r"autograd does not go through the decoder .*invert"):
        invert_by_gradient(taken(*of_numpy()), picture, steps=2)
    encoder_in_numpy = taken(of_numpy()[0], decode)
    assert invert_by_gradient(encoder_in_numpy, picture, steps=2).latent.shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match="encoder_weight"):
        invert_by_gradient(encoder_in_numpy, picture, steps=2, encoder_weight=0.1)
    assert invert_by_gradient(taken(), picture, steps=2).latent.shape == (1, 3, 2, 2)


def test_a_pair_goes_frame_by_frame_or_takes_whole_videos():
    video = torch.rand(1, 3, 6, 8, 8) - 0.5
    per_frame = PerFrame(taken())
    found = invert_video(per_frame, video, window=4, max_iterations=2, value_range=(-1, 1))
    assert len(found.windows) == 2

    def encode_video(x):
        if x.shape[2] % 2:
            raise ValueError("frames go in pairs")
        return avg_pool3d(x, (2, 4, 4))

    autoencoder = taken(
        encode_video, lambda z: interpolate(z, scale_factor=(2.0, 4.0, 4.0)), medium="video"
    )
    words = [rule.words for rule in autoencoder.sizes.rules]
    assert words == ["a multiple of 2", "a multiple of 4", "a multiple of 4"]
    found = invert_video(autoencoder, video, max_iterations=2, value_range=(-1, 1))
    assert found.latent.shape == (1, 3, 3, 2, 2)
    with pytest.raises(ValueError, match="cannot be inverted in windows"):
        invert_video(autoencoder, video, window=4, value_range=(-1, 1))


def test_a_causal_video_pair_is_known_by_its_frames():
    def encode_video(x):
        first, rest = x[:, :, :1], x[:, :, 1:]
        if rest.shape[2] % 4:
            raise ValueError("4k + 1 frames")
        groups = rest.unflatten(2, (-1, 4)).mean(3) if rest.shape[2] else rest
        means = torch.cat((first, groups), 2)
        return avg_pool3d(means, (1, 8, 8))

    def decode_video(z):
        large = interpolate(z, scale_factor=(1.0, 8.0, 8.0))
        return torch.cat((large[:, :, :1], large[:, :, 1:].repeat_interleave(4, 2)), 2)

    autoencoder = taken(encode_video, decode_video, medium="video")
    assert [rule.words for rule in autoencoder.sizes.rules][0] == "4k + 1"  # noqa: RUF015
    assert autoencoder.factor == 8


def test_the_digest_of_a_pair_is_that_of_its_weights_or_its_name():
    encoder, decoder = halves()
    first = digest_of_model(taken(encoder, decoder))
    assert first == digest_of_model(taken(encoder, decoder))
    with torch.no_grad():
        encoder.conv.bias += 1
    assert first != digest_of_model(taken(encoder, decoder))
    names = {digest_of_model(taken(*of_numpy(), name=name)) for name in ("first", "second")}
    assert len(names) == 2


# What is refused, and how it is mended.


def noisy(x):
    return encode(x) + 0.01 * torch.randn(1)


def in_place(x):
    return avg_pool2d(x.mul_(0.5), 4)


def mixing(x):
    return encode(x - x.mean((0, 2, 3), keepdim=True))


class Posterior(SimpleNamespace):
    def mode(self):
        return self.mean


BAD = {
    "random encoder": ({"encode": noisy}, ValueError, "encode is random.*mode"),
    "random decoder": (
        {"decode": lambda z: decode(z) + 0.01 * torch.randn(1)},
        ValueError,
        "decode is random.*seed",
    ),
    "rows that mix": ({"encode": mixing}, ValueError, "encode mixes the rows.*independent"),
    "rows that mix in the decoder": (
        {"decode": lambda z: decode(z - z.mean())},
        ValueError,
        "decode mixes the rows",
    ),
    "in place": ({"encode": in_place}, ValueError, "encode changes its input in place.*clone"),
    "in place in the decoder": (
        {"decode": lambda z: decode(z.clamp_(-0.1, 0.1))},
        ValueError,
        "decode changes its input",
    ),
    "another range": (
        {"decode": lambda z: torch.sigmoid(4 * decode(z))},
        ValueError,
        r"value_range=\(0, 1\)",
    ),
    "another range, given back": (
        {
            "encode": lambda x: encode(x.clamp(0, 1)),
            "decode": lambda z: interpolate(z, scale_factor=4.0).clamp(min=0),
        },
        ValueError,
        r"value_range=\(0, 1\)",
    ),
    "levels": (
        {"decode": lambda z: 127.5 * (1 + torch.tanh(4 * decode(z)))},
        ValueError,
        r"value_range=\(0, 255\)",
    ),
    "sides that do not come back": (
        {"decode": lambda z: interpolate(z, scale_factor=2.0)},
        ValueError,
        r"shape \(1, 3, 32, 32\).*shape of x",
    ),
    "a tuple": ({"encode": lambda x: (encode(x), None)}, TypeError, "tuple of 2.*alone"),
    "an array": ({"encode": lambda x: encode(x).numpy()}, TypeError, "ndarray.*from_numpy"),
    "codes": ({"encode": lambda x: encode(x).mul(9).long()}, TypeError, "torch.int64.*quantised"),
    "levels of 8 bits": (
        {"decode": lambda z: decode(z).mul(127).byte()},
        TypeError,
        "torch.uint8.*before they are rounded",
    ),
    "NaN": ({"encode": lambda x: encode(x) * torch.nan}, ValueError, "encode returned NaN"),
    "NaN in the decoder": (
        {"decode": lambda z: decode(z).div(0)},
        ValueError,
        "decode returned NaN",
    ),
    "a posterior": (
        {"encode": lambda x: SimpleNamespace(latent_dist=Posterior(mean=encode(x)))},
        TypeError,
        r"latent_dist.mode\(\)",
    ),
    "a distribution": (
        {"encode": lambda x: Posterior(mean=encode(x))},
        TypeError,
        r"return its .mode\(\)",
    ),
    "an output object": (
        {"decode": lambda z: SimpleNamespace(sample=decode(z))},
        TypeError,
        "return its .sample",
    ),
    "nothing": ({"encode": lambda x: None}, TypeError, "NoneType"),
    "tokens": ({"encode": lambda x: encode(x).flatten(2)}, ValueError, "DecoderInversion"),
    "another batch": (
        {"encode": lambda x: encode(x)[0]},
        ValueError,
        "batch comes first",
    ),
    "cells that are not square": (
        {
            "encode": lambda x: avg_pool2d(x, (4, 2)),
            "decode": lambda z: interpolate(z, scale_factor=(4.0, 2.0)),
        },
        ValueError,
        "whole number of pixels",
    ),
    "an error of its own": (
        {"encode": lambda x: x.no_such_method()},
        ValueError,
        "encode raised AttributeError",
    ),
    "always an error": (
        {"encode": lambda x: (_ for _ in ()).throw(RuntimeError("no licence"))},
        ValueError,
        "no licence",
    ),
    "no function": ({"encode": 3}, TypeError, "encode must be callable.*int"),
    "a range upside down": ({"value_range": (1, 0)}, ValueError, r"got \(1, 0\)"),
    "sound": ({"medium": "audio"}, ValueError, "'picture' or 'video', got 'audio'"),
    "a size in words": ({"size": "64"}, ValueError, "got '64'"),
    "a dtype of integers": ({"dtype": torch.int32}, TypeError, "torch.int32"),
    "modules that are none": ({"modules": [encode]}, TypeError, "torch modules, got function"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_pair_that_breaks_the_contract_is_refused_with_the_remedy(case):
    options, kind, words = BAD[case]
    with pytest.raises(kind, match=words) as refusal:
        taken(**options)
    assert type(refusal.value) is kind or kind is ValueError
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("module", [nn.BatchNorm2d(5), nn.Dropout(0.2)])
def test_modules_in_training_are_refused_before_they_run(module):
    encoder, decoder = halves(norm=module)
    encoder.train()
    for options in ({}, {"modules": [encoder]}):
        with pytest.raises(ValueError, match=rf"{type(module).__name__} in training.*eval"):
            taken(encoder, decoder, **options)
    if isinstance(module, nn.BatchNorm2d):
        assert int(module.num_batches_tracked) == 0
    encoder.eval()
    assert taken(encoder, decoder).channels == 5


def test_a_result_that_is_no_tensor_is_refused_at_any_time():
    switch = []
    autoencoder = taken(decode=lambda z: (decode(z),) if switch else decode(z))
    switch.append(True)
    with pytest.raises(TypeError, match="tuple"):
        autoencoder.decode(torch.zeros(1, 3, 2, 2))


# A real pair.


@needs_taef2
def test_a_published_pair_is_taken_by_its_two_modules():
    autoencoder = taef2()
    assert (autoencoder.factor, autoencoder.channels) == (8, 32)
    assert [rule.words for rule in autoencoder.sizes.rules] == ["a multiple of 8"] * 2
    assert autoencoder.probe.round_trip < 0.1
    assert autoencoder.differentiable
    with pytest.raises(ValueError, match=r"value_range=\(0, 1\)"):
        taken(*(autoencoder.pair.functions[half] for half in ("encode", "decode")))


def test_the_architecture_of_the_published_pair_is_taken_with_random_weights():
    from real_pairs import decoder, encoder

    autoencoder = taken(encoder().eval(), decoder().eval(), value_range=(0, 1), size=32)
    assert (autoencoder.factor, autoencoder.channels) == (8, 32)
    assert isinstance(autoencoder.module, nn.Module)
