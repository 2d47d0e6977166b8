"""What is to be inverted: pictures, the pair, and the operator whose zero is sought."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.decoder_inversion import DecoderInversion
from fixpoint.adapters.inversion.regularised import RegularisedInversion
from fixpoint.adapters.pictures.observations import Observation
from fixpoint.adapters.pictures.pictures import Pictures


@dataclass(frozen=True)
class InversionProblem:
    """One call of `invert`, read and checked.

    Attributes:
        autoencoder: the pair.
        pictures: as they came, with what they show of their observation.
        values: x, on the device of the pair.
        observation: Q, inside the operator.
        history: what the pictures went through, as it was named or as they show it.
        operator: T; its `start` is E(x).
        started: when the clock was started, of `time.perf_counter`.
    """

    autoencoder: Autoencoder
    pictures: Pictures
    values: Float[Tensor, "batch *sample"]
    observation: Observation
    history: Observation
    operator: DecoderInversion | RegularisedInversion
    started: float

    def latent(self, z: Tensor) -> Tensor:
        """The latent of an iterate: with a prior, z is the point before its proximal step."""
        operator = self.operator
        return operator.latent(z) if isinstance(operator, RegularisedInversion) else z
