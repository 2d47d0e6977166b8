import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_cases import (
    ALL,
    INNER,
    deviation,
    drawn,
    grid,
    known,
    normal,
    root_mean_square,
    seeds,
    smooth,
    uniform,
)

from fixpoint.adapters import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Masked,
    PerRow,
    RoundingCells,
    WhiteNoise,
)
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE


def test_each_row_can_have_its_own_observation():
    pictures = smooth(3)
    mixed = PerRow((EightBit(), Identity(), Jpeg(quality=30)))
    seen = mixed(pictures)
    assert torch.equal(seen[1], pictures[1])
    assert torch.equal(seen[2:], Jpeg(quality=30)(pictures[2:]))
    assert torch.equal(mixed.select(torch.tensor([2, 0]))(pictures[[2, 0]]), seen[[2, 0]])
    with pytest.raises(ValueError, match="3 observations for 2"):
        mixed(pictures[:2])


@pytest.mark.parametrize("inner", INNER, ids=repr)
@given(seed=seeds, size=st.floats(1e-3, 0.5))
@settings(drawn, max_examples=10)
def test_what_lies_outside_the_mask_changes_nothing(inner, seed, size):
    image = grid(seed, 2, 3, 6, 8)
    pictures = image + size * normal(seed + 1, 2, 3, 6, 8)
    changed = torch.where(known(), pictures, normal(seed + 2, 2, 3, 6, 8))
    masked = Masked(known(), inner)
    for a, b in zip(masked.observe(pictures, image), masked.observe(changed, image), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[..., ~known()], image[..., ~known()])
    everything = inner.observe(pictures, image)[0]
    assert not torch.equal(everything, inner.observe(changed, image)[0])


@pytest.mark.parametrize("inner", INNER, ids=repr)
@given(seed=seeds, size=st.floats(1e-3, 0.5))
@settings(drawn, max_examples=10)
def test_the_deviation_of_known_pixels_does_not_depend_on_the_filling(inner, seed, size):
    image = grid(seed, 2, 3, 6, 8, largest=0.9)
    other = torch.where(known(), image, grid(seed + 3, 2, 3, 6, 8, largest=0.9))
    pictures = image + size * normal(seed + 1, 2, 3, 6, 8)
    masked = Masked(known(), inner)
    assert torch.equal(deviation(masked, pictures, image), deviation(masked, pictures, other))


@pytest.mark.parametrize("inner", INNER, ids=repr)
@pytest.mark.parametrize("size", [0.005, 0.03])
def test_known_pixels_are_observed_as_if_there_were_no_others(inner, size):
    image = grid(0, 2, 3, 6, 8, largest=0.9)
    pictures = image + size * normal(1, 2, 3, 6, 8)
    crop = (..., slice(1, 4), slice(2, 6))
    torch.testing.assert_close(
        Masked(known(), inner).observe(pictures, image)[0][crop],
        inner.observe(pictures[crop], image[crop])[0],
        rtol=0,
        atol=1e-9,
    )


def test_a_mask_that_knows_everything_is_no_mask():
    pictures, image = normal(0, 2, 3, 6, 8), grid(1, 2, 3, 6, 8)
    everything = Masked(torch.ones(6, 8, dtype=torch.bool))
    for a, b in zip(
        everything.observe(pictures, image), RoundingCells().observe(pictures, image), strict=True
    ):
        assert torch.equal(a, b)
    assert everything.noise_level == EIGHT_BIT_NOISE
    assert torch.equal(everything(pictures), EightBit()(pictures))


def test_the_levels_of_a_mask_scale_with_the_root_of_what_is_known():
    image = torch.zeros(1, 3, 6, 8)
    assert Masked(known()).free_shares(image) == pytest.approx(12 / 48)
    assert Masked(known()).free_shares(image + 1) == 0  # clipped values carry no noise
    mask = torch.zeros(300, 300, dtype=torch.bool)
    mask[:150, :150] = True
    truth = 0.95 * uniform(0, 1, 3, 300, 300)
    left = root_mean_square(deviation(Masked(mask), truth, EightBit()(truth)))
    share = float(Masked(mask).free_shares(truth)) ** 0.5
    assert float(left) == pytest.approx(share * Masked(mask).deviation_level, rel=0.05)


def test_only_a_mask_hides():
    assert Masked(known()).hides
    assert not any(observation.hides for observation in (*ALL, *INNER))
    assert PerRow((EightBit(), Masked(known()))).hides
    assert not PerRow((EightBit(), Clip())).hides


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([[True]], TypeError),
        (torch.ones(6, 8), TypeError),
        (torch.ones(1, 6, 8, dtype=torch.bool), TypeError),
        (torch.zeros(6, 8, dtype=torch.bool), ValueError),
    ],
    ids=["list", "float", "3 dimensions", "nothing known"],
)
def test_what_is_no_mask_is_refused(mask, error):
    with pytest.raises(error, match="known"):
        Masked(mask)


def test_a_mask_of_another_shape_than_the_pictures_is_refused():
    pictures = torch.zeros(1, 3, 8, 6)
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(8, 6\)"):
        Masked(known()).observe(pictures, pictures)
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(8, 6\)"):
        Masked(known())(pictures)


def test_a_mask_over_an_observation_per_row_keeps_its_rows_apart():
    masked = Masked(known(), PerRow((EightBit(), Identity(), RoundingCells())))
    image = grid(0, 3, 3, 6, 8, largest=0.9)
    pictures = image + 0.01 * normal(1, 3, 3, 6, 8)
    together = masked.observe(pictures, image)[0]
    rows = torch.tensor([2, 0])
    alone = masked.select(rows).observe(pictures[rows], image[rows])[0]
    assert torch.equal(alone, together[rows])


def test_a_mask_over_an_observation_per_row_has_the_levels_of_each():
    masked = Masked(known(), PerRow((EightBit(), Identity(), RoundingCells())))
    inner = masked.observation
    torch.testing.assert_close(masked.noise_levels(3), inner.noise_levels(3))
    torch.testing.assert_close(masked.deviation_levels(3), inner.deviation_levels(3))


def test_each_row_is_observed_by_its_own_observation_and_levels():
    mixed = PerRow((RoundingCells(), WhiteNoise(level=0.05), EightBit(), RoundingCells(0.5)))
    image = grid(0, 4, 3, 6, 8, largest=0.9)
    pictures = image + 0.01 * normal(1, 4, 3, 6, 8)
    together = mixed.observe(pictures, image)
    for row, observation in enumerate(mixed.observations):
        alone = observation.observe(pictures[row : row + 1], image[row : row + 1])
        assert all(torch.equal(a[0], b[row]) for a, b in zip(alone, together, strict=True))
    rows = torch.tensor([3, 1])
    selected = mixed.select(rows).observe(pictures[rows], image[rows])
    assert all(torch.equal(a, b[rows]) for a, b in zip(selected, together, strict=True))
    levels = [RoundingCells().deviation_level, 0, 0, RoundingCells(0.5).deviation_level]
    assert mixed.deviation_levels(4).tolist() == pytest.approx(levels)
    assert mixed.select(rows).deviation_levels(2).tolist() == pytest.approx([levels[3], 0])
    noise = [EIGHT_BIT_NOISE, 0.05, EIGHT_BIT_NOISE, EIGHT_BIT_NOISE]
    assert mixed.noise_levels(4).tolist() == pytest.approx(noise)
