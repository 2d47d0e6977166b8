import pytest

from fixpoint.adapters.verification.crops import cut
from fixpoint.adapters.verification.results import Verification


@pytest.fixture
def run_of():
    """A verification around the results of one method."""

    def build(one):
        crops = cut([], count=len(one.outcomes), size=16, seed=0)
        settings = {"autoencoder": "A <b>", "observation": "Identity()"}
        start = tuple(-20.0 for _ in crops)
        return Verification(settings, crops, start, 1e-7, (one,))

    return build
