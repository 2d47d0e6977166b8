import io
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
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
from PIL import Image

from fixpoint.adapters import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Masked,
    RoundingCells,
    WhiteNoise,
)
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE, from_levels, to_levels


@given(levels=st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_the_8_bit_grid_is_left_as_it_is(levels):
    values = from_levels(torch.tensor(levels, dtype=torch.float32))
    assert torch.equal(EightBit()(values), values)
    assert to_levels(values).tolist() == levels


def test_rounding_is_that_of_a_diffusers_pipeline():
    from diffusers.image_processor import VaeImageProcessor

    pictures = torch.rand(2, 3, 16, 16) * 2.6 - 1.3
    saved = VaeImageProcessor().postprocess(pictures, output_type="pil")
    expected = torch.from_numpy(np.stack([np.array(image) for image in saved]))
    assert torch.equal(to_levels(pictures).permute(0, 2, 3, 1), expected.float())


def test_the_noise_level_of_rounding_is_what_rounding_does():
    pictures = torch.rand(1, 3, 400, 400) * 1.9 - 0.95
    error = (EightBit()(pictures) - pictures).square().mean().sqrt()
    assert float(error) == pytest.approx(EIGHT_BIT_NOISE, rel=0.01)
    assert EightBit().noise_level == EIGHT_BIT_NOISE
    assert Identity().noise_level == Clip().noise_level == 0


@pytest.mark.parametrize("observation", ALL, ids=repr)
def test_an_observation_sees_each_row_alone_and_keeps_shape_and_dtype(observation):
    pictures = smooth()
    seen = observation(pictures)
    assert (seen.shape, seen.dtype) == (pictures.shape, pictures.dtype)
    assert torch.equal(observation(pictures[1:]), seen[1:])


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_repeats_what_a_file_went_through(quality, subsampling):
    picture = smooth(1)
    levels = to_levels(picture)[0].permute(1, 2, 0).to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as image:
        read = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).float()
        repeated = Jpeg.of(image)
    assert repeated.subsampling == subsampling
    assert torch.equal(to_levels(repeated(picture)), read)
    assert torch.equal(Jpeg(quality=quality, subsampling=subsampling)(picture), repeated(picture))


@pytest.mark.parametrize("options", [{"quality": 0}, {"subsampling": "4:1:1"}])
def test_jpeg_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        Jpeg(**options)


HALF_LEVEL = 1 / 255
tolerances = st.floats(0.01, 1)


def off_by(image, error, misfit):
    """Pictures whose misfit to every row of `image` is `misfit`, along `error`."""
    scale = misfit / root_mean_square(error)
    return image + scale.reshape(-1, 1, 1, 1) * error


@given(seed=seeds, tolerance=tolerances, multiple=st.floats(0.1, 10))
@drawn
def test_what_the_cells_leave_is_firmly_nonexpansive_at_a_fixed_width(seed, tolerance, multiple):
    """I - P of the projection P onto a box; pictures of one misfit see one width."""
    image = grid(seed, 1, 3, 4, 4, largest=0.3)
    image[..., 0] = 1.0  # unbounded cells, in which any value beyond white is free
    errors = normal(seed + 1, 2, 3, 4, 4) ** 3  # some within their cells, some far beyond
    errors[..., 0] = 0
    pictures = off_by(image, errors, multiple * EIGHT_BIT_NOISE)
    assume(float((pictures - image).abs().max()) < 0.6)  # nothing else is clipped
    pictures[..., 0] += normal(seed + 2, 2, 3, 4).abs()
    left = deviation(RoundingCells(tolerance=tolerance), pictures, image)
    moved = left[0] - left[1]
    inner = (moved * (pictures[0] - pictures[1])).sum()
    assert inner >= moved.square().sum() * (1 - 1e-9) - 1e-15


