"""Launches of Triton kernels, in Triton's interpreter."""

import math

import pytest
import torch

from fixpoint import kernels

pytest.importorskip("triton")


def test_operands_of_different_shapes_are_refused_by_the_kernels():
    z = torch.randn(2, 4, 3)
    with kernels.interpreted():
        with pytest.raises(ValueError, match=r"operands of \(2, 4, 3\) and \(1, 4, 3\)"):
            kernels.forward_step(z, z[:1], 0.5)
        with pytest.raises(ValueError, match="one per row of 2"):
            kernels.forward_step(z, z, torch.ones(1, 4, 1))
        with pytest.raises(ValueError, match="one flag per row"):
            kernels.forward_step_with_sums(z, z, 0.5, done=torch.ones(1, dtype=torch.bool))


def test_a_long_row_is_the_sum_of_many_blocks():
    size = 2048 * 1030 + 5  # more blocks than are added up at a time
    a, b = torch.randn(2, 1, size)
    exact = (a.double() * b.double()).sum(1)
    with kernels.interpreted():
        assert abs(float(kernels.row_dot(a, b) - exact)) <= 1e-5 * math.sqrt(size)
