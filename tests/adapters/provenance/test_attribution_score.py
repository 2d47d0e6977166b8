import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixpoint.adapters import Clip, EightBit, Jpeg, Masked, WhiteNoise, invert, invert_by_iteration
from fixpoint.adapters.pictures.distortions import Blurred, CentreCrop
from fixpoint.adapters.provenance.attribution_score import (
    LOWEST,
    attribution_score,
    low_frequencies,
)
from fixpoint.adapters.provenance.observed_pictures import observed

FEW = 6  # iterations
SIGNED = {"value_range": (-1, 1)}


def scores_of(autoencoder, pictures, observation=None):
    return attribution_score(
        invert_by_iteration(
            autoencoder, pictures, observation=observation, max_iterations=FEW, **SIGNED
        )
    )


@pytest.mark.parametrize(
    "observation",
    [Jpeg(quality=90), WhiteNoise(level=0.02), Masked(torch.ones(32, 32, dtype=torch.bool))],
    ids=repr,
)
def test_what_happened_to_a_picture_can_be_told(autoencoder, crops, decoded, observation):
    own, real = (observed(observation, pictures) for pictures in (decoded, crops))
    apart = scores_of(autoencoder, own, observation) - scores_of(autoencoder, real, observation)
    assert (apart > 5).all()


def test_telling_of_a_blur_raises_the_score_of_a_blurred_picture(autoencoder, decoded):
    blur = Blurred(1.0)
    told, untold = (scores_of(autoencoder, blur(decoded), seen) for seen in (blur, None))
    assert (told > untold + 6).all()


def test_only_known_pixels_count(autoencoder, decoded, crops):
    crop = CentreCrop(0.75)
    told = Masked(crop.known(32, 32))
    pieces = scores_of(autoencoder, crop(decoded), told)
    assert (pieces > scores_of(autoencoder, crop(decoded)) + 2).all()
    assert (pieces > scores_of(autoencoder, crop(crops), told) + 5).all()
    inversion = invert(autoencoder, crop(decoded), observation=told, max_iterations=1, **SIGNED)
    spoilt = torch.where(told.known, inversion.picture, -inversion.picture)
    assert torch.allclose(
        attribution_score(dataclasses.replace(inversion, picture=spoilt)),
        attribution_score(inversion),
        atol=1e-5,
    )


@pytest.mark.parametrize("value", [-1.0, 0.2, 1.0])
def test_an_empty_picture_is_never_attributed(autoencoder, value):
    picture = EightBit()(torch.full((1, 3, 32, 32), value))
    assert float(scores_of(autoencoder, picture)) < 1


@pytest.mark.parametrize("observation", [None, Jpeg(quality=75)], ids=repr)
def test_smooth_pictures_do_not_pass_for_the_models(autoencoder, decoded, observation):
    across = torch.linspace(-0.8, 0.8, 32)
    smooth = observed(
        observation or EightBit(), (across + across[:, None]).expand(1, 3, 32, 32) / 2
    )
    own = observed(observation or EightBit(), decoded)
    apart = scores_of(autoencoder, own, observation) - scores_of(autoencoder, smooth, observation)
    assert (apart > 2).all()


def test_rows_are_judged_alone_and_a_failed_one_scores_lowest(autoencoder, decoded, crops):
    inversion = invert(autoencoder, EightBit()(decoded), max_iterations=1, **SIGNED)
    broken = inversion.reconstruction.clone()
    broken[1] = torch.nan
    spoilt = attribution_score(dataclasses.replace(inversion, reconstruction=broken))
    assert spoilt[1] == LOWEST
    kept = torch.tensor([0, 2, 3])
    assert torch.equal(spoilt[kept], attribution_score(inversion)[kept])
    pictures = torch.cat((EightBit()(decoded), EightBit()(crops)))
    together = scores_of(autoencoder, pictures)
    alone = torch.cat([scores_of(autoencoder, row) for row in pictures.split(1)])
    assert torch.allclose(together, alone, atol=0.5)


def test_the_score_compares_the_decoder_with_low_frequencies(autoencoder, crops):
    """By hand: of an inversion that leaves a known error, in float."""
    inversion = invert(autoencoder, crops * 0.9, max_iterations=1, observation=Clip(), **SIGNED)
    left = low_frequencies(inversion.picture, 4 * 8 * 8) - inversion.picture
    expected = left.square().mean((1, 2, 3)) / (
        (inversion.reconstruction - inversion.picture).square().mean((1, 2, 3))
    )
    assert torch.allclose(attribution_score(inversion), 10 * expected.log10().double(), atol=0.01)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2000))
@settings(deadline=None, max_examples=60)
def test_low_frequencies_keep_flat_pictures_and_about_as_many_numbers(height, width, count):
    flat = torch.full((1, 3, height, width), 0.3)
    kept = low_frequencies(flat, min(count, flat.numel()))
    assert kept.shape == flat.shape
    assert torch.allclose(kept, flat, atol=1e-5)
    known = torch.zeros(height, width, dtype=torch.bool)
    known[: height // 2 + 1] = True
    spoilt = torch.where(known, flat, -flat)
    assert torch.allclose(low_frequencies(spoilt, min(count, flat.numel()), known), flat, atol=1e-4)
