"""The most probable latent of pictures that a codec changed."""

from dataclasses import replace

import pytest
import torch
from refuted_pairs import generated, refuted_pair

from fixpoint.adapters import EightBit, Jpeg, PerRow, invert, nmse_db
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.inversion.judgement import InversionOutcome
from fixpoint.adapters.inversion.most_probable import codecs_of
from fixpoint.adapters.inversion.noise_coordinates import of_jpeg, of_noise
from fixpoint.adapters.pictures.webp import WebP

CODECS = [Jpeg(quality=90), Jpeg(quality=70, subsampling="4:4:4"), WebP(quality=85)]


@pytest.fixture(scope="module")
def pair():
    return refuted_pair()


@pytest.fixture(scope="module")
def made(pair):
    truth = generated(pair)[0]
    with torch.no_grad():
        return truth, EightBit()(pair.decode(truth))


def gain(pair, image, found, truth):
    with torch.no_grad():
        return nmse_db(pair.encode(image), truth) - nmse_db(found.latent, truth)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("gradients", ["auto", "never", "always"])
def test_a_known_codec_does_no_harm_and_helps_where_gradients_are(pair, made, codec, gradients):
    truth, decoded = made
    image = codec(decoded)
    found = invert(pair, image, observation=codec, gradients=gradients, value_range=(-1, 1))
    gained = gain(pair, image, found, truth)
    assert float(gained.min()) > -0.3
    if gradients != "never":
        assert float(gained.median()) > 0
        assert set(found.method) == {"the most probable latent"}


def test_a_decoder_without_gradients_goes_without_them(made):
    truth, decoded = made
    pair, codec = refuted_pair(gradients=False), Jpeg(quality=90)
    image = codec(decoded)
    found = invert(pair, image, observation=codec, value_range=(-1, 1))
    assert "the most probable latent" not in found.method
    assert float(gain(pair, image, found, truth).min()) > -0.3


def test_a_photograph_in_a_jpeg_file_is_not_explained(pair):
    image = Jpeg(quality=90)(EightBit()(example_photographs(32, count=4)))
    found = invert(pair, image, observation=Jpeg(quality=90), value_range=(-1, 1))
    assert InversionOutcome.EXPLAINED not in found.outcome


def test_of_a_jpeg_file_the_picture_before_is_one_unit_away_at_most():
    before = EightBit()(example_photographs(64, count=2))
    for jpeg in (Jpeg(quality=90), Jpeg(quality=60, subsampling="4:4:4")):
        coordinates = of_jpeg(jpeg(before), jpeg)
        assert float(coordinates.level(before).max()) < 1.25
        assert float(coordinates.level(before.flip(-1)).min()) > 2


def test_noise_is_white_in_its_own_coordinates():
    draws = torch.Generator().manual_seed(0)
    picture = example_photographs(64, count=1)
    noise = 0.1 * torch.randn(8, 3, 64, 64, generator=draws)
    noise = (noise + noise.roll(1, -1)) / 2  # not white between neighbours
    coordinates = of_noise(picture, noise)
    level = coordinates.level(picture + noise[:1])
    assert 0.8 < float(level) < 1.05


def test_rows_know_their_codecs():
    jpeg = Jpeg(quality=80)
    assert codecs_of(EightBit(), 2) == [None, None]
    assert codecs_of(jpeg, 2) == [jpeg, jpeg]
    assert codecs_of(PerRow([EightBit(), WebP(90)]), 2) == [None, WebP(90)]
    assert replace(jpeg, quality=81) != jpeg
