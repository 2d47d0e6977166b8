import pytest
import torch

from fixpoint.adapters import EightBit, Identity, Jpeg, to_pil
from fixpoint.adapters.verification.crops import cut, observation_of

pytestmark = pytest.mark.usefixtures("no_network")


def test_crops_lie_on_a_grid_where_there_is_room_and_else_overlap():
    crops = cut([], count=6, size=64, seed=0)  # 225 x 150 pixels hold 3 x 2
    assert len({(crop.left, crop.top) for crop in crops}) == 6
    assert not any(a.overlaps(b) for a in crops for b in crops if a is not b)
    crops = cut([], count=7, size=64, seed=0)
    assert any(a.overlaps(b) for a in crops for b in crops if a is not b)
    assert {tuple(crop.values.shape) for crop in crops} == {(1, 3, 64, 64)}
    assert len(cut([], count=None, size=64, seed=0)) == 16


def test_crops_are_cut_from_every_picture_and_never_resized(tmp_path, photograph):
    image = to_pil(photograph[0])
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    image.save(paths[0])
    image.save(paths[1], quality=90)
    crops = cut(paths, count=5, size=16, seed=3)
    assert [crop.picture for crop in crops].count(str(paths[0])) == 3
    crop = crops[0]
    inside = photograph[..., crop.top : crop.top + 16, crop.left : crop.left + 16]
    torch.testing.assert_close(crop.values, inside)
    small = cut(paths, count=2, size=128, seed=0)
    assert [crop.values.shape[-2:] for crop in small] == [(64, 64), (64, 64)]
    made, inside = observation_of("auto", crops)
    assert inside is made
    assert isinstance(made.observations[3], Jpeg)
    assert observation_of("none", crops) == (EightBit(), Identity())
