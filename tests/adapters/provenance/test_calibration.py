import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fixpoint.adapters import Autoencoder, Jpeg, invert_by_iteration
from fixpoint.adapters.autoencoders.autoencoder import EMBEDDED
from fixpoint.adapters.provenance.attribution_score import attribution_score
from fixpoint.adapters.provenance.calibration import (
    REAL,
    Calibration,
    calibrate,
    digest_of_model,
    pictures_needed,
)

FEW = 6  # iterations
SIGNED = {"value_range": (-1, 1)}


def test_a_picture_has_to_beat_every_group():
    groups = {REAL: torch.tensor([1.0, 2.0, 3.0]), "other": torch.tensor([4.0, 6.0])}
    reference = Calibration(groups, "EightBit()", "digest")
    p_value = reference.p_value(torch.tensor([7.0, 5.0, 2.0]))
    assert p_value.tolist() == [1 / 3, 2 / 3, 1.0]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_p_values_of_exchangeable_scores_are_valid_at_every_rate(seed, count):
    """(n + 1) scores: the ranks of one among the others are uniform, ties or not."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 40, (count + 1,), generator=generator).double()
    p_values = []
    for left_out in range(count + 1):
        others = torch.cat((scores[:left_out], scores[left_out + 1 :]))
        reference = Calibration({REAL: others}, "EightBit()", "digest")
        p_values.append(float(reference.p_value(scores[left_out : left_out + 1])))
    for rate in (0.01, 0.1, 0.25, 0.5, 1.0):
        assert sum(value <= rate for value in p_values) <= rate * (count + 1) + 1e-9


@given(st.floats(1e-4, 0.5))
def test_pictures_needed_are_just_enough(rate):
    count = pictures_needed(rate)
    assert 1 / (count + 1) <= rate * (1 + 1e-6)
    assert count == 0 or 1 / count > rate * (1 - 1e-6)


def test_calibration_puts_its_pictures_through_the_observation(autoencoder, crops):
    plain = calibrate(autoencoder, crops[:2], max_iterations=2, **SIGNED)
    seen = calibrate(
        autoencoder,
        crops[:2],
        max_iterations=2,
        observation=Jpeg(quality=50),
        **SIGNED,
    )
    assert seen.observation == "Jpeg(quality=50, subsampling='4:2:0', tables=None)"
    assert not torch.allclose(seen.groups[REAL], plain.groups[REAL], atol=0.1)
    by_hand = invert_by_iteration(
        autoencoder,
        Jpeg(quality=50)(crops[:2]),
        observation=Jpeg(quality=50),
        max_iterations=2,
        **SIGNED,
    )
    assert torch.equal(seen.groups[REAL], attribution_score(by_hand))


def test_calibration_takes_pictures_of_several_sizes_and_kinds(autoencoder, crops):
    sizes = [crops[0], crops[1, :, :16, :], crops[2, :, :16, :]]
    made = calibrate(
        autoencoder, sizes, others={"dark": crops[:1] - 1}, max_iterations=2, batch=2, **SIGNED
    )
    assert {name: len(scores) for name, scores in made.groups.items()} == {REAL: 3, "dark": 1}
    assert made.smallest_p_value == 1 / 2
    one_by_one = calibrate(autoencoder, sizes, max_iterations=2, batch=1, **SIGNED).groups[REAL]
    assert torch.allclose(one_by_one, made.groups[REAL], atol=0.05)


def test_a_calibration_is_read_back_as_it_was_written(reference, tmp_path):
    reference.save(tmp_path / "file.json")
    back = Calibration.load(tmp_path / "file.json")
    assert (back.observation, back.model, back.max_iterations) == (
        reference.observation,
        reference.model,
        FEW,
    )
    for name, scores in reference.groups.items():
        assert torch.allclose(back.groups[name], scores, atol=1e-3)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_calibrations_fit_their_autoencoders(name):
    reference = Calibration.embedded(name)
    assert reference.model == digest_of_model(Autoencoder.embedded(name))
    assert reference.smallest_p_value <= 0.01
    # The lowest score of a picture that the model did make: 14.1 (docs/attribution.md).
    assert max(float(scores.max()) for scores in reference.groups.values()) < 14


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"others": {REAL: None}}, "name of a group"),
        ({"real": []}, "needs pictures"),
        ({"real": torch.zeros(1, 3, 30, 30) - 0.5}, "multiples of 4"),
    ],
)
def test_unusable_calibrations_are_refused(autoencoder, crops, options, words):
    arguments = {"real": crops} | SIGNED | options
    with pytest.raises(ValueError, match=words):
        calibrate(autoencoder, **arguments)


def test_files_that_are_no_calibration_are_refused(tmp_path, reference):
    cases = {"text": "x", "list": "[]", "empty": "{}"}
    reference.save(tmp_path / "good.json")
    good = json.loads((tmp_path / "good.json").read_text())
    cases |= {"hollow": json.dumps(good | {"groups": {}})}
    cases |= {"words": json.dumps(good | {"groups": {"a": ["x"]}})}
    cases |= {"infinite": json.dumps(good | {"groups": {"a": [float("inf")]}})}
    cases |= {"number": json.dumps(good | {"observation": 3})}
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="not a calibration"):
            Calibration.load(tmp_path / name)
    save_file({"latent": torch.zeros(1)}, tmp_path / "binary")
    for name, words in (("binary", "not a calibration"), ("missing", "cannot be read")):
        with pytest.raises(ValueError, match=words):
            Calibration.load(tmp_path / name)
    with pytest.raises(ValueError, match="embedded autoencoders"):
        Calibration.embedded("unknown")
