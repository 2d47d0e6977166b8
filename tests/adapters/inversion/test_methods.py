import pytest
import torch

from fixpoint.adapters import EightBit
from fixpoint.adapters.inversion.methods import METHODS
from fixpoint.adapters.pictures.pictures import as_pictures


@pytest.fixture
def picture(generated):
    return as_pictures(generated[1][..., :32, :32], (-1, 1))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_to_its_limit_and_is_another_one(autoencoder, picture, name):
    method = METHODS[name]
    found = method(autoencoder, picture, iterations=3)
    assert int(found.evaluations) <= 4
    assert bool(found.latent.isfinite().all())
    for other in METHODS.keys() - {name}:
        latent = METHODS[other](autoencoder, picture, iterations=3).latent
        assert not torch.equal(latent, found.latent)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].has_operator])
def test_methods_with_an_operator_take_an_observation(autoencoder, picture, name):
    found = METHODS[name](autoencoder, picture, iterations=1, observation=EightBit())
    assert found.observation == EightBit()
