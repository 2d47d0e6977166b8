"""An editor's loop: what was not touched stays, whatever happens to the rest."""

import pytest
import torch
from PIL import Image
from refuted_pairs import generated, refuted_pair

from fixpoint.adapters import (
    Autoencoder,
    EightBit,
    Origin,
    RoundTrip,
    invert,
    to_pil,
)
from fixpoint.adapters.autoencoders.calibration import example_photographs
from fixpoint.adapters.round_trips.cycles import by_encoder, by_round_trip, cycles, pasted


@pytest.fixture(scope="module")
def apart():
    return refuted_pair()


@pytest.fixture(scope="module")
def made(apart):
    return EightBit()(generated(apart, count=1)[1])


def encoded(trip, pictures):
    return trip.encode(pictures, value_range=(-1, 1))


def test_a_picture_that_was_decoded_has_the_latent_that_made_it(apart):
    trip, latent = RoundTrip(apart), torch.randn(2, 8, 8, 8)
    pictures = trip.decode(latent, settings={"prompt": "two"})
    found = encoded(trip, pictures)
    assert torch.equal(found.latent, latent)
    assert found.origin == (Origin.REMEMBERED, Origin.REMEMBERED)
    assert found.settings[1]["prompt"] == "two"
    assert torch.equal(trip.decode(found.latent), pictures)
    assert not bool(found.moved.any())


def test_nothing_is_lost_after_the_first_of_many_cycles(apart, made):
    ours = list(cycles(by_round_trip(RoundTrip(apart)), made, 4))
    theirs = list(cycles(by_encoder(apart), made, 4))
    assert all(torch.equal(cycle.pictures, ours[0].pictures) for cycle in ours)
    assert float(ours[-1].psnr_db) > max(55, float(theirs[-1].psnr_db) + 20)


def test_an_edit_leaves_far_cells_and_untouched_pixels_bit_for_bit(apart, made):
    trip = RoundTrip(apart)
    before = encoded(trip, made)
    edited = made.clone()
    edited[..., 12:20, 12:20] = 1.0
    after = encoded(trip, edited)
    assert after.origin == (Origin.EDITED,)
    still = ~after.moved[0]
    assert bool(still.any())
    assert bool(after.moved[0, 3:5, 3:5].all())
    assert torch.equal(after.latent[0][:, still], before.latent[0][:, still])
    picture = trip.decode(after.latent)
    untouched = torch.ones(32, 32, dtype=torch.bool)
    untouched[12:20, 12:20] = False
    assert torch.equal(picture[0][:, untouched], made[0][:, untouched])


def test_without_restoring_the_decoder_alone_draws_untouched_pixels(apart, made):
    trip = RoundTrip(apart, restore=False)
    encoded(trip, made)
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 12:20, 12:20] = True
    edit = pasted(torch.ones_like(made), mask)
    (ours,), (theirs,) = (
        list(cycles(step, made, 1, edit)) for step in (by_round_trip(trip), by_encoder(apart))
    )
    assert float(ours.psnr_db) > float(theirs.psnr_db) + 10
    assert float(ours.touched_psnr_db) > float(theirs.touched_psnr_db)


def test_untouched_pixels_of_a_drawing_are_fitted_to_the_original(apart, made):
    trip = RoundTrip(apart, restore=False)
    latent = encoded(trip, made).latent.clone()
    latent[..., 3:5, 3:5] += 0.5  # as a diffusion model would
    touched = torch.zeros(1, 32, 32, dtype=torch.bool)
    touched[:, 10:22, 10:22] = True
    loose = RoundTrip(apart).decode(latent)
    kept = trip.decode(latent, original=made, touched=touched)
    far = ~touched[:, None].expand_as(made)
    error, before = ((each - made)[far].abs().amax() for each in (kept, loose))
    assert float(error) <= max(float(before), 2.1 / 255)
    exact = RoundTrip(apart).decode(latent, original=made, touched=touched)
    assert torch.equal(exact[far], made[far])


def test_a_forgetting_trip_is_an_inversion_each_time(apart, made):
    found = encoded(RoundTrip(apart, capacity=0), made)
    assert found.origin == (Origin.INVERTED,)
    assert torch.equal(
        found.latent, invert(apart, made, value_range=(-1, 1), goal="picture").latent
    )


@pytest.mark.parametrize("store", ["chunks", "sidecar"])
def test_another_process_knows_a_saved_picture(apart, tmp_path, store):
    trip, latent = RoundTrip(apart), torch.randn(1, 8, 8, 8)
    (picture,) = trip.decode(latent, settings={"seed": 7})
    trip.save(tmp_path / "a.png", picture, store=store)
    found = RoundTrip(apart).encode(tmp_path / "a.png")
    assert found.origin == (Origin.REMEMBERED,)
    assert torch.equal(found.latent, latent)
    assert found.settings[0]["seed"] == 7


def test_a_saved_picture_that_was_edited_elsewhere_is_encoded_where_it_changed(apart, tmp_path):
    trip, latent = RoundTrip(apart), torch.randn(1, 8, 8, 8) / 2
    trip.save(tmp_path / "a.png", trip.decode(latent)[0], store="sidecar")
    image = Image.open(tmp_path / "a.png").convert("RGB")
    image.paste((255, 0, 0), (0, 0, 6, 6))
    image.save(tmp_path / "a.png")
    found = RoundTrip(apart).encode(tmp_path / "a.png")
    assert found.origin == (Origin.EDITED,)
    assert torch.equal(found.latent[0, :, 5:, 5:], latent[0, :, 5:, 5:])


def test_what_another_model_stored_is_not_believed(apart, tmp_path):
    other = Autoencoder.from_functions(apart.encode, apart.decode, name="other")
    trip = RoundTrip(other)
    trip.save(tmp_path / "a.png", trip.decode(torch.randn(1, 8, 8, 8))[0])
    assert RoundTrip(apart).encode(tmp_path / "a.png").origin == (Origin.INVERTED,)


def test_photographs_lose_nothing_more_after_their_first_cycle(apart, tmp_path):
    photographs = example_photographs(32, count=2)
    to_pil(photographs[0]).save(tmp_path / "a.png")
    made = list(cycles(by_round_trip(RoundTrip(apart)), photographs, 3))
    assert torch.equal(made[0].pictures, made[-1].pictures)


def test_what_cannot_be_used_is_refused(apart, made, tmp_path):
    with pytest.raises(ValueError, match="goal must be one of"):
        RoundTrip(apart, goal="both")
    with pytest.raises(ValueError, match="original and touched go together"):
        RoundTrip(apart).decode(torch.zeros(1, 8, 8, 8), original=made)
    with pytest.raises(ValueError, match="store must be one of"):
        RoundTrip(apart).save(tmp_path / "a.png", made[0], store="both")
    with pytest.raises(TypeError, match="no autoencoder of the name vae"):
        RoundTrip.of(object())
