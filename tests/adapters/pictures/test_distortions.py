import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from fixpoint import ForwardStep
from fixpoint.adapters import (
    EightBit,
    Identity,
    Jpeg,
    Masked,
    RoundingCells,
    WhiteNoise,
    invert,
    invert_by_iteration,
    to_pil,
)
from fixpoint.adapters.pictures.distortions import (
    Blurred,
    CentreCrop,
    GaussianBlur,
    GaussianNoise,
    JpegFile,
    Png,
    standard_distortions,
)
from fixpoint.adapters.pictures.observations import EIGHT_BIT_NOISE, from_levels

STANDARD = standard_distortions()


@pytest.fixture
def pictures(photograph):
    """Two pictures, not on the 8-bit grid, and going beyond [-1, 1]."""
    return torch.cat([1.2 * photograph, 0.7 * photograph.flip(3) + 0.1])


def every_distortion(test):
    return pytest.mark.parametrize("distortion", STANDARD.values(), ids=STANDARD.keys())(test)


@every_distortion
def test_published_pictures_have_8_bits(distortion, pictures):
    seen = distortion(pictures)
    assert (seen.shape, seen.dtype) == (pictures.shape, pictures.dtype)
    torch.testing.assert_close(EightBit()(seen), seen, rtol=0, atol=1e-6)


@every_distortion
def test_a_picture_meets_the_same_fate_alone_and_in_a_batch(distortion, pictures):
    batch = distortion(pictures, seed=5)
    assert torch.equal(batch[1:], distortion(pictures[1:], seed=6))
    assert torch.equal(batch, distortion(pictures, seed=5))


@every_distortion
def test_every_distortion_but_saving_harms_more_than_rounding_does(distortion, pictures):
    saved = Png()(pictures)
    harmed = (distortion(pictures) - saved).square().mean().sqrt()
    assert (float(harmed) > 2 * EIGHT_BIT_NOISE) == (distortion != Png())


@every_distortion
def test_the_observation_repeats_what_happened(distortion, pictures):
    """But for chance: what is seen of the decoder's output is what was published."""
    seen, observation = distortion(pictures), distortion.observation(64, 64)
    if isinstance(distortion, GaussianNoise):
        error = (seen - pictures.clamp(-1, 1))[seen.abs() < 0.7].square().mean().sqrt()
        assert float(error) == pytest.approx(observation.level, rel=0.03)
    elif isinstance(distortion, CentreCrop):
        again, _ = observation.observe(pictures, seen)
        torch.testing.assert_close(again, seen, rtol=0, atol=1.01 / 255)
    elif observation is not None:
        assert torch.equal(observation(pictures), seen)


def test_each_harms_as_its_numbers_say(pictures):
    for less, more in (
        (JpegFile(95), JpegFile(50)),
        (JpegFile(95, subsampling="4:4:4"), JpegFile(95)),
        (CentreCrop(0.9), CentreCrop(0.5)),
        (GaussianBlur(0.5), GaussianBlur(1.5)),
        (GaussianNoise(0.02), GaussianNoise(0.1)),
    ):
        a, b = (float((each(pictures) - Png()(pictures)).square().mean()) for each in (less, more))
        assert a < b