@given(seed=seeds, tolerance=tolerances, reach=st.floats(0.5, 1.3))
@drawn
def test_the_true_picture_deviates_by_no_more_than_the_rim_of_its_cell(seed, tolerance, reach):
    truth = reach * uniform(seed, 2, 3, 6, 6)
    image = EightBit()(truth)
    cells = RoundingCells(tolerance=tolerance)
    seen, before = cells.observe(truth, image)
    misfit = root_mean_square(before - image)
    near = (EIGHT_BIT_NOISE / misfit).square().clamp(max=1)
    assert (near >= 1 / 3 - 1e-9).all()  # no error of rounding is above half a level
    rim = (1 - tolerance * near) * HALF_LEVEL
    assert ((seen - image).abs().flatten(1).amax(1) <= rim + 1e-12).all()


@given(seed=seeds, tolerance=tolerances, fraction=st.floats(0, 1))
@drawn
def test_within_the_noise_the_rim_is_what_the_tolerance_says(seed, tolerance, fraction):
    image = grid(seed, 2, 3, 6, 6, largest=0.9)
    truth = off_by(image, uniform(seed + 1, 2, 3, 6, 6), fraction * (1 - 1e-9) * EIGHT_BIT_NOISE)
    assume(torch.equal(EightBit()(truth), image))
    left = deviation(RoundingCells(tolerance=tolerance), truth, image)
    assert float(left.abs().max()) <= (1 - tolerance) * HALF_LEVEL + 1e-12


@given(seed=seeds, fraction=st.floats(0, 0.999))
@drawn
def test_at_tolerance_1_whatever_rounds_to_the_picture_is_an_exact_zero(seed, fraction):
    image = grid(seed, 2, 3, 6, 6)
    truth = off_by(image, uniform(seed + 1, 2, 3, 6, 6), fraction * EIGHT_BIT_NOISE)
    assume(torch.equal(EightBit()(truth), image))
    assert torch.count_nonzero(deviation(RoundingCells(tolerance=1.0), truth, image)) == 0


@pytest.mark.parametrize("tolerance", [0.3, 0.8, 1.0])
def test_the_deviation_level_is_what_the_cells_leave_of_rounding(tolerance):
    cells = RoundingCells(tolerance=tolerance)
    truth = 0.95 * uniform(0, 2, 3, 300, 300)
    left = root_mean_square(deviation(cells, truth, EightBit()(truth)))
    expected = EIGHT_BIT_NOISE * (1 - tolerance) ** 1.5
    assert cells.deviation_level == pytest.approx(expected)
    # At 1 the cells are a little too narrow where the misfit happens to be above the noise.
    assert left.tolist() == pytest.approx([expected] * 2, rel=0.02, abs=1e-3 * EIGHT_BIT_NOISE)
    assert cells.deviation_levels(3).tolist() == pytest.approx([expected] * 3)


def test_other_observations_leave_nothing_at_the_true_picture():
    for observation in (*ALL, WhiteNoise(level=0.1)):
        assert observation.deviation_levels(2).tolist() == [0, 0]


@given(seed=seeds, beyond=st.floats(0, 5), sign=st.sampled_from([-1.0, 1.0]))
@drawn
def test_values_beyond_a_clipped_one_do_not_count(seed, beyond, sign):
    image = grid(seed, 1, 3, 4, 4, largest=0.9)
    image[..., 1] = sign
    pictures = image.clone()
    pictures[..., 1] = sign * (1 + beyond)
    assert torch.count_nonzero(deviation(RoundingCells(), pictures, image)) == 0
    pictures[..., 1] = sign * (1 - 2 * HALF_LEVEL)  # on the other side they do
    left = deviation(RoundingCells(), pictures, image)
    assert (left[..., 1] * sign < 0).all()
    assert torch.count_nonzero(left[..., 2:]) == 0


