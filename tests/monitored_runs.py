"""Runs with monitors, from random starts."""

import pytest
import torch

from fixpoint import solve

outside = pytest.mark.filterwarnings("ignore::fixpoint.TheoremWarning")


def watch(operator, z0, iterator, *monitors, **options):
    options = {"rtol": 0.0, "atol": 0.0, "max_iterations": 25} | options
    return solve(operator, z0, iterator, monitors=monitors, **options)


def start(seed=0, rows=3, size=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    zero, offset = torch.randn(2, rows, size, generator=generator, dtype=torch.float64)
    return zero.to(dtype), (zero + offset).to(dtype)
