"""What is merged of the dimensions of operands, and what is refused."""

import pytest
import torch

from fixpoint.kernels.strides import BLOCK, merged_strides


def channels_last(x):
    return x.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("layout", [torch.clone, channels_last])
def test_rows_of_one_dense_layout_are_a_single_line(layout):
    x = layout(torch.randn(2, 4, 5, 6))
    merged = merged_strides(x, x)
    assert (merged.rows, merged.size, merged.sizes) == (2, 120, (120,))
    assert merged.of_operands == ((120, (1,)), (120, (1,)))


def test_dimensions_merge_only_where_all_operands_agree():
    x = torch.randn(2, 4, 5, 6)
    merged = merged_strides(x, channels_last(x))
    assert merged.sizes == (30, 4)
    assert merged.of_operands == ((120, (1, 30)), (120, (4, 1)))


def test_elements_are_visited_in_the_memory_order_of_the_first_operand():
    x = torch.randn(2, 4, 5, 6)
    assert merged_strides(channels_last(x), x).of_operands == ((120, (1, 4)), (120, (30, 1)))


def test_the_strides_reach_every_element_once():
    x = torch.arange(2 * 4 * 5 * 6).reshape(2, 5, 6, 4).permute(0, 3, 1, 2)[:, :, ::2]
    merged = merged_strides(x)
    (row, steps), count = merged.of_operands[0], torch.tensor([0])
    for size, step in zip(merged.sizes, steps, strict=True):
        count = (count.unsqueeze(0) + step * torch.arange(size).unsqueeze(1)).flatten()
    for i in range(merged.rows):
        found = torch.as_strided(x, (240,), (1,), 0)[i * row + count]
        assert torch.equal(found.sort().values, x[i].flatten().sort().values)
    assert merged.span >= int(count.max())


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (0, 5), (3, 0)])
def test_single_numbers_and_nothing_have_strides_too(shape):
    merged = merged_strides(torch.zeros(shape))
    assert merged.rows == shape[0]
    assert merged.size == torch.zeros(shape)[:1].numel() or shape[0] == 0


def test_the_blocks_of_a_row_depend_on_its_size_alone():
    for rows in (1, 5):
        assert merged_strides(torch.zeros(rows, BLOCK)).blocks == 1
        assert merged_strides(torch.zeros(rows, BLOCK + 1)).blocks == 2


def test_offsets_that_do_not_fit_32_bits_are_not_representable():
    long = torch.empty(2, 2**31, device="meta")
    assert not merged_strides(long).representable
    assert merged_strides(long[:, : 2**30]).representable
    sparse = torch.empty(2, 3, 2**30, device="meta")[:, :, :2]
    assert not merged_strides(sparse).representable


def test_operands_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"operands of \(2, 4\) and \(1, 4\)"):
        merged_strides(torch.zeros(2, 4), torch.zeros(1, 4))