@given(seed=seeds, tolerance=tolerances, multiple=st.floats(1, 40))
@drawn
def test_far_from_the_picture_the_cells_shrink_with_the_square_of_the_misfit(
    seed, tolerance, multiple
):
    image = grid(seed, 2, 3, 5, 5, largest=0.3)
    pictures = off_by(image, uniform(seed + 1, 2, 3, 5, 5), multiple * EIGHT_BIT_NOISE)
    assume(float(pictures.abs().max()) < 1)
    hidden = (pictures - image) - deviation(RoundingCells(tolerance=tolerance), pictures, image)
    width = tolerance * HALF_LEVEL / multiple**2
    rounding = 1e-15  # of the pictures, whose difference this is
    assert float(hidden.abs().max()) <= width * (1 + 1e-9) + rounding
    outside = (pictures - image).abs() > width
    torch.testing.assert_close(
        hidden[outside], width * (pictures - image).sign()[outside], rtol=1e-9, atol=1e-12
    )


@given(seed=seeds, step=st.floats(1e-9, 1e-4))
@drawn
def test_cells_are_continuous_where_rounding_jumps(seed, step):
    image = grid(seed, 1, 3, 4, 4, largest=0.5)
    edge = image + HALF_LEVEL * normal(seed + 1, 1, 3, 4, 4).sign()
    inner, outer = (edge + factor * step * (edge - image).sign() for factor in (-1, 1))
    jump = (EightBit()(outer) - EightBit()(inner)).abs()
    torch.testing.assert_close(jump, torch.full_like(jump, 2 * HALF_LEVEL))
    cells = RoundingCells()
    moved = (cells.observe(outer, image)[0] - cells.observe(inner, image)[0]).abs()
    # 2 from the step, and what narrower cells add: d near = 2 near d misfit / misfit.
    assert float(moved.max()) <= 4 * step + 1e-12


def test_the_tolerance_changes_what_is_left():
    truth = uniform(0, 1, 3, 8, 8)
    image = EightBit()(truth)
    wide, narrow = (deviation(RoundingCells(tolerance=t), truth, image).norm() for t in (0.9, 0.5))
    assert 0 < wide < narrow < (truth - image).norm()


def test_a_cell_called_is_rounding():
    pictures = smooth()
    assert torch.equal(RoundingCells()(pictures), EightBit()(pictures))
    assert RoundingCells().noise_level == EIGHT_BIT_NOISE


@pytest.mark.parametrize("tolerance", [0.0, -0.5, 1.01, math.nan])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match=rf"\(0, 1\], got {tolerance}"):
        RoundingCells(tolerance=tolerance)


@given(
    seed=seeds,
    level=st.floats(0.005, 0.1),
    share=st.floats(0.1, 1),
    multiple=st.floats(0, 2) | st.sampled_from([1 - 1e-6, 1 + 1e-6]),
)
@drawn
def test_white_noise_leaves_nothing_exactly_up_to_its_share_of_the_level(
    seed, level, share, multiple
):
    assume(abs(multiple - 1) > 1e-9)
    image = 0.3 * uniform(seed, 2, 3, 5, 5)
    pictures = off_by(image, uniform(seed + 1, 2, 3, 5, 5), multiple * share * level)
    left = deviation(WhiteNoise(level=level, share=share), pictures, image).flatten(1)
    if multiple < 1:
        assert torch.count_nonzero(left) == 0
    else:
        assert (left != 0).any(1).all()


@given(seed=seeds, multiple=st.floats(1.01, 20))
@drawn
def test_white_noise_keeps_the_direction_and_takes_its_own_part_off(seed, multiple):
    noise = WhiteNoise(level=0.02, share=0.9)
    image = 0.3 * uniform(seed, 2, 3, 5, 5)
    pictures = off_by(image, uniform(seed + 1, 2, 3, 5, 5), multiple * 0.9 * 0.02)
    assume(float(pictures.abs().max()) < 1)
    torch.testing.assert_close(
        deviation(noise, pictures, image),
        (1 - 1 / multiple**2) * (pictures - image),
        rtol=1e-5,  # n^2 times a count of values is formed in float32
        atol=1e-7,
    )


