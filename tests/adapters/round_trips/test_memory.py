"""What a round trip remembers, and what its files say."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fixpoint.adapters import EightBit, Jpeg, to_pil
from fixpoint.adapters.pictures.observations import from_levels
from fixpoint.adapters.round_trips.memory import NEAR, Memory, Remembered, levels_of, pixel_hash
from fixpoint.adapters.round_trips.picture_files import (
    PART,
    Stored,
    save_picture,
    sidecar,
    stored_with,
)


def entry(seed, side=16):
    draws = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (3, side, side), generator=draws, dtype=torch.uint8)
    return Remembered(torch.randn(4, 4, 4, generator=draws), levels, levels)


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=6, unique=True))
def test_the_last_pictures_are_recalled_and_older_ones_forgotten(seeds):
    memory = Memory(capacity=3)
    for seed in seeds:
        memory.keep(entry(seed))
    for seed in seeds[-3:]:
        found = memory.recall(entry(seed).levels, EightBit())
        assert torch.equal(found.latent, entry(seed).latent)
    for seed in seeds[:-3]:
        assert memory.recall(entry(seed).levels, EightBit()) is None


def test_a_jpeg_of_a_remembered_picture_is_recalled():
    memory, observation = Memory(capacity=2), Jpeg(quality=90)
    smooth = from_levels(torch.arange(256).reshape(1, 1, 16, 16).expand(1, 3, 16, 16).float())
    memory.keep(Remembered(torch.ones(4, 4, 4), levels_of(smooth)[0], levels_of(smooth)[0]))
    seen = levels_of(observation(smooth))[0]
    assert not torch.equal(seen, levels_of(smooth)[0])
    assert memory.recall(seen, EightBit()) is None
    assert memory.recall(seen, observation) is not None


def test_an_edited_picture_is_nearest_to_the_one_it_was_made_of():
    memory = Memory(capacity=3)
    for seed in range(3):
        memory.keep(entry(seed))
    edited = entry(1).levels.clone()
    edited[:, :8] = 0
    assert torch.equal(memory.nearest(edited).latent, entry(1).latent)
    assert memory.nearest(entry(7).levels) is None


def test_firm_pixels_are_restored_and_near_ones_wanted():
    memory, latent = Memory(capacity=1), torch.ones(4, 4, 4)
    levels = torch.full((3, 2, 2), 100, dtype=torch.uint8)
    firm = torch.tensor([[True, False], [False, False]])
    memory.want(latent, levels, firm)
    decoded = levels + torch.tensor([[9, NEAR], [9, 0]], dtype=torch.uint8)
    assert memory.wanted(latent, decoded)[0].tolist() == [[100, 100], [109, 100]]
    assert memory.restored(latent, decoded)[0].tolist() == [[100, 100 + NEAR], [109, 100]]
    assert torch.equal(memory.restored(latent + 1, decoded), decoded)


def test_a_memory_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        Memory(capacity=0)


@pytest.mark.parametrize("store", ["chunks", "sidecar"])
def test_what_is_stored_with_a_picture_is_read_again(store, tmp_path):
    known, path = entry(0), tmp_path / "a.png"
    latent = torch.randn(1, 4, 300, 400)  # more than one chunk
    stored = Stored(latent, pixel_hash(known.levels), "digest", {"prompt": "a\u00e9", "steps": 3})
    save_picture(path, to_pil(known.values[0]), stored, store)
    found = stored_with(Image.open(path), path)
    assert torch.equal(found.latent, latent)
    assert (found.pixels, found.model) == (stored.pixels, "digest")
    assert found.settings == {"prompt": "a\u00e9", "steps": 3}
    assert sidecar(path).is_file() == (store == "sidecar")
    assert len(stored.serialized()) > PART


def test_nothing_is_stored_unless_asked_and_an_old_sidecar_goes(tmp_path):
    path, image = tmp_path / "a.png", to_pil(entry(0).values[0])
    stored = Stored(torch.zeros(1, 4, 4, 4), "", "", {})
    save_picture(path, image, stored, "sidecar")
    save_picture(path, image, stored, None)
    assert stored_with(Image.open(path), path) is None
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("damage", ["cut", "shape", "nan", "noise"])
def test_what_is_damaged_is_not_believed(damage, tmp_path):
    latent = torch.zeros(1, 4, 4, 4) if damage != "shape" else torch.zeros(4, 4)
    if damage == "nan":
        latent = latent / 0
    data = Stored(latent, "", "", {}).serialized()
    data = {"cut": data[:-5], "noise": json.dumps({"a": 1}).encode()}.get(damage, data)
    path = tmp_path / "a.png"
    save_picture(path, to_pil(entry(0).values[0]), None, None)
    sidecar(path).write_bytes(data)
    with pytest.raises(ValueError, match="no latent of a round trip"):
        Stored.parsed(data)
    assert stored_with(Image.open(path), path) is None


def test_only_png_is_written(tmp_path):
    with pytest.raises(ValueError, match="only PNG"):
        save_picture(tmp_path / "a.jpg", to_pil(entry(0).values[0]), None, None)
