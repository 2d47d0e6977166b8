import math

import pytest
import torch

from fixpoint import Anderson, ForwardStep, Status, solve
from fixpoint.adapters import Clip, DecoderInversion, EightBit, Identity, PerRow
from fixpoint.adapters.observations import EIGHT_BIT_NOISE
from fixpoint.stop import NoiseFloor


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
    assert solution.evaluations.tolist() == [1, 1, 1]
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
