"""The embedded pair whose halves were trained apart: small, no spoilt net, and hard to invert.

The range of its encoder is that of FLUX.2's tiny autoencoder, which is at -9 dB.
"""

import json

import pytest
import torch
from real_pairs import KODAK, needs_kodak

from benchmarks.shared.jacobians import spectrum
from benchmarks.studies.real_pairs import crops
from fixpoint.adapters import Autoencoder, EightBit, invert, invert_by_encoder
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.autoencoders.folder import MODELS

FOLDER = MODELS / "distilled"
RANGE = {"value_range": (-1, 1)}


@pytest.fixture(scope="module")
def pair():
    return Autoencoder.embedded("distilled")


def drawn(pair, photographs):
    """z* and the 8-bit pictures that the pair makes of photographs."""
    with torch.no_grad():
        truth = pair.encode(photographs)
        return truth, EightBit()(pair.decode(truth))


@pytest.fixture(scope="module")
def known(pair):
    return drawn(pair, example_photographs(64, 64, count=6))


def test_it_is_small_has_a_card_and_says_how_it_was_trained(pair):
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert size <= 4e6
    assert "python -m benchmarks.training.distilled" in (FOLDER / "README.md").read_text()
    assert (pair.factor, pair.channels) == (8, 16)


def test_each_half_alone_does_what_the_teacher_does(pair):
    """Not a spoilt net: the decoder draws the teacher's pictures, the pair draws photographs."""
    report = json.loads((FOLDER / "training.json").read_text())
    assert report["decoder_psnr_db_to_teacher"] > 24
    photographs = example_photographs(64, 64, count=16)
    error = (drawn(pair, photographs)[1] - photographs).square().flatten(1).mean(1)
    assert float((10 * (4 / error).log10()).mean()) > 20


def test_the_encoder_alone_is_as_far_off_as_that_of_a_published_pair(pair):
    truth, seen = drawn(pair, example_photographs(64, 64, count=48))
    assert -12 < float(invert_by_encoder(pair, seen, **RANGE).nmse_db(truth).mean()) < -7


@needs_kodak
def test_so_it_is_on_kodaks_photographs(pair):
    truth, seen = drawn(pair, crops(KODAK, 64))
    assert -12 < float(invert_by_encoder(pair, seen, **RANGE).nmse_db(truth).mean()) < -7


def test_e_d_has_eigenvalues_of_negative_real_part(pair):
    truth = pair.encode(example_photographs(32, 32, count=2))
    found = spectrum(pair, truth)
    assert min(found["negative"]) >= 0.1 * truth[0].numel()
    assert max(found["least_of_symmetric_part"]) < -0.5  # E D is not even monotone
    ratio = torch.tensor(found["greatest_singular_value_of_decoder"]) / torch.tensor(
        found["least_singular_value_of_decoder"]
    )
    assert float(ratio.min()) > 500


def test_an_explained_picture_leaves_the_latent_far_off(pair, known):
    """D hardly draws some directions: its picture is found, the latent that drew it is not."""
    truth, seen = known
    inversion = invert(pair, seen, gradients="never", **RANGE)
    assert float(inversion.psnr_db.min()) > 50
    assert float(inversion.nmse_db(truth).mean()) > -20


@pytest.mark.parametrize("gradients", ["auto", "never"])
def test_invert_is_never_worse_than_the_encoder(pair, known, gradients):
    truth, seen = known
    inversion = invert(pair, seen, gradients=gradients, **RANGE)
    encoder = invert_by_encoder(pair, seen, **RANGE).nmse_db(truth)
    assert bool((inversion.nmse_db(truth) <= encoder + 1e-6).all())
