"""Where tensors meet the world: autoencoders, pictures, plots and the command line."""

from fixpoint.adapters.autoencoder import Autoencoder
from fixpoint.adapters.composed_observations import Masked, PerRow
from fixpoint.adapters.decoder_inversion import DecoderInversion
from fixpoint.adapters.files import read_latent, write_latent
from fixpoint.adapters.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion import (
    Inversion,
    default_observation,
    invert,
    invert_by_encoder,
    invert_by_paper,
    nmse_db,
)
from fixpoint.adapters.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
    RoundingCells,
    WhiteNoise,
)
from fixpoint.adapters.pictures import as_pictures, to_pil
from fixpoint.adapters.regularised import (
    EncoderPrior,
    OnPicture,
    RegularisedInversion,
    latent_box,
    latent_prior,
)

__all__ = [
    "Autoencoder",
    "Clip",
    "DecoderInversion",
    "EightBit",
    "EncoderPrior",
    "Identity",
    "Inversion",
    "Jpeg",
    "Masked",
    "Observation",
    "OnPicture",
    "PerRow",
    "RegularisedInversion",
    "RoundingCells",
    "WhiteNoise",
    "as_pictures",
    "default_observation",
    "invert",
    "invert_by_encoder",
    "invert_by_gradient",
    "invert_by_paper",
    "latent_box",
    "latent_prior",
    "nmse_db",
    "read_latent",
    "to_pil",
    "write_latent",
]
