"""Whitened L-BFGS with a Gaussian prior."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv_transpose2d

from fixpoint.adapters.autoencoders.calibration import apply_map, curvature
from fixpoint.adapters.inversion.whitened_lbfgs import (
    LOOK,
    REGULARIZATION,
    GaussianAround,
    descend,
    noise_beside,
    whitening,
)

CHANNELS, CELLS = 3, 4


def linear_decoder(seed=0):
    """Overlapping cells: kernels of 6 x 6 pixels, 4 apart. Channels of very different strength."""
    draws = torch.Generator().manual_seed(seed)
    kernel = torch.randn(CHANNELS, 3, 6, 6, generator=draws, dtype=torch.float64)
    kernel = kernel * torch.tensor([0.03, 0.003, 0.1])[:, None, None, None]
    return lambda z: conv_transpose2d(z, kernel.to(z), stride=4, padding=1)


def drawn(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def latents(batch, seed=1):
    return drawn(batch, CHANNELS, CELLS, CELLS, seed=seed)


def prior_around(center, noise):
    root = drawn(CHANNELS, CHANNELS, seed=9)
    precision = root @ root.T + torch.eye(CHANNELS, dtype=torch.float64)
    return GaussianAround(center, precision, torch.full((len(center),), noise).double())


def cell_curvature(decode):
    return curvature(decode, latents(2))


def bent(z):
    return 0.9 * torch.tanh(linear_decoder()(z))


# Whitening


symmetric = st.integers(1, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(-10, 10), min_size=size, max_size=size), min_size=size, max_size=size
    ).map(lambda rows: torch.tensor(rows, dtype=torch.float64))
)


@settings(deadline=None)
@given(symmetric)
def test_whitening_and_colouring_are_inverse_for_every_curvature(root):
    whiten, colour = whitening(root @ root.T)
    eye = torch.eye(len(root), dtype=torch.float64)
    torch.testing.assert_close(whiten @ colour, eye, rtol=0, atol=1e-9)
    torch.testing.assert_close(whiten, whiten.T)


@settings(deadline=None)
@given(symmetric)
def test_whitened_curvature_lies_between_zero_and_one(root):
    matrix = root @ root.T
    _, colour = whitening(matrix)
    values = torch.linalg.eigvalsh(colour @ matrix @ colour)
    assert float(values.min()) > -1e-9
    assert float(values.max()) <= 1 / (1 + REGULARIZATION) + 1e-9


# What is found


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_a_linear_decoder_is_inverted_to_the_most_probable_latent(noise):
    decode, truth, center = linear_decoder(), latents(2) / 2, latents(2, seed=2) / 2
    image = decode(truth) + 0.02 * drawn(2, 3, 16, 16, seed=3)
    assert float(image.abs().max()) < 1  # nothing is clipped
    prior = prior_around(center, noise)
    found = descend(decode, image, center, cell_curvature(decode), steps=120, prior=prior)
    zero = torch.zeros_like(truth[0])
    matrix = torch.func.jacrev(lambda z: decode(z[None])[0].flatten())(zero).flatten(1)
    weight = torch.kron(prior.precision.contiguous(), torch.eye(CELLS**2, dtype=torch.float64))
    weight = noise**2 * weight
    expected = torch.stack(
        [
            torch.linalg.solve(
                matrix.T @ matrix + weight, matrix.T @ x.flatten() + weight @ c.flatten()
            ).reshape(zero.shape)
            for x, c in zip(image, center, strict=True)
        ]
    )
    torch.testing.assert_close(found.latent, expected, rtol=1e-5, atol=1e-5)
    misfit = (decode(expected) - image).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found.misfit, misfit, rtol=1e-4, atol=1e-9)
    assert found.steps.tolist() == [120, 120]


def test_the_measured_curvature_saves_steps():
    decode, truth = linear_decoder(), latents(1)
    image, start = decode(truth), torch.zeros_like(truth)
    errors = [
        float((descend(decode, image, start, matrix, **options).latent - truth).norm())
        for matrix in (cell_curvature(decode), torch.eye(CHANNELS, dtype=torch.float64))
        for options in [{"steps": 15, "prior": prior_around(start, 1e-6)}]
    ]
    assert errors[0] < errors[1] / 3


def test_the_prior_keeps_what_the_picture_does_not_tell():
    center = latents(1)
    image = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    found = descend(
        lambda z: 0 * linear_decoder()(z),
        image,
        center + 1,
        torch.eye(CHANNELS, dtype=torch.float64),
        steps=60,
        prior=prior_around(center, 1.0),
    )
    torch.testing.assert_close(found.latent, center, rtol=0, atol=1e-6)


def test_more_noise_leaves_the_latent_nearer_to_its_center():
    decode, center = linear_decoder(), latents(1, seed=2)
    image, matrix = decode(latents(1)), cell_curvature(decode)
    distances = [
        float(
            (descend(decode, image, center, matrix, steps=60, prior=prior).latent - center).norm()
        )
        for prior in (prior_around(center, noise) for noise in (1e-3, 0.1, 1.0, 10.0))
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.1 * distances[0]


def test_values_of_weight_zero_have_no_influence():
    decode, start = linear_decoder(), latents(1, seed=2)
    image = decode(latents(1))
    known = torch.ones_like(image)
    known[..., :5] = 0
    damaged = torch.where(known > 0, image, 0.9)
    options = {"steps": 20, "prior": prior_around(start, 1e-3), "weights": known}
    matrix = cell_curvature(decode)
    one, other = (descend(decode, x, start, matrix, **options) for x in (image, damaged))
    assert one.latent.equal(other.latent)
    assert one.misfit.equal(other.misfit)


def test_clipped_values_are_left_out_of_the_misfit_and_fitted_from_beyond():
    decode = linear_decoder()
    truth = 5 * latents(1)
    image = decode(truth).clamp(-1, 1)
    assert 0.02 < float((image.abs() == 1).double().mean()) < 0.5
    start = 0.9 * truth
    found = descend(
        decode, image, start, cell_curvature(decode), steps=80, prior=prior_around(start, 1e-5)
    )
    assert float(found.misfit) < 1e-3
    fitted = decode(found.latent)
    beyond = (fitted.clamp(-1, 1) - image)[image.abs() == 1]
    assert float(beyond.abs().max()) < 0.05


# Rows


def test_rows_are_fitted_as_they_would_be_alone():
    truth, start = latents(3), latents(3, seed=2)
    image, matrix = bent(truth), cell_curvature(bent)
    options = {"steps": 60, "floor": torch.full((3,), 0.02).double()}
    together = descend(bent, image, start, matrix, prior=prior_around(start, 0.01), **options)
    options["floor"] = options["floor"][:1]
    for row in range(3):
        one = slice(row, row + 1)
        alone = descend(
            bent, image[one], start[one], matrix, prior=prior_around(start[one], 0.01), **options
        )
        torch.testing.assert_close(together.latent[one], alone.latent, rtol=1e-6, atol=1e-6)
        assert together.steps[row] == alone.steps[0]
        assert together.stands[row] == alone.stands[0]


def test_a_row_that_is_no_number_is_kept_at_its_start_and_leaves_the_others_alone():
    truth, start = latents(2), latents(2, seed=2)
    image, matrix = bent(truth), cell_curvature(bent)
    image[1] = math.nan
    prior = prior_around(start, 0.01)
    found = descend(bent, image, start, matrix, steps=10, prior=prior)
    alone = descend(
        bent, image[:1], start[:1], matrix, steps=10, prior=prior_around(start[:1], 0.01)
    )
    torch.testing.assert_close(found.latent[:1], alone.latent)
    torch.testing.assert_close(found.latent[1], start[1])
    assert found.misfit.tolist()[1] == math.inf


def test_the_latent_returned_is_that_of_the_least_loss_seen():
    truth, start = latents(1), latents(1, seed=2)
    image, matrix, prior = bent(truth), cell_curvature(bent), prior_around(start, 0.01)
    losses = []

    def loss(z):
        return float((bent(z) - image).square().sum() + prior.value(z).sum())

    for steps in (1, 2, 3, 5, 8, 13):
        losses.append(loss(descend(bent, image, start, matrix, steps=steps, prior=prior).latent))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(loss(start))


# 16 bits


class Halved(torch.autograd.Function):
    """The identity, with the way back in float16 times 100 / 100: it overflows above 655."""

    @staticmethod
    def forward(_, z):
        return z.clone()

    @staticmethod
    def backward(_, gradient):
        return (gradient.half() * 100).to(gradient) / 100


def test_gradients_that_overflow_in_16_bits_are_had_by_a_smaller_loss():
    calls = []

    def half(z):
        calls.append(len(z))
        return Halved.apply(bent(z))

    truth, start = latents(1), latents(1, seed=2)
    image, matrix = bent(truth), cell_curvature(bent)
    options = {"steps": 30, "prior": prior_around(start, 1e-3)}
    full = descend(bent, image, start, matrix, **options)
    found = descend(half, image, start, matrix, **options)
    assert len(calls) > 30  # the first gradients did overflow
    assert float(found.misfit) < 2 * float(full.misfit) + 1e-4
    assert float(found.misfit) < 0.01


def test_a_row_that_overflows_does_not_change_the_gradients_of_another():
    def half(z):
        return Halved.apply(bent(z))

    truth = latents(2)
    image, matrix = bent(truth), cell_curvature(bent)
    start = truth + torch.tensor([3.0, 1e-4]).double()[:, None, None, None]
    prior = prior_around(start, 1e-6)
    together = descend(half, image, start, matrix, steps=3, prior=prior)
    one = slice(1, 2)
    prior = prior_around(start[one], 1e-6)
    alone = descend(half, image[one], start[one], matrix, steps=3, prior=prior)
    torch.testing.assert_close(together.latent[one], alone.latent, rtol=1e-12, atol=1e-12)


def test_a_picture_that_is_no_number_costs_one_evaluation_a_step():
    calls = []

    def counted(z):
        calls.append(len(z))
        return bent(z)

    start = latents(1)
    image = torch.full((1, 3, 16, 16), math.nan, dtype=torch.float64)
    matrix = cell_curvature(bent)
    descend(counted, image, start, matrix, steps=7, prior=prior_around(start, 0.1))
    assert len(calls) == 7


# When it ends


def drawn_by_it(noise=0.0):
    """A picture and where to begin; the picture holds noise that no latent draws."""
    truth = latents(1)
    return bent(truth) + noise * drawn(1, 3, 16, 16, seed=5), latents(1, seed=2)


def test_a_row_ends_below_the_floor_once_its_loss_has_settled():
    image, start = drawn_by_it()
    floor = torch.tensor([0.05]).double()
    prior = prior_around(start, 0.01)
    found = descend(bent, image, start, cell_curvature(bent), steps=150, floor=floor, prior=prior)
    assert float(found.misfit) <= 0.05
    assert not bool(found.stands)
    assert int(found.steps) < 150
    assert int(found.steps) % LOOK == 0


def test_a_row_whose_misfit_stands_above_twice_the_floor_ends_and_says_so():
    image, start = drawn_by_it(noise=0.1)
    floor = torch.tensor([0.01]).double()
    prior = prior_around(start, 0.01)
    found = descend(bent, image, start, cell_curvature(bent), steps=150, floor=floor, prior=prior)
    assert bool(found.stands)
    assert float(found.misfit) > 0.02
    assert int(found.steps) < 150


def test_no_row_stands_within_twice_the_floor():
    image, start = drawn_by_it(noise=0.1)
    floor = torch.tensor([0.09]).double()
    prior = prior_around(start, 0.01)
    found = descend(bent, image, start, cell_curvature(bent), steps=150, floor=floor, prior=prior)
    assert not bool(found.stands)


def test_without_a_floor_every_step_is_taken():
    image, start = drawn_by_it(noise=0.1)
    seen = []
    prior = prior_around(start, 0.01)
    found = descend(
        bent, image, start, cell_curvature(bent), steps=80, prior=prior, callback=seen.append
    )
    assert found.steps.tolist() == [80]
    assert not bool(found.stands)
    assert seen == list(range(80))


def test_rows_that_end_early_do_not_move_while_others_go_on():
    truth, start = latents(2), latents(2, seed=2)
    image, matrix = bent(truth), cell_curvature(bent)
    image[1] += 0.1 * drawn(3, 16, 16, seed=5)
    floor = torch.tensor([1e-9, 0.01]).double()
    found = descend(
        bent, image, start, matrix, steps=100, floor=floor, prior=prior_around(start, 1e-6)
    )
    assert found.stands.tolist() == [False, True]
    assert int(found.steps[1]) < int(found.steps[0])
    prior = prior_around(start[1:], 1e-6)
    alone = descend(bent, image[1:], start[1:], matrix, steps=100, floor=floor[1:], prior=prior)
    torch.testing.assert_close(found.latent[1:], alone.latent, rtol=1e-5, atol=1e-5)


# What noise is to the decoder's directions


def large_latent():
    return drawn(2, CHANNELS, 16, 16, seed=4)


def of_residual(residual):
    z = large_latent()
    return noise_beside(linear_decoder(), z, residual, curvature(linear_decoder(), z))


def test_white_noise_is_as_loud_to_the_decoder_as_white_noise():
    ratios = of_residual(drawn(2, 3, 64, 64, seed=6))
    assert float(ratios.min()) >= 1
    assert float(ratios.max()) < 1.15


def test_noise_along_the_decoders_directions_is_louder():
    symmetric_decoder = linear_decoder()
    z = large_latent()
    drawn_noise = symmetric_decoder(drawn(*z.shape, seed=7)).flip(-1).roll((-8, 8), (-2, -1))
    assert float(of_residual(drawn_noise).min()) > 1.5


def test_the_ratio_does_not_depend_on_the_loudness_and_rows_are_apart():
    noise = linear_decoder()(drawn(*large_latent().shape, seed=7)).flip(-1)
    ratios = of_residual(noise)
    louder = of_residual(noise * torch.tensor([3.0, 0.1])[:, None, None, None])
    torch.testing.assert_close(louder, ratios)


def test_the_prior_is_the_gaussians_exponent():
    center, z = latents(2), latents(2, seed=2)
    prior = prior_around(center, 0.5)
    by_hand = 0.25 * ((z - center) * apply_map(prior.precision, z - center)).flatten(1).sum(1)
    torch.testing.assert_close(prior.value(z), by_hand)
