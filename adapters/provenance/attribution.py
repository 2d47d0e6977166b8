"""Did this model make this picture? Attribution without a watermark, by exact inversion.

A picture that a decoder D made lies on the range of D: once its latent z is found, D(z) seen
through the observation Q agrees with the picture x. A photograph, or a picture of another model,
stays off that range for every z. A smooth picture, however, is close to the range of every decoder,
and JPEG brings other pictures close. The score therefore compares D with a code L that knows no
model: it keeps the low frequencies of x, as many numbers as z has. The score is

    20 log10(||Q(L x) - x|| / ||Q(D(z)) - x||)    in dB,

with Q rounding to 8 bits, JPEG, and so on. An autoencoder exceeds L on most pictures by a few dB,
and on the pictures of its own decoder by far more. Pictures that the model did not make, seen
through the same Q, set the threshold: conformal prediction (Vovk, Gammerman & Shafer, Algorithmic
Learning in a Random World, 2005) turns their scores into p-values. LatentTracer (Wang et al., ICML
2024) inverts by gradients and judges by the error alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.autoencoders.bare_models import takes_models
from fixpoint.adapters.inversion.invert_picture import invert_by_iteration
from fixpoint.adapters.inversion.reading import readable
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.provenance.attribution_score import attribution_score
from fixpoint.adapters.provenance.calibration import Calibration, calibrate, check_medium
from fixpoint.adapters.provenance.observed_pictures import observation_of
from fixpoint.summary import Summarised

__all__ = ["Attribution", "Calibration", "attribute", "attribution_score", "calibrate"]


@dataclass(frozen=True)
class Attribution(Summarised):
    """The verdict on a batch of pictures; rows in the order of the pictures.

    Attributes:
        score: in dB, see the head of this file.
        p_value: of the score among the scores of pictures that the model did not make.
        made_by_model: whether `p_value` is at most `false_positive_rate`.
        false_positive_rate: the rate that was asked for.
        inversion: the inversion that the score was computed from.
    """

    score: Float[Tensor, " batch"]
    p_value: Float[Tensor, " batch"]
    made_by_model: Bool[Tensor, " batch"]
    false_positive_rate: float
    inversion: Inversion = field(repr=False)


@takes_models
def attribute(
    autoencoder: Autoencoder,
    image: Any,
    reference: Calibration,
    *,
    false_positive_rate: float = 0.01,
    observation: Observation | Callable[[Tensor], Tensor] | None = None,
    value_range: tuple[float, float] | None = None,
    progress: bool = False,
) -> Attribution:
    """Whether the decoder made these pictures, each judged on its own.

    Args:
        autoencoder: of the model in question.
        image: as for `invert`.
        reference: result of `calibrate` for this autoencoder and the same observation.
        false_positive_rate: the share of pictures like those of the calibration that may be
            attributed to the model; between 0 and 1, at least 1 / (n + 1) for n pictures in each
            group.
        observation: what happened to the decoder's output, as for `invert`; by default what the
            pictures show.
        value_range: of float input, see `as_pictures`.

    Raises:
        TypeError, ValueError: the pictures cannot be used, or the calibration belongs to another
            model or observation; no model ran.
    """
    reference.check_rate(false_positive_rate)
    pictures = readable(autoencoder, image, value_range)
    check_medium(autoencoder)
    seen = observation_of(pictures.observation, autoencoder.dtype, observation)
    reference.check_observation(seen)
    reference.check_model(autoencoder)
    inversion = invert_by_iteration(
        autoencoder,
        pictures,
        observation=seen,
        max_iterations=reference.max_iterations,
        progress=progress,
    )
    score = attribution_score(inversion)
    p_value = reference.p_value(score)
    return Attribution(
        score, p_value, p_value <= false_positive_rate, false_positive_rate, inversion
    )
