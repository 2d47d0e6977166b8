import pytest
import torch
from video_cases import VALUES

from fixpoint.adapters import EightBit, Jpeg, PerRow
from fixpoint.adapters.pictures.frames import EachFrame, as_frames, as_video, of_each_frame


def test_frames_are_rows_in_the_order_of_videos_and_frames():
    videos = torch.cat((VALUES, -VALUES))
    frames = as_frames(videos)
    assert torch.equal(frames[1], VALUES[0, :, 1])
    assert torch.equal(frames[6], -VALUES[0, :, 1])
    assert torch.equal(as_video(frames, 2), videos)


def test_each_frame_is_observed_as_a_picture():
    jpeg = Jpeg(quality=60)
    seen = EachFrame(jpeg)(VALUES)
    for frame in range(VALUES.shape[2]):
        assert torch.equal(seen[:, :, frame], jpeg(VALUES[:, :, frame]))


def test_what_is_no_observation_of_pictures_is_refused():
    for wrong in (PerRow((EightBit(),)), EightBit):
        with pytest.raises(TypeError, match="one observation of pictures"):
            EachFrame(wrong)
    with pytest.raises(ValueError, match="5 axes"):
        of_each_frame(torch.sin, VALUES[:, :, 0])
