"""Priors beside the picture: the zeros of both splittings in closed form, and what they change."""

import functools

import pytest
import torch

from fixpoint import ForwardStep, solve
from fixpoint.adapters import Clip, EightBit, Identity, Masked, PerRow, WhiteNoise, invert
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.defaults import default_iterator, default_stop, regularised_stop
from fixpoint.adapters.inversion.regularised import (
    EncoderPrior,
    OnPicture,
    PictureSplitting,
    RegularisedInversion,
    latent_box,
    latent_noise,
    latent_prior,
    regularised,
    unshrunk,
)
from fixpoint.adapters.pictures.pictures import as_pictures
from fixpoint.proximal import L1, Box, GaussianPrior, RowParameter, SquaredL2, TotalVariation2D
from fixpoint.stop import Below, NoiseFloor, Stagnation
from fixpoint.testing.linear_autoencoder import LinearAutoencoder

LATENT = torch.tensor([[2.0, -0.3, 0.7], [0.1, 4.0, -1.0]], dtype=torch.float64)


def linear(latent=LATENT, observation=None):
    """T z = z - latent: the encoder is an exact inverse."""
    pair = LinearAutoencoder(latent, (1.0, 0.5, 2.0), 5)
    return DecoderInversion(pair.encode, pair.decode, pair.picture, observation)


def zero(operator, step=1.0):
    solution = solve(
        operator,
        operator.start + 1.0,
        ForwardStep(step_size=step),
        rtol=1e-12,
        atol=1e-12,
        max_iterations=500,
    )
    assert solution.success
    return operator.latent(solution.z)


# Closed forms


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5])
def test_forward_backward_ends_where_t_and_the_gradient_cancel(step):
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
    prior = GaussianPrior(mean=1.0, std=2.0)
    inversion = linear()
    found = zero(RegularisedInversion(inversion, prior, step=step, weight=weight), step)
    pull = weight.unsqueeze(1) / 4
    torch.testing.assert_close(found, (LATENT + pull) / (1 + pull), rtol=1e-9, atol=1e-9)
    slope = inversion(found) + weight.unsqueeze(1) * prior.gradient(found)
    assert slope.abs().max() < 1e-9


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5])
def test_davis_yin_ends_at_the_zero_of_all_three(step):
    operator = RegularisedInversion(linear(), L1(0.2), Box(-0.5, 1.0), step=step, weight=1.0)
    expected = (LATENT.sign() * (LATENT.abs() - 0.2).clamp(min=0)).clamp(-0.5, 1.0)
    torch.testing.assert_close(zero(operator, step), expected, rtol=1e-9, atol=1e-9)


def test_a_step_of_the_iteration_is_a_step_of_the_splitting():
    inversion, prior = linear(), L1(0.3)
    operator = RegularisedInversion(inversion, prior, step=0.7, weight=2.0)
    z = torch.randn(2, 3, dtype=torch.float64)
    expected = prior.prox(z - 0.7 * inversion(z), 0.7 * 2.0)
    torch.testing.assert_close(z - 0.7 * operator(z), expected)


def test_a_splitting_on_the_picture_denoises_first():
    picture = torch.randn(2, 3, dtype=torch.float64)
    function = SquaredL2(weight=1.0)
    inversion = DecoderInversion(lambda x: 2 * x, lambda z: z / 2, picture, Identity())
    operator = PictureSplitting(inversion, function)
    solution = solve(operator, operator.start, ForwardStep(step_size=1.0), rtol=1e-12)
    assert solution.success
    torch.testing.assert_close(solution.z, 2 * function.prox(picture, 1.0))


def test_a_splitting_on_the_picture_takes_hidden_pixels_from_the_decoder():
    known = torch.ones(4, 4, dtype=torch.bool)
    known[:, 2:] = False
    picture = torch.rand(1, 3, 4, 4) - 0.5
    inversion = DecoderInversion(lambda x: x, lambda z: z, picture, Masked(known, Clip()))
    operator = PictureSplitting(inversion, Box(-2.0, 2.0))
    z = torch.rand(1, 3, 4, 4) - 0.5
    expected = torch.where(known, z - picture, 0)
    torch.testing.assert_close(operator(z), expected)


@pytest.mark.parametrize("prior", [OnPicture(Box(-2.0, 2.0)), (L1(0.1), OnPicture(Box(-2.0, 2.0)))])
def test_a_prior_encodes_the_picture_once_and_takes_the_options_of_the_inversion(prior):
    encoded = []

    def encode(x):
        encoded.append(x)
        return 2 * x

    picture = torch.rand(2, 3, dtype=torch.float64)
    noisy, weight = WhiteNoise(0.1), None if isinstance(prior, OnPicture) else 0.1
    operator = regularised(encode, lambda z: z / 2, picture, noisy, prior, weight)
    assert len(encoded) == 1
    with pytest.raises(TypeError, match="compile must be True or False"):
        regularised(encode, lambda z: z / 2, picture, noisy, prior, weight, compile="yes")
    inner = getattr(operator, "inversion", operator)
    assert isinstance(inner, PictureSplitting)
    assert type(inner.observation) is Clip


