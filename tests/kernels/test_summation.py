import pytest
import torch

from fixpoint.kernels import row_dot, row_norm

SIZES = (1, 7, 41, 1000, 4095, 4096, 4097, 4103, 16384, 40000, 70001)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_row_sums_to_the_same_bits_alone_and_in_a_batch(size, dtype):
    a, b = torch.randn(2, 5, size).to(dtype)
    together = row_dot(a, b)
    for row in range(5):
        assert torch.equal(row_dot(a[row : row + 1], b[row : row + 1])[0], together[row])


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_do_not_depend_on_the_number_of_threads(threads):
    a = torch.randn(1, 300_000)
    reference = row_norm(a)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(row_norm(a), reference)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_accurate_to_rounding(size):
    a, b = torch.randn(2, 3, size)
    exact = (a.double() * b.double()).sum(1)
    scale = (a.double() * b.double()).abs().sum(1)
    assert ((row_dot(a, b).double() - exact).abs() <= 1e-6 * scale).all()


def test_sixteen_bit_rows_are_accumulated_in_float32():
    a = torch.full((1, 5000), 1.0, dtype=torch.bfloat16)
    assert row_dot(a, a).dtype == torch.float32
    assert float(row_dot(a, a)) == 5000


def test_strides_do_not_matter():
    a = torch.randn(3, 4, 9, 9)
    strided = a.to(memory_format=torch.channels_last)
    assert strided.stride() != a.stride()
    assert torch.equal(row_norm(strided), row_norm(a))
