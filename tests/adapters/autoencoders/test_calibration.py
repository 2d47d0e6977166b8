"""What is measured of a pair: curvature, step maps, spread."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refuted_pairs import halves
from torch.nn.functional import avg_pool2d, conv_transpose2d, interpolate

from fixpoint.adapters import Autoencoder, EightBit, nmse_db
from fixpoint.adapters.autoencoders.calibration import (
    SIDE,
    STEPS,
    PairCalibration,
    apply_map,
    calibrate,
    calibration_of,
    covariance,
    curvature,
    example_photographs,
    first_map,
    known_pairs,
    photographs_for,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# A pair of which all is known: E D is the matrix `MIXED` on the channels of every cell.

MIXED = torch.tensor([[0.1, -0.6, 0.2], [0.5, 0.2, -0.3], [-0.3, 0.1, -0.5]])


def encode(x):
    return apply_map(MIXED, avg_pool2d(x, 4))


def mean_of_cells(x):
    """The encoder that is right."""
    return avg_pool2d(x, 4)


def decode(z):
    return interpolate(z, scale_factor=4.0)


def coloured_cells(count=12, side=16):
    """Pictures of cells of one random colour each."""
    draws = torch.Generator().manual_seed(0)
    cells = torch.rand(count, 3, side // 4, side // 4, generator=draws) * 1.8 - 0.9
    return interpolate(cells, scale_factor=4.0)


@pytest.fixture(scope="module")
def measured():
    return calibrate((encode, decode), coloured_cells())


# Curvature


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 6),
    factor=st.sampled_from((2, 4)),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_curvature_is_exact_for_a_linear_decoder_of_cells_apart(batch, channels, factor, cells):
    kernel = drawn(channels, 3, factor, factor)
    z = drawn(batch, channels, *cells, seed=1)
    found = curvature(lambda z: conv_transpose2d(z, kernel, stride=factor), z)
    rows = kernel.flatten(1)
    torch.testing.assert_close(found, rows @ rows.T)


def test_curvature_is_the_mean_of_every_cells_own():
    kernel = drawn(4, 3, 4, 4) / 4

    def bent(z):
        return torch.tanh(conv_transpose2d(z, kernel, stride=4))

    z = drawn(2, 4, 3, 2, seed=1)
    blocks = []
    for row in z:
        jacobian = torch.func.jacrev(lambda z: bent(z[None])[0].flatten())(row).flatten(2)
        for cell in range(6):
            blocks.append(jacobian[:, :, cell].T @ jacobian[:, :, cell])
    expected = torch.stack(blocks).mean(0)
    torch.testing.assert_close(curvature(bent, z), expected, rtol=1e-2, atol=1e-3)


def test_the_cross_terms_of_overlapping_cells_average_out():
    kernel = drawn(3, 3, 8, 8) / 8
    z = drawn(4, 3, 16, 16, seed=1)
    found = curvature(lambda z: conv_transpose2d(z, kernel, stride=4, padding=2), z)
    rows = kernel.flatten(1)
    error = (found - rows @ rows.T).norm() / (rows @ rows.T).norm()
    assert float(error) < 0.15  # the border's cells are cut off, too


def test_curvature_takes_two_passes_through_the_decoder_a_channel_and_no_gradient():
    calls = []

    def counted(z):
        calls.append(z.requires_grad)
        return decode(z)

    curvature(counted, drawn(2, 3, 2, 2).requires_grad_())
    assert calls == [False] * 2 * 2 * 3


def test_curvature_is_symmetric_and_nonnegative(measured):
    assert measured.curvature.equal(measured.curvature.T)
    assert float(torch.linalg.eigvalsh(measured.curvature.double()).min()) >= -1e-6


# Step maps


def test_the_first_map_inverts_a_channel_matrix(measured):
    product = measured.maps[0] @ MIXED
    torch.testing.assert_close(product, torch.eye(3), rtol=0, atol=0.1)  # the ridge shortens it


def test_the_maps_lead_to_the_latent_where_the_pair_is_a_channel_matrix(measured):
    assert measured.encoder_db > 0  # E D turns and shrinks
    assert measured.mapped_db < -40
    truth = encode(coloured_cells(2))
    start = encode(EightBit()(decode(truth)))
    z = start
    for matrix in measured.maps:
        z = z - apply_map(matrix, encode(EightBit()(decode(z))) - start)
    error = (z - truth).norm() / truth.norm()
    assert float(error) < 0.01 * float((start - truth).norm() / truth.norm())


def test_the_maps_are_near_zero_where_the_encoder_is_right_already():
    right = calibrate((mean_of_cells, decode), coloured_cells())
    assert right.encoder_db < -40
    assert float(right.maps.abs().max()) < 0.1
    assert right.mapped_db < right.encoder_db + 1


def test_the_maps_are_zero_where_nothing_is_left_to_map():
    exact = calibrate((mean_of_cells, decode), EightBit()(coloured_cells()))
    assert exact.maps.eq(0).all()


def test_a_map_is_the_least_squares_fit():
    truth, start = known_pairs((encode, decode), coloured_cells())
    matrix = first_map((encode, decode), truth, start)
    residual = encode(EightBit()(decode(start))) - start

    def left(matrix):
        return float((apply_map(matrix, residual) - (start - truth)).double().square().sum())

    for seed in range(4):
        other = matrix + 0.1 * drawn(3, 3, seed=seed).float()
        assert left(matrix) < left(other)


def test_the_mapped_error_is_of_pictures_that_the_maps_were_not_fitted_to():
    pair = halves()
    photographs = example_photographs(
        8, count=4
    )  # eight cells in each half: far too few for the maps

    def mapped(maps, photographs):
        truth, start = known_pairs(pair, photographs)
        z = start
        for matrix in maps:
            z = z - apply_map(matrix, pair[0](EightBit()(pair[1](z))) - start)
        return float(nmse_db(z, truth).mean())

    whole = calibrate(pair, photographs)
    one, other = photographs[:2], photographs[2:]
    apart = (
        mapped(calibrate(pair, one).maps, other) + mapped(calibrate(pair, other).maps, one)
    ) / 2
    assert whole.mapped_db == pytest.approx(apart, abs=1e-3)
    assert whole.mapped_db > mapped(whole.maps, photographs) + 3


# Spread


def test_the_spread_is_the_covariance_of_the_encoders_error(measured):
    truth, start = known_pairs((encode, decode), coloured_cells())
    torch.testing.assert_close(measured.spread, covariance(start - truth))
    cells = (start - truth).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(measured.spread.double(), cells @ cells.T / cells.shape[1])
    change = MIXED - torch.eye(3)
    expected = change @ covariance(truth) @ change.T
    torch.testing.assert_close(measured.spread, expected, rtol=0.02, atol=0.002)


def test_noise_widens_the_spread():
    photographs = coloured_cells() / 2
    noise = 0.1 * drawn(*photographs.shape).float()
    noisy = calibrate((mean_of_cells, decode), photographs, noise)
    expected = 0.1**2 / 16 * torch.eye(3)  # means of 4 x 4 values
    torch.testing.assert_close(noisy.spread, expected, rtol=0.2, atol=1e-4)
    assert noisy.encoder_db > calibrate((mean_of_cells, decode), photographs).encoder_db + 10


# Two measurements, one result


def test_a_measurement_is_deterministic_and_leaves_the_generator_as_it_was(measured):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = calibrate((encode, decode), coloured_cells())
    assert torch.get_rng_state().equal(state)
    for field in dataclasses.fields(PairCalibration):
        one, other = getattr(measured, field.name), getattr(again, field.name)
        assert one.equal(other) if torch.is_tensor(one) else one == other


def test_an_autoencoder_is_measured_once():
    calls = []

    def counted(x):
        calls.append(len(x))
        return encode(x)

    autoencoder = Autoencoder.from_functions(counted, decode)
    like = torch.zeros(1, 3, 64, 64)
    first, before = calibration_of(autoencoder, like), len(calls)
    assert calibration_of(autoencoder, like) is first
    assert len(calls) == before
    other = Autoencoder.from_functions(counted, decode)
    assert calibration_of(other, like) is not first


@pytest.mark.parametrize("broken", ["encode", "decode"])
def test_a_pair_that_returns_no_numbers_is_refused(broken):
    def spoiled(half):
        return lambda x: half(x) * math.nan

    pair = (spoiled(encode), decode) if broken == "encode" else (encode, spoiled(decode))
    with pytest.raises(ValueError, match="cannot be calibrated: it returned NaN or infinity"):
        calibrate(pair, coloured_cells(2))


# Files


def test_a_calibration_is_read_back_as_it_was_written(measured, tmp_path):
    measured.save(tmp_path / "pair.safetensors")
    read = PairCalibration.load(tmp_path / "pair.safetensors")
    for field in dataclasses.fields(PairCalibration):
        one, other = getattr(measured, field.name), getattr(read, field.name)
        assert one.equal(other) if torch.is_tensor(one) else one == other
    assert repr(read) == repr(measured)
    assert [path.name for path in tmp_path.iterdir()] == ["pair.safetensors"]


@pytest.mark.parametrize("number", [math.inf, -math.inf, -12.345678901234567])
def test_every_number_is_read_back_exactly(measured, tmp_path, number):
    dataclasses.replace(measured, mapped_db=number).save(tmp_path / "pair.safetensors")
    assert PairCalibration.load(tmp_path / "pair.safetensors").mapped_db == number


def damaged(data):
    yield "empty", b""
    yield "cut off", data[: len(data) // 2]
    yield "one byte short", data[:-1]
    yield "header gone", data[8:]
    yield "other bytes", b"no safetensors file" * 20


@pytest.mark.parametrize("kind", [kind for kind, _ in damaged(b"0")])
def test_a_damaged_file_is_refused(measured, tmp_path, kind):
    path = tmp_path / "pair.safetensors"
    measured.save(path)
    path.write_bytes(dict(damaged(path.read_bytes()))[kind])
    with pytest.raises(ValueError, match=r"pair\.safetensors holds no calibration of a pair: "):
        PairCalibration.load(path)


def of_other_shapes(measured):
    three, spread, two = measured.curvature, measured.spread, torch.eye(2)
    yield "a latent", {"latent": torch.zeros(1, 3, 4, 4)}
    yield "no spread", {"curvature": three, "maps": measured.maps}
    yield "other channels", {"curvature": three, "maps": measured.maps, "spread": two}
    yield "a vector", {"curvature": three[0], "maps": measured.maps, "spread": spread}
    yield "one map", {"curvature": three, "maps": measured.maps[0], "spread": spread}


@pytest.mark.parametrize("kind", ["a latent", "no spread", "other channels", "a vector", "one map"])
def test_a_file_of_other_tensors_is_refused(measured, tmp_path, kind):
    from safetensors.torch import save_file

    tensors = {
        name: tensor.contiguous() for name, tensor in dict(of_other_shapes(measured))[kind].items()
    }
    numbers = {"encoder_db": "-1.0", "mapped_db": "-2.0"}
    save_file(tensors, tmp_path / "other.safetensors", numbers)
    with pytest.raises(ValueError, match=r"other\.safetensors holds no calibration of a pair: "):
        PairCalibration.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("numbers", [None, {"encoder_db": "-1.0"}, {"encoder_db": "x"}])
def test_a_file_without_its_numbers_is_refused(measured, tmp_path, numbers):
    from safetensors.torch import save_file

    tensors = {name: getattr(measured, name) for name in ("curvature", "maps", "spread")}
    save_file(tensors, tmp_path / "bare.safetensors", numbers)
    with pytest.raises(ValueError, match=r"bare\.safetensors holds no calibration of a pair: "):
        PairCalibration.load(tmp_path / "bare.safetensors")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no calibration of a pair"):
        PairCalibration.load(tmp_path / "none.safetensors")


# Photographs


@settings(deadline=None, max_examples=8)
@given(side=st.integers(4, 300), count=st.integers(1, 5))
def test_the_photographs_are_crops_on_the_range_of_pictures(side, count):
    crops = example_photographs(side, count=count)
    assert crops.shape == (count, 3, side, side)
    assert float(crops.abs().max()) <= 1
    assert crops.equal(example_photographs(side, count=count))
    if count > 1 and side >= 32:
        assert not crops[0].equal(crops[1])


def test_photographs_larger_than_the_one_in_the_package_are_made():
    crops = example_photographs(1500, count=1)
    assert crops.shape == (1, 3, 1500, 1500)
    assert crops.isfinite().all()


@pytest.mark.parametrize(("multiple", "side"), [(4, SIDE), (48, 96)])
def test_photographs_have_the_smallest_side_that_the_autoencoder_takes(multiple, side):
    def checked(x):
        if x.shape[-1] % multiple or x.shape[-2] % multiple:
            raise RuntimeError("bad size")
        return encode(x)

    def checked_decode(z):
        if 4 * z.shape[-1] % multiple or 4 * z.shape[-2] % multiple:
            raise RuntimeError("bad size")
        return decode(z)

    autoencoder = Autoencoder.from_functions(checked, checked_decode)
    assert photographs_for(autoencoder, torch.zeros(1, 3, 480, 192)).shape[-2:] == (side, side)


def test_a_measurement_names_what_it_found(measured):
    assert repr(measured).startswith("PairCalibration(3 channels, encoder ")
    assert f"{STEPS} mapped steps -" in repr(measured)
