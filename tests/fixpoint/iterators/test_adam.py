"""Adam is torch's Adam, fed with T z."""

import pytest
import torch
from iterated import states
from problems import problem

from fixpoint import Adam, as_operator, schedules

# Adam


@pytest.mark.parametrize(
    "schedule", [schedules.constant(0.05), schedules.warmup_cosine(0.05, 40)], ids=type
)
def test_adam_is_torch_adam_fed_with_the_residual(schedule):
    operator, _, z0 = problem()
    parameter = torch.nn.Parameter(z0.clone())
    optimizer = torch.optim.Adam([parameter], lr=1.0, betas=(0.8, 0.95), eps=1e-6)
    iterator = Adam(schedule=schedule, betas=(0.8, 0.95), eps=1e-6)
    for step, state in enumerate(states(iterator, operator, z0, 40)):
        torch.testing.assert_close(state.z, parameter.data)
        optimizer.param_groups[0]["lr"] = schedule(step)
        parameter.grad = operator(parameter.data)
        optimizer.step()


@pytest.mark.parametrize(
    ("dtype", "eps"), [(torch.float32, 1e-8), (torch.float16, 1e-4), (torch.bfloat16, 1e-4)]
)
def test_adam_chooses_the_papers_eps_by_precision(dtype, eps):
    operator = as_operator(lambda z: 1e-5 * z)
    z0 = torch.ones(1, 3, dtype=dtype)
    *_, chosen = states(Adam(), operator, z0, 2)
    *_, given_ = states(Adam(eps=eps), operator, z0, 2)
    assert torch.equal(chosen.z, given_.z)
    assert chosen.z.dtype == dtype
    assert chosen.first_moment.dtype == torch.float32
