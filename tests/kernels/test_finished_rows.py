import pytest
import torch

from fixpoint import kernels
from fixpoint.kernels.finished_rows import keep_finished


def test_finished_rows_keep_the_old_values_whatever_is_new():
    old, new = torch.randn(2, 3, 4)
    new[1] = torch.nan
    kept = keep_finished(torch.tensor([False, True, False]), new, old)
    assert torch.equal(kept, torch.stack((new[0], old[1], new[2])))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_results_lie_in_memory_as_the_iterate_does(layout):
    z = torch.randn(3, 5, 4, 4).to(memory_format=layout)
    t = torch.randn(3, 5, 4, 4)
    assert kernels.forward_step(z, t, 0.5).stride() == z.stride()
    for each in kernels.inertial_km(z, t, z, 0.5, 0.5):
        assert each.stride() == z.stride()
