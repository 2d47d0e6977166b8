"""The picture or video as a tensor that the autoencoder can take, checked before any model runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.pictures.composed_observations import PerRow
from fixpoint.adapters.pictures.observations import Jpeg, Observation
from fixpoint.adapters.pictures.pictures import Pictures, as_values, check_sides
from fixpoint.adapters.pictures.videos import as_videos


def readable(
    autoencoder: Autoencoder, image: Any, value_range: tuple[float, float] | None
) -> Pictures:
    """The pictures, once it is sure that this autoencoder can take them."""
    pictures = read(autoencoder, image, value_range)
    if autoencoder.medium == "picture":
        check_sides(pictures.values, autoencoder.factor)
    autoencoder.check_shape(pictures.values.shape)
    return pictures


def read(autoencoder: Autoencoder, image: Any, value_range: tuple[float, float] | None) -> Pictures:
    """x as a tensor, by the autoencoder's medium, and how it was observed."""
    video = autoencoder.medium == "video" and autoencoder.sample_channels == 3
    if video and not isinstance(image, Tensor):
        videos = as_videos(image, value_range)
        return Pictures(videos.values, videos.observation)
    return as_values(
        image,
        autoencoder.medium,
        autoencoder.sample_channels,
        len(autoencoder.sizes.rules),
        value_range,
    )


def check_observation(autoencoder: Autoencoder, observation: Observation) -> None:
    """Refuse JPEG of anything but RGB pictures.

    Raises:
        ValueError: x is something else.
    """
    parts = observation.observations if isinstance(observation, PerRow) else (observation,)
    of_pictures = autoencoder.medium == "picture" and autoencoder.sample_channels == 3
    if not of_pictures and any(isinstance(part, Jpeg) for part in parts):
        raise ValueError(
            f"JPEG is an observation of RGB pictures, not of a {autoencoder.medium} with "
            f"{autoencoder.sample_channels} channels"
        )
