"""Where tensors meet the world: autoencoders, pictures, plots and the command line."""

from fixpoint.adapters.autoencoder import Autoencoder
from fixpoint.adapters.autoencoder_classes import AutoencoderClass, autoencoder_classes
from fixpoint.adapters.composed_observations import Masked, PerRow
from fixpoint.adapters.decoder_inversion import DecoderInversion
from fixpoint.adapters.diffusion_operators import BackwardEuler, OneStepFlow
from fixpoint.adapters.files import read_latent, write_latent
from fixpoint.adapters.frame_windows import VideoInversion, invert_video
from fixpoint.adapters.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion import (
    Inversion,
    default_observation,
    invert,
    invert_by_encoder,
    invert_by_paper,
    nmse_db,
)
from fixpoint.adapters.latent_diffusion import LatentDiffusion
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
from fixpoint.adapters.plateau_step import PlateauStep
from fixpoint.adapters.recover_noise import RecoveredNoise, recover_noise
from fixpoint.adapters.regularised import (
    EncoderPrior,
    OnPicture,
    RegularisedInversion,
    latent_box,
    latent_prior,
)
from fixpoint.adapters.roc import Roc
from fixpoint.adapters.sampling import Sampling, Trajectory
from fixpoint.adapters.tree_ring import TreeRing, classify
from fixpoint.adapters.video import EachFrame, PerFrame, as_videos

__all__ = [
    "Autoencoder",
    "AutoencoderClass",
    "BackwardEuler",
    "Clip",
    "DecoderInversion",
    "EachFrame",
    "EightBit",
    "EncoderPrior",
    "Identity",
    "Inversion",
    "Jpeg",
    "LatentDiffusion",
    "Masked",
    "Observation",
    "OnPicture",
    "OneStepFlow",
    "PerFrame",
    "PerRow",
    "PlateauStep",
    "RecoveredNoise",
    "RegularisedInversion",
    "Roc",
    "RoundingCells",
    "Sampling",
    "Trajectory",
    "TreeRing",
    "VideoInversion",
    "WhiteNoise",
    "as_pictures",
    "as_videos",
    "autoencoder_classes",
    "classify",
    "default_observation",
    "invert",
    "invert_by_encoder",
    "invert_by_gradient",
    "invert_by_paper",
    "invert_video",
    "latent_box",
    "latent_prior",
    "nmse_db",
    "read_latent",
    "recover_noise",
    "to_pil",
    "write_latent",
]
