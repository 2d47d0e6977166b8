import math

import pytest
import torch

from fixpoint import Anderson, ForwardStep, Status, solve
from fixpoint.adapters import (
    Clip,
    DecoderInversion,
    EightBit,
    Identity,
    Masked,
    PerRow,
    RoundingCells,
    WhiteNoise,
)
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE
from fixpoint.stop import NoiseFloor
from fixpoint.testing import LinearAutoencoder


def linear_pair(latent=6, picture=48, spread=0.0, seed=0):
    """D with orthonormal columns and E near its transpose: E D = I + spread * noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, picture, latent, generator=generator, dtype=torch.float64)
    decoder, _ = torch.linalg.qr(noise[0])
    encoder = decoder.T + spread * noise[1].T / math.sqrt(picture)
    return (lambda x: x @ encoder.T), (lambda z: z @ decoder.T)


def test_the_operator_is_the_papers():
    encode, decode = linear_pair(spread=0.3)
    z, x = torch.randn(3, 6).double(), torch.randn(3, 48).double()
    operator = DecoderInversion(encode, decode, x)
    torch.testing.assert_close(operator(z), encode(decode(z)) - encode(x))
    torch.testing.assert_close(operator.start, encode(x))


def test_an_exact_pair_is_inverted_by_its_encoder():
    encode, decode = linear_pair()
    truth = torch.randn(3, 6).double()
    operator = DecoderInversion(encode, decode, decode(truth))
    solution = solve(operator, operator.start, ForwardStep())
    assert solution.evaluations.tolist() == [2, 2, 2]  # the second one shows T's rounding
    torch.testing.assert_close(solution.z, truth)


@pytest.mark.parametrize("iterator", [ForwardStep(), Anderson()], ids=repr)
def test_an_inexact_pair_is_inverted_exactly(iterator):
    encode, decode = linear_pair(spread=0.3)
    truth = torch.randn(4, 6).double()
    operator = DecoderInversion(encode, decode, decode(truth))
    solution = solve(operator, operator.start, iterator, rtol=1e-10)
    assert solution.success
    torch.testing.assert_close(solution.z, truth, rtol=1e-7, atol=1e-7)
    assert (operator.start - truth).norm() > 0.01


def test_the_observation_makes_the_true_latent_a_zero_again():
    encode, decode = linear_pair(spread=0.3)
    truth = torch.randn(3, 6).double()
    seen = EightBit()(decode(truth))
    with_rounding = DecoderInversion(encode, decode, seen, EightBit())
    without = DecoderInversion(encode, decode, seen)
    assert torch.count_nonzero(with_rounding(truth)) == 0
    assert (without(truth).norm(dim=1) > 0).all()


def test_any_callable_is_an_observation():
    encode, decode = linear_pair()
    x = torch.randn(2, 48).double()
    operator = DecoderInversion(encode, decode, x, lambda picture: picture / 2)
    z = torch.randn(2, 6).double()
    torch.testing.assert_close(operator(z), encode(decode(z) / 2) - encode(x))
    with pytest.raises(TypeError, match="8bit"):
        DecoderInversion(encode, decode, x, "8bit")


def test_the_misfit_is_the_distance_to_the_picture_without_quantisation():
    encode, decode = linear_pair()
    truth = torch.randn(2, 6).double() / 4
    seen = EightBit()(decode(truth))
    operator = DecoderInversion(encode, decode, seen, EightBit())
    _, measured = operator.evaluate(truth)
    expected = (decode(truth) - seen).square().mean(1).sqrt()
    torch.testing.assert_close(measured["misfit"], expected)
    assert (measured["misfit"] < 2 * EIGHT_BIT_NOISE).all()


def test_the_noise_floor_stops_before_rounding_noise_is_fitted():
    encode, decode = linear_pair(spread=0.3)
    truth = torch.randn(2, 6).double() / 4
    operator = DecoderInversion(encode, decode, EightBit()(decode(truth)))
    solution = solve(
        operator, operator.start, ForwardStep(), stop=(NoiseFloor(level=1.2 * EIGHT_BIT_NOISE),)
    )
    assert set(solution.status) == {Status.NOISE_FLOOR}
    on = solve(operator, operator.start, ForwardStep(), rtol=0.0, atol=0.0, max_iterations=200)
    assert (on.iterations > solution.iterations).all()
    assert (on.residual_norm < solution.residual_norm).all()


def test_a_picture_is_observed_once_in_an_evaluation():
    encode, decode = linear_pair()
    calls = []
    operator = DecoderInversion(
        encode, decode, torch.zeros(2, 48).double(), lambda x: calls.append(1) or x
    )
    operator.evaluate(torch.zeros(2, 6).double())
    assert len(calls) == 1


def test_what_is_no_picture_tensor_is_refused():
    encode, decode = linear_pair()
    for image in (torch.zeros(1, 48, dtype=torch.uint8), [[0.0]]):
        with pytest.raises(TypeError, match="floating-point tensor"):
            DecoderInversion(encode, decode, image)


def test_selected_rows_are_the_same_problem():
    encode, decode = linear_pair(spread=0.3)
    x, z = torch.randn(3, 48).double(), torch.randn(3, 6).double()
    operator = DecoderInversion(encode, decode, x, PerRow((EightBit(), Identity(), Clip())))
    rows = torch.tensor([2, 0])
    selected = operator.select(rows)
    torch.testing.assert_close(selected(z[rows]), operator(z)[rows], rtol=0, atol=1e-12)
    torch.testing.assert_close(selected.start, operator.start[rows])


def test_a_pair_that_does_not_give_the_pictures_shape_back_is_refused():
    encode, decode = linear_pair()
    operator = DecoderInversion(encode, lambda z: decode(z)[:, :40], torch.zeros(2, 48).double())
    with pytest.raises(ValueError, match=r"\(2, 40\).*\(2, 48\)"):
        operator(torch.zeros(2, 6).double())


def test_nan_is_refused_at_the_door():
    encode, decode = linear_pair()
    with pytest.raises(ValueError, match="image contains NaN"):
        DecoderInversion(encode, decode, torch.full((1, 48), torch.nan).double())
    with pytest.raises(ValueError, match="bfloat16"):
        DecoderInversion(lambda x: x * torch.inf, decode, torch.zeros(1, 48).double())


# What an evaluation measures


@pytest.mark.parametrize(
    "observation", [Identity(), Clip(), EightBit(), RoundingCells(), WhiteNoise(level=0.02)]
)
def test_the_deviation_is_what_is_left_between_the_observed_and_the_picture(observation):
    encode, decode = linear_pair(spread=0.3)
    x, z = EightBit()(torch.randn(3, 48).double()), torch.randn(3, 6).double()
    value, measured = DecoderInversion(encode, decode, x, observation).evaluate(z)
    seen, before = observation.observe(decode(z), x)
    assert torch.equal(measured["deviation"], seen - x)
    torch.testing.assert_close(value, encode(x + measured["deviation"]) - encode(x))
    level = measured["deviation"].square().mean(1).sqrt()
    torch.testing.assert_close(measured["deviation_level"], level)
    torch.testing.assert_close(measured["misfit"], (before - x).square().mean(1).sqrt())


def test_only_numbers_stand_in_the_history():
    encode, decode = linear_pair(spread=0.3)
    operator = DecoderInversion(encode, decode, torch.randn(3, 48).double())
    solution = solve(operator, operator.start, ForwardStep(), max_iterations=4)
    assert set(solution.history.measured) == {"misfit", "deviation_level"}
    assert solution.history.measured["deviation_level"].shape == (5, 3)


def test_without_an_observation_deviation_and_misfit_are_one():
    encode, decode = linear_pair(spread=0.3)
    operator = DecoderInversion(encode, decode, torch.randn(3, 48).double())
    _, measured = operator.evaluate(torch.randn(3, 6).double())
    assert torch.equal(measured["deviation_level"], measured["misfit"])


def test_the_true_latent_is_a_zero_of_the_cells_up_to_their_rim():
    encode, decode = linear_pair(spread=0.3)
    truth = torch.randn(3, 6).double() / 2
    # The noise of 48 values fluctuates: half of it leaves every row within the cells' full width.
    x = EightBit()(decode(truth))
    x = decode(truth) + (x - decode(truth)) / 2
    exact = DecoderInversion(encode, decode, x, RoundingCells(tolerance=1.0))
    assert torch.count_nonzero(exact(truth)) == 0
    rim = DecoderInversion(encode, decode, x, RoundingCells(tolerance=0.3))
    value, measured = rim.evaluate(truth)
    assert (value.norm(dim=1) > 0).all()
    assert float(measured["deviation"].abs().max()) <= 0.7 / 255
    plain = DecoderInversion(encode, decode, x)
    assert (value.norm(dim=1) < plain(truth).norm(dim=1)).all()


def test_selected_rows_deviate_as_in_their_batch():
    encode, decode = linear_pair(spread=0.3)
    x, z = EightBit()(torch.randn(3, 48).double()), torch.randn(3, 6).double()
    mixed = PerRow((RoundingCells(), WhiteNoise(level=0.05), RoundingCells(0.4)))
    operator = DecoderInversion(encode, decode, x, mixed)
    rows = torch.tensor([2, 1])
    _, whole = operator.evaluate(z)
    _, some = operator.select(rows).evaluate(z[rows])
    assert set(whole) == set(some) == {"misfit", "deviation", "deviation_level"}
    for name, value in some.items():
        torch.testing.assert_close(value, whole[name][rows], rtol=0, atol=1e-12)


# Noise and masks on linear pairs


@pytest.mark.parametrize("iterator", [ForwardStep(), ForwardStep(step_size=0.5)], ids=repr)
def test_a_known_noise_is_not_fitted(iterator):
    """Decoder of condition 30, its adjoint for an encoder: small singular values come last.

    Forward steps get to these late. Acceleration solves T z = 0 for them as well, with noise in it.
    """
    generator = torch.Generator().manual_seed(1)
    truth = 0.2 * torch.rand(3, 12, generator=generator, dtype=torch.float64) - 0.1
    scales = tuple(torch.logspace(0, -1.5, 12).tolist())
    pair = LinearAutoencoder(truth, scales, 200, basis=3)
    noise = 0.02 * torch.randn(3, 200, generator=generator, dtype=torch.float64)

    def adjoint(picture):
        return (pair.rows * picture.unsqueeze(1)).sum(2) * torch.tensor(scales).double()

    errors = []
    for observation in (WhiteNoise(level=0.02), Clip()):
        operator = DecoderInversion(adjoint, pair.decode, pair.picture + noise, observation)
        solution = solve(
            operator,
            operator.start,
            iterator,
            rtol=0.0,
            atol=0.0,
            max_iterations=200,
            keep="last",
        )
        errors.append((solution.z - truth).norm(dim=1))
    with_noise, without = errors
    assert (with_noise < 0.8 * without).all()


def test_the_filling_of_a_mask_changes_nothing_for_a_linear_encoder():
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[1:, :2] = True
    encode, decode = linear_pair(latent=6, picture=48, spread=0.3)

    def decode_picture(z):
        return decode(z).reshape(-1, 3, 4, 4)

    def encode_picture(x):
        return encode(x.flatten(1))

    x = EightBit()(torch.rand(2, 3, 4, 4).double() - 0.5)
    other = torch.where(known, x, EightBit()(torch.rand(2, 3, 4, 4).double() - 0.5))
    z = torch.randn(2, 6).double()
    for inner in (None, Clip(), WhiteNoise(level=0.02)):
        a, b = (
            DecoderInversion(encode_picture, decode_picture, picture, Masked(known, inner))
            for picture in (x, other)
        )
        torch.testing.assert_close(a(z), b(z))
    whole = [DecoderInversion(encode_picture, decode_picture, p, Clip())(z) for p in (x, other)]
    assert not torch.allclose(*whole)


# Masks on a real one


def test_a_crop_on_its_canvas_is_inverted_better_than_alone(autoencoder, generated):
    from fixpoint.adapters import invert_by_iteration as invert
    from fixpoint.adapters import nmse_db

    truth, picture = generated
    crop, latents = (..., slice(16, 48), slice(16, 48)), (..., slice(4, 12), slice(4, 12))
    canvas = torch.nn.functional.pad(picture[crop], (16, 16, 16, 16), mode="replicate")
    known = torch.zeros(64, 64, dtype=torch.bool)
    known[16:48, 16:48] = True
    options = {"value_range": (-1, 1), "max_iterations": 12}
    alone = invert(autoencoder, picture[crop], **options)
    unmasked = invert(autoencoder, canvas, **options)
    masked = invert(autoencoder, canvas, observation=Masked(known), **options)
    error = nmse_db(masked.latent[latents], truth[latents])
    assert float(error) < float(nmse_db(alone.latent, truth[latents])) - 6
    assert float(error) < float(nmse_db(unmasked.latent[latents], truth[latents])) - 6