def test_jpeg_is_that_of_a_file(pictures):
    buffer = io.BytesIO()
    to_pil(pictures[0]).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    file = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).float()
    assert torch.equal(JpegFile(75)(pictures)[0], from_levels(file))
    assert JpegFile(75).observation(64, 64) == Jpeg(quality=75)


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.floats(0, 1, exclude_min=True),
    st.integers(0, 99),
)
@settings(deadline=None, derandomize=True, database=None)
def test_a_crop_keeps_its_middle_and_repeats_its_border_around(size, side, seed):
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    crop = CentreCrop(side)
    known, seen, saved = crop.known(*size), crop(picture), Png()(picture)
    rows, columns = known.any(1).nonzero().flatten(), known.any(0).nonzero().flatten()
    assert int(known.sum()) == len(rows) * len(columns)
    assert (len(rows), len(columns)) == tuple(max(1, round(side * each)) for each in size)
    assert abs(int(rows[0]) - (size[0] - 1 - int(rows[-1]))) <= 1
    assert torch.equal(seen[..., known], saved[..., known])
    window = saved[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    margins = (
        int(columns[0]),
        size[1] - 1 - int(columns[-1]),
        int(rows[0]),
        size[0] - 1 - int(rows[-1]),
    )
    assert torch.equal(seen, torch.nn.functional.pad(window, margins, mode="replicate"))


def test_the_observation_of_a_crop_knows_its_pixels():
    observation = CentreCrop(0.5).observation(8, 12)
    assert isinstance(observation, Masked)
    assert torch.equal(observation.known, CentreCrop(0.5).known(8, 12))


def test_the_blur_is_a_gaussian_one(pictures):
    assert Blurred(1.3)(torch.full((1, 3, 9, 7), 0.2)).unique().numel() == 1
    impulse = torch.full((1, 3, 41, 41), -1.0)
    impulse[..., 20, 20] = 1
    _, response = Blurred(1.3).observe(impulse, impulse)
    weights = (response[0, 0].double() + 1) / 2
    assert float(weights.sum()) == pytest.approx(1, abs=1e-3)
    offsets = torch.arange(-20, 21, dtype=torch.float64)
    for axis in (0, 1):
        assert float((weights.sum(axis) * offsets.square()).sum()) == pytest.approx(1.69, rel=1e-2)
    image = to_pil(pictures[0]).filter(ImageFilter.GaussianBlur(1.3))
    theirs = from_levels(torch.from_numpy(np.array(image)).permute(2, 0, 1).float())
    # Pillow's blur is an approximation by boxes.
    difference = (GaussianBlur(1.3)(pictures)[0] - theirs)[:, 6:-6, 6:-6]
    assert float(difference.square().mean().sqrt()) < 0.02


def test_noise_is_white_and_of_every_row_its_own():
    flat = torch.zeros(2, 3, 64, 64)
    noise = GaussianNoise(0.1)(flat)
    assert not torch.equal(noise[0], noise[1])
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float((noise[..., 1:] * noise[..., :-1]).mean()) == pytest.approx(0, abs=3e-4)
    assert GaussianNoise(0.1).observation(64, 64) == WhiteNoise(
        level=math.hypot(0.1, EIGHT_BIT_NOISE)
    )


# Without being told, the iteration takes what it sees for all that happened, and fits the rest.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["JPEG 75", "crop 0.9", "blur 1", "noise 0.1"])
def test_an_iteration_that_is_told_comes_nearer_to_the_latent(name, autoencoder, generated):
    latent, _ = generated
    with torch.no_grad():
        seen = STANDARD[name](autoencoder.decode(latent))
    told, untold = (
        invert_by_iteration(
            autoencoder, seen, observation=o, value_range=(-1, 1), max_iterations=12
        )
        for o in (STANDARD[name].observation(64, 64), RoundingCells())
    )
    assert float(told.nmse_db(latent)) < float(untold.nmse_db(latent)) - 3


@pytest.mark.slow
def test_a_blur_inside_the_operator_is_undone(autoencoder, generated):
    latent, _ = generated
    with torch.no_grad():
        seen = GaussianBlur(1.0)(autoencoder.decode(latent))
    options = {"iterator": ForwardStep(), "max_iterations": 20, "value_range": (-1, 1)}
    told = invert(autoencoder, seen, observation=Blurred(1.0), **options)
    untold = invert(autoencoder, seen, observation=Identity(), **options)
    assert float(told.nmse_db(latent)) < -40
    assert float(untold.nmse_db(latent)) > -25


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: JpegFile(0), "quality"),
        (lambda: JpegFile(90, subsampling="4:1:1"), "subsampling"),
        (lambda: CentreCrop(0.0), "side"),
        (lambda: CentreCrop(1.1), "side"),
        (lambda: GaussianBlur(0.0), "sigma"),
        (lambda: GaussianBlur(math.nan), "sigma"),
        (lambda: GaussianNoise(0.0), "noise"),
        (lambda: Png()(torch.zeros(3, 8, 8)), "shape"),
        (lambda: Png()(torch.zeros(1, 1, 8, 8)), "shape"),
        (lambda: Png()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), "floating-point"),
    ],
)
def test_bad_input_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
