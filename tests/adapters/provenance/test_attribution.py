import pytest
import torch

from fixpoint.adapters import Autoencoder, Clip, EightBit
from fixpoint.adapters.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from fixpoint.adapters.provenance.attribution import attribute
from fixpoint.adapters.provenance.calibration import REAL, Calibration, calibrate

FEW = 6  # iterations
SIGNED = {"value_range": (-1, 1)}


def made_up():
    return Calibration({REAL: torch.tensor([1.0, 2.0, 3.0])}, "EightBit()", "digest", FEW)


def test_pictures_of_the_model_are_attributed_and_photographs_are_not(
    autoencoder, crops, decoded, reference
):
    own = attribute(autoencoder, EightBit()(decoded), reference, false_positive_rate=0.2, **SIGNED)
    assert own.made_by_model.all()
    assert torch.equal(own.p_value, torch.full((4,), 0.2, dtype=torch.float64))
    real = attribute(autoencoder, EightBit()(crops), reference, false_positive_rate=0.2, **SIGNED)
    assert not real.made_by_model.any()
    assert (own.score.min() - real.score.max()) > 15


def test_pictures_of_another_model_can_be_a_group_of_their_own(
    autoencoder, crops, decoded, reference
):
    other = Autoencoder.embedded("adversarial")
    with torch.no_grad():
        pictures = EightBit()(other.decode(other.encode(crops)))
    told = calibrate(autoencoder, crops, others={"other": pictures}, max_iterations=FEW, **SIGNED)
    options = {"false_positive_rate": 0.2} | SIGNED
    assert not attribute(autoencoder, pictures, told, **options).made_by_model.any()
    own = attribute(autoencoder, EightBit()(decoded), told, **options)
    assert own.made_by_model.all()
    untold = attribute(autoencoder, pictures, reference, **options)
    assert untold.made_by_model.any()
    assert (own.score.min() - untold.score.max()) > 10


def test_what_cannot_be_judged_is_refused_before_the_model_runs(
    autoencoder, crops, reference, monkeypatch
):
    def run(*arguments, **options):
        pytest.fail("the model ran")

    monkeypatch.setattr(DiffusersAutoencoder, "encode", run)
    picture = EightBit()(crops[:1])
    known = made_up()
    for arguments, options, words in (
        ((picture, reference), {"false_positive_rate": 0.01}, "99 pictures"),
        ((picture, reference), {"false_positive_rate": 0.0}, "between 0 and 1"),
        ((picture, reference), {"observation": Clip()}, "seen through"),
        ((picture, known), {}, "seen through"),
        ((picture[:, :, :30], reference), {}, "multiples of 4"),
        (([picture, crops[:1] * 0.999], reference), {}, "attribute them apart"),
    ):
        options = {"false_positive_rate": 0.3} | options
        with pytest.raises(ValueError, match=words):
            attribute(autoencoder, *arguments, **options, **SIGNED)
    other = Autoencoder.embedded("adversarial")
    with pytest.raises(ValueError, match="another model"):
        attribute(other, picture, reference, false_positive_rate=0.3, **SIGNED)
    with pytest.raises(TypeError, match="from_functions"):
        attribute(torch.nn.Identity(), picture, reference, false_positive_rate=0.3)
