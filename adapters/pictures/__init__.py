"""Pictures and videos as tensors, observations and distortions."""

from fixpoint.adapters.pictures.composed_observations import Masked, PerRow
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
    RoundingCells,
    WhiteNoise,
    as_observation,
)
from fixpoint.adapters.pictures.pictures import (
    Pictures,
    as_pictures,
    as_values,
    check_sides,
    read_picture,
    to_pil,
)

__all__ = [
    "Clip",
    "EightBit",
    "Identity",
    "Jpeg",
    "Masked",
    "Observation",
    "PerRow",
    "Pictures",
    "RoundingCells",
    "WhiteNoise",
    "as_observation",
    "as_pictures",
    "as_values",
    "check_sides",
    "read_picture",
    "to_pil",
]
