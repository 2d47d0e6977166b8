"""Where tensors meet the world: autoencoders, pictures, plots and the command line."""

from typing import TYPE_CHECKING

from fixpoint._later import load_later
from fixpoint._moved import moved
from fixpoint.adapters._moved_modules import MOVED

if TYPE_CHECKING:
    from fixpoint.adapters._public import *  # noqa: F403

__getattr__, __dir__ = load_later(__name__, moved(__name__, MOVED))
