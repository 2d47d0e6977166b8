"""The latent that draws a picture best: `invert(goal="picture")`, and when "auto" wants it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refuted_pairs import generated, refuted_pair

from fixpoint.adapters import EightBit, Masked, invert, invert_by_gradient
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.inversion.goal import Comparison, beyond_cells, comparison
from fixpoint.adapters.inversion.judgement import InversionOutcome
from fixpoint.adapters.inversion.structural_similarity import WINDOW, ssim
from fixpoint.adapters.pictures.observations import from_levels
from fixpoint.iterators import ForwardStep


def drawn(autoencoder, picture, **options):
    return invert(autoencoder, picture, value_range=(-1, 1), goal="picture", **options)


@pytest.fixture(scope="module")
def apart():
    return refuted_pair()


@pytest.fixture(scope="module")
def photographs():
    return example_photographs(32, count=2)


@pytest.fixture(scope="module")
def made(apart):
    return EightBit()(generated(apart, count=2)[1])


def test_nearly_all_values_of_a_decoders_picture_come_back_bit_for_bit(apart, made):
    found = drawn(apart, made)
    same = EightBit()(found.reconstruction) == made
    assert bool((same.double().flatten(1).mean(1) > 0.99).all())
    assert found.success == (True, True)


def test_a_photograph_is_drawn_better_than_by_the_latent_goal(apart, photographs):
    found = drawn(apart, photographs)
    latent = invert(apart, photographs, value_range=(-1, 1))
    assert bool((found.psnr_db > latent.psnr_db).all())
    assert all("goal 'picture'" in sentence for sentence in found.verdict)


def test_a_photograph_is_drawn_no_worse_than_by_plain_descent(apart, photographs):
    found = drawn(apart, photographs)
    plain = invert_by_gradient(
        apart, photographs, steps=100, optimizer="lbfgs", value_range=(-1, 1)
    )
    assert bool((found.psnr_db > plain.psnr_db - 0.1).all())


def test_without_gradients_no_row_is_drawn_worse_than_the_encoder_does(photographs):
    detached = refuted_pair(gradients=False)
    found = drawn(detached, photographs)
    with torch.no_grad():
        start = detached.decode(detached.encode(photographs)).clamp(-1, 1)
    before = (start - photographs).square().flatten(1).mean(1)
    after = (found.reconstruction - photographs).square().flatten(1).mean(1)
    assert bool((after <= before).all())
    assert set(found.method) == {"Anderson's method on the picture"}


def test_rows_are_drawn_apart(apart, photographs):
    both = drawn(apart, photographs).latent
    alone = torch.cat([drawn(apart, row[None]).latent for row in photographs])
    assert torch.allclose(both, alone, atol=1e-3)


def test_auto_keeps_a_latent_that_explains_the_picture(apart, made):
    latent = invert(apart, made, value_range=(-1, 1))
    auto = invert(apart, made, value_range=(-1, 1), goal="auto")
    assert set(latent.outcome) == {InversionOutcome.EXPLAINED}
    assert torch.equal(latent.latent, auto.latent)


def test_auto_draws_what_no_latent_made_and_says_so(apart, photographs):
    latent = invert(apart, photographs, value_range=(-1, 1), gradients="never")
    auto = invert(apart, photographs, value_range=(-1, 1), goal="auto", gradients="never")
    for row, outcome in enumerate(latent.outcome):
        assert outcome is InversionOutcome.REFUTED
        assert "goal 'auto'" in auto.verdict[row]
    assert bool((auto.psnr_db >= latent.psnr_db).all())


def test_a_perceptual_distance_changes_what_is_drawn(apart, photographs):
    plain, by_ssim = drawn(apart, photographs), drawn(apart, photographs, perceptual="ssim")
    assert bool(
        (ssim(by_ssim.reconstruction, photographs) >= ssim(plain.reconstruction, photographs)).all()
    )
    assert not torch.equal(plain.latent, by_ssim.latent)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"goal": "beauty"}, "goal must be one of"),
        ({"perceptual": "ssim"}, "goes with goal='picture'"),
        ({"goal": "picture", "perceptual": "lpips"}, "'ssim' or a function"),
        ({"goal": "picture", "perceptual_weight": 0.1}, "none is given"),
        ({"goal": "picture", "iterator": ForwardStep()}, "chooses its method"),
        ({"goal": "picture", "observation": Masked(torch.ones(32, 32) > 0)}, "RGB pictures"),
    ],
)
def test_what_does_not_go_together_is_refused(apart, photographs, options, words):
    with pytest.raises(ValueError, match=words):
        invert(apart, photographs, value_range=(-1, 1), **options)


def test_a_weight_out_of_range_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        Comparison(weight=-1.0)
    with pytest.raises(TypeError, match="'ssim' or a function"):
        comparison(3, None)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), tolerance=st.floats(0.1, 1.0))
def test_the_distance_to_cells_is_zero_just_where_all_values_lie_inside(seed, tolerance):
    draws = torch.Generator().manual_seed(seed)
    picture = from_levels(torch.randint(1, 255, (2, 3, 4, 4), generator=draws).float())
    offset = 2 * torch.rand(picture.shape, generator=draws) - 1
    inside = picture + 0.99 * tolerance / 255 * offset
    distance = beyond_cells(picture, tolerance)
    assert distance(inside).tolist() == [0, 0]
    assert bool((distance(inside + 2.1 / 255) > 0).all())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_similarity_is_symmetric_at_most_one_and_one_for_equal_pictures(seed):
    draws = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 2, 3, WINDOW + 3, WINDOW, generator=draws, dtype=torch.float64) * 2 - 1
    assert torch.allclose(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(ssim(x, y), ssim(y, x))
    assert bool((ssim(x, y) < 1).all())


def test_similarity_of_too_small_pictures_is_refused():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
