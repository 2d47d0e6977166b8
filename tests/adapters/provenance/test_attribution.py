import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fixpoint.adapters import (
    Autoencoder,
    Clip,
    EightBit,
    Jpeg,
    Masked,
    WhiteNoise,
    invert,
)
from fixpoint.adapters.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from fixpoint.adapters.pictures.distortions import Blurred, CentreCrop
from fixpoint.adapters.pictures.observations import as_observation
from fixpoint.adapters.provenance.attribution import (
    LOWEST,
    REAL,
    Calibration,
    as_seen,
    attribute,
    attribution_score,
    calibrate,
    digest_of_model,
    in_words,
    low_frequencies,
    pictures_needed,
)

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


def scores_of(autoencoder, pictures, observation=None):
    return attribution_score(
        invert(autoencoder, pictures, observation=observation, max_iterations=FEW, **SIGNED)
    )


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


@pytest.mark.parametrize(
    "observation",
    [Jpeg(quality=90), WhiteNoise(level=0.02), Masked(torch.ones(32, 32, dtype=torch.bool))],
    ids=repr,
)
def test_what_happened_to_a_picture_can_be_told(autoencoder, crops, decoded, observation):
    own, real = (as_seen(observation, pictures) for pictures in (decoded, crops))
    apart = scores_of(autoencoder, own, observation) - scores_of(autoencoder, real, observation)
    assert (apart > 5).all()


def test_telling_of_a_blur_raises_the_score_of_a_blurred_picture(autoencoder, decoded):
    blur = Blurred(1.0)
    told, untold = (scores_of(autoencoder, blur(decoded), seen) for seen in (blur, None))
    assert (told > untold + 6).all()


def test_only_known_pixels_count(autoencoder, decoded, crops):
    crop = CentreCrop(0.75)
    told = Masked(crop.known(32, 32))
    pieces = scores_of(autoencoder, crop(decoded), told)
    assert (pieces > scores_of(autoencoder, crop(decoded)) + 2).all()
    assert (pieces > scores_of(autoencoder, crop(crops), told) + 5).all()
    inversion = invert(autoencoder, crop(decoded), observation=told, max_iterations=1, **SIGNED)
    spoilt = torch.where(told.known, inversion.picture, -inversion.picture)
    assert torch.allclose(
        attribution_score(dataclasses.replace(inversion, picture=spoilt)),
        attribution_score(inversion),
        atol=1e-5,
    )


@pytest.mark.parametrize("value", [-1.0, 0.2, 1.0])
def test_an_empty_picture_is_never_attributed(autoencoder, value):
    picture = EightBit()(torch.full((1, 3, 32, 32), value))
    assert float(scores_of(autoencoder, picture)) < 1


@pytest.mark.parametrize("observation", [None, Jpeg(quality=75)], ids=repr)
def test_smooth_pictures_do_not_pass_for_the_models(autoencoder, decoded, observation):
    across = torch.linspace(-0.8, 0.8, 32)
    smooth = as_seen(observation or EightBit(), (across + across[:, None]).expand(1, 3, 32, 32) / 2)
    own = as_seen(observation or EightBit(), decoded)
    apart = scores_of(autoencoder, own, observation) - scores_of(autoencoder, smooth, observation)
    assert (apart > 2).all()


def test_rows_are_judged_alone_and_a_failed_one_scores_lowest(autoencoder, decoded, crops):
    inversion = invert(autoencoder, EightBit()(decoded), max_iterations=1, **SIGNED)
    broken = inversion.reconstruction.clone()
    broken[1] = torch.nan
    spoilt = attribution_score(dataclasses.replace(inversion, reconstruction=broken))
    assert spoilt[1] == LOWEST
    kept = torch.tensor([0, 2, 3])
    assert torch.equal(spoilt[kept], attribution_score(inversion)[kept])
    pictures = torch.cat((EightBit()(decoded), EightBit()(crops)))
    together = scores_of(autoencoder, pictures)
    alone = torch.cat([scores_of(autoencoder, row) for row in pictures.split(1)])
    assert torch.allclose(together, alone, atol=0.5)


def test_a_picture_has_to_beat_every_group():
    groups = {REAL: torch.tensor([1.0, 2.0, 3.0]), "other": torch.tensor([4.0, 6.0])}
    reference = Calibration(groups, "EightBit()", "digest")
    p_value = reference.p_value(torch.tensor([7.0, 5.0, 2.0]))
    assert p_value.tolist() == [1 / 3, 2 / 3, 1.0]


def test_the_score_compares_the_decoder_with_low_frequencies(autoencoder, crops):
    """By hand: of an inversion that leaves a known error, in float."""
    inversion = invert(autoencoder, crops * 0.9, max_iterations=1, observation=Clip(), **SIGNED)
    left = low_frequencies(inversion.picture, 4 * 8 * 8) - inversion.picture
    expected = left.square().mean((1, 2, 3)) / (
        (inversion.reconstruction - inversion.picture).square().mean((1, 2, 3))
    )
    assert torch.allclose(attribution_score(inversion), 10 * expected.log10().double(), atol=0.01)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 2000))
@settings(deadline=None, max_examples=60)
def test_low_frequencies_keep_flat_pictures_and_about_as_many_numbers(height, width, count):
    flat = torch.full((1, 3, height, width), 0.3)
    kept = low_frequencies(flat, min(count, flat.numel()))
    assert kept.shape == flat.shape
    assert torch.allclose(kept, flat, atol=1e-5)
    known = torch.zeros(height, width, dtype=torch.bool)
    known[: height // 2 + 1] = True
    spoilt = torch.where(known, flat, -flat)
    assert torch.allclose(low_frequencies(spoilt, min(count, flat.numel()), known), flat, atol=1e-4)


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
    by_hand = invert(
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


def test_the_batch_of_a_calibration_does_not_change_its_noise(crops):
    noise = WhiteNoise(level=0.1)
    together = as_seen(noise, crops, seed=3)
    apart = torch.cat([as_seen(noise, row, seed=3 + i) for i, row in enumerate(crops.split(1))])
    assert torch.equal(together, apart)


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


@pytest.mark.parametrize("name", ["kl", "adversarial"])
def test_the_embedded_calibrations_fit_their_autoencoders(name):
    reference = Calibration.embedded(name)
    assert reference.model == digest_of_model(Autoencoder.embedded(name))
    assert reference.smallest_p_value <= 0.01
    # The lowest score of a picture that the model did make: 14.1 (docs/attribution.md).
    assert max(float(scores.max()) for scores in reference.groups.values()) < 14


def test_words_for_an_observation_hold_in_another_process():
    assert " at 0x" in repr(as_observation(lambda pictures: pictures))
    assert " at 0x" not in in_words(as_observation(lambda pictures: pictures))


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
    with pytest.raises(TypeError, match="from_diffusers"):
        attribute(autoencoder.model, picture, reference, false_positive_rate=0.3)


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
