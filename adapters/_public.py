"""The public names of `fixpoint.adapters`; they need torch."""

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.diffusers_classes import AutoencoderClass, autoencoder_classes
from fixpoint.adapters.autoencoders.inverse.learned_inverse import InverseCard, LearnedInverse
from fixpoint.adapters.autoencoders.per_frame import PerFrame
from fixpoint.adapters.diffusion.backward_euler import BackwardEuler, OneStepFlow
from fixpoint.adapters.diffusion.latent_diffusion import LatentDiffusion
from fixpoint.adapters.diffusion.noise_recovery import RecoveredNoise, recover_noise
from fixpoint.adapters.diffusion.plateau_step import PlateauStep
from fixpoint.adapters.diffusion.sampling import Sampling, Trajectory
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.defaults import default_observation
from fixpoint.adapters.inversion.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion.invert_picture import (
    invert,
    invert_by_encoder,
    invert_by_iteration,
    invert_by_paper,
)
from fixpoint.adapters.inversion.judgement import InversionOutcome, Judgement
from fixpoint.adapters.inversion.regularised import (
    EncoderPrior,
    OnPicture,
    RegularisedInversion,
    latent_box,
    latent_prior,
)
from fixpoint.adapters.inversion.result import Inversion, nmse_db
from fixpoint.adapters.inversion.video_result import VideoInversion
from fixpoint.adapters.inversion.video_windows import invert_video
from fixpoint.adapters.pictures.composed_observations import Masked, PerRow
from fixpoint.adapters.pictures.frames import EachFrame
from fixpoint.adapters.pictures.observations import (
    Clip,
    EightBit,
    Identity,
    Jpeg,
    Observation,
    RoundingCells,
    WhiteNoise,
)
from fixpoint.adapters.pictures.pictures import as_pictures, to_pil
from fixpoint.adapters.pictures.videos import as_videos
from fixpoint.adapters.pictures.webp import WebP
from fixpoint.adapters.provenance.roc import Roc
from fixpoint.adapters.provenance.tree_ring import TreeRing, classify
from fixpoint.adapters.reports.latent_files import read_latent, write_latent
from fixpoint.adapters.round_trips.encoded import Encoded, Origin
from fixpoint.adapters.round_trips.round_trip import RoundTrip

__all__ = [
    "Autoencoder",
    "AutoencoderClass",
    "BackwardEuler",
    "Clip",
    "DecoderInversion",
    "EachFrame",
    "EightBit",
    "Encoded",
    "EncoderPrior",
    "Identity",
    "InverseCard",
    "Inversion",
    "InversionOutcome",
    "Jpeg",
    "Judgement",
    "LatentDiffusion",
    "LearnedInverse",
    "Masked",
    "Observation",
    "OnPicture",
    "OneStepFlow",
    "Origin",
    "PerFrame",
    "PerRow",
    "PlateauStep",
    "RecoveredNoise",
    "RegularisedInversion",
    "Roc",
    "RoundTrip",
    "RoundingCells",
    "Sampling",
    "Trajectory",
    "TreeRing",
    "VideoInversion",
    "WebP",
    "WhiteNoise",
    "as_pictures",
    "as_videos",
    "autoencoder_classes",
    "classify",
    "default_observation",
    "invert",
    "invert_by_encoder",
    "invert_by_gradient",
    "invert_by_iteration",
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
