import torch

from fixpoint.adapters import WhiteNoise
from fixpoint.adapters.pictures.observations import as_observation
from fixpoint.adapters.provenance.observed_pictures import observed, stable_repr


def test_the_batch_of_a_calibration_does_not_change_its_noise(crops):
    noise = WhiteNoise(level=0.1)
    together = observed(noise, crops, seed=3)
    apart = torch.cat([observed(noise, row, seed=3 + i) for i, row in enumerate(crops.split(1))])
    assert torch.equal(together, apart)


def test_words_for_an_observation_hold_in_another_process():
    assert " at 0x" in repr(as_observation(lambda pictures: pictures))
    assert " at 0x" not in stable_repr(as_observation(lambda pictures: pictures))
