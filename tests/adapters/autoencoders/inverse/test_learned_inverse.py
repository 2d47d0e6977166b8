"""A learned inverse: its training, its file, and what `invert` does with it."""

import itertools
import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refuted_pairs import generated, halves, refuted_pair
from torch import nn

from fixpoint.adapters import Autoencoder, EightBit, invert, nmse_db, to_pil
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.autoencoders.inverse import training
from fixpoint.adapters.autoencoders.inverse.crops import Crops, split, training_pictures
from fixpoint.adapters.autoencoders.inverse.learned_inverse import LearnedInverse
from fixpoint.adapters.autoencoders.inverse.network import PASSES, InverseNetwork, NetworkSizes
from fixpoint.adapters.autoencoders.inverse.passes import guarded_passes
from fixpoint.adapters.commands.main import main
from fixpoint.adapters.inversion.judgement import InversionOutcome
from fixpoint.adapters.pictures.observations import RoundingCells

SIDE = 32
SMALL = {"steps": 6, "batch": 4, "width": 8, "side": SIDE, "save_every": 2, "progress": False}
LONGER = SMALL | {"steps": 80, "batch": 8, "width": 16, "save_every": 80}


class Interrupted(BaseException):
    """As Ctrl-C: what nothing catches."""


@pytest.fixture(scope="module")
def pictures():
    return [to_pil(each) for each in example_photographs(48, count=10)]


@pytest.fixture(scope="module")
def autoencoder():
    return refuted_pair(gradients=False)


@pytest.fixture(scope="module")
def learned(autoencoder, pictures, tmp_path_factory):
    """An inverse that was trained for some seconds, and its file."""
    path = tmp_path_factory.mktemp("learned") / "inverse.safetensors"
    return autoencoder.train_inverse(pictures, out=path, **LONGER), path


def weights(path):
    return LearnedInverse.load(path).network.state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def interrupted(autoencoder, pictures, path, monkeypatch, *, after):
    """A training that ends in its step number `after`, counted from 0."""
    step = training.Training._step

    def mortal(self):
        if self.state.done == after:
            raise Interrupted
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_step", mortal)
        with pytest.raises(Interrupted):
            autoencoder.train_inverse(pictures, out=path, **SMALL)


def test_an_interrupted_training_goes_on_bit_for_bit(autoencoder, pictures, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    autoencoder.train_inverse(pictures, out=whole, **SMALL)
    interrupted(autoencoder, pictures, parts, monkeypatch, after=3)
    interrupted(autoencoder, pictures, parts, monkeypatch, after=5)
    inverse = autoencoder.train_inverse(pictures, out=parts, **SMALL)
    assert inverse.card.steps_done == 6
    assert same(weights(whole), weights(parts))
    assert LearnedInverse.load(parts).card == inverse.card


def test_an_interruption_leaves_a_usable_file(autoencoder, pictures, tmp_path, monkeypatch):
    path = tmp_path / "inverse.safetensors"
    interrupted(autoencoder, pictures, path, monkeypatch, after=5)
    left = LearnedInverse.load(path)
    left.check(autoencoder)
    assert left.card.steps_done == 4
    assert json.loads(path.with_suffix(".json").read_text())["steps_done"] == 4
    assert {each.suffix for each in tmp_path.iterdir()} == {".safetensors", ".json", ".checkpoint"}


def test_a_training_that_is_done_is_not_done_again(learned, autoencoder, pictures, monkeypatch):
    inverse, path = learned
    monkeypatch.setattr(training.Training, "_step", None)
    again = autoencoder.train_inverse(pictures, out=path, **LONGER)
    assert same(again.network.state_dict(), inverse.network.state_dict())


def test_a_training_goes_on_where_more_steps_are_asked_for(autoencoder, pictures, tmp_path):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    autoencoder.train_inverse(pictures, out=whole, **SMALL)
    autoencoder.train_inverse(pictures, out=parts, **(SMALL | {"steps": 3, "save_every": 9}))
    autoencoder.train_inverse(pictures, out=parts, **SMALL)
    assert same(weights(whole), weights(parts))


@pytest.mark.parametrize("change", [{"width": 9}, {"seed": 1}, {"batch": 2}])
def test_a_checkpoint_of_another_recipe_is_refused(learned, autoencoder, pictures, change):
    with pytest.raises(ValueError, match="another training, with another recipe"):
        autoencoder.train_inverse(pictures, out=learned[1], **(LONGER | change))


def test_a_checkpoint_with_other_pictures_is_refused(learned, autoencoder, pictures):
    with pytest.raises(ValueError, match="another training, with another pictures"):
        autoencoder.train_inverse(pictures[:5], out=learned[1], **LONGER)


def test_the_card_says_what_was_measured(learned, autoencoder):
    inverse, path = learned
    card = inverse.card
    assert card.steps_done == card.steps == LONGER["steps"]
    assert len(card.passes_db) == PASSES
    assert card.pictures == 8
    stored = json.loads(path.with_suffix(".json").read_text())
    assert stored == json.loads(json.dumps(asdict(card)))


def test_passes_improve_latents_of_pictures_that_were_held_out(learned):
    card = learned[0].card
    assert card.passes_db[0] < card.encoder_db - 1
    assert card.passes_db[-1] < card.calibrated_db
    assert card.worse == 0


def test_an_inverse_is_read_back_as_it_was(learned):
    inverse, path = learned
    again = LearnedInverse.load(path)
    assert again.card == inverse.card
    assert same(again.network.state_dict(), inverse.network.state_dict())


def test_another_pair_is_refused_in_one_line(learned):
    encode, decode = halves()
    other = Autoencoder.from_functions(encode, decode, name="another")
    with pytest.raises(ValueError, match="learned for other weights") as caught:
        other.use_inverse(learned[1])
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path, autoencoder):
    path = tmp_path / "inverse.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="holds no learned inverse"):
        autoencoder.use_inverse(path)


