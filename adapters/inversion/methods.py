"""The named methods of inverting a decoder, and what runs under each name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fixpoint.adapters.autoencoders.autoencoder import Autoencoder
from fixpoint.adapters.inversion.gradient_inversion import invert_by_gradient
from fixpoint.adapters.inversion.invert_picture import invert, invert_by_encoder, invert_by_paper
from fixpoint.adapters.inversion.result import Inversion
from fixpoint.iterators import Anderson, Broyden, ForwardStep, InertialKM


@dataclass(frozen=True)
class Method:
    """A named method of inverting a decoder.

    Attributes:
        function: called with (autoencoder, image) and keywords; returns an `Inversion`.
        limit: the keyword of its limit on iterations; None where it makes none.
        iterations: the default of that limit.
        has_operator: it solves E(Q(D(z))) - E(x) = 0, so that it takes an observation Q and can
            compile the autoencoder.
    """

    function: Callable[..., Inversion]
    limit: str | None
    iterations: int = 50
    has_operator: bool = True

    def __call__(
        self,
        autoencoder: Autoencoder,
        image: Any,
        *,
        iterations: int | None = None,
        progress: bool = False,
        **options: Any,
    ) -> Inversion:
        """Invert the decoder on one picture or several.

        Args:
            autoencoder, image, progress: as for `invert`.
            iterations: the limit; by default that of the method.
            options: further keywords of the function.
        """
        if self.limit is None:
            return self.function(autoencoder, image, **options)
        limit = {self.limit: self.iterations if iterations is None else iterations}
        return self.function(autoencoder, image, progress=progress, **limit, **options)


def _solver(iterator: Any = None) -> Method:
    return Method(partial(invert, iterator=iterator), "max_iterations")


def _gradient(**options: Any) -> Method:
    return Method(partial(invert_by_gradient, **options), "steps", 100, has_operator=False)


METHODS = {
    "auto": _solver(),
    "forward-step": _solver(ForwardStep()),
    "anderson": _solver(Anderson()),
    "inertial-km": _solver(InertialKM()),
    "broyden": _solver(Broyden()),
    "paper-adam": Method(invert_by_paper, "steps", 100),
    "gradient": _gradient(),
    # Of the encoder term: enough to keep L-BFGS from fitting the rounding.
    "gradient-lbfgs": _gradient(optimizer="lbfgs", encoder_weight=0.1),
    "encoder": Method(invert_by_encoder, None, 0, has_operator=False),
}
