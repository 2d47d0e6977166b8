"""The latent that made a picture or video: decoder inversion and what it is compared with."""

from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.defaults import default_iterator, default_observation, default_stop
from fixpoint.adapters.inversion.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion.invert_picture import (
    invert,
    invert_by_encoder,
    invert_by_iteration,
    invert_by_paper,
)
from fixpoint.adapters.inversion.result import Inversion, nmse_db
from fixpoint.adapters.inversion.video_result import VideoInversion
from fixpoint.adapters.inversion.video_windows import invert_video

__all__ = [
    "DecoderInversion",
    "Inversion",
    "VideoInversion",
    "default_iterator",
    "default_observation",
    "default_stop",
    "invert",
    "invert_by_encoder",
    "invert_by_gradient",
    "invert_by_iteration",
    "invert_by_paper",
    "invert_video",
    "nmse_db",
]
