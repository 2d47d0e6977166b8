"""The names that options choose from.

They stand here so that `--help` loads no torch; the tests hold them against the tables of what
they name.
"""

from __future__ import annotations


class Default(str):
    """A value of an option that nobody chose."""


AUTOENCODERS = ("kl", "adversarial", "distilled")
DIFFUSION_MODELS = ("diffusion", "flow")
"""Models that come with fixpoint, of either kind."""

DTYPES = ("float32", "bfloat16", "float16")
NETWORK_DTYPES = ("float32", "bfloat16")
"""What the network of a learned inverse is trained in."""
OBSERVATIONS = ("auto", "none", "clip", "8bit", "jpeg")

INVERSIONS = (
    "auto",
    "forward-step",
    "anderson",
    "inertial-km",
    "broyden",
    "paper-adam",
    "gradient",
    "gradient-lbfgs",
    "encoder",
)
"""Methods of inverting a decoder."""
GRADIENTS = ("auto", "never", "always")
STORES = ("chunks", "sidecar")
"""Where a picture carries its latent."""

SAMPLING_INVERSIONS = ("naive", "backward-euler")
DECODER_INVERSIONS = ("ours", "encoder", "gradient")
"""What `noise`, `edit` and `watermark` have for the decoder."""

KEYS = ("paper-1", "paper-2", "paper-3", "zeros", "rand", "ring")
"""Tree-ring keys."""
NO_KEY = "none"
"""The label of a picture that carries no key."""
KEY_MASKS = ("centred", "official")

GUIDANCE = 3.0
"""Of watermarked pictures, where a prompt is given and no guidance."""
