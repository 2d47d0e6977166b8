"""Table S2: step sizes that follow a schedule."""

import torch

from benchmarks.paper import (
    table_s2,
)
from fixpoint import ForwardStep, schedules, solve
from fixpoint.adapters import DecoderInversion, EightBit, nmse_db


def test_a_constant_schedule_is_the_iterator_itself(small):
    autoencoder = small.autoencoders["small"]
    truth, pictures = small.observed("small")
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, pictures, EightBit())
    trajectory = table_s2.steps_of_varying_size(
        operator, truth, lambda rate: ForwardStep(step_size=rate), schedules.constant(0.5), 4
    )
    iterator = ForwardStep(step_size=0.5)
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 3, "keep": "last"}
    solution = solve(operator, operator.start, iterator, **options)
    assert torch.equal(trajectory.errors[-1], nmse_db(solution.z, truth))
