"""Autoencoders: any encoder and decoder of pictures or videos behind one interface.

The kinds of autoencoders register themselves with `Autoencoder`, whichever module comes first.
"""

from fixpoint.adapters.autoencoders import diffusers_autoencoder as _diffusers  # noqa: F401
from fixpoint.adapters.autoencoders import function_autoencoder as _functions  # noqa: F401
