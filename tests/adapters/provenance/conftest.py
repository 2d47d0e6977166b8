"""Crops of a photograph, what the model makes of them, and a calibration on them."""

import pytest
import torch

from fixpoint.adapters.provenance.calibration import calibrate

FEW = 6  # iterations
SIGNED = {"value_range": (-1, 1)}


@pytest.fixture(scope="module")
def crops(photograph):
    """Four crops of 32 x 32 of the bundled photograph: (4, 3, 32, 32)."""
    tops = photograph.unfold(2, 32, 32).unfold(3, 32, 32)
    return tops.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)


@pytest.fixture(scope="module")
def decoded(autoencoder, crops):
    """What the model makes of their encodings, not yet rounded."""
    with torch.no_grad():
        return autoencoder.decode(autoencoder.encode(crops))


@pytest.fixture(scope="module")
def reference(autoencoder, crops):
    return calibrate(autoencoder, crops, max_iterations=FEW, **SIGNED)
