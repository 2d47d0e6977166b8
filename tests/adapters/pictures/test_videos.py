import numpy as np
import pytest
import torch
from PIL import Image
from video_cases import LEVELS, VALUES

from fixpoint.adapters import Clip, EightBit, Identity
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.videos import as_videos


@pytest.mark.parametrize(
    "video",
    [
        [Image.fromarray(frame) for frame in LEVELS],
        list(LEVELS),
        LEVELS,
        LEVELS[None],
        LEVELS.astype(np.float32) / 255,
        list(LEVELS.astype(np.float32) / 255),
        torch.from_numpy(LEVELS).permute(0, 3, 1, 2),
        torch.from_numpy(LEVELS).permute(3, 0, 1, 2).unsqueeze(0),
        VALUES,
        list(VALUES[0].transpose(0, 1)),
    ],
    ids=[
        "pil frames",
        "uint8 frames",
        "uint8 array",
        "batch of arrays",
        "float array",
        "float frames",
        "uint8 tensor",
        "uint8 batch",
        "tensor",
        "tensors",
    ],
)
def test_every_way_to_hold_a_video_gives_the_same_values(video):
    videos = as_videos(video)
    torch.testing.assert_close(videos.values, VALUES, rtol=0, atol=1e-6)
    assert videos.values.dtype == torch.float32
    assert videos.observation == EightBit()


def test_frames_are_read_from_files_in_the_order_given(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, frame in zip(paths, LEVELS, strict=True):
        Image.fromarray(frame).save(path)
    assert torch.equal(as_videos(paths).values, VALUES)
    assert torch.equal(as_videos(paths[::-1]).values, VALUES.flip(2))


def test_several_videos_of_one_size_make_a_batch():
    both = as_videos([LEVELS, [Image.fromarray(frame) for frame in LEVELS[::-1]]])
    assert torch.equal(both.values, torch.cat((VALUES, VALUES.flip(2))))
    mixed = as_videos([VALUES, 0.5 * VALUES])
    assert mixed.observation.observations == (EightBit(), Identity())
    with pytest.raises(ValueError, match="one size"):
        as_videos([LEVELS, LEVELS[:4]])
    with pytest.raises(ValueError, match="one size"):
        as_videos([LEVELS[0], LEVELS[0, :4]])


def test_float_frames_are_judged_together():
    dark_and_bright = [-torch.rand(3, 4, 4), torch.rand(3, 4, 4)]
    assert as_videos(dark_and_bright).observation == Identity()
    free = torch.linspace(-1.2, 1.1, 96).reshape(1, 3, 2, 4, 4)
    assert as_videos(free.clamp(-1, 1)).observation == Clip()
    with pytest.raises(ValueError, match="value_range"):
        as_videos([torch.rand(3, 4, 4)] * 2)


def test_jpeg_frames_bring_the_settings_they_share(tmp_path):
    for number, frame in enumerate(LEVELS):
        Image.fromarray(frame).save(tmp_path / f"{number}.jpg", quality=60)
    paths = sorted(tmp_path.glob("*.jpg"))
    videos = as_videos(paths)
    assert isinstance(videos.observation, EachFrame)
    assert torch.equal(videos.observation(VALUES), videos.values)
    assert videos.observation.free_shares(VALUES).shape == (1,)
    Image.fromarray(LEVELS[0]).save(paths[0], quality=30)
    assert as_videos(paths).observation == EightBit()


@pytest.mark.parametrize(
    ("video", "words"),
    [
        (LEVELS[0], "not the shape of a video"),
        (VALUES.transpose(1, 2), r"transpose\(1, 2\)"),
        (torch.zeros(1, 4, 3, 8, 8), "not the shape of a video"),
        (VALUES[:, :, :0], "empty"),
        ([], "at least one frame"),
        (torch.full((2, 3, 4, 4), torch.nan), "NaN"),
        (5 * VALUES, "not a video on"),
    ],
)
def test_what_is_no_video_is_refused(video, words):
    with pytest.raises(ValueError, match=words):
        as_videos(video)


@pytest.mark.parametrize("video", ["clip.mp4", Image.fromarray(LEVELS[0]), 3, LEVELS.astype(int)])
def test_other_kinds_of_things_are_no_videos(video):
    with pytest.raises(TypeError):
        as_videos(video)