def test_a_pair_without_known_weights_needs_a_name_for_the_file(autoencoder, pictures):
    with pytest.raises(ValueError, match="name the file"):
        autoencoder.train_inverse(pictures, **SMALL)


def test_a_pair_with_weights_keeps_its_inverse_by_their_digest(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("FIXPOINT_CACHE", str(tmp_path))
    pair = Autoencoder.from_functions(nn.Conv2d(3, 4, 4, 4), nn.ConvTranspose2d(4, 3, 4, 4))
    trained = pair.train_inverse(pictures, **(SMALL | {"steps": 1, "batch": 1}))
    assert same(pair.use_inverse().network.state_dict(), trained.network.state_dict())
    pair.drop_inverse()
    assert len(list((tmp_path / "inverses").glob("*.safetensors"))) == 1


def test_invert_takes_learned_steps_and_says_so(learned, autoencoder):
    truth, decoded = generated(autoencoder)
    image = EightBit()(decoded)
    without = invert(autoencoder, image, gradients="never", value_range=(-1, 1))
    autoencoder.use_inverse(learned[0])
    try:
        found = invert(autoencoder, image, gradients="never", value_range=(-1, 1))
    finally:
        autoencoder.drop_inverse()
    assert set(without.method) == {"calibrated steps"}
    assert set(found.method) == {"learned steps"}
    assert set(found.outcome) == {InversionOutcome.REFUTED}
    start = nmse_db(autoencoder.encode(image), truth)
    assert bool((found.nmse_db(truth) < start).all())
    assert float(found.nmse_db(truth).mean()) < float(without.nmse_db(truth).mean())


def test_rows_of_learned_steps_never_meet(learned, autoencoder):
    pair = row_by_row(autoencoder.encode), row_by_row(autoencoder.decode)

    def inverted(image):
        correction, observe = learned[0].correction, RoundingCells().observe
        return guarded_passes(correction, pair, image, pair[0](image), observe)[-1]

    image = EightBit()(generated(autoencoder)[1])
    assert torch.equal(inverted(image), torch.cat([inverted(row) for row in image.split(1)]))


def row_by_row(half):
    """The convolutions of this pair round by the number of rows."""
    return lambda batch: torch.cat([half(row) for row in batch.split(1)])


@given(scale=st.floats(-30, 30), seed=st.integers(0, 50), rows=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_no_step_is_kept_that_takes_the_decoding_away(scale, seed, rows):
    """Whatever the network answers, the misfit of a row never rises."""
    encode, decode = halves()
    draws = torch.Generator().manual_seed(seed)
    image = EightBit()(decode(torch.randn(rows, 8, 4, 4, generator=draws)))
    start = encode(image)

    def correction(image, seen, z, start, residual, number):
        return scale * torch.randn(z.shape, generator=draws)

    passes = guarded_passes(correction, (encode, decode), image, start, RoundingCells().observe)
    assert torch.equal(passes[0], start)
    misfits = [
        (decode(z).clamp(-1, 1) - image).double().square().flatten(1).mean(1) for z in passes
    ]
    for before, after in itertools.pairwise(misfits):
        assert bool((after <= before).all())


def test_a_correction_that_is_not_finite_is_not_taken():
    encode, decode = halves()
    image = EightBit()(decode(torch.zeros(1, 8, 4, 4)))
    start = encode(image)
    passes = guarded_passes(
        lambda *inputs: torch.full_like(start, torch.nan),
        (encode, decode),
        image,
        start,
        RoundingCells().observe,
    )
    assert torch.equal(passes[-1], start)


@pytest.mark.parametrize("factor", [1, 2, 4, 6, 8])
def test_a_network_fits_any_factor_and_any_size(factor):
    network = InverseNetwork(NetworkSizes(3, factor, 8))
    for rows, columns in ((1, 2), (5, 3)):
        z = torch.randn(2, 3, rows, columns)
        image = torch.rand(2, 3, factor * rows, factor * columns)
        assert network(image, image, z, z, z, [0, 3]).shape == z.shape


def test_an_untrained_network_takes_the_calibrated_steps():
    network = InverseNetwork(NetworkSizes(3, 4, 8))
    z, image = torch.randn(1, 3, 2, 2), torch.rand(1, 3, 8, 8)
    network.fit_scales(z, z + 1, 0.1 * z, image, torch.stack((2 * torch.eye(3), 3 * torch.eye(3))))
    for number, map_size in enumerate((2, 3, 0, 0)):
        correction = network(image, image, z, z, 0.1 * z, [number])
        assert torch.allclose(correction, -0.1 * map_size * z, atol=1e-6)


def test_a_crop_is_known_by_its_number_alone(pictures):
    crops = Crops(training_pictures(pictures, SIDE), SIDE, 0)
    together = crops.batch(range(4))
    assert together.shape == (4, 3, SIDE, SIDE)
    assert float(together.abs().max()) <= 1
    assert torch.equal(crops[2], together[2])
    assert not torch.equal(crops[1], crops[2])
    assert not torch.equal(replace(crops, seed=1)[2], crops[2])


def test_pictures_of_a_folder_are_read_and_small_ones_refused(pictures, tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        training_pictures(tmp_path, SIDE)
    pictures[0].save(tmp_path / "one.png")
    assert [each.shape for each in training_pictures(tmp_path, SIDE)] == [(3, 48, 48)]
    with pytest.raises(ValueError, match=r"one\.png is 48 x 48 pixels"):
        training_pictures(tmp_path, 64)


def test_large_pictures_are_reduced(pictures):
    large = [pictures[0].resize((100, 50))]
    assert training_pictures(large, 4)[0].shape == (3, 32, 64)


def test_one_picture_is_not_enough():
    with pytest.raises(ValueError, match="at least two pictures"):
        split([torch.zeros(3, 8, 8, dtype=torch.uint8)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps must be"),
        ({"network_dtype": "float16"}, "one of float32, bfloat16"),
        ({"side": 30}, "takes no pictures of 30 x 30"),
    ],
)
def test_options_out_of_range_are_refused(autoencoder, pictures, tmp_path, change, words):
    path = tmp_path / "inverse.safetensors"
    with pytest.raises(ValueError, match=words):
        autoencoder.train_inverse(pictures, out=path, **(SMALL | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["inverse", "inverse.json"])
def test_a_file_of_another_kind_is_refused(autoencoder, pictures, tmp_path, name):
    with pytest.raises(ValueError, match=r"must be a \.safetensors file"):
        autoencoder.train_inverse(pictures, out=tmp_path / name, **SMALL)


PAIRS = """
from fixpoint.adapters import Autoencoder
from refuted_pairs import halves

def one():
    return Autoencoder.from_functions(*halves(), name="one")

def another():
    return Autoencoder.from_functions(*halves(), name="another")
"""


def test_the_command_line_trains_and_uses_an_inverse(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pairs_of_a_test.py").write_text(PAIRS)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, each in enumerate(pictures[:3]):
        each.save(folder / f"{index}.png")
    pair = ["--pair", "pairs_of_a_test:one"]
    recipe = ["--crop-size", "32", "--steps", "1", "--batch", "1"]
    assert main(["train-inverse", *pair, "--pictures", str(folder), *recipe]) == 0
    assert "learned passes" in capsys.readouterr().out
    use = ["--inverse", "learned/inverse.safetensors", "--gradients", "never"]
    assert main(["invert", "pictures/0.png", *pair, *use]) == 0
    assert main(["invert", "pictures/0.png", "--pair", "pairs_of_a_test:another", *use]) == 2
    shown = capsys.readouterr().err
    assert "other weights" in shown
    assert shown.count("\n") == 1
