"""The states of an iterator, step by step."""

import torch


def states(iterator, operator, z, steps):
    state = iterator.init(operator, z)
    yield state
    for _ in range(steps):
        state = iterator.step(operator, state)
        yield state


def ones():
    return torch.ones(1, 1, dtype=torch.float64)