@given(seed=seeds, a=st.floats(0, 3), b=st.floats(0, 3))
@drawn
def test_white_noise_is_continuous_and_grows_with_the_misfit(seed, a, b):
    image = 0.3 * uniform(seed, 1, 3, 5, 5)
    error = uniform(seed + 1, 1, 3, 5, 5)
    near, far = (
        root_mean_square(
            deviation(WhiteNoise(level=0.02), off_by(image, error, m * 0.98 * 0.02), image)
        )
        for m in sorted((a, b))
    )
    # m - 1/m beyond 1, in units of the noise: a slope of at most 2.
    assert -1e-12 <= float(far - near) <= 2 * abs(a - b) * 0.98 * 0.02 + 1e-12


def test_white_noise_clips():
    pictures = smooth()
    assert torch.equal(WhiteNoise(level=0.1)(pictures), pictures.clamp(-1, 1))
    seen, before = WhiteNoise(level=0.1).observe(pictures, torch.zeros_like(pictures))
    assert torch.equal(before, pictures.clamp(-1, 1))
    assert float(seen.abs().max()) <= 1
    assert WhiteNoise(level=0.1).noise_levels(2).tolist() == pytest.approx([0.1, 0.1])


def test_values_that_the_noise_was_clipped_from_leave_its_budget_alone():
    """Half of x is white, and so is D(z) there: the misfit of the other half decides."""
    image = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    image[..., :2] = 1.0
    pictures = image + 0.5 * (image == 1)
    pictures[0, ..., 2:] = 0.019
    pictures[1, ..., 2:] = 0.021
    left = deviation(WhiteNoise(level=0.02, share=1.0), pictures, image).flatten(1)
    assert (left != 0).any(1).tolist() == [False, True]


def test_values_that_the_noise_was_clipped_from_do_not_count_in_the_misfit():
    """x is white where D(z) + noise was above: what is missing there may be noise."""
    image = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    image[..., :2] = 1.0
    pictures = image - 0.04 * (image == 1)
    assert torch.count_nonzero(deviation(WhiteNoise(level=0.02), pictures, image)) == 0


def test_a_picture_of_nothing_but_clipped_values_is_no_nan():
    white = torch.ones(1, 3, 4, 4)
    assert torch.equal(WhiteNoise(level=0.02).observe(1.2 * white, white)[0], white)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"level": 0.0}, "0.0"),
        ({"level": -0.1}, "-0.1"),
        ({"level": math.inf}, "inf"),
        ({"level": math.nan}, "nan"),
        ({"level": 0.1, "share": 0.0}, "share .*0.0"),
        ({"level": 0.1, "share": 1.1}, "share .*1.1"),
        ({"level": 0.1, "share": math.nan}, "share .*nan"),
    ],
)
def test_noise_without_a_level_or_with_a_wrong_share_is_refused(options, word):
    with pytest.raises(ValueError, match=word):
        WhiteNoise(**options)


SEEING = (*INNER, RoundingCells(tolerance=0.5), Masked(known()), Jpeg(quality=75))


@pytest.mark.parametrize("observation", SEEING, ids=repr)
@pytest.mark.parametrize("size", [0.0, 1e-3, 0.01, 0.3])
def test_a_row_is_observed_alone_as_in_its_batch_bit_for_bit(observation, size):
    image = grid(0, 3, 3, 6, 8).float()
    scale = torch.tensor([1.0, 0.1, 3.0]).reshape(3, 1, 1, 1)
    pictures = image + size * scale * normal(1, 3, 3, 6, 8, dtype=torch.float32)
    together = observation.observe(pictures, image)
    for row in range(3):
        alone = observation.observe(pictures[row : row + 1], image[row : row + 1])
        for a, b in zip(alone, together, strict=True):
            assert torch.equal(a[0], b[row])


@pytest.mark.parametrize("observation", [RoundingCells(), WhiteNoise(level=0.02), Masked(known())])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_observed_has_the_dtype_of_the_picture(observation, dtype):
    image = grid(0, 2, 3, 6, 8, largest=0.9).to(dtype)
    pictures = image + (0.05 * normal(1, 2, 3, 6, 8)).to(dtype)
    for seen in observation.observe(pictures, image):
        assert seen.dtype == dtype
        assert bool(seen.isfinite().all())
    same = observation.observe(image, image)[0]
    assert torch.equal(same, image)
