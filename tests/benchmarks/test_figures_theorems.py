"""Figures 2, 4 and S4: gradient descent is replayed as an iterator."""

import torch

from benchmarks.paper import (
    figures_theorems,
)
from fixpoint import solve
from fixpoint.adapters import DecoderInversion


def test_a_replay_visits_the_recorded_points(small):
    truth, pictures = small.observed("small")
    autoencoder = small.autoencoders["small"]
    operator = DecoderInversion(autoencoder.encode, autoencoder.decode, pictures)
    points = [truth + 0.1, truth - 0.1]
    seen = []
    solve(
        operator,
        truth,
        figures_theorems.Replay(points),
        max_iterations=2,
        rtol=0.0,
        atol=0.0,
        callback=lambda iterate: seen.append(iterate.state.point),
    )
    assert all(torch.equal(a, b) for a, b in zip(seen, [truth, *points], strict=True))