def test_a_splitting_on_the_picture_is_compiled_with_the_rest(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    picture = torch.rand(2, 3)
    pair, prior = (lambda x: 2 * x, lambda z: z / 2), OnPicture(Box(-2.0, 2.0))
    compiled = regularised(*pair, picture, Clip(), prior, compile=True)
    assert compiled.compiled
    torch.testing.assert_close(
        compiled(compiled.start + 0.1),
        regularised(*pair, picture, Clip(), prior)(compiled.start + 0.1),
    )


# Weights


def test_the_noise_in_the_latent_is_that_of_the_observation():
    latent = torch.zeros(2, 3, dtype=torch.float64)
    operator = linear(latent, WhiteNoise(level=0.1))
    # E takes white noise of 0.1 to 0.1 / scale: one draw of three numbers tells its size.
    variance = 0.01 * torch.tensor([1.0, 4.0, 0.25]).mean().double()
    ratio = latent_noise(operator) / variance
    assert bool(((ratio > 0.05) & (ratio < 5)).all())
    twice = latent_noise(linear(latent, WhiteNoise(level=0.2)))
    torch.testing.assert_close(twice, 4 * latent_noise(operator))
    assert latent_noise(linear(latent, Identity())).tolist() == [0, 0]


def test_each_row_has_the_noise_of_its_own_observation():
    mixed = linear(observation=PerRow([WhiteNoise(level=0.1), WhiteNoise(level=0.3)]))
    torch.testing.assert_close(
        latent_noise(mixed)[1:], latent_noise(linear(observation=WhiteNoise(level=0.3)))[1:]
    )


def test_white_noise_is_not_accounted_for_twice():
    known = torch.ones(2, 2, dtype=torch.bool)
    assert unshrunk(WhiteNoise(level=0.1)) == Clip()
    assert unshrunk(Masked(known, WhiteNoise(level=0.1))).observation == Clip()
    inner = unshrunk(PerRow([WhiteNoise(level=0.1), EightBit()])).observations
    assert inner == (Clip(), EightBit())


def test_priors_are_fitted_to_examples(autoencoder, photograph):
    pictures = torch.cat((photograph, -photograph))
    latents = autoencoder.encode(pictures).detach()
    prior, box = latent_prior(autoencoder, pictures), latent_box(autoencoder, pictures, margin=0.0)
    torch.testing.assert_close(prior.mean, latents.mean((0, 2, 3)).reshape(-1, 1, 1))
    torch.testing.assert_close(
        prior.std, latents.transpose(0, 1).flatten(1).std(1).reshape(-1, 1, 1)
    )
    torch.testing.assert_close(box.prox(latents, 1.0), latents)
    assert (box(2 * latents) == torch.inf).all()


# In `invert`


@pytest.fixture(scope="module")
def noisy(autoencoder, photograph):
    with torch.no_grad():
        latent = autoencoder.encode(photograph)
        decoded = autoencoder.decode(latent)
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(decoded.shape, generator=generator)
    return latent, (decoded + noise).clamp(-1, 1)


OPTIONS = {
    "observation": WhiteNoise(level=0.1),
    "value_range": (-1, 1),
    "max_iterations": 12,
}


def test_without_a_prior_nothing_changes_bit_for_bit(autoencoder, noisy):
    _, picture = noisy
    operator = DecoderInversion(
        autoencoder.encode, autoencoder.decode, picture, OPTIONS["observation"]
    )
    plain = solve(
        operator,
        operator.start,
        default_iterator(operator.observation),
        rtol=0.0,
        max_iterations=12,
        stop=(
            Below(level=1e-6 * operator.start.flatten(1).norm(dim=1)),
            *default_stop(operator.observation, as_pictures(picture, (-1, 1))),
        ),
        keep="deviation_level",
    )
    assert torch.equal(invert(autoencoder, picture, **OPTIONS).latent, plain.z)


@pytest.mark.parametrize("prior", [EncoderPrior(), (EncoderPrior(), Box(-50.0, 50.0))])
def test_a_prior_around_the_encoder_helps_on_a_noisy_picture(prior, autoencoder, noisy):
    latent, picture = noisy
    run_out = OPTIONS | {"stop": (), "max_iterations": 20}
    inversion = invert(autoencoder, picture, prior=prior, **run_out)
    assert inversion.observation == OPTIONS["observation"]
    weightless = invert(autoencoder, picture, prior=prior, prior_weight=1e-6, **run_out)
    assert inversion.nmse_db(latent) < weightless.nmse_db(latent) - 0.5
    assert inversion.nmse_db(latent) < invert(autoencoder, picture, **OPTIONS).nmse_db(latent)


def test_beside_a_prior_white_noise_becomes_a_floor_of_the_misfit(noisy):
    pictures = as_pictures(noisy[1], (-1, 1))
    (floor,) = (
        rule
        for rule in regularised_stop(WhiteNoise(level=0.1), pictures)
        if isinstance(rule, NoiseFloor)
    )
    free = float((pictures.values.abs() < 1).float().mean()) ** 0.5
    assert float(floor.level) == pytest.approx(0.98 * 0.1 * free)
    assert floor.quantity == "misfit"
    rules = regularised_stop(EightBit(), pictures)
    assert not any(isinstance(rule, NoiseFloor) for rule in rules)
    watched = [rule.quantity for rule in rules if isinstance(rule, Stagnation)]
    assert watched == ["residual"]


def test_a_box_holds_the_latent(autoencoder, noisy):
    latent, picture = noisy
    box = Box(-0.5, 0.5)
    assert latent.abs().max() > 0.5
    assert invert(autoencoder, picture, prior=box, **OPTIONS).latent.abs().max() <= 0.5


def test_total_variation_smooths_the_reconstruction(autoencoder, noisy):
    _, picture = noisy
    variation = TotalVariation2D(0.05, iterations=30)
    few = OPTIONS | {"max_iterations": 4}
    rough = invert(autoencoder, picture, **few).reconstruction
    smooth = invert(autoencoder, picture, prior=OnPicture(variation), **few).reconstruction
    assert variation(smooth) < 0.95 * variation(rough)


@pytest.mark.parametrize("second", [None, Box(-1.5, 1.5)])
def test_rows_are_independent(second):
    mean = torch.randn(2, 3, dtype=torch.float64)
    prior = GaussianPrior(RowParameter(mean), 0.5)
    weight = torch.tensor([0.5, 2.0], dtype=torch.float64)
    operator = RegularisedInversion(linear(), prior, second, weight=weight)
    z = torch.randn(2, 3, dtype=torch.float64)
    whole = operator(z)
    for row in range(2):
        rows = torch.tensor([row])
        assert torch.equal(operator.select(rows)(z[rows]), whole[rows])
    swapped = torch.tensor([1, 0])
    assert torch.equal(operator.select(swapped)(z[swapped]), whole[swapped])
    spoilt = z.clone()
    spoilt[0] = torch.nan
    assert torch.equal(operator(spoilt)[1], whole[1])


def test_a_row_is_inverted_as_it_would_be_alone(autoencoder, noisy):
    _, picture = noisy
    options = OPTIONS | {"max_iterations": 4, "prior": EncoderPrior()}
    together = invert(autoencoder, torch.cat((picture, picture.flip(3))), **options)
    alone = invert(autoencoder, picture, **options)
    torch.testing.assert_close(together.latent[:1], alone.latent, rtol=1e-3, atol=1e-3)


# What is refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prior": "encoder"}, TypeError, "EncoderPrior"),
        ({"prior": ()}, ValueError, "one or two"),
        ({"prior": (Box(0.0, 1.0),) * 3}, ValueError, "one or two"),
        ({"prior": EncoderPrior(), "observation": Identity()}, ValueError, "give the weight"),
        ({"prior": GaussianPrior(), "prior_weight": -1.0}, ValueError, "0 < weight"),
        ({"prior_weight": 1.0}, ValueError, "none is given"),
        ({"prior": OnPicture(L1(1.0)), "prior_weight": 1.0}, ValueError, "scale a function"),
    ],
)
def test_priors_out_of_range_are_refused(options, error, words, autoencoder, photograph):
    with pytest.raises(error, match=words):
        invert(autoencoder, photograph, value_range=(-1, 1), **options)


def test_bad_arguments_are_refused(autoencoder, photograph):
    for step in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="step"):
            RegularisedInversion(linear(), Box(0.0, 1.0), step=step)
    with pytest.raises(ValueError, match=r"\(2,\), got \(3,\)"):
        RegularisedInversion(linear(), L1(1.0), weight=torch.ones(3))
    with pytest.raises(TypeError, match="on latents"):
        RegularisedInversion(linear(), torch.sin)
    with pytest.raises(TypeError, match="OnPicture"):
        OnPicture(torch.sin)
    with pytest.raises(ValueError, match="spread"):
        EncoderPrior(spread=0.0)
    with pytest.raises(ValueError, match="margin"):
        latent_box(autoencoder, photograph, margin=-1.0)
